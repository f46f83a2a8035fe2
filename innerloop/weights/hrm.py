"""Hierarchical Reasoning Model (2025): a slow high-level and a fast low-level state.         arXiv 2506.21734

    x = embed(question);   h, l = two fixed random vectors, the same at every position
    a step:   N times:  ( l <- low(l, h + x)  T times;   h <- high(h, l) )
    answer:   logits = head(h),  halt and continue = q(h at the first position)

The gradient runs through the last low and the last high call only (the paper's one-step gradient); between
steps the state is detached (deep supervision). The halting head learns by Q-learning: learn.supervise.q_target.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import NamedTuple

from torch import Tensor, nn

from innerloop import grad
from innerloop.core import Answer, Question, run_schedule
from innerloop.parts.config import NetConfig
from innerloop.parts.embed import Embed, initial_vectors
from innerloop.parts.heads import Heads
from innerloop.parts.layers import dtype_named
from innerloop.parts.mixers import Net
from innerloop.schema import Count, check

__all__ = ["HRM", "Config"]


@dataclass(frozen=True)
class Config:
    net: NetConfig = field(default_factory=lambda: replace(NetConfig(), layers=4))
    cycles: Count = 2  # N in the paper, H_cycles in the official code: updates of h in a step
    low_cycles: Count = 2  # T in the paper, L_cycles in the official code: updates of l before each of h
    grad: str = "last(2)"  # which updates of a step carry gradient: the name of a rule in innerloop.grad
    dtype: str = "bfloat16"  # of the state and of all products; weights stay float32

    def __post_init__(self) -> None:
        check(self)


class State(NamedTuple):
    h: Tensor  # (B, L, D) high-level state; L = prefix + tokens
    l: Tensor  # (B, L, D) low-level state


class HRM(nn.Module):
    h0: Tensor
    l0: Tensor

    def __init__(self, c: Config = Config()) -> None:
        super().__init__()
        self.c, self.grad, self.dtype = c, grad.rule_named(c.grad), dtype_named(c.dtype)
        self.embed, self.low, self.high = Embed(c.net), Net(c.net), Net(c.net)
        self.heads = Heads(c.net, continue_head=True)
        self.schedule = (("l",) * c.low_cycles + ("h",)) * c.cycles
        self.register_buffer("h0", initial_vectors(c.net))
        self.register_buffer("l0", initial_vectors(c.net))

    def init(self, x: Question) -> State:
        shape = (len(x.inputs), self.c.net.length, self.c.net.hidden_size)
        return State(self.h0.to(self.dtype).expand(shape), self.l0.to(self.dtype).expand(shape))

    def step(self, s: State, x: Question) -> State:
        x_BLD = self.embed(x, self.dtype)
        updates = {
            "l": lambda s: State(s.h, self.low(s.l, s.h + x_BLD)),
            "h": lambda s: State(self.high(s.h, s.l), s.l),
        }
        return run_schedule(self.schedule, updates, s, self.grad)

    def read(self, s: State) -> Answer:
        return self.heads(s.h)
