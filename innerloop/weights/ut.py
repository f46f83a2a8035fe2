"""Universal Transformer (2018): one net, applied again and again.                             arXiv 1807.03819

    e = embed(question);   z = 0
    a step:   z <- net(z, e + time(t))
    answer:   logits = head(z),  halt = q(z at the first place)

Here the net is post-norm and the question is injected at every step (the paper adds positions and time there).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor, nn

from innerloop.core import Answer, Question
from innerloop.parts.embed import Embed
from innerloop.parts.heads import Heads
from innerloop.parts.layers import dtype_named
from innerloop.parts.mixers import Net
from innerloop.parts.size import Size

__all__ = ["UT", "Config"]


@dataclass(frozen=True)
class Config:
    size: Size = field(default_factory=Size)
    clock: bool = True  # add a sinusoid of the step's number, as the paper does; off: every step is the same map
    dtype: str = "bfloat16"  # of the state and of all products; weights stay float32


class State(NamedTuple):
    z: Tensor  # (B, L, D)
    t: Tensor  # (B,) int64, steps taken


class UT(nn.Module):
    def __init__(self, c: Config = Config()) -> None:
        super().__init__()
        self.c, self.dtype = c, dtype_named(c.dtype)
        self.embed, self.net, self.heads = Embed(c.size), Net(c.size), Heads(c.size, continue_head=False)

    def init(self, x: Question) -> State:
        z = x.inputs.new_zeros((len(x.inputs), self.c.size.length, self.c.size.width), dtype=self.dtype)
        return State(z, x.inputs.new_zeros(len(x.inputs), dtype=torch.long))

    def step(self, s: State, x: Question) -> State:
        e_BLD = self.embed(x, self.dtype)
        if self.c.clock:
            e_BLD = e_BLD + sinusoid(s.t, self.c.size.width)[:, None].to(self.dtype)
        return State(self.net(s.z, e_BLD), s.t + 1)

    def read(self, s: State) -> Answer:
        return self.heads(s.z)


def sinusoid(t: Tensor, width: int) -> Tensor:
    """(B,) times -> (B, width) float32: sines, then cosines, of wavelengths from 2 pi to 20000 pi."""
    angle = t[:, None] * torch.logspace(0, -4, width // 2, device=t.device)
    return torch.cat((angle.sin(), angle.cos()), -1)
