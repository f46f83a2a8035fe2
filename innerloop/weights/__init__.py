"""Systems whose state is hidden tensors: one file per published system, found by listing this folder."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any

from innerloop.errors import InputError
from innerloop.text import did_you_mean, printable


def names() -> list[str]:
    """The names of all systems: their file names."""
    return sorted(m.name for m in pkgutil.iter_modules(__path__))


def get(name: str) -> tuple[Any, Any]:
    """The class of a system and its Config. Raises InputError naming the nearest for an unknown name."""
    if name not in names():
        raise InputError(f'no system is called "{printable(name)}": {did_you_mean(name, names())}')
    module = importlib.import_module(f"{__name__}.{name}")
    return getattr(module, next(n for n in module.__all__ if n != "Config")), module.Config
