"""Recipes: the only room where a system, a task and a plan meet. A recipe is a function that returns a Run."""

from __future__ import annotations

import difflib
import importlib
import inspect
import pkgutil
from collections.abc import Callable

from innerloop.errors import InputError
from innerloop.recipes.run import Run


def found() -> dict[str, Callable[[], Run]]:
    """Every recipe of this folder: the functions without arguments that say they return a Run, by name."""
    recipes = {}
    for info in pkgutil.iter_modules(__path__):
        module = importlib.import_module(f"{__name__}.{info.name}")
        for name, value in vars(module).items():
            if inspect.isfunction(value) and value.__module__ == module.__name__ and not name.startswith("_"):
                signature = inspect.signature(value)
                if not signature.parameters and signature.return_annotation in (Run, "Run"):
                    recipes[name] = value
    return dict(sorted(recipes.items()))


def get(name: str) -> Run:
    """The Run of a recipe. Raises InputError naming the nearest for an unknown name."""
    recipes = found()
    if name not in recipes:
        near = difflib.get_close_matches(name, recipes, 1, 0)[0]
        raise InputError(f'no recipe is called "{name}": did you mean "{near}"? There are {", ".join(recipes)}')
    return recipes[name]()
