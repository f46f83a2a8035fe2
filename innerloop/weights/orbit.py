"""Orbit (Innerloop, 2026): one small net circles about an answer that it hears itself say.

    e = embed(question);   y, z = two fixed random vectors, the same at every place
    a step:   a = e + hear(softmax(head(y)))                what is asked, and what it has said so far
              T times:  ( z <- net(z + y + a)  n times;   y <- net(y + z) )
    answer:   logits = head(y),  halt = q(mean of y)

TRM (arXiv 2510.04871) with its answer fed back. While it learns, a share `slips` of rows hears an answer in which some
tokens were replaced at random, so that it learns to mend what it said wrongly.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from innerloop import grad
from innerloop.core import Answer, Question, follow
from innerloop.noise import key_of, scramble, uniform
from innerloop.parts.embed import Embed
from innerloop.parts.heads import Heads
from innerloop.parts.layers import Linear, dtype_named, trunc_normal
from innerloop.parts.mixers import Net
from innerloop.parts.recursion import schedule, updates
from innerloop.parts.size import Size

__all__ = ["Config", "Orbit"]

SIZE = replace(Size(), prefix=0, puzzle_width=0, pool="mean", mix="tokens", positions="none", layers=1)


@dataclass(frozen=True)
class Config:
    size: Size = field(default_factory=lambda: SIZE)
    cycles: int = 1  # T
    thoughts: int = 5  # n, updates of z before each update of y
    hear: float = 1.0  # scale of what is fed back; 0: nothing is
    slips: float = 0.0  # share of rows that hear a corrupted answer while learning
    tape: str = "full"  # which updates of a step carry gradient: the name of a rule in innerloop.grad
    dtype: str = "bfloat16"  # of the state and of all matrix products; weights stay float32


class State(NamedTuple):
    y: Tensor  # (B, L, D) the answer so far
    z: Tensor  # (B, L, D) the thought
    key: Tensor  # (B,) int64, what slips are drawn from


class Orbit(nn.Module):
    y0: Tensor
    z0: Tensor

    def __init__(self, c: Config = Config()) -> None:
        super().__init__()
        self.c, self.tape, self.dtype = c, grad.named(c.tape), dtype_named(c.dtype)
        self.embed, self.net, self.heads = Embed(c.size), Net(c.size), Heads(c.size, continue_head=False)
        self.hear = Linear(c.size.vocab, c.size.width) if c.hear else None
        self.schedule = schedule(c.thoughts, c.cycles)
        self.register_buffer("y0", trunc_normal(c.size.width, std=1.0))
        self.register_buffer("z0", trunc_normal(c.size.width, std=1.0))

    def init(self, x: Question) -> State:
        shape = (len(x.inputs), self.c.size.length, self.c.size.width)
        return State(self.y0.to(self.dtype).expand(shape), self.z0.to(self.dtype).expand(shape), key_of(x))

    def step(self, s: State, x: Question) -> State:
        a_BLD = self.embed(x, self.dtype)
        if self.hear is not None:
            heard = self.hear(self.said(s)) * (self.c.hear * self.c.size.vocab**0.5)
            a_BLD = a_BLD + torch.nn.functional.pad(heard, (0, 0, self.c.size.prefix, 0))
        s = follow(self.schedule, updates(self.net, a_BLD), s, self.tape)
        return s._replace(key=scramble(s.key + 1))

    def said(self, s: State) -> Tensor:
        """(B, S, V) what the state answers, as probabilities; with slips while learning."""
        p_BSV = self.heads.tokens(s.y[:, self.c.size.prefix :]).float().softmax(-1)
        if self.training and self.c.slips:
            u = uniform(s.key, p_BSV.shape[1] * 2 + 2)
            S = p_BSV.shape[1]
            row, share, where, what = u[:, :1], u[:, 1:2], u[:, 2 : 2 + S], u[:, 2 + S :]
            token = (what * p_BSV.shape[-1]).long().clamp_max(p_BSV.shape[-1] - 1)
            wrong = torch.nn.functional.one_hot(token, p_BSV.shape[-1]).float()
            slip = (row < self.c.slips) & (where < share * 0.5)
            p_BSV = torch.where(slip[..., None], wrong, p_BSV)
        return p_BSV.to(self.dtype)

    def read(self, s: State) -> Answer:
        return self.heads(s.y)
