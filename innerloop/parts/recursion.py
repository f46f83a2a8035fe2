"""TRM's schedule of updates, for systems that build on it: a latent z updated n times, then the answer y.

    T times:  ( z <- net(z, y + x)  n times;   y <- net(y, z) )                           arXiv 2510.04871

Works on any state that is a NamedTuple with fields y and z. weights/trm.py writes the updates out, as the reference.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

Update = Callable[[Any], Any]


def schedule(thoughts: int, cycles: int) -> tuple[str, ...]:
    """The names of a step's updates: `thoughts` of z before each of y, `cycles` times over."""
    return (("z",) * thoughts + ("y",)) * cycles


def updates(net: Callable[..., Tensor], x_BLD: Tensor) -> dict[str, Update]:
    """The updates by name, for core.run_schedule; x is injected into z only."""
    return {
        "z": lambda s: s._replace(z=net(s.z, s.y + x_BLD)),
        "y": lambda s: s._replace(y=net(s.y, s.z)),
    }
