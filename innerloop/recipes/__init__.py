"""Recipes: functions that return a Run, which joins a system, a task and a training plan.

It may have parameters, all with defaults: `family(system, task)` is one recipe for every pair.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import sys
from collections.abc import Callable, Sequence

from innerloop.errors import InputError
from innerloop.runs.run import Run
from innerloop.text import did_you_mean, printable


def all_recipes() -> dict[str, Callable[[], Run]]:
    """Every recipe of this folder, by name: the functions callable without arguments that say they return a Run."""
    recipes = {}
    for info in pkgutil.iter_modules(__path__):
        module = importlib.import_module(f"{__name__}.{info.name}")
        for name, value in vars(module).items():
            if inspect.isfunction(value) and value.__module__ == module.__name__ and not name.startswith("_"):
                signature = inspect.signature(value)
                ready = all(p.default is not p.empty for p in signature.parameters.values())
                if ready and signature.return_annotation in (Run, "Run"):
                    recipes[name] = value
    return dict(sorted(recipes.items()))


def get(name: str, **parameters: str) -> Run:
    """The Run of a recipe. Raises InputError naming the nearest for an unknown name, or an unknown parameter."""
    recipes = all_recipes()
    if name not in recipes:
        raise InputError(f'no recipe is called "{printable(name)}": {did_you_mean(name, recipes)}')
    taken = inspect.signature(recipes[name]).parameters
    for parameter in parameters:
        if parameter not in taken:
            raise InputError(f'the recipe {name} takes no {parameter}: leave it out, or use the recipe "family"')
    return recipes[name](**parameters)


def matched(name: str, changes: Sequence[str], **parameters: str) -> tuple[Run, str]:
    """(the Run of a recipe, what was matched anew for these changes of --set, "" if nothing was).

    A recipe that promises a match has a function `rematch(run, changes)` beside it, which keeps it where a part is
    swapped. The changes themselves are still to be made (runs.run.override).
    """
    run = get(name, **parameters)
    rematch = getattr(sys.modules[all_recipes()[name].__module__], "rematch", None)
    return rematch(run, changes) if rematch and changes else (run, "")
