"""What thinking costs, in one place: block calls, serial steps, FLOPs, tokens, seconds, money.

    with counting() as cost:
        think(loop, question, depth=16)
    print(cost.nfe, cost.serial_steps, cost.seconds)

Work is charged where it is done: a Net of innerloop.parts charges its calls, on every path it may take, and `think`
its steps. While nothing is counted a charge costs a look at one variable. A number never depends on which kernel ran.
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
    """Sums of what was spent, each in one unit.

    a + b   b was spent after a
    a | b   b was spent beside a: seconds and serial steps are those of the longer
    """

    calls: float = 0  # questions thought about: one for each example and trajectory
    nfe: float = 0  # block calls: a net, all its layers, applied to one example once
    serial_steps: float = 0  # steps of a loop that had to wait for each other, of however many examples at once
    flops: float = 0  # floating-point operations, a multiplication and an addition being two
    tokens_in: float = 0  # tokens a language model read
    tokens_out: float = 0  # tokens it wrote
    sub_calls: float = 0  # questions that a thought asked others
    actions: float = 0  # actions tried in a world
    seconds: float = 0  # by the clock on the wall
    money: float = 0  # US dollars

    def charge(self, **units: float) -> None:
        """Add so much of these units."""
        for name, amount in units.items():
            setattr(self, name, getattr(self, name) + amount)

    def __add__(self, other: Ledger) -> Ledger:
        return Ledger(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(Ledger)))

    def __or__(self, other: Ledger) -> Ledger:
        longest = {n: max(getattr(self, n), getattr(other, n)) for n in ("seconds", "serial_steps")}
        both = self + other
        return Ledger(**{f.name: longest.get(f.name, getattr(both, f.name)) for f in fields(Ledger)})


# What counts now, in this thread or task: each ledger, and the time at which its seconds were 0.
_open: ContextVar[tuple[tuple[Ledger, float], ...]] = ContextVar("innerloop_ledgers", default=())


@contextmanager
def counting(ledger: Ledger | None = None) -> Iterator[Ledger]:
    """Within it, what this thread spends is added to a ledger, a new one unless given, and to those open around it.

    A graph that was captured or compiled whole (torch.compile of a step, a CUDA graph, an exported file) runs no
    Python, so who runs it charges for it, as solve.nfe.Compiled does; blocks compiled one by one are counted.
    """
    ledger = Ledger() if ledger is None else ledger
    mark = _open.set((*_open.get(), (ledger, time.perf_counter() - ledger.seconds)))
    try:
        yield ledger
        charge()
    finally:
        _open.reset(mark)


def charge(**units: float) -> None:
    """Add so much to every ledger that counts, and bring its seconds up to date; nothing while a compiler traces."""
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
    """Whether anything is counted now."""
    return not torch.compiler.is_compiling() and bool(_open.get())


def rows_of(value: Any) -> int:
    """Examples in a state or question: rows of its first tensor; 1 where it has none."""
    if isinstance(value, Tensor):
        return len(value) if value.ndim else 1
    if isinstance(value, tuple):
        return next((rows_of(v) for v in value if isinstance(v, Tensor | tuple)), 1)
    return 1


def counted_step(loop: Any, s: Any, x: Any) -> Any:
    """The state after a step of a loop, charged: a serial step, and one block call where it runs no Net of ours.

    Where a step has as many calls as its data ask for (a fixed point solved for a whole batch), what counts is what was
    run: an example is charged for every call its batch made.
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
