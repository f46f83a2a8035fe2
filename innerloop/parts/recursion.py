"""The recursion of TRM for its descendants: a thought z revised again and again, then the answer y.

    T times:  ( z <- net(z, y + x)  n times;   y <- net(y, z) )                           arXiv 2510.04871

Works on any state that is a NamedTuple with slots y and z, whatever else it holds. weights/trm.py itself spells these
two lines out: it is the figure the others refer to.
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
    """What the names mean; x is injected where z is updated and nowhere else. For core.run_schedule."""
    return {
        "z": lambda s: s._replace(z=net(s.z, s.y + x_BLD)),
        "y": lambda s: s._replace(y=net(s.y, s.z)),
    }
