"""Looped Transformer (2023): one stack, its output fed back beside the prompt.                arXiv 2311.12424

    p = embed(question);   y = 0
    a step:   y <- net(y + p)              or, with multiply:   y = 1;   y <- net(y * p)
    answer:   logits = head(y),  halt = q(y at the first place)

Learned by whole thoughts whose depth b grows while only the last T steps are taped and answer for themselves:
Unroll(depth=b, draw="ramp", first=T, grad="last(T)", weigh="window", window=T). No step knows its number, so the same
map serves at any depth. The net is a pre-norm stack with a norm at its end, as GPT-2's; here every place sees all.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import NamedTuple

from torch import Tensor, nn

from innerloop.core import Answer, Question
from innerloop.parts.config import NetConfig
from innerloop.parts.embed import Embed
from innerloop.parts.heads import Heads
from innerloop.parts.layers import dtype_named
from innerloop.parts.mixers import Net

__all__ = ["Config", "Looped"]

SIZE = replace(NetConfig(), hidden_size=256, layers=1, norm="magic", positions="learned", puzzle_emb_size=256)


@dataclass(frozen=True)
class Config:
    net: NetConfig = field(default_factory=lambda: SIZE)
    multiply: bool = False  # by the prompt, starting from one, instead of adding it to zero
    dtype: str = "bfloat16"  # of the state and of all products; weights stay float32


class State(NamedTuple):
    y: Tensor  # (B, L, D)


class Looped(nn.Module):
    def __init__(self, c: Config = Config()) -> None:
        super().__init__()
        self.c, self.dtype = c, dtype_named(c.dtype)
        self.embed, self.net, self.heads = Embed(c.net), Net(c.net), Heads(c.net, continue_head=False)

    def init(self, x: Question) -> State:
        shape = (len(x.inputs), self.c.net.length, self.c.net.hidden_size)
        return State(x.inputs.new_full(shape, float(self.c.multiply), dtype=self.dtype))

    def step(self, s: State, x: Question) -> State:
        p_BLD = self.embed(x, self.dtype)
        return State(self.net(s.y * p_BLD) if self.c.multiply else self.net(s.y, p_BLD))

    def read(self, s: State) -> Answer:
        return self.heads(s.y)
