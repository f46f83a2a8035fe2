"""Systems whose state is hidden tensors: one file per published system, found by listing this folder.

Further systems come from installed packages (entry points of the group innerloop.systems) and from files that the user
gave (plugins.use).
"""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
import sys
from typing import TYPE_CHECKING, Any

from innerloop import plugins
from innerloop.errors import InputError
from innerloop.text import did_you_mean, printable

if TYPE_CHECKING:
    from torch import nn

    from innerloop.core import Answer, Question

    class System(nn.Module):
        """What an editor is told of a system: it is a Loop and a torch.nn.Module. Nothing subclasses this."""

        c: Any  # its Config

        def init(self, x: Question) -> Any:
            raise NotImplementedError

        def step(self, s: Any, x: Question) -> Any:
            raise NotImplementedError

        def read(self, s: Any) -> Answer:
            raise NotImplementedError


METHODS = ("init", "step", "read")  # of a loop


def own_names() -> list[str]:
    """The names of the library's own systems: their file names."""
    return sorted(m.name for m in pkgutil.iter_modules(__path__))


def names() -> list[str]:
    """The names of all systems: the library's own, and those of installed packages."""
    return sorted({*own_names(), *plugins.installed("system")})


def get(name: str) -> tuple[Any, Any]:
    """The class of a system and its Config. Raises InputError naming the nearest for an unknown name."""
    if name in own_names():
        module = importlib.import_module(f"{__name__}.{name}")
        return getattr(module, next(n for n in module.__all__ if n != "Config")), module.Config
    if code := plugins.parse(name):
        kind, config = in_file(plugins.module_of(name), code.file, code.member)
    elif name in plugins.installed("system"):
        kind = plugins.load_installed("system", name)
        config = getattr(sys.modules.get(getattr(kind, "__module__", "")), "Config", None)
    else:
        raise InputError(f'no system is called "{printable(name)}": {did_you_mean(name, names())}')
    if not is_loop(kind) or not dataclasses.is_dataclass(config) or "net" not in config.__dataclass_fields__:
        shown = code.file if code else printable(name, 60)
        raise InputError(
            f"the system {shown} cannot be trained: it needs a class with init, step and read, and beside it a "
            "dataclass Config with a field net (a NetConfig)"
        )
    return kind, config


def in_file(module: Any, where: str, member: str = "") -> tuple[Any, Any]:
    """(class of the loop, Config or None) of a file that was loaded. Raises InputError where it has no loop."""
    loops = {k: v for k, v in plugins.public(module).items() if is_loop(v)}
    if member and member not in loops:
        raise InputError(f"{where} has no loop {printable(member, 60)}: {did_you_mean(member, loops)}")
    if not loops:
        raise InputError(f"{where} lists no class with init, step and read in its __all__: add one")
    return loops[member or next(iter(loops))], getattr(module, "Config", None)


def is_loop(value: Any) -> bool:
    return isinstance(value, type) and all(callable(getattr(value, method, None)) for method in METHODS)
