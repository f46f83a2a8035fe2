"""Innerloop: models that think in loops. Build, train, run, inspect and compare them.

    from innerloop import think, open_run

The public list; every name is loaded when it is first used, so that importing the package costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from innerloop.core import Answer, Loop, Question, Thought, follow, refill, repeat, think
    from innerloop.data.opening import open_set
    from innerloop.errors import InputError
    from innerloop.learn.evaluate import evaluate
    from innerloop.learn.plan import Plan
    from innerloop.learn.supervise import Halting
    from innerloop.learn.train import train
    from innerloop.parts.size import Size
    from innerloop.runs.fit import build
    from innerloop.runs.folder import open_run
    from innerloop.runs.run import Data, Run
    from innerloop.width import Noisy, best, vote, wide

_HOMES = {
    "core": ("Answer", "Loop", "Question", "Thought", "follow", "refill", "repeat", "think"),
    "errors": ("InputError",),
    "width": ("Noisy", "best", "vote", "wide"),
    "parts.size": ("Size",),
    "tasks": ("open_set",),
    "learn.evaluate": ("evaluate",),
    "learn.plan": ("Plan",),
    "learn.supervise": ("Halting",),
    "learn.train": ("train",),
    "runs.run": ("Data", "Run", "build", "open_run"),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Answer",
    "Data",
    "Halting",
    "InputError",
    "Loop",
    "Noisy",
    "Plan",
    "Question",
    "Run",
    "Size",
    "Thought",
    "best",
    "build",
    "evaluate",
    "follow",
    "open_run",
    "open_set",
    "refill",
    "repeat",
    "think",
    "train",
    "vote",
    "wide",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"innerloop has no {name!r}: its public names are {', '.join(__all__)}")
    return getattr(importlib.import_module(f"innerloop.{_HOME[name]}"), name)
