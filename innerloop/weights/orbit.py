"""Orbit (Innerloop, 2026): one small state goes round and round, tied along the orbits of its puzzle's symmetries.

    a node (place, symbol) for each of the symbols whose names mean nothing: "this cell holds this digit"
    e = embed(question);   h = h0 + sigma N(0, 1), h0 one random vector, the same at every node
    a step:   n times:  h <- net(h + e)
    net:      x <- norm(x + out(swiglu(own(x) + what its place, its lines and its neighbours say)))
    answer:   logits of a symbol = head(h at its node),  halt = q(mean of h)

The net knows no rule of the puzzle, only which of its parts are alike, as the task's symmetries tell (recipes.run.fit),
and these share their weights: parts/orbits.py. An answer therefore turns with its question, exactly, and only noise
makes trajectories differ. Beside it: URM's single state (arXiv 2512.14693), TRM's tiny net and deep supervision
(arXiv 2510.04871), EqR's random starts (arXiv 2605.21488), recurrent relational nets (arXiv 1711.08028).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from innerloop import grad
from innerloop.core import Answer, Question, repeat
from innerloop.noise import key_of, normal, scramble
from innerloop.parts.embed import Embed, start
from innerloop.parts.heads import Heads
from innerloop.parts.layers import dtype_named
from innerloop.parts.mixers import Net
from innerloop.parts.size import Size

__all__ = ["Config", "Orbit"]

SIZE = replace(
    Size(), width=144, heads=4, layers=1, expansion=3.0, multiple=8, mix="orbit", positions="none", prefix=0,
    puzzle_width=0, pool="mean",
)  # fmt: skip


@dataclass(frozen=True)
class Config:
    size: Size = field(default_factory=lambda: SIZE)
    rounds: int = 6  # n, calls of the net in a step
    sigma: float = 0.0  # of the noise on the first state
    tape: str = "full"  # which calls of a step carry gradient: the name of a rule in innerloop.grad
    dtype: str = "float32"  # of the state and of all products


class State(NamedTuple):
    h: Tensor  # (B, L, D), the nodes of a place side by side
    key: Tensor  # (B,) int64, what the noise is drawn from
    begun: Tensor  # (B,) bool: the noise is in


class Orbit(nn.Module):
    h0: Tensor

    def __init__(self, c: Config = Config()) -> None:
        super().__init__()
        self.c, self.tape, self.dtype = c, grad.named(c.tape), dtype_named(c.dtype)
        self.embed, self.net, self.heads = Embed(c.size), Net(c.size), Heads(c.size, continue_head=False)
        self.register_buffer("h0", start(c.size))

    def init(self, x: Question) -> State:
        h = self.h0.to(self.dtype).expand(len(x.inputs), self.c.size.length, self.c.size.width)
        return State(h, key_of(x), torch.zeros_like(x.puzzle, dtype=torch.bool))

    def step(self, s: State, x: Question) -> State:
        e_BLD, h_BLD = self.asked(s, x), self.begin(s) if self.c.sigma else s.h
        h_BLD = repeat(lambda h: self.net(h, e_BLD), h_BLD, self.c.rounds, self.tape)
        return State(h_BLD, scramble(s.key + 1), torch.ones_like(s.begun))

    def asked(self, s: State, x: Question) -> Tensor:
        return self.embed(x, self.dtype)

    def begin(self, s: State) -> Tensor:
        """The first state with its noise, which waited for a key that may have been salted."""
        noisy = s.h + self.c.sigma * normal(s.key, *s.h.shape[1:]).to(s.h.dtype)
        return torch.where(s.begun[:, None, None], s.h, noisy)

    def read(self, s: State) -> Answer:
        return self.heads(s.h)
