"""PonderNet (2021): when to stop is a chance the net learns.                                  arXiv 2107.05407

    x = embed(question);   z = 0
    a step:   z <- net(z, x)
    answer:   logits = head(z),  halt = the logit of lambda, the chance to stop here once here
    loss:     sum of p_n loss_n + beta KL(p || geometric(prior)),   p_n = lambda_n (1 - lambda_1) ... (1 - lambda_{n-1})

The loss is the plan's: Unroll(depth=N, weigh="ponder", prior=..., beta=...). To answer, halt by `halt.sampled`: a draw
by lambda that is a function of the state's key. With NetConfig.pool="mean" the gradient of lambda ends at its head.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import NamedTuple

from torch import Tensor, nn

from innerloop import halt
from innerloop.core import Answer, Question
from innerloop.errors import InputError
from innerloop.noise import key_of, scramble
from innerloop.parts.config import NetConfig
from innerloop.parts.embed import Embed
from innerloop.parts.heads import Heads
from innerloop.parts.layers import dtype_named
from innerloop.parts.mixers import Net
from innerloop.schema import Share

__all__ = ["Config", "PonderNet"]


@dataclass(frozen=True)
class Config:
    net: NetConfig = field(default_factory=NetConfig)
    start: Share = 0.2  # lambda before learning, whatever the state: the plan's prior is a good start
    dtype: str = "bfloat16"  # of the state and of all products; weights stay float32

    def __post_init__(self) -> None:
        if not 0 < self.start < 1:
            raise InputError(f"start={self.start} is no chance to halt: give one strictly between 0 and 1")


class State(NamedTuple):
    z: Tensor  # (B, L, D)
    key: Tensor  # (B,) int64, what halting by chance draws from


class PonderNet(nn.Module):
    stop = staticmethod(halt.sampled)

    def __init__(self, c: Config = Config()) -> None:
        super().__init__()
        self.c, self.dtype = c, dtype_named(c.dtype)
        self.embed, self.net, self.heads = Embed(c.net), Net(c.net), Heads(c.net, continue_head=False)
        nn.init.constant_(self.heads.q.bias, math.log(c.start / (1 - c.start)))  # type: ignore[arg-type]

    def init(self, x: Question) -> State:
        shape = (len(x.inputs), self.c.net.length, self.c.net.hidden_size)
        return State(x.inputs.new_zeros(shape, dtype=self.dtype), key_of(x))

    def step(self, s: State, x: Question) -> State:
        return State(self.net(s.z, self.embed(x, self.dtype)), scramble(s.key + 1))

    def read(self, s: State) -> Answer:
        return self.heads(s.z)
