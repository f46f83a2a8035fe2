"""Recursive Stem Model (2026): TRM's cell, trained on its last step, with growing depth.      arXiv 2603.15641

    x = embed(question);   y, z = two fixed random vectors, the same at every position
    a step:   z <- net(z, y + x)  n times;   y <- net(y, z)
    answer:   logits = y at the tokens, times the transposed token embedding;   no halting head: stops when unchanged

Trained by full unrolls with gradient and loss on the last step only. The depth H grows by the plan:
Unroll(depth=8, draw="ramp", first=2, ramp=1, grad="last(1)"). n grows at the `milestones`. With probability 0.01 the
official code lets one more update of y have gradient; this one never does.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from innerloop import halt
from innerloop.core import Answer, Question, run_schedule
from innerloop.parts.config import NetConfig
from innerloop.parts.embed import Embed, initial_vectors
from innerloop.parts.layers import dtype_named
from innerloop.parts.mixers import Net
from innerloop.parts.recursion import schedule, updates
from innerloop.schema import Count, Share, check

__all__ = ["RSM", "Config"]

SIZE = replace(NetConfig(), layers=1, prefix=0, puzzle_emb_size=0, block="tokens", positions="none")


@dataclass(frozen=True)
class Config:
    net: NetConfig = field(default_factory=lambda: SIZE)
    thoughts: Count = 2  # n, L_cycles in the official code, when training begins
    milestones: tuple[Share, ...] = (0.3, 0.5, 0.7, 0.8, 0.84, 0.86, 0.88, 0.9, 0.92, 0.94)  # at each n grows by one
    dtype: str = "bfloat16"  # of the state and of all products; weights stay float32

    def __post_init__(self) -> None:
        check(self)


class State(NamedTuple):
    y: Tensor  # (B, L, D) the answer so far; L = prefix + tokens
    z: Tensor  # (B, L, D) the latent


class RSM(nn.Module):
    stop = staticmethod(halt.answer_unchanged)
    y0: Tensor
    z0: Tensor
    n: Tensor

    def __init__(self, c: Config = Config()) -> None:
        super().__init__()
        self.c, self.dtype = c, dtype_named(c.dtype)
        self.embed, self.net = Embed(c.net), Net(c.net)
        self.register_buffer("y0", initial_vectors(c.net))
        self.register_buffer("z0", initial_vectors(c.net))
        self.register_buffer("n", torch.tensor(0))  # saved, since the weights were trained with this n
        self.register_load_state_dict_post_hook(lambda loop, _: loop.grow(int(loop.n)))  # type: ignore[operator]
        self.set_progress(1.0)

    def set_progress(self, progress: float) -> None:
        """Set n for this share of training; untrained models have the final n."""
        self.grow(self.c.thoughts + sum(progress >= m for m in self.c.milestones))

    def grow(self, n: int) -> None:
        self.n.fill_(n)
        self.schedule = schedule(n, 1)

    def init(self, x: Question) -> State:
        shape = (len(x.inputs), self.c.net.length, self.c.net.hidden_size)
        return State(self.y0.to(self.dtype).expand(shape), self.z0.to(self.dtype).expand(shape))

    def step(self, s: State, x: Question) -> State:
        done: Any = run_schedule(self.schedule, updates(self.net, self.embed(x, self.dtype)), s)
        return done

    def read(self, s: State) -> Answer:
        return Answer(F.linear(s.y[:, self.c.net.prefix :], self.embed.tokens.weight.to(self.dtype)))
