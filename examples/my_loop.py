"""A loop of one's own: a state that a small net pulls towards the question, again and again.

z <- norm(z + f(z + x));   answer: head(z)
"""

from dataclasses import dataclass, field
from typing import NamedTuple

from torch import Tensor, nn

from innerloop.parts.config import NetConfig
from innerloop.parts.embed import Embed
from innerloop.parts.heads import Heads
from innerloop.parts.layers import dtype_named
from innerloop.parts.mixers import Net

__all__ = ["MyLoop"]


@dataclass(frozen=True)
class Config:
    net: NetConfig = field(default_factory=NetConfig)
    dtype: str = "float32"


class State(NamedTuple):
    z: Tensor  # (B, L, D)


class MyLoop(nn.Module):
    def __init__(self, c: Config = Config()) -> None:
        super().__init__()
        self.c, self.dtype = c, dtype_named(c.dtype)
        self.embed, self.net, self.heads = Embed(c.net), Net(c.net), Heads(c.net, continue_head=False)

    def init(self, x):
        return State(self.embed(x, self.dtype) * 0)

    def step(self, s, x):
        return State(self.net(s.z, self.embed(x, self.dtype)))

    def read(self, s):
        return self.heads(s.z)
