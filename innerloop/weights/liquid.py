"""Liquid neural net (2021): its time constants depend on what it sees.                      arXiv 2106.13898

    x = embed(question);   h = 0
    a step:   m = net(h + x)  mixes between places;   h <- cell(m, h, dt)  within each
    answer:   logits = head(h),  halt = q(h at the first place)

The cell is a CfC, gated or pure, or an LTC (arXiv 2006.04439). The papers feed it a sequence; here time is the loop's
own, and what the other places hold comes in as the cell's input.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from torch import Tensor, nn

from innerloop.core import Answer, Question
from innerloop.errors import InputError
from innerloop.parts.config import NetConfig
from innerloop.parts.embed import Embed
from innerloop.parts.heads import Heads
from innerloop.parts.layers import dtype_named
from innerloop.parts.liquid import cell_named
from innerloop.parts.mixers import Net
from innerloop.schema import Count, Positive

__all__ = ["LNN", "Config"]


@dataclass(frozen=True)
class Config:
    net: NetConfig = field(default_factory=NetConfig)
    cell: str = "cfc"  # "cfc", "pure" or "ltc", whose cost grows with width squared at every place: keep it under 128
    dt: Positive = 1.0  # seconds a step lasts
    units: Count = 128  # of a CfC's backbone
    dtype: str = "bfloat16"  # of the state and of all products; weights stay float32, and an LTC computes in it

    def __post_init__(self) -> None:
        if self.dt <= 0 or self.units < 1:
            raise InputError(f"a liquid loop needs dt > 0 and 1 or more units, not {self.dt:g} and {self.units}")


class State(NamedTuple):
    h: Tensor  # (B, L, D)


class LNN(nn.Module):
    def __init__(self, c: Config = Config()) -> None:
        super().__init__()
        self.c, self.dtype, width = c, dtype_named(c.dtype), c.net.hidden_size
        self.embed, self.net, self.heads = Embed(c.net), Net(c.net), Heads(c.net, continue_head=False)
        self.cell = cell_named(c.cell, width, width, c.units)

    def init(self, x: Question) -> State:
        shape = (len(x.inputs), self.c.net.length, self.c.net.hidden_size)
        return State(x.inputs.new_zeros(shape, dtype=self.dtype))

    def step(self, s: State, x: Question) -> State:
        m_BLD = self.net(s.h, self.embed(x, self.dtype))
        return State(self.cell(m_BLD, s.h, self.c.dt))

    def read(self, s: State) -> Answer:
        return self.heads(s.h)
