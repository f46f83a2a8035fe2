"""Test-time training as a loop (TTT-Linear, 2024): the state that thinks is a memory's weights.     arXiv 2407.04620

    x = embed(question);   W = a learned start, copied for every example;   y = 0
    a step:   one pass over the tokens y + x:   W <- W - eta grad 1/2 |LN(k W + b) - LN(v - k)|^2,   m = what they read
              y <- net(x + m)
    answer:   logits = head(y),  halt = q(y at the first place)

The paper passes over a text once. Here a step is one more pass, W carried on from where the last one left it: in the
first a token reads what those before it taught W, from the second on what all did. One step leads to the next through
the memory alone: the net sees y only in what was read. Gradients run through the inner steps; W stays float32. Trained
by Unroll, whole thoughts with every step taped.
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

__all__ = ["Config", "FastLoop"]


@dataclass(frozen=True)
class Config:
    net: NetConfig = field(default_factory=NetConfig)
    dtype: str = "bfloat16"  # of the outputs and of all products but the memory's, which are float32


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
        m_BLD, w = self.memory.over(s.y + x_BLD, s.w)
        return State(w, self.net(x_BLD, m_BLD))

    def read(self, s: State) -> Answer:
        return self.heads(s.y)
