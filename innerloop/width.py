"""Many trajectories, one answer: noise to make them differ, and a rule that picks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from innerloop.core import Loop, Thought, map_tensors, select, think
from innerloop.errors import InputError
from innerloop.halt import halting_margin
from innerloop.noise import salted

Pick = Callable[[Sequence[Thought]], Thought]


class Noisy:
    """A loop whose first state (`start`) and every step (`path`) get Gaussian noise of that standard deviation.

    Wraps any loop whose state is a tuple of tensors; subclasses none. All randomness comes from `generator`. `slots`
    names those of the state that get noise; none named: all that are floating.
    PTRM (arXiv 2605.19943) shakes the thought of a trained TRM before every step, and its halting head picks:
    wide(Noisy(trm, generator, 0.3, 0.3, ("z",)), x, 100, best(), depth=64). Its noise before a step is ours after the
    one before; what follows the last step is not read, as TRM reads y alone. Noise learned with: weights/eqr, gram.
    """

    def __init__(
        self,
        loop: Loop,
        generator: torch.Generator,
        start: float = 0.0,
        path: float = 0.0,
        slots: Sequence[str] = (),
    ) -> None:
        self.loop, self.generator, self.start, self.path, self.slots = loop, generator, start, path, tuple(slots)

    def init(self, x: Any) -> Any:
        return _shake(self.loop.init(x), self.start, self.generator, self.slots)

    def step(self, s: Any, x: Any) -> Any:
        return _shake(self.loop.step(s, x), self.path, self.generator, self.slots)

    def read(self, s: Any) -> Any:
        return self.loop.read(s)


def _shake(state: Any, scale: float, generator: torch.Generator, slots: Sequence[str]) -> Any:
    def add(t: Tensor) -> Tensor:
        if scale == 0 or not t.is_floating_point():
            return t
        noise = torch.randn(t.shape, generator=generator, device=generator.device)
        return t + scale * noise.to(t.device, t.dtype)

    if not slots:
        return map_tensors(add, state)
    known = getattr(state, "_fields", ())
    if unknown := set(slots) - set(known):
        raise InputError(f"the state has no slot {min(unknown)!r} to shake: it has {', '.join(known) or 'no names'}")
    return state._replace(**{name: map_tensors(add, getattr(state, name)) for name in slots})


def wide(loop: Loop, x: Any, n: int, pick: Pick, depth: int, **how: Any) -> Thought:
    """Think `n` times, then let `pick` choose: whole thoughts for text, example by example for tensors.

    Loops whose state has a `key` take another trajectory each time; others differ only if they are Noisy.
    """
    if n < 1:
        raise InputError(f"width is {n}, but at least one trajectory must run: give a width of 1 or more")
    return pick([think(loop, x, depth, state=salted(loop.init(x), i), **how) for i in range(n)])


def vote(thoughts: Sequence[Thought]) -> Thought:
    """The answer most trajectories agree on; among equals the earliest."""
    if not isinstance(thoughts[0].state, tuple) or not hasattr(thoughts[0].answer, "logits"):
        answers = [t.answer for t in thoughts]
        return thoughts[answers.index(Counter(answers).most_common(1)[0][0])]
    grids = torch.stack([t.answer.logits.argmax(-1).flatten(1) for t in thoughts])  # (n, B, S)
    votes = (grids[:, None] == grids[None]).all(-1).sum(1)  # (n, B)
    return _take(thoughts, votes)


def best(score: Callable[[Any], Tensor | None] = halting_margin) -> Pick:
    """The trajectory whose answer scores highest; by default the one its halting head trusts most (PTRM)."""

    def pick(thoughts: Sequence[Thought]) -> Thought:
        scores = [score(t.answer) for t in thoughts]
        if any(s is None for s in scores):
            raise InputError("these answers have no score of that kind: pick by vote, or by what the loop's heads say")
        return _take(thoughts, torch.stack(scores))  # type: ignore[arg-type]

    return pick


def worth(answer: Any) -> Tensor | None:
    """(B,) how right a value head expects the trajectory to be: best(worth) is GRAM's choice (arXiv 2605.19376)."""
    return answer.value  # type: ignore[no-any-return]


def steadiest(thoughts: Sequence[Thought]) -> Thought:
    """The trajectory that moved least in its last step, for states that keep their `residual` (EqR)."""
    if any(not hasattr(t.state, "residual") for t in thoughts):
        raise InputError("this loop's state keeps no residual of its last step: pick by another rule")
    return _take(thoughts, -torch.stack([t.state.residual.flatten(1).sum(1) for t in thoughts]))


def first_to_halt(thoughts: Sequence[Thought]) -> Thought:
    """The trajectory that halted first; among equals the one its halting head trusts most (arXiv 2601.19085)."""
    if any(not isinstance(t.steps, Tensor) for t in thoughts):
        raise InputError("no trajectory halted by itself: think with a halting rule that decides for each example")
    steps = torch.stack([t.steps for t in thoughts]).double()
    if all(t.answer.q_halt is not None for t in thoughts):
        steps -= 0.5 * torch.stack([halting_margin(t.answer) for t in thoughts]).sigmoid()
    return _take(thoughts, -steps)


def _take(thoughts: Sequence[Thought], scores: Tensor) -> Thought:
    """Example by example the thought of highest score (n, B); ties go to the earliest. NaN is no score."""
    winner = scores.nan_to_num(nan=float("-inf")).argmax(0)
    chosen = thoughts[0]
    for i, other in enumerate(thoughts[1:], 1):
        mine = winner == i
        answer, state, steps = (_rows(mine, a, b) for a, b in zip(other[:3], chosen[:3], strict=True))
        chosen = Thought(answer, state, steps, chosen.trace)
    return chosen


def _rows(mine: Tensor, a: Any, b: Any) -> Any:
    if isinstance(b, int):
        return torch.where(mine, torch.as_tensor(a), torch.as_tensor(b))
    return None if b is None else select(mine, a, b)
