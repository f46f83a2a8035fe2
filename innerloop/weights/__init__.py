"""Systems whose state is hidden tensors: one file per published system, found by listing this folder."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from typing import Any

from innerloop.errors import InputError


def names() -> list[str]:
    """The names of all systems: their file names."""
    return sorted(m.name for m in pkgutil.iter_modules(__path__))


def get(name: str) -> tuple[Any, Any]:
    """The class of a system and its Config. Raises InputError naming the nearest for an unknown name."""
    if name not in names():
        near = difflib.get_close_matches(name, names(), 1, 0)[0]
        raise InputError(f'no system is called "{name}": did you mean "{near}"? There are {", ".join(names())}')
    module = importlib.import_module(f"{__name__}.{name}")
    return getattr(module, next(n for n in module.__all__ if n != "Config")), module.Config
