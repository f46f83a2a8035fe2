"""One idea: a model that thinks is a first state, a step, and a reading of the state.

    s = loop.init(x);   at most `depth` times:  s = loop.step(s, x);   answer = loop.read(s)

The state may be tensors (a loop in the weights), text (a loop in the tokens), or a program's variables, as of a
notebook that a model writes into (a loop in the harness). `think` drives all three; the rest of this library is what
you can pass to it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from innerloop.errors import InputError
from innerloop.grad import Rule, full
from innerloop.halt import Halt, never
from innerloop.ledger import charge_rows, counted_step
from innerloop.tree import detach, map_tensors, put, select

__all__ = [
    "DEEPEST",
    "Answer",
    "Loop",
    "Question",
    "Thought",
    "detach",
    "fits",
    "map_tensors",
    "refill",
    "repeat",
    "run_schedule",
    "select",
    "think",
]  # fmt: skip

DEEPEST = 1_000_000  # steps of one thought: the schedule that a gradient rule sees is a tuple of as many names


class Loop(Protocol):
    """What every model that thinks offers; there is no base class. `innerloop check FILE` tests yours.

    A state of tensors is a tuple or NamedTuple of them (nested, if need be), each with one row per example. Any other
    state is one whole: all its examples stop together. What a loop may have besides, to learn by: learn.supervise.
    """

    def init(self, x: Any) -> Any: ...  # question        -> first state
    def step(self, s: Any, x: Any) -> Any: ...  # state, question -> next state
    def read(self, s: Any) -> Any: ...  # state           -> answer


class Question(NamedTuple):
    """What a loop over fixed-size puzzles is asked."""

    inputs: Tensor  # (B, S) int: tokens, 0 = padding
    puzzle: Tensor  # (B,) int: puzzle identifier, 0 = none
    target: Tensor | None = (
        None  # (B, S) int: the right answer, shown to `needs_target` loops while they learn; < 0: none
    )


class Answer(NamedTuple):
    """What such a loop says. The q values are logits: sigmoid(q_halt) is its belief that it is right."""

    logits: Tensor  # (B, S, vocab), in the loop's own dtype
    q_halt: Tensor | None = None  # (B,) float32
    q_continue: Tensor | None = None  # (B,) float32; only loops halted by Q-learning have it
    value: Tensor | None = None  # (B,) float32 in 0 .. 1: predicted share of places that will be right


class Thought(NamedTuple):
    """One run of a loop: the answer, the state it was read from, the steps taken, the record."""

    answer: Any
    state: Any
    steps: Any  # int; (B,) int64 where the halting rule decides example by example
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

    halt    called as halt(loop, old, new, steps) -> bool, or (B,) bool; rules are in innerloop.halt. `steps` is an int
            until some example has stopped, then (B,). An example that stopped keeps its state and its count of
            steps; the others go on until all have stopped
    grad    called as grad(schedule, update, state): runs update(name, state) for every name of the schedule, here
            ("step",) * depth, and decides which of them autograd records ("on the tape"); rules are in
            innerloop.grad. It runs them itself because a rule may replace the tape, as implicit differentiation does.
            A step may cut the tape inside, as TRM's does: the stricter cut wins
    record  called as record(loop, state) after every step until all have stopped; its results come back as `trace`
    state   go on from this state instead of loop.init(x); steps are counted from here
    Raises InputError if depth < 1 or > DEEPEST, or for a Question whose tensors do not fit each other or the loop.
    """
    if depth < 1:
        raise InputError(f"depth is {depth}, but a loop must run at least once: give a depth of 1 or more")
    if depth > DEEPEST:
        raise InputError(f"depth is {depth}, and more steps than {DEEPEST} are not run at once: give less")
    fits(loop, x)
    done: Any = False
    steps: Any = 0
    trace: list[Any] = []

    def advance(_name: str, old: Any) -> Any:
        nonlocal done, steps
        if done is True or (isinstance(done, Tensor) and bool(done.all())):
            return old
        new = select(done, old, counted_step(loop, old, x))
        steps = steps + ((~done).long() if isinstance(done, Tensor) else 1)
        done = done | halt(loop, old, new, steps)
        if record is not None:
            trace.append(record(loop, new))
        return new

    first = loop.init(x) if state is None else state
    charge_rows("calls", first)
    last = grad(("step",) * depth, advance, first)
    if isinstance(done, Tensor):  # if the very first step stopped some, the count is still an int
        steps = torch.zeros_like(done, dtype=torch.long) + steps
    return Thought(loop.read(last), last, steps, trace)


def fits(loop: Any, x: Any) -> None:
    """Raise InputError unless the tensors of a Question fit each other, and its tokens the loop's vocabulary.

    A loop tells that by `c.size.vocab`, if it does. Tokens on an accelerator are not looked at: that would wait for it.
    Other kinds of questions are not looked into.
    """
    if not isinstance(x, Question):
        return
    if x.inputs.ndim != 2 or x.puzzle.shape != x.inputs.shape[:1]:
        raise InputError(
            f"a question has inputs {tuple(x.inputs.shape)} and puzzle {tuple(x.puzzle.shape)}: "
            "give tokens (B, S) and one identifier a row, (B,)"
        )
    if x.inputs.is_floating_point() or x.puzzle.is_floating_point():
        raise InputError(f"tokens are {x.inputs.dtype} and identifiers {x.puzzle.dtype}: give whole numbers")
    size = getattr(getattr(getattr(loop, "loop", loop), "c", None), "net", None)
    vocab = getattr(size, "vocab", None)
    if vocab and x.inputs.device.type == "cpu" and x.inputs.numel():
        low, high = x.inputs.min().item(), x.inputs.max().item()
        if low < 0 or high >= vocab:
            raise InputError(f"the tokens of a question run from {low} to {high}: this model has 0 to {vocab - 1}")


def run_schedule(
    schedule: Sequence[str], updates: Mapping[str, Callable[[Any], Any]], s: Any, grad: Rule = full
) -> Any:
    """Run the named `updates` on `s` in the order of `schedule`, a value such as `("z", "z", "y") * 3`.

    For steps made of several updates. Do not wrap a call in no_grad: which updates are on the tape, `grad` decides.
    """
    return grad(tuple(schedule), lambda name, s: updates[name](s), s)


def repeat(f: Callable[[Any], Any], s: Any, times: int, grad: Rule = full) -> Any:
    """Apply `f` to `s` `times` times."""
    return run_schedule(("f",) * times, {"f": f}, s, grad)


def refill(state: Any, done: Tensor, fresh: Any) -> Any:
    """Rows that are `done` leave and take a row of `fresh`; the others go on, detached.

    done    (B,) bools, of which row i takes row i of `fresh`; or (k,) int64, rows that take the k rows of `fresh`
    It serves twice: in training it carries states from one optimizer step to the next (deep supervision:
    learn/supervise.py); in serving it keeps a batch full although examples finish at different depths (rows.py). It
    refills a batch of data as well: any tree of tensors with batch first.
    """
    return select(done, fresh, detach(state)) if done.dtype == torch.bool else put(detach(state), done, fresh)
