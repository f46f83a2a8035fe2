"""Generative Recursive reAsoning Model (2026): two-level recursion, noise on the high state.  arXiv 2605.19376

    x = embed(question);   h, l = two fixed random vectors, the same at every position
    a step:   T times:  ( l <- low(l, h + x)  K times;   u = high(h, l);   h <- u + e,   e ~ N(mu(u), sigma(u)^2) )
    answer:   logits = head(h),  halt and value = heads(h at the first position), whose gradient stops there
    loss:     that of the answer + beta KL(q(e | u, answer) || p(e | u)) of the step's last transition

In training e is drawn from the posterior q, which sees the answer; at inference from the prior p. Only the last of the
T transitions has gradient. Salting the state's key gives other trajectories (width.wide, study/coverage); pick by vote
or by the value head, trained with (value - accuracy)^2 (learn/supervise.py). beta must be tuned for each size: if
answers are right in training but not at inference, the answer leaks through e, and beta is too low.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from innerloop import grad
from innerloop.core import Answer, Question, run_schedule
from innerloop.noise import key_of, normal, scramble
from innerloop.parts.config import NetConfig
from innerloop.parts.embed import Embed, Table
from innerloop.parts.guidance import Guidance
from innerloop.parts.heads import Heads
from innerloop.parts.layers import Linear, dtype_named
from innerloop.parts.mixers import Net
from innerloop.schema import Amount, Count, Share, check

__all__ = ["GRAM", "Config"]


@dataclass(frozen=True)
class Config:
    net: NetConfig = field(default_factory=lambda: replace(NetConfig(), prefix=16, expansion=1.5))
    cycles: Count = 3  # T: transitions of a step, each with one draw of e
    thoughts: Count = 4  # K: updates of l in a transition; 6 for Sudoku
    beta: Amount = 0.07  # weight of the KL: .1 Sudoku, .07 8 queens, .5 colouring of 8 vertices
    balance: Share = 0.8  # share of the KL's gradient that moves the prior
    grad: str = "last_cycle"  # which updates of a step carry gradient: the name of a rule in innerloop.grad
    dtype: str = "bfloat16"  # of the state and of all products; weights and e stay float32

    def __post_init__(self) -> None:
        check(self)


class State(NamedTuple):
    h: Tensor  # (B, L, D) high-level state; L = prefix + tokens
    l: Tensor  # (B, L, D) low-level state
    key: Tensor  # (B,) int64 key of the noise
    kl: Tensor  # (B, 1) float32 KL of the last transition; 0 without a target


class GRAM(nn.Module):
    needs_target = True
    h0: Tensor
    l0: Tensor

    def __init__(self, c: Config = Config()) -> None:
        super().__init__()
        self.c, self.grad, self.dtype = c, grad.rule_named(c.grad), dtype_named(c.dtype)
        self.embed, self.low, self.high = Embed(c.net), Net(c.net), Net(c.net)
        self.heads, self.value = Heads(c.net, continue_head=False), Linear(c.net.hidden_size, 1, bias=True)
        self.guidance = Guidance(c.net, c.balance)
        self.answer = Table(c.net.vocab, c.net.hidden_size, 1.0)
        self.schedule = (("l",) * c.thoughts + ("h",)) * c.cycles
        self.register_buffer("h0", torch.randn(c.net.hidden_size))
        self.register_buffer("l0", torch.randn(c.net.hidden_size))

    def init(self, x: Question) -> State:
        shape = (len(x.inputs), self.c.net.length, self.c.net.hidden_size)
        h, l = (v.to(self.dtype).expand(shape) for v in (self.h0, self.l0))
        return State(h, l, key_of(x), torch.zeros_like(x.inputs[:, :1], dtype=torch.float32))

    def step(self, s: State, x: Question) -> State:
        x_BLD, y_BLD = self.embed(x, self.dtype), self.shown(x)
        updates = {
            "l": lambda s: s._replace(l=self.low(s.l, s.h + x_BLD)),
            "h": lambda s: self.pushed(s, self.high(s.h, s.l), y_BLD),
        }
        return run_schedule(self.schedule, updates, s, self.grad)

    def shown(self, x: Question) -> Tensor | None:
        """(B, L, D) embedded answer for the posterior, zero at the prefix and without label; None without target."""
        if x.target is None:
            return None
        e_BSD = self.answer(x.target.clamp_min(0), self.dtype) * (x.target >= 0)[..., None].to(self.dtype)
        return F.pad(e_BSD, (0, 0, self.c.net.prefix, 0))

    def pushed(self, s: State, u_BLD: Tensor, y_BLD: Tensor | None) -> State:
        e_BLD, kl_B = self.guidance(u_BLD, normal(s.key, *u_BLD.shape[1:]), y_BLD)
        return State(u_BLD + e_BLD.to(self.dtype), s.l, scramble(s.key + 1), kl_B[:, None])

    def read(self, s: State) -> Answer:
        q_halt, seen = self.heads(s.h.detach()).q_halt, s.h.detach()
        place_BD = seen[:, 0] if self.c.net.pool == "first" else seen.mean(1)
        return self.heads(s.h)._replace(q_halt=q_halt, value=self.value(place_BD).float()[:, 0].sigmoid())

    def terms(self, s: State) -> dict[str, Tensor]:
        return {"kl_loss": self.c.beta * s.kl[:, 0]}
