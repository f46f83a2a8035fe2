"""Loops in the weights: one file per published system, found by looking into this folder."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from typing import Any

from innerloop.errors import InputError


def names() -> list[str]:
    """Every system's name: its file's."""
    return sorted(m.name for m in pkgutil.iter_modules(__path__))


def get(name: str) -> tuple[Any, Any]:
    """The class of a system and its Config. Raises InputError naming the nearest for an unknown name."""
    if name not in names():
        near = difflib.get_close_matches(name, names(), 1, 0)[0]
        raise InputError(f'no system is called "{name}": did you mean "{near}"? There are {", ".join(names())}')
    module = importlib.import_module(f"{__name__}.{name}")
    return getattr(module, next(n for n in module.__all__ if n != "Config")), module.Config
