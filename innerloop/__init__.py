"""Innerloop: models that think in loops. Build, train, run, inspect and compare them.

    import innerloop

    innerloop.list("pretrained")                             # models that come along
    solver = innerloop.open_solver("demo-sudoku9")           # or the folder of a run, or a single file
    loop = innerloop.create("trm", task="sudoku")            # a fresh one, to train

The public list; every name is loaded when it is first used, so that importing the package costs nothing.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from innerloop.core import (
        Answer,
        Loop,
        Question,
        SomeFailed,
        Thought,
        refill,
        repeat,
        run_schedule,
        think,
        think_many,
    )
    from innerloop.data.opening import open_set
    from innerloop.data.protocols import Examples, Task
    from innerloop.errors import InputError
    from innerloop.learn.evaluate import evaluate
    from innerloop.learn.plan import Plan
    from innerloop.learn.supervise import HaltingConfig
    from innerloop.ledger import Ledger, counting
    from innerloop.parts.config import NetConfig
    from innerloop.registry import create, list, open_model, open_run, open_solver
    from innerloop.runs.fit import build
    from innerloop.runs.run import Data, Run
    from innerloop.runs.training import fit, train
    from innerloop.solve.options import Budget, Solution
    from innerloop.solve.solver import Solver
    from innerloop.width import Noisy, best, think_wide, vote

_HOMES = {
    "core": (
        "Answer",
        "Loop",
        "Question",
        "SomeFailed",
        "Thought",
        "run_schedule",
        "refill",
        "repeat",
        "think",
        "think_many",
    ),
    "data.opening": ("open_set",),
    "data.protocols": ("Examples", "Task"),
    "errors": ("InputError",),
    "learn.evaluate": ("evaluate",),
    "learn.plan": ("Plan",),
    "learn.supervise": ("HaltingConfig",),
    "ledger": ("Ledger", "counting"),
    "parts.config": ("NetConfig",),
    "registry": ("create", "list", "open_model", "open_run", "open_solver"),
    "runs.fit": ("build",),
    "runs.run": ("Data", "Run"),
    "runs.training": ("fit", "train"),
    "solve.options": ("Budget", "Solution"),
    "solve.solver": ("Solver",),
    "width": ("Noisy", "best", "think_wide", "vote"),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Answer",
    "Budget",
    "Data",
    "Examples",
    "HaltingConfig",
    "InputError",
    "Ledger",
    "Loop",
    "NetConfig",
    "Noisy",
    "Plan",
    "Question",
    "Run",
    "Solution",
    "Solver",
    "SomeFailed",
    "Task",
    "Thought",
    "best",
    "build",
    "counting",
    "create",
    "evaluate",
    "fit",
    "list",
    "open_model",
    "open_run",
    "open_set",
    "open_solver",
    "refill",
    "repeat",
    "run_schedule",
    "think",
    "think_many",
    "think_wide",
    "train",
    "vote",
]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"innerloop has no {name!r}: its public names are {', '.join(__all__)}")
    return getattr(importlib.import_module(f"innerloop.{_HOME[name]}"), name)


def __dir__() -> Sequence[str]:
    return sorted({*(name for name in globals() if name.startswith("__")), *__all__})
