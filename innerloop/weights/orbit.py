"""Orbit (Innerloop, 2026): one small state goes round and round, tied along the orbits of its puzzle's symmetries.

    a node (place, symbol) for each of the symbols whose names mean nothing: "this cell holds this digit"
    e = embed(question);   h = h0 + sigma W N(0, 1):  a random vector and matrix for all nodes, and noise for each
    a step:   n times:  h <- net(h + e)
    net:      x <- norm(x + out(swiglu(own(x) + what its place, its lines and its neighbours say)))
    answer:   logits of a symbol = head(h at its node),  halt = q(mean of h)

The net knows no rule of the puzzle, only which of its parts are alike, as the task's symmetries tell (runs.run.fit),
and these share their weights: parts/orbits.py. The first trajectory starts without noise, and its answer turns with the
question, exactly; all others, and all in training, start with it, which makes them differ. One state as in URM (arXiv
2512.14693), a tiny net and deep supervision as in TRM (arXiv 2510.04871), random starts as in EqR (arXiv 2605.21488),
messages as in recurrent relational nets (arXiv 1711.08028).
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
from innerloop.parts.embed import Embed, start
from innerloop.parts.heads import Heads
from innerloop.parts.layers import dtype_named, trunc_normal
from innerloop.parts.mixers import Net
from innerloop.schema import Amount, Count

__all__ = ["Config", "Orbit"]

SIZE = replace(
    NetConfig(), hidden_size=144, heads=4, layers=1, expansion=3.0, multiple_of=8, block="orbit", positions="none",
    prefix=0, puzzle_emb_size=0, pool="mean",
)  # fmt: skip

RANK = 4  # numbers that a node's noise is made of: drawing one for each channel would cost a tenth of a step


@dataclass(frozen=True)
class Config:
    net: NetConfig = field(default_factory=lambda: SIZE)
    rounds: Count = 6  # n, calls of the net in a step
    sigma: Amount = 1.0  # of the noise that every trajectory but the first starts with
    grad: str = "full"  # which calls of a step carry gradient: the name of a rule in innerloop.grad
    dtype: str = "float32"  # of the state and of all products


class State(NamedTuple):
    h: Tensor  # (B, L, D), the nodes of a place side by side
    key: Tensor  # (B,) int64, what noise the next step begins with; 0: none


class Orbit(nn.Module):
    h0: Tensor
    w0: Tensor

    def __init__(self, c: Config = Config()) -> None:
        super().__init__()
        if c.rounds < 1:
            raise InputError(f"rounds is {c.rounds}, but a step must call its net at least once: give 1 or more")
        self.c, self.grad, self.dtype = c, grad.named(c.grad), dtype_named(c.dtype)
        self.embed, self.net, self.heads = Embed(c.net), Net(c.net), Heads(c.net, continue_head=False)
        self.register_buffer("h0", start(c.net))
        self.register_buffer("w0", trunc_normal(RANK, c.net.node, std=RANK**-0.5))

    def init(self, x: Question) -> State:
        h = self.h0.to(self.dtype).expand(len(x.inputs), self.c.net.length, self.c.net.hidden_size)
        return State(h, torch.zeros_like(x.puzzle, dtype=torch.long))

    def step(self, s: State, x: Question) -> State:
        h = self.net.again(self.begin(s), self.asked(s, x), self.c.rounds, self.grad)
        return State(h, torch.zeros_like(s.key))

    def asked(self, s: State, x: Question) -> Tensor:
        return self.embed(x, self.dtype)

    def begin(self, s: State) -> Tensor:
        """The state, shaken where it has a key: it was salted since it began, and has taken no step."""
        looks = s.key.device.type == "cpu" and not self.training and not torch.compiler.is_compiling()
        if looks and not s.key.any():
            return s.h  # nothing to add, and drawing it would cost as much as a call of the net
        config = self.c.net
        noise_BLNR = normal(s.key, config.length, config.nodes, RANK)
        noise_BLD = (noise_BLNR @ self.w0).flatten(2) * (self.c.sigma * (s.key != 0))[:, None, None]
        return s.h + noise_BLD.to(s.h.dtype)

    def finer(self, parts: int) -> Orbit:
        """A loop of the same weights that takes `parts` steps for one of these, so that it may stop in between."""
        if parts < 1 or self.c.rounds % parts:
            raise InputError(f"a step of {self.c.rounds} rounds cannot be cut into {parts} equal parts")
        twin = copy(self)
        twin.c = replace(self.c, rounds=self.c.rounds // parts)
        return twin

    def read(self, s: State) -> Answer:
        return self.heads(s.h)
