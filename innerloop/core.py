"""One idea: a model that thinks is a first state, a step, and a reading of the state.

    s = loop.init(x);   depth times:  s = loop.step(s, x);   answer = loop.read(s)

The state may be tensors (a loop in the weights), text (a loop in the tokens), or a program's names
(a loop in the harness). `think` drives all three; everything else in this library fills one of its slots.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from innerloop.errors import InputError
from innerloop.grad import Rule, full
from innerloop.halt import Halt, never


class Loop(Protocol):
    """What every model that thinks offers; there is no base class. `check` tests the contract on yours."""

    def init(self, x: Any) -> Any: ...  # question        -> first state
    def step(self, s: Any, x: Any) -> Any: ...  # state, question -> next state
    def read(self, s: Any) -> Any: ...  # state           -> answer


class Question(NamedTuple):
    """What a loop over fixed-size puzzles is asked."""

    inputs: Tensor  # (B, S) int: tokens, 0 = padding
    puzzle: Tensor  # (B,) int: puzzle identifier, 0 = none


class Answer(NamedTuple):
    """What such a loop says. The q values are logits: sigmoid(q_halt) is its belief that it is right."""

    logits: Tensor  # (B, S, vocab) float32
    q_halt: Tensor | None = None  # (B,) float32
    q_continue: Tensor | None = None  # (B,) float32; only loops halted by Q-learning have it


class Thought(NamedTuple):
    """One run of a loop: the answer, the state it was read from, the steps each example took, the record."""

    answer: Any
    state: Any
    steps: Any  # int, or (B,) int64 where examples stop one by one
    trace: list[Any]


def think(
    loop: Loop,
    x: Any,
    depth: int,
    *,
    halt: Halt = never,
    grad: Rule = full,
    record: Callable[[Loop, Any], Any] | None = None,
    state: Any = None,
) -> Thought:
    """Run `loop` on question `x` for at most `depth` steps, stopping each example when `halt` says so.

    halt    rule (loop, old, new, steps) -> bool, or (B,) bool: from innerloop.halt
    grad    rule that owns the loop it runs and decides which steps are on the tape: from innerloop.grad
    record  called as record(loop, state) after every step; its results come back as `trace`
    state   go on from this state instead of loop.init(x)
    Raises InputError if depth < 1.
    """
    if depth < 1:
        raise InputError(f"depth is {depth}, but a loop must run at least once: give a depth of 1 or more")
    done: Any = False
    steps: Any = 0
    trace: list[Any] = []

    def advance(_: str, old: Any) -> Any:
        nonlocal done, steps
        if done is True or (isinstance(done, Tensor) and bool(done.all())):
            return old
        new = select(done, old, loop.step(old, x))
        steps = steps + (1 - done if isinstance(done, bool) else (~done).long())
        done = done | halt(loop, old, new, steps)
        if record is not None:
            trace.append(record(loop, new))
        return new

    first = loop.init(x) if state is None else state
    last = grad(("step",) * depth, advance, first)
    return Thought(loop.read(last), last, steps, trace)


def follow(schedule: Sequence[str], updates: Mapping[str, Callable[[Any], Any]], s: Any, grad: Rule = full) -> Any:
    """Run the named `updates` on `s` in the order of `schedule`, a value such as `("L", "L", "H") * 2`.

    The gradient rule, not the caller, decides which of them are on the tape.
    """
    return grad(tuple(schedule), lambda name, s: updates[name](s), s)


def repeat(f: Callable[[Any], Any], s: Any, times: int, grad: Rule = full) -> Any:
    """Apply `f` to `s` `times` times."""
    return follow(("f",) * times, {"f": f}, s, grad)


def refill(state: Any, done: Tensor, fresh: Any) -> Any:
    """Rows that are `done` leave and take their row of `fresh`; the others go on, detached.

    One function for two lives: the carry of deep supervision in training, and continuous depth batching
    in serving. It also refills a batch of data, or any tuple of tensors with batch first.
    """
    return select(done, fresh, detach(state))


def detach(state: Any) -> Any:
    """The same state, off the tape."""
    return over(Tensor.detach, state)


def over(f: Callable[[Tensor], Tensor], state: Any) -> Any:
    """A state with `f` applied to each of its tensors; what is no tensor stays."""
    if isinstance(state, Tensor):
        return f(state)
    return _rebuild(state, (over(f, item) for item in state)) if isinstance(state, tuple) else state


def select(mask: Any, a: Any, b: Any) -> Any:
    """`a` where `mask`, else `b`: whole states for a bool, row by row for a (B,) tensor of bools.

    A row's value never depends on another row's, and what is not selected is never read: NaN stays out.
    """
    if isinstance(mask, bool):
        return a if mask else b
    if isinstance(b, Tensor):
        return torch.where(mask.view(-1, *[1] * (b.ndim - 1)), a, b)
    return _rebuild(b, (select(mask, p, q) for p, q in zip(a, b, strict=True))) if isinstance(b, tuple) else b


def _rebuild(like: tuple[Any, ...], items: Any) -> tuple[Any, ...]:
    return type(like)(*items) if hasattr(like, "_fields") else type(like)(items)
