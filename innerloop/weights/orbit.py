"""Orbit (Innerloop, 2026): one small state, whose weights are shared along the orbits of the puzzle's symmetries.

    a node (position, symbol) for each interchangeable symbol: "this cell holds this digit"
    e = embed(question);   h = h0 + sigma W N(0, 1):  fixed random h0 and W for all nodes, noise drawn for each node
    a step:   n times:  h <- net(h + e)
    net:      x <- norm(x + out(swiglu(own(x) + messages of its position, its lines and its neighbours)))
    answer:   logits of a symbol = head(h at its node),  halt = q(mean of h)

The net is given the task's symmetries (runs.fit), not its rules: parts that a symmetry maps to each other share weights
(parts/orbits.py). With net.most_views > 0 (parts/config.py) a grid's few symmetries, such as turns, are views side by
side instead (parts/views.py): the state of a position then holds its state in every view. The first trajectory starts
without noise and is exactly equivariant. All others, and all in training, start with noise, which makes them differ.
One state as in URM (arXiv 2512.14693), a tiny net and deep supervision as in TRM (arXiv 2510.04871), random
starts as in EqR (arXiv 2605.21488), messages as in recurrent relational networks (arXiv 1711.08028).
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from innerloop import grad
from innerloop.core import Answer, Question
from innerloop.errors import InputError
from innerloop.noise import normal
from innerloop.parts.config import NetConfig
from innerloop.parts.embed import Embed, initial_vectors
from innerloop.parts.heads import Heads
from innerloop.parts.layers import dtype_named, trunc_normal
from innerloop.parts.mixers import Net
from innerloop.parts.views import ViewMixer
from innerloop.schema import Amount, Count, check

__all__ = ["Config", "Orbit"]

SIZE = replace(
    NetConfig(), hidden_size=144, heads=4, layers=1, expansion=3.0, multiple_of=8, block="orbit", positions="none",
    prefix=0, puzzle_emb_size=0, pool="mean",
)  # fmt: skip

RANK = 4  # rank of a node's noise: drawing one number for each channel would cost a tenth of a step


@dataclass(frozen=True)
class Config:
    net: NetConfig = field(default_factory=lambda: SIZE)
    rounds: Count = 6  # n, calls of the net in a step
    sigma: Amount = 1.0  # standard deviation of the noise that every trajectory but the first starts with
    grad: str = "full"  # which calls of a step carry gradient: the name of a rule in innerloop.grad
    dtype: str = "float32"  # of the state and of all products

    def __post_init__(self) -> None:
        check(self)


class State(NamedTuple):
    h: Tensor  # (B, L, D), D = views x nodes of a position x channels of a node
    key: Tensor  # (B,) int64, key of the noise that the next step adds first; 0: none


class Orbit(nn.Module):
    h0: Tensor
    w0: Tensor
    takes_views = True  # those of config.net.views are thought about side by side

    def __init__(self, c: Config = Config()) -> None:
        super().__init__()
        self.c, self.grad, self.dtype = c, grad.rule_named(c.grad), dtype_named(c.dtype)
        self.length, self.nodes = c.net.length, c.net.nodes * max(1, len(c.net.views))
        self.embed, self.net, self.heads = Embed(c.net), Net(c.net), Heads(c.net, continue_head=False)
        self.views = ViewMixer(c.net) if c.net.views else None
        if self.views is not None and c.grad != "full":
            raise InputError(f'views side by side need grad="full", and it is "{c.grad}"')
        self.register_buffer("h0", initial_vectors(c.net).repeat(max(1, len(c.net.views))))
        self.register_buffer("w0", trunc_normal(RANK, c.net.node, std=RANK**-0.5))

    def init(self, x: Question) -> State:
        h = self.h0.to(self.dtype).expand(len(x.inputs), self.length, -1)
        return State(h, torch.zeros_like(x.puzzle, dtype=torch.long))

    def step(self, s: State, x: Question) -> State:
        h, no_key = self.add_start_noise(s), torch.zeros_like(s.key)
        if self.views is None:
            return State(self.net.iterate(h, self.embedded(s, x), self.c.rounds, self.grad), no_key)
        h, e = self.views.to_views(h), self.embed(self.views.view_questions(x), self.dtype)
        for _ in range(self.c.rounds):
            h = self.net.iterate(h, e + self.views.message(h), 1)
        return State(self.views.from_views(h), no_key)

    def embedded(self, s: State, x: Question) -> Tensor:
        """(B, L, D) what every call of the net adds. A subclass may use the state too."""
        return self.embed(x, self.dtype)

    def add_start_noise(self, s: State) -> Tensor:
        """The state, plus initial noise in rows whose key is not 0 (noise.salted sets it before the first step)."""
        may_skip = s.key.device.type == "cpu" and not self.training and not torch.compiler.is_compiling()
        if may_skip and not s.key.any():
            return s.h  # no row has a key; drawing the noise would cost as much as a call of the net
        noise_BLNR = normal(s.key, self.length, self.nodes, RANK)
        noise_BLD = (noise_BLNR @ self.w0).flatten(2) * (self.c.sigma * (s.key != 0))[:, None, None]
        return s.h + noise_BLD.to(s.h.dtype)

    def split_steps(self, parts: int) -> Orbit:
        """A loop of the same weights whose step is 1 / `parts` of this one's, so that it can halt earlier."""
        if parts < 1 or self.c.rounds % parts:
            raise InputError(f"a step of {self.c.rounds} rounds cannot be split into {parts} equal parts")
        copied = copy(self)
        copied.c = replace(self.c, rounds=self.c.rounds // parts)
        return copied

    def read(self, s: State) -> Answer:
        if self.views is None:
            return self.heads(s.h)
        return self.views.mean_answer(self.heads(self.views.to_views(s.h)))
