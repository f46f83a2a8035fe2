"""Test-time training as a loop (TTT-Linear, 2024): the state is the weights of a memory.            arXiv 2407.04620

    x = embed(question);   W = a learned start, copied for every example;   y = 0
    a step:   one pass over the tokens y + x:   W <- W - eta grad 1/2 |LN(k W + b) - LN(v - k)|^2,   m = its reads
              y <- net(x + m)
    answer:   logits = head(y),  halt = q(y at the first position)

The paper makes one pass over a text. Here each step is another pass, starting from the last W: in the first pass a
token reads what earlier tokens wrote, later what all wrote. Steps are connected by the memory alone: the net gets y
only through the reads. Gradients run through the inner steps; W stays float32. Trained by Unroll with full gradient.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from torch import Tensor, nn

from innerloop.core import Answer, Question
from innerloop.parts.config import NetConfig
from innerloop.parts.embed import Embed
from innerloop.parts.fast_weights import TTT
from innerloop.parts.heads import Heads
from innerloop.parts.layers import dtype_named
from innerloop.parts.mixers import Net
from innerloop.schema import check

__all__ = ["Config", "FastLoop"]


@dataclass(frozen=True)
class Config:
    net: NetConfig = field(default_factory=NetConfig)
    dtype: str = "bfloat16"  # of the outputs and of all products but the memory's, which are float32

    def __post_init__(self) -> None:
        check(self)


class State(NamedTuple):
    w: Tensor  # (B, H, E + 1, E) float32, each example's memory; its last row is the bias b
    y: Tensor  # (B, L, D) the outputs of the last pass


class FastLoop(nn.Module):
    def __init__(self, c: Config = Config()) -> None:
        super().__init__()
        self.c, self.dtype = c, dtype_named(c.dtype)
        self.embed, self.memory, self.net = Embed(c.net), TTT(c.net), Net(c.net)
        self.heads = Heads(c.net, continue_head=False)

    def init(self, x: Question) -> State:
        rows, config = len(x.inputs), self.c.net
        w = self.memory.start(rows)
        return State(w, w.new_zeros(rows, config.length, config.hidden_size, dtype=self.dtype))

    def step(self, s: State, x: Question) -> State:
        x_BLD = self.embed(x, self.dtype)
        m_BLD, w = self.memory.scan(s.y + x_BLD, s.w)
        return State(w, self.net(x_BLD, m_BLD))

    def read(self, s: State) -> Answer:
        return self.heads(s.y)
