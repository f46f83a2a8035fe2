"""Tasks (puzzle families), found by name: every Task that a file of this folder lists in its `__all__`.

Further tasks come from installed packages (entry points of the group innerloop.tasks) and from files that the user gave
(plugins.use). A name of the library's own is never taken by another's.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from functools import lru_cache
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from innerloop import plugins
from innerloop.errors import InputError
from innerloop.schema import check_arguments
from innerloop.tasks.task import Task
from innerloop.text import did_you_mean, printable

__all__ = ["Task", "find", "get", "names", "options_for"]


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


def own_names() -> list[str]:
    """Names of the library's own tasks."""
    return list(_found())


def names() -> list[str]:
    """Names of all tasks: the library's own, and those of installed packages."""
    return sorted({*_found(), *plugins.installed("task")})


def find(name: str) -> type[Task]:
    """The class of the task `name`. An unknown name raises InputError naming the nearest."""
    tasks = _found()
    if name in tasks:
        return tasks[name]
    if code := plugins.parse(name):
        return _task_in(plugins.public(plugins.module_of(name)), code.member, code.file)
    if name in plugins.installed("task"):
        value = plugins.load_installed("task", name)
        return _task_in({name: value}, name, f"the package that offers {printable(name, 60)}")
    raise InputError(f"there is no task {name!r}: {did_you_mean(name, names())}")


def _task_in(offered: Mapping[str, Any], member: str, where: str) -> type[Task]:
    """The one task among what a file offers."""
    tasks = {k: v for k, v in offered.items() if isinstance(v, type) and issubclass(v, Task)}
    if member and member not in tasks:
        raise InputError(f"{where} has no task {printable(member, 60)}: {did_you_mean(member, tasks)}")
    if not tasks:
        raise InputError(f"{where} has no task: define a subclass of innerloop.tasks.Task, and list it in __all__")
    if len(tasks) > 1 and not member:
        raise InputError(
            f"{where} has several tasks: name one of {', '.join(tasks)}, as in {where}:{next(iter(tasks))}"
        )
    return tasks[member or next(iter(tasks))]


def get(name: str, **options: Any) -> Task:
    """The task `name` with its options. An unknown name or option raises InputError naming the nearest."""
    kind = find(name)
    known = list(inspect.signature(kind).parameters)
    for option in options:
        if option not in known:
            raise InputError(f"the task {name!r} has no option {option!r}: {did_you_mean(option, known)}")
    check_arguments(kind.__init__, options, lambda option: f"the option {option} of the task {name!r}")
    return kind(**options)


def options_for(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Those of `options` that the task `name` takes."""
    return {k: v for k, v in options.items() if k in inspect.signature(find(name)).parameters}
