"""Several trajectories per question: noise that makes them differ, and rules that pick one answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any, Generic, NamedTuple

import torch
from torch import Tensor

from innerloop.core import A, Loop, S, Thought, X, check_question, think
from innerloop.errors import InputError
from innerloop.halt import halting_margin
from innerloop.noise import key_of, normal, salted, scramble
from innerloop.tree import map_tensors, select

MAX_WIDTH = 10_000  # most trajectories of one question: all their states are in memory

Pick = Callable[[Sequence[Thought]], Thought]


class NoisyState(NamedTuple):
    """State of a Noisy loop."""

    inner: Any  # state of the wrapped loop
    key: Tensor  # (B,) int64 key of the noise
    steps: Tensor  # (B,) int64 steps taken


class Noisy(Generic[X, A]):
    """A loop with Gaussian noise of standard deviation `start` on the first state and `path` after every step.

    Wraps any loop over Questions whose state is a tuple of tensors. `slots` names the fields that get noise; empty: all
    floating ones. Noise is a function of the question, the seed and the trajectory's salt (innerloop.noise), so it is
    the same in any batch. The initial noise is added in the first step, since the key may be salted until then.
    PTRM (arXiv 2605.19943) adds noise to z of a trained TRM before every step, and its halting head picks:
    think_wide(Noisy(trm, 0.3, 0.3, ("z",)), x, 100, best(), depth=64). Noise before a step is here noise after the step
    before it; noise after the last step has no effect, as TRM reads y alone. Trained with noise: weights/eqr, gram.
    """

    def __init__(
        self, loop: Loop[X, Any, A], start: float = 0.0, path: float = 0.0, slots: Sequence[str] = (), seed: int = 0
    ) -> None:
        self.loop, self.start, self.path, self.slots, self.seed = loop, start, path, tuple(slots), seed

    def init(self, x: X) -> NoisyState:
        state = self.loop.init(x)
        if unknown := set(self.slots) - set(getattr(state, "_fields", ())):
            known = ", ".join(getattr(state, "_fields", ())) or "no names"
            raise InputError(f"the state has no slot {min(unknown)!r} to add noise to: it has {known}")
        key = key_of(x)
        return NoisyState(state, scramble(key + scramble(torch.full_like(key, self.seed))), torch.zeros_like(key))

    def step(self, s: NoisyState, x: X) -> NoisyState:
        inner = s.inner
        if self.start:
            first = self._add_noise(inner, self.start, s.key)
            inner = select(s.steps == 0, first, inner)
        key = scramble(s.key + 1)
        inner = self.loop.step(inner, x)
        return NoisyState(self._add_noise(inner, self.path, key) if self.path else inner, key, s.steps + 1)

    def read(self, s: NoisyState) -> A:
        return self.loop.read(s.inner)

    def _add_noise(self, state: Any, scale: float, key: Tensor) -> Any:
        draws = count()

        def add(t: Tensor) -> Tensor:
            if not t.is_floating_point():
                return t
            noise = normal(scramble(key ^ (next(draws) + 1 << 32)), *t.shape[1:])
            return t + (scale * noise).to(t.dtype)

        if not self.slots:
            return map_tensors(add, state)
        return state._replace(**{name: map_tensors(add, getattr(state, name)) for name in self.slots})


def think_wide(loop: Loop[X, S, A], x: X, n: int, pick: Pick, depth: int, **options: Any) -> Thought[A, S]:
    """Run `think` `n` times and let `pick` choose: one whole Thought for text, per example for tensors.

    Loops whose state has a `key` take a different trajectory each time; others only if wrapped in Noisy.
    """
    if n < 1:
        raise InputError(f"width is {n}, but at least one trajectory must run: give a width of 1 or more")
    if n > MAX_WIDTH:
        raise InputError(f"width is {n}, and at most {MAX_WIDTH} trajectories fit in memory: give a smaller width")
    check_question(loop, x)
    return pick([think(loop, x, depth, state=salted(loop.init(x), i), **options) for i in range(n)])


def vote(thoughts: Sequence[Thought[A, S]]) -> Thought[A, S]:
    """The most frequent answer; ties go to the first."""
    if not isinstance(thoughts[0].state, tuple) or not hasattr(thoughts[0].answer, "logits"):
        answers = [t.answer for t in thoughts]
        return thoughts[answers.index(Counter(answers).most_common(1)[0][0])]
    logits: list[Tensor] = [t.answer.logits for t in thoughts]  # type: ignore[attr-defined]
    grids = torch.stack([t.argmax(-1).flatten(1) for t in logits])  # (n, B, S)
    votes = (grids[:, None] == grids[None]).all(-1).sum(1)  # (n, B)
    return _take(thoughts, votes)


def best(score: Callable[[Any], Tensor | None] = halting_margin) -> Pick:
    """The trajectory whose answer scores highest; by default by its halting head (PTRM)."""

    def pick(thoughts: Sequence[Thought]) -> Thought:
        scores = [score(t.answer) for t in thoughts]
        if any(s is None for s in scores):
            raise InputError("this loop has no head for that score: use vote, or another score")
        return _take(thoughts, torch.stack(scores))  # type: ignore[arg-type]

    return pick


def by_value(answer: Any) -> Tensor | None:
    """(B,) output of the value head: best(by_value) is GRAM's rule (arXiv 2605.19376)."""
    return answer.value  # type: ignore[no-any-return]


def lowest_residual(thoughts: Sequence[Thought[A, S]]) -> Thought[A, S]:
    """The trajectory whose state changed least in its last step, for states with a `residual` field (EqR)."""
    states: list[Any] = [t.state.inner if isinstance(t.state, NoisyState) else t.state for t in thoughts]
    if any(not hasattr(s, "residual") for s in states):
        raise InputError("this loop's state has no field `residual`: use another rule")
    return _take(thoughts, -torch.stack([s.residual.flatten(1).sum(1) for s in states]))


def first_to_halt(thoughts: Sequence[Thought[A, S]]) -> Thought[A, S]:
    """The trajectory that halted first; ties by the halting head (arXiv 2601.19085)."""
    if any(not isinstance(t.steps, Tensor) for t in thoughts):
        raise InputError("no trajectory halted by itself: use a halting rule that decides per example")
    steps = torch.stack([t.steps for t in thoughts]).double()
    answers: list[Any] = [t.answer for t in thoughts]
    if all(a.q_halt is not None for a in answers):
        steps -= 0.5 * torch.stack([halting_margin(a) for a in answers]).sigmoid()
    return _take(thoughts, -steps)


def _take(thoughts: Sequence[Thought], scores: Tensor) -> Thought:
    """Per example the Thought of highest score (n, B); ties go to the first, NaN never wins."""
    winner = scores.nan_to_num(nan=float("-inf")).argmax(0)
    best_so_far = thoughts[0]
    for i, other in enumerate(thoughts[1:], 1):
        is_winner = winner == i
        answer, state, steps = (_rows(is_winner, a, b) for a, b in zip(other[:3], best_so_far[:3], strict=True))
        best_so_far = Thought(answer, state, steps, best_so_far.trace)
    return best_so_far


def _rows(mask: Tensor, a: Any, b: Any) -> Any:
    if isinstance(b, int):
        return torch.where(mask, torch.as_tensor(a), torch.as_tensor(b))
    return None if b is None else select(mask, a, b)
