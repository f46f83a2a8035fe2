"""Cost accounting of inference: block calls (NFE), serial steps, FLOPs, tokens, seconds, money.

    with counting() as cost:
        think(loop, question, depth=16)
    print(cost.nfe, cost.serial_steps, cost.seconds)

Costs are charged where the work is done: a Net of innerloop.parts charges its calls, whichever kernel runs them, and
`think` charges its steps. Without an open ledger a charge is one variable lookup.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

__all__ = ["Ledger", "charge", "charge_rows", "counted_step", "counting", "counts", "rows_of", "step_cost"]


@dataclass
class Ledger:
    """Sums of costs, each in one unit.

    a + b   sequential: every unit is added
    a | b   parallel: every unit is added, but seconds and serial_steps are the maximum
    """

    calls: float = 0  # questions answered: one for each example and trajectory
    nfe: float = 0  # block calls: one application of a net (all its layers) to one example
    serial_steps: float = 0  # sequential loop steps, each for a whole batch
    flops: float = 0  # floating-point operations; a multiply-add is two
    tokens_in: float = 0  # tokens a language model read
    tokens_out: float = 0  # tokens it wrote
    sub_calls: float = 0  # nested calls of other loops or models
    actions: float = 0  # actions taken in an environment
    seconds: float = 0  # wall-clock time
    money: float = 0  # US dollars

    def charge(self, **units: float) -> None:
        """Add these amounts."""
        for name, amount in units.items():
            setattr(self, name, getattr(self, name) + amount)

    def __add__(self, other: Ledger) -> Ledger:
        return Ledger(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(Ledger)))

    def __or__(self, other: Ledger) -> Ledger:
        longest = {n: max(getattr(self, n), getattr(other, n)) for n in ("seconds", "serial_steps")}
        both = self + other
        return Ledger(**{f.name: longest.get(f.name, getattr(both, f.name)) for f in fields(Ledger)})


# Open ledgers of this thread or task, each with the perf_counter() time at which its seconds were 0.
_open: ContextVar[tuple[tuple[Ledger, float], ...]] = ContextVar("innerloop_ledgers", default=())


@contextmanager
def counting(ledger: Ledger | None = None) -> Iterator[Ledger]:
    """Context in which this thread's costs are added to a ledger (a new one unless given) and to all outer ones.

    A step captured as one graph (torch.compile, a CUDA graph, an exported file) runs no Python and charges nothing: its
    caller must charge for it, as solve.nfe.Compiled does. Blocks that are compiled one by one are counted.
    """
    ledger = Ledger() if ledger is None else ledger
    mark = _open.set((*_open.get(), (ledger, time.perf_counter() - ledger.seconds)))
    try:
        yield ledger
        charge()
    finally:
        _open.reset(mark)


def charge(**units: float) -> None:
    """Add these amounts to every open ledger, and update its seconds; does nothing while torch.compile traces."""
    if torch.compiler.is_compiling():
        return
    for ledger, start in _open.get():
        ledger.charge(**units)
        ledger.seconds = time.perf_counter() - start


def charge_rows(unit: str, value: Any, times: int = 1) -> None:
    """Charge `times` for every example of `value`, a state, a question or a tensor."""
    if counts():
        charge(**{unit: rows_of(value) * times})


def counts() -> bool:
    """Whether a ledger is open."""
    return not torch.compiler.is_compiling() and bool(_open.get())


def rows_of(value: Any) -> int:
    """Batch size of a state or question: rows of its first tensor; 1 if it has no tensor."""
    if isinstance(value, Tensor):
        return len(value) if value.ndim else 1
    if isinstance(value, tuple):
        return next((rows_of(v) for v in value if isinstance(v, Tensor | tuple)), 1)
    return 1


def counted_step(loop: Any, s: Any, x: Any) -> Any:
    """loop.step(s, x), charged as one serial step, and as one block call per example if it calls no Net.

    If the number of calls depends on the data (a fixed point solved for a whole batch), every example is charged for
    every call of its batch.
    """
    if not counts():
        return loop.step(s, x)
    with counting() as cost:
        new = loop.step(s, x)
    if not cost.nfe:
        charge_rows("nfe", new)
    charge(serial_steps=1)
    return new


def step_cost(loop: Any, s: Any, x: Any) -> tuple[Any, Ledger]:
    """(the state after a step, what the step cost), for all examples of the batch together."""
    with counting() as cost:
        new = counted_step(loop, s, x)
    return new, cost
