"""Tasks (puzzle families), found by name: every Task that a file of this folder lists in its `__all__`."""

from __future__ import annotations

import inspect
from functools import lru_cache
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from innerloop.errors import InputError
from innerloop.schema import check_arguments
from innerloop.tasks.task import Task
from innerloop.text import did_you_mean

__all__ = ["Task", "get", "names"]


@lru_cache
def _found() -> dict[str, type[Task]]:
    tasks = {}
    for info in iter_modules(__path__):
        module = import_module(f"{__name__}.{info.name}")
        for public in getattr(module, "__all__", ()):
            value = getattr(module, public)
            if isinstance(value, type) and issubclass(value, Task) and value.__module__ == module.__name__:
                tasks[value.name] = value
    return dict(sorted(tasks.items()))


def names() -> list[str]:
    """Names of all tasks."""
    return list(_found())


def get(name: str, **options: Any) -> Task:
    """The task `name` with its options. An unknown name or option raises InputError naming the nearest."""
    tasks = _found()
    if name not in tasks:
        raise InputError(f"there is no task {name!r}: {did_you_mean(name, tasks)}")
    known = list(inspect.signature(tasks[name]).parameters)
    for option in options:
        if option not in known:
            raise InputError(f"the task {name!r} has no option {option!r}: {did_you_mean(option, known)}")
    check_arguments(tasks[name].__init__, options, lambda option: f"the option {option} of the task {name!r}")
    return tasks[name](**options)
