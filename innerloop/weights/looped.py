"""Looped Transformer (2023): one stack, whose output is fed back with the prompt.             arXiv 2311.12424

    p = embed(question);   y = 0
    a step:   y <- net(y + p)              or, with multiply:   y = 1;   y <- net(y * p)
    answer:   logits = head(y),  halt = q(y at the first position)

Trained by full unrolls whose depth b grows, with gradient and loss on the last T steps only:
Unroll(depth=b, draw="ramp", first=T, grad="last(T)", weigh="window", window=T). Steps are not numbered, so the model
runs at any depth. The net is a pre-norm stack with a final norm, as GPT-2's: one step of it, under a causal mask, is a
plain transformer.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import NamedTuple

from torch import Tensor, nn

from innerloop.core import Answer, Question
from innerloop.parts.attention import context_of
from innerloop.parts.config import NetConfig
from innerloop.parts.embed import Embed
from innerloop.parts.heads import Heads
from innerloop.parts.layers import dtype_named
from innerloop.parts.mixers import Net
from innerloop.schema import check

__all__ = ["Config", "Looped"]

SIZE = replace(NetConfig(), hidden_size=256, layers=1, norm="magic", positions="learned", puzzle_emb_size=256)


@dataclass(frozen=True)
class Config:
    net: NetConfig = field(default_factory=lambda: SIZE)
    multiply: bool = False  # multiply by the prompt, starting from ones, instead of adding it
    dtype: str = "bfloat16"  # of the state and of all products; weights stay float32

    def __post_init__(self) -> None:
        check(self)


class State(NamedTuple):
    y: Tensor  # (B, L, D)


class Looped(nn.Module):
    causal = True  # supports causal masks

    def __init__(self, c: Config = Config()) -> None:
        super().__init__()
        self.c, self.dtype = c, dtype_named(c.dtype)
        self.embed, self.net, self.heads = Embed(c.net), Net(c.net), Heads(c.net, continue_head=False)

    def init(self, x: Question) -> State:
        places = self.c.net.length if x.cache is None else x.cache.places.shape[1]
        shape = (len(x.inputs), places, self.c.net.hidden_size)
        return State(x.inputs.new_full(shape, float(self.c.multiply), dtype=self.dtype))

    def step(self, s: State, x: Question) -> State:
        p_BLD = self.embed(x, self.dtype)
        look = context_of(self.c.net, x)
        return State(self.net(s.y * p_BLD, context=look) if self.c.multiply else self.net(s.y, p_BLD, context=look))

    def read(self, s: State) -> Answer:
        return self.heads(s.y)
