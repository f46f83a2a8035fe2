"""Recipes: functions that return a Run, which joins a system, a task and a training plan.

It may have parameters, all with defaults: `family(system, task)` is one recipe for every pair. Further recipes come
from installed packages (entry points of the group innerloop.recipes) and from files that the user gives.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from innerloop import plugins
from innerloop.errors import InputError
from innerloop.runs.run import Run
from innerloop.text import did_you_mean, printable

Recipe = Callable[..., Run]


def all_recipes() -> dict[str, Recipe]:
    """Every recipe of this folder, by name: the functions callable without arguments that say they return a Run."""
    recipes: dict[str, Recipe] = {}
    for info in pkgutil.iter_modules(__path__):
        module = importlib.import_module(f"{__name__}.{info.name}")
        own = {k: v for k, v in vars(module).items() if getattr(v, "__module__", "") == module.__name__}
        recipes |= {name: value for name, value in own.items() if is_recipe(name, value)}
    return dict(sorted(recipes.items()))


def is_recipe(name: str, value: Any) -> bool:
    if not inspect.isfunction(value) or name.startswith("_"):
        return False
    signature = inspect.signature(value)
    ready = all(p.default is not p.empty for p in signature.parameters.values())
    return ready and signature.return_annotation in (Run, "Run")


def get(name: str, **parameters: str) -> Run:
    """The Run of a recipe: one of the library, of an installed package, or of a Python file, FILE.py or FILE.py:NAME.

    A task that is not the library's own (plugins) takes the place of that of any recipe.
    Raises InputError naming the nearest for an unknown name, or an unknown parameter.
    """
    recipe = in_file(name) if plugins.is_file(name) else find(name)
    taken = inspect.signature(recipe).parameters
    task = "" if "task" in taken else parameters.pop("task", "")
    if task and not (plugins.parse(task) or task in plugins.installed("task")):
        parameters["task"] = task
    for parameter in parameters:
        if parameter not in taken:
            raise InputError(f'the recipe {name} takes no {parameter}: leave it out, or use the recipe "family"')
    run = recipe(**parameters)
    if not isinstance(run, Run):
        raise InputError(f"the recipe {printable(name)} returns {type(run).__name__}: let it return an innerloop.Run")
    if task:
        run = replace(run, data=replace(run.data, task=task, options={}))
    return with_files(run, Path(name.partition(".py:")[0]).parent if plugins.is_file(name) else Path())


def find(name: str) -> Recipe:
    """The recipe `name` of the library or of an installed package."""
    recipes = all_recipes()
    if name not in recipes and name in plugins.installed("recipe"):
        return plugins.load_installed("recipe", name)  # type: ignore[no-any-return]
    if name not in recipes:
        known = {**recipes, **plugins.installed("recipe")}
        raise InputError(f'no recipe is called "{printable(name)}": {did_you_mean(name, known)}')
    return recipes[name]


def in_file(path: str) -> Recipe:
    """The recipe of a Python file: the only function that says it returns a Run, or the one that is named."""
    reference = plugins.use(path)
    code = plugins.parse(reference)
    assert code is not None
    found = {k: v for k, v in plugins.public(plugins.module_of(reference)).items() if is_recipe(k, v)}
    if not found or (code.member and code.member not in found):
        raise InputError(
            f"{printable(path)} has no such recipe: define a function without parameters, such as "
            "def mine() -> Run, and list it in __all__"
        )
    if len(found) > 1 and not code.member:
        raise InputError(
            f"{path} has several recipes: name one of {', '.join(found)}, as in {path}:{next(iter(found))}"
        )
    return found[code.member or next(iter(found))]


def with_files(run: Run, folder: Path) -> Run:
    """The run of a recipe, in which a system or task may be a Python file, as seen from the recipe's own folder."""
    if plugins.is_file(run.system):
        run = replace(run, system=plugins.use(folder / run.system))
    if plugins.is_file(run.data.task):
        run = replace(run, data=replace(run.data, task=plugins.use(folder / run.data.task)))
    return run


def matched(name: str, changes: Sequence[str], **parameters: str) -> tuple[Run, str]:
    """(the Run of a recipe, what was matched anew for these changes of --set, "" if nothing was).

    A recipe that promises a match has a function `rematch(run, changes)` beside it, which keeps it where a part is
    swapped. The changes themselves are still to be made (runs.run.override).
    """
    run = get(name, **parameters)
    own = all_recipes().get(name)  # recipes of files and packages promise none
    rematch = getattr(sys.modules[own.__module__], "rematch", None) if own else None
    return rematch(run, changes) if rematch and changes else (run, "")
