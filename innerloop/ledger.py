"""Cost accounting of inference: block calls (NFE), serial steps, FLOPs, tokens, seconds, money.

    with counting() as cost:
        think(loop, question, depth=16)
    print(cost.nfe, cost.serial_steps, cost.seconds)

Costs are charged where the work is done: a Net of innerloop.parts charges its calls, whichever kernel runs them, and
`think` charges its steps. Without an open ledger a charge is one variable lookup. No number depends on the kernel:
FLOPs, counted on request, are those of the plain PyTorch operations.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from dataclasses import dataclass, fields
from functools import partial
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from innerloop.tree import flatten, take

__all__ = [
    "Ledger",
    "charge",
    "charge_rows",
    "count_flops",
    "counted_step",
    "counting",
    "counts_flops",
    "in_this_context",
    "is_counting",
    "open_ledgers",
    "rows_of",
    "step_cost",
]

T = TypeVar("T")
_lock = threading.Lock()  # of every ledger: workers of core.think_many charge one at once


@dataclass
class Ledger:
    """Sums of costs, each in one unit.

    a + b   sequential: every unit is added
    a | b   parallel: every unit is added, but seconds and serial_steps are the maximum
    """

    calls: float = 0  # questions answered: one for each example and trajectory, sub-calls included
    nfe: float = 0  # block calls: one application of a net (all its layers) to one example
    serial_steps: float = 0  # sequential loop steps, each for a whole batch
    flops: float = 0  # forward, with counting(flops=True); a multiply-add is two
    completions: float = 0  # asked of a language model
    tokens_in: float = 0  # tokens a language model read
    tokens_cached: float = 0  # of tokens_in, those that a cache of the model held already
    tokens_out: float = 0  # tokens it wrote
    sub_calls: float = 0  # of the calls, those made within a step of another loop
    actions: float = 0  # actions scored in an environment
    verifier_seconds: float = 0  # of checking answers
    sandbox_seconds: float = 0  # of running code in a sandbox
    seconds: float = 0  # wall-clock time
    money: float = 0  # US dollars

    def charge(self, **units: float) -> None:
        """Add these amounts. Safe to call from several threads."""
        with _lock:
            for name, amount in units.items():
                setattr(self, name, getattr(self, name) + amount)

    def __add__(self, other: Ledger) -> Ledger:
        return Ledger(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(Ledger)))

    def __or__(self, other: Ledger) -> Ledger:
        longest = {n: max(getattr(self, n), getattr(other, n)) for n in ("seconds", "serial_steps")}
        both = self + other
        return Ledger(**{f.name: longest.get(f.name, getattr(both, f.name)) for f in fields(Ledger)})


# Open ledgers of this thread or task: (ledger, time at which its seconds were 0, whether it counts FLOPs).
_open: ContextVar[tuple[tuple[Ledger, float, bool], ...]] = ContextVar("innerloop_ledgers", default=())


@contextmanager
def counting(ledger: Ledger | None = None, *, flops: bool = False) -> Iterator[Ledger]:
    """Context in which this thread's costs are added to a ledger (a new one unless given) and to all outer ones.

    flops   count FLOPs too, for loops that are a torch.nn.Module: once per loop and shape, on a step of one row. The
            first time in a process PyTorch loads its tracer, which takes some seconds
    The workers of core.think_many are included. A thread you start yourself is counted if it runs `in_this_context(f)`.

    A step captured as one graph (torch.compile, a CUDA graph, an exported file) runs no Python and charges nothing: its
    caller must charge for it, as solve.nfe.CompiledLoop does. Blocks that are compiled one by one are counted.
    """
    ledger = Ledger() if ledger is None else ledger
    mark = _open.set((*_open.get(), (ledger, time.perf_counter() - ledger.seconds, flops)))
    try:
        yield ledger
        charge()
    finally:
        _open.reset(mark)


def open_ledgers() -> tuple[Ledger, ...]:
    """The ledgers that are open in this thread or task, the outermost first."""
    return tuple(ledger for ledger, _, _ in _open.get())


def charge(**units: float) -> None:
    """Add these amounts to every open ledger, and update its seconds; does nothing while torch.compile traces."""
    if torch.compiler.is_compiling():
        return
    for ledger, start, _ in _open.get():
        ledger.charge(**units)
        ledger.seconds = time.perf_counter() - start


def charge_rows(unit: str, value: Any, times: int = 1) -> None:
    """Charge `times` for every example of `value`, a state, a question or a tensor."""
    if is_counting():
        charge(**{unit: rows_of(value) * times})


def is_counting() -> bool:
    """Whether a ledger is open."""
    return not torch.compiler.is_compiling() and bool(_open.get())


def rows_of(value: Any) -> int:
    """Batch size of a state or question: rows of its first tensor; 1 if it has no tensor."""
    if isinstance(value, Tensor):
        return len(value) if value.ndim else 1
    if isinstance(value, tuple):
        return next((rows_of(v) for v in value if isinstance(v, Tensor | tuple)), 1)
    return 1


def in_this_context(f: Callable[..., T]) -> Callable[..., T]:
    """`f`, for one call in another thread: what it spends there is charged to the ledgers that count here and now."""
    return partial(copy_context().run, f)


def counts_flops(ledger: Ledger | None = None) -> bool:
    """Whether FLOPs are counted now, by this ledger or by any."""
    return any(flops for counted, _, flops in _open.get() if ledger is None or counted is ledger)


def counted_step(loop: Any, s: Any, x: Any) -> Any:
    """The state after a step of a loop. Charges a serial step, its FLOPs if they are counted, the calls made within it
    as sub-calls, and one block call per example if it runs no Net of innerloop.parts.

    If the number of calls depends on the data (a fixed point solved for a whole batch), every example is charged for
    every call of its batch.
    """
    if not is_counting():
        return loop.step(s, x)
    with counting() as cost:
        new = loop.step(s, x)
    units = {"serial_steps": 1.0}
    nfe = cost.nfe
    if not nfe:
        units["nfe"] = nfe = rows_of(new)
    if not cost.flops and counts_flops() and (flops := flops_per_block_call(loop, s, x)):
        units["flops"] = nfe * flops
    if cost.calls > cost.sub_calls:
        units["sub_calls"] = cost.calls - cost.sub_calls
    charge(**units)
    return new


def step_cost(loop: Any, s: Any, x: Any) -> tuple[Any, Ledger]:
    """(the state after a step, what the step cost), for all examples of the batch together."""
    with counting() as cost:
        new = counted_step(loop, s, x)
    return new, cost


# -- floating-point operations ----------------------------------------------------------------------------------------

_flops_cache: WeakKeyDictionary[nn.Module, dict[Any, float]] = WeakKeyDictionary()


def count_flops(f: Callable[[], Any]) -> int:
    """Floating-point operations of f(), its backward passes included: those of products, convolutions and attention.

    A block that has a compiled region runs its plain twin instead, so the number does not depend on a compiler.
    """
    from torch.utils.flop_counter import FlopCounterMode  # a slow import that few need

    with FlopCounterMode(display=False) as counter:
        f()
    return counter.get_total_flops()


def flops_per_block_call(loop: Any, s: Any, x: Any) -> float:
    """FLOPs that go with one block call in a step of this loop, for states and questions of these shapes.

    Counted once for each of them, on a step of one row in evaluation, off the tape. 0 for a loop that is not a
    torch.nn.Module inside its wrappers, and for a state that is not all tensors with rows.
    """
    while not isinstance(loop, nn.Module) and hasattr(loop, "loop"):
        loop, s = loop.loop, getattr(s, "inner", s)  # wrappers compute no products
    leaves = flatten((s, x))
    if not isinstance(loop, nn.Module) or not all(isinstance(t, Tensor) and t.ndim for t in leaves if t is not None):
        return 0.0
    plain: Any = loop
    by_shape = _flops_cache.setdefault(loop, {})
    shape = tuple(None if t is None else t.shape[1:] for t in leaves)
    if shape not in by_shape:
        modes = [(module, module.training) for module in loop.modules()]
        loop.eval()
        mark = _open.set(())  # this step is not charged
        try:
            with torch.no_grad(), torch.random.fork_rng(devices=[]), counting() as cost:
                flops = count_flops(lambda: plain.step(*take((s, x), slice(1))))
        finally:
            _open.reset(mark)
            for module, mode in modes:
                module.training = mode
        by_shape[shape] = flops / (cost.nfe or 1)
    return by_shape[shape]
