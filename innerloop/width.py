"""Many trajectories, one answer: noise to make them differ, and a rule that picks."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from innerloop.core import Loop, Thought, map_tensors, select, think
from innerloop.errors import InputError
from innerloop.halt import halting_margin

Pick = Callable[[Sequence[Thought]], Thought]


class Noisy:
    """A loop whose first state (`start`) and every step (`path`) get Gaussian noise of that standard deviation.

    Wraps any loop whose state is a tuple of tensors; subclasses none. All randomness comes from `generator`.
    Sources: EqR (arXiv 2605.21488) for both, PTRM (arXiv 2605.19943) for noise on a trained model.
    """

    def __init__(self, loop: Loop, generator: torch.Generator, start: float = 0.0, path: float = 0.0) -> None:
        self.loop, self.generator, self.start, self.path = loop, generator, start, path

    def init(self, x: Any) -> Any:
        return _shake(self.loop.init(x), self.start, self.generator)

    def step(self, s: Any, x: Any) -> Any:
        return _shake(self.loop.step(s, x), self.path, self.generator)

    def read(self, s: Any) -> Any:
        return self.loop.read(s)


def _shake(state: Any, scale: float, generator: torch.Generator) -> Any:
    def add(t: Tensor) -> Tensor:
        if scale == 0 or not t.is_floating_point():
            return t
        noise = torch.randn(t.shape, generator=generator, device=generator.device)
        return t + scale * noise.to(t.device, t.dtype)

    return map_tensors(add, state)


def key_of(x: Any) -> Tensor:
    """(B,) int64 key of each question, a hash of its tokens and puzzle: the same alone, in any batch, on any device."""
    tokens = torch.cat((x.puzzle[:, None].long(), x.inputs.long()), 1)
    places = torch.arange(1, tokens.shape[1] + 1, device=tokens.device)
    return scramble(scramble(tokens + 1 + (places << 20)).sum(1))


def salted(state: Any, salt: Any) -> Any:
    """The same state on another trajectory: its `key` (B,) mixed with `salt`, an int or (B,) int64. 0 changes nothing.

    A state without a key has no noise of its own, and stays.
    """
    if "key" not in getattr(state, "_fields", ()):
        return state
    salt = torch.as_tensor(salt, device=state.key.device)
    return state._replace(key=torch.where(salt == 0, state.key, scramble(state.key + scramble(salt))))


def scramble(n: Tensor) -> Tensor:
    """int64 -> int64 that looks random and differs in every bit for neighbours (the finaliser of SplitMix64)."""
    for shift, factor in ((30, -0x40A7B892E31B1A47), (27, -0x6B2FB644ECCEEE15), (31, 1)):
        n = (n ^ ((n >> shift) & ((1 << (64 - shift)) - 1))) * factor
    return n


def uniform(key: Tensor, *shape: int) -> Tensor:
    """(B, *shape) float32 in (0, 1), a function of each row's key alone: no generator, no batch mates."""
    count = math.prod(shape)
    places = torch.arange(1, count + 1, device=key.device)
    bits = scramble(key[:, None] + scramble(places)) >> 40
    return ((bits & 0xFFFFFF).float() + 0.5).mul(2**-24).view(-1, *shape)


def normal(key: Tensor, *shape: int) -> Tensor:
    """(B, *shape) float32 standard normal, likewise. Draw twice from one key and you have the same numbers twice."""
    return torch.erfinv(2 * uniform(key, *shape) - 1) * math.sqrt(2)


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


def best(score: Callable[[Any], Tensor] = halting_margin) -> Pick:
    """The trajectory whose answer scores highest; by default the one its halting head trusts most."""
    return lambda thoughts: _take(thoughts, torch.stack([score(t.answer) for t in thoughts]))


def _take(thoughts: Sequence[Thought], scores: Tensor) -> Thought:
    """Example by example the thought of highest score (n, B); ties go to the earliest."""
    winner = scores.argmax(0)
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
