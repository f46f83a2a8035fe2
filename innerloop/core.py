"""The loop protocol (init, step, read) and `think`, the one driver that runs every loop.

    s = loop.init(x);   at most `depth` times:  s = loop.step(s, x);   answer = loop.read(s)

The state may be tensors (a loop in the weights), text (a loop in the tokens), or the variables of a program, such as a
notebook that a model writes into (a loop in the harness). `think` runs all three; the rest of the library is what can
be passed to it: halting rules, gradient rules, a function that records.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor

from innerloop.errors import InputError
from innerloop.grad import Rule, full
from innerloop.halt import Halt, never
from innerloop.ledger import charge_rows, counted_step, in_this_context
from innerloop.tree import detach, map_tensors, put, select

__all__ = [
    "MAX_DEPTH",
    "Answer",
    "Loop",
    "Question",
    "SomeFailed",
    "Thought",
    "check_question",
    "detach",
    "map_tensors",
    "refill",
    "repeat",
    "run_schedule",
    "select",
    "think",
    "think_many",
]  # fmt: skip

MAX_WORKERS = 1024  # most threads of `think_many`
MAX_DEPTH = 1_000_000  # largest depth: a gradient rule gets a tuple of `depth` names, which takes memory


X = TypeVar("X", contravariant=True)  # question
S = TypeVar("S")  # state
A = TypeVar("A", covariant=True)  # answer


class Loop(Protocol[X, S, A]):
    """What a model must offer to be run by `think`; there is no base class. `innerloop check FILE` tests yours.

    A state of tensors is a tuple or NamedTuple of them, possibly nested, batch first. Any other state is treated as one
    example: the whole batch stops at once. Optional methods and attributes used in training: see learn.supervise.
    """

    def init(self, x: X) -> S: ...  # question        -> first state
    def step(self, s: S, x: X) -> S: ...  # state, question -> next state
    def read(self, s: S) -> A: ...  # state           -> answer


class Question(NamedTuple):
    """Input of a loop over fixed-size puzzles."""

    inputs: Tensor  # (B, S) int: tokens, 0 = padding
    puzzle: Tensor  # (B,) int: puzzle identifier, 0 = none
    target: Tensor | None = None  # (B, S) int: labels, given to `needs_target` loops in training only; < 0: no label
    cache: Any = None  # parts.cache.Cache, whose places alone are read now; None: the whole row


class Answer(NamedTuple):
    """Output of such a loop. q_halt and q_continue are logits: sigmoid(q_halt) predicts that the answer is right."""

    logits: Tensor  # (B, S, vocab), in the loop's own dtype
    q_halt: Tensor | None = None  # (B,) float32
    q_continue: Tensor | None = None  # (B,) float32; only loops halted by Q-learning have it
    value: Tensor | None = None  # (B,) float32 in 0 .. 1: predicted share of positions that will be right


class Thought(NamedTuple, Generic[A, S]):
    """Result of `think`: the answer, the state it was read from, the steps taken, the recorded values."""

    answer: A
    state: S
    steps: Any  # int; (B,) int64 where the halting rule decides per example
    trace: list[Any]


def think(
    loop: Loop[X, S, A],
    x: X,
    depth: int,
    *,
    halt: Halt = never,
    grad: Rule = full,
    record: Callable[[Any, S], Any] | None = None,
    state: S | None = None,
) -> Thought[A, S]:
    """Run `loop` on question `x` for at most `depth` steps, stopping each example when `halt` says so.

    halt    called as halt(loop, old, new, steps) -> bool, or (B,) bool; rules are in innerloop.halt. `steps` is an int
            at the first step, and then (B,) if the rule decides per example. A stopped example keeps its state and its
            step count; the others continue until all have stopped
    grad    called as grad(schedule, update, state): runs update(name, state) for every name of the schedule, here
            ("step",) * depth, and decides which of them autograd records; rules are in innerloop.grad. The rule runs
            the updates because it may replace backpropagation, as implicit differentiation does. A step may truncate
            the gradient further inside itself, as TRM's does
    record  called as record(loop, state) after every step until all have stopped; its results come back as `trace`
    state   start from this state instead of loop.init(x); steps are counted from here
    Raises InputError if depth < 1 or > MAX_DEPTH, or for a Question whose tensors do not fit each other or the loop.
    """
    _check_depth(depth)
    check_question(loop, x)
    done: Any = False
    steps: Any = 0
    trace: list[Any] = []

    def advance(_name: str, old: Any) -> Any:
        nonlocal done, steps
        if done is True or (isinstance(done, Tensor) and bool(done.all())):
            return old
        new = select(done, old, counted_step(loop, old, x))
        steps = steps + ((~done).long() if isinstance(done, Tensor) else 1)
        stop = halt(loop, old, new, steps)
        done = done | (stop if isinstance(stop, Tensor) else bool(stop))
        if record is not None:
            trace.append(record(loop, new))
        return new

    first = loop.init(x) if state is None else state
    charge_rows("calls", first)
    last = grad(("step",) * depth, advance, first)
    if isinstance(done, Tensor):  # if the very first step stopped some, the count is still an int
        steps = torch.zeros_like(done, dtype=torch.long) + steps
    return Thought(loop.read(last), last, steps, trace)


def _check_depth(depth: int) -> None:
    if depth < 1:
        raise InputError(f"depth is {depth}, but a loop must run at least once: give a depth of 1 or more")
    if depth > MAX_DEPTH:
        raise InputError(f"depth is {depth}, and at most {MAX_DEPTH} steps are run at once: give a smaller depth")


class SomeFailed(RuntimeError):
    """Some questions of `think_many` raised, after all of them had been tried.

    errors    the exception of each question that failed, by its index
    thoughts  the Thought of every other question, None where it failed
    """

    def __init__(self, errors: dict[int, Exception], thoughts: Sequence[Thought[Any, Any] | None]) -> None:
        self.errors, self.thoughts = errors, list(thoughts)
        details = "; ".join(f"question {i}: {type(e).__name__}: {e}" for i, e in list(errors.items())[:3])
        more = "; ..." if len(errors) > 3 else ""
        super().__init__(f"{len(errors)} of {len(thoughts)} questions failed, counted from 0: {details}{more}")


def think_many(
    loop: Loop[X, S, A],
    questions: Iterable[X],
    *,
    depth: int,
    halt: Halt = never,
    workers: int = 1,
    record: Callable[[Any, S], Any] | None = None,
) -> list[Thought[A, S]]:
    """Run `think(loop, question, depth)` on every question by itself; returns the Thoughts in order.

    For questions and states that are not rows of one tensor (texts, objects), and for loops whose step waits, as for an
    endpoint: up to `workers` questions run at once, in threads, so `loop` and `halt` are called from several threads.
    Results are the same for any `workers`, if the loop's randomness is in its state and states share no data. Autograd
    is on in the threads if it is on in the caller, and costs are added to the caller's ledgers (innerloop.ledger), so
    `halt.spent` limits the total of all questions. A question that raises does not end the others: after all were
    tried, SomeFailed is raised, with the errors and the other Thoughts.
    Raises InputError for a depth out of range, workers < 1 or > MAX_WORKERS, or one question in place of a list.
    """
    if isinstance(questions, str | bytes | Question | Tensor):
        raise InputError(f"think_many() was given one {type(questions).__name__}: give a list of questions")
    if not 1 <= workers <= MAX_WORKERS:
        raise InputError(f"workers is {workers}: give 1 to {MAX_WORKERS}")
    _check_depth(depth)
    questions = list(questions)
    grad_enabled, inference = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
    errors: dict[int, Exception] = {}
    thoughts: list[Thought[A, S] | None] = [None] * len(questions)

    def run(i: int) -> None:
        try:
            with torch.inference_mode(inference), torch.set_grad_enabled(grad_enabled):  # both are per thread
                thoughts[i] = think(loop, questions[i], depth, halt=halt, record=record)
        except Exception as error:
            errors[i] = error

    if workers == 1:
        for i in range(len(questions)):
            run(i)
    else:
        pool = ThreadPoolExecutor(min(workers, len(questions) or 1))
        try:
            for future in [pool.submit(in_this_context(run), i) for i in range(len(questions))]:
                future.result()
        finally:
            pool.shutdown(cancel_futures=True)
    if errors:
        errors = dict(sorted(errors.items()))
        raise SomeFailed(errors, thoughts) from next(iter(errors.values()))
    return [thought for thought in thoughts if thought is not None]


def check_question(loop: Any, x: Any) -> None:
    """Raise InputError unless inputs and puzzle of a Question fit each other, and its tokens the loop's vocabulary.

    The vocabulary is `loop.c.net.vocab`, if the loop, or the one that it wraps as `loop.loop`, has one. The values of
    tokens on an accelerator are not checked, because reading them would synchronise with it. Questions of other types
    are not checked.
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
    while hasattr(loop, "loop"):
        loop = loop.loop
    config = getattr(getattr(loop, "c", None), "net", None)
    vocab = getattr(config, "vocab", None)
    if vocab and x.inputs.device.type == "cpu" and x.inputs.numel():
        low, high = (end.item() for end in x.inputs.aminmax())
        if low < 0 or high >= vocab:
            raise InputError(f"the tokens of a question run from {low} to {high}: this model has 0 to {vocab - 1}")


def run_schedule(schedule: Sequence[str], updates: Mapping[str, Callable[[S], S]], s: S, grad: Rule = full) -> S:
    """Run the named `updates` on `s` in the order of `schedule`, a value such as `("z", "z", "y") * 3`.

    For steps made of several updates. Do not wrap a call in no_grad: `grad` decides which updates are recorded.
    """
    return grad(tuple(schedule), lambda name, s: updates[name](s), s)


def repeat(f: Callable[[S], S], s: S, times: int, grad: Rule = full) -> S:
    """Apply `f` to `s` `times` times."""
    return run_schedule(("f",) * times, {"f": f}, s, grad)


def refill(state: S, done: Tensor, fresh: S) -> S:
    """Replace the rows that are `done` by rows of `fresh`; the other rows stay, detached.

    done    (B,) bools, of which row i takes row i of `fresh`; or (k,) int64, rows that take the k rows of `fresh`
    Training uses it to carry states from one optimizer step to the next (deep supervision: learn/supervise.py), serving
    to keep a batch full while examples finish at different depths (rows.py). `state` is any tree of tensors with the
    batch first, so a batch of data is refilled the same way.
    """
    return select(done, fresh, detach(state)) if done.dtype == torch.bool else put(detach(state), done, fresh)
