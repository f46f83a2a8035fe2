"""Recursive Stem Model (2026): TRM's cell, taught one step at a time, whose depth grows.      arXiv 2603.15641

    x = embed(question);   y, z = two fixed random vectors, the same at every place
    a step:   z <- net(z, y + x)  n times;   y <- net(y, z)
    answer:   logits = y at the tokens, times the transposed token embedding;   no halting head: it has settled or not

Learned by whole thoughts whose history is detached: only the last step is taped, and only its answer judged. H, the
depth of a thought, grows by the plan: Unroll(depth=8, draw="ramp", first=2, ramp=1, grad="last(1)"). n grows here, at
the `milestones`. With probability 0.01 the official code tapes one more update of y; this one never does.
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
from innerloop.parts.embed import Embed, start
from innerloop.parts.layers import dtype_named
from innerloop.parts.mixers import Net
from innerloop.parts.recursion import schedule, updates
from innerloop.schema import Count, Share

__all__ = ["RSM", "Config"]

SIZE = replace(NetConfig(), layers=1, prefix=0, puzzle_emb_size=0, block="tokens", positions="none")


@dataclass(frozen=True)
class Config:
    net: NetConfig = field(default_factory=lambda: SIZE)
    thoughts: Count = 2  # n, L_cycles in the official code, when training begins
    milestones: tuple[Share, ...] = (0.3, 0.5, 0.7, 0.8, 0.84, 0.86, 0.88, 0.9, 0.92, 0.94)  # at each n grows by one
    dtype: str = "bfloat16"  # of the state and of all products; weights stay float32


class State(NamedTuple):
    y: Tensor  # (B, L, D) the answer so far; L = prefix + tokens
    z: Tensor  # (B, L, D) the thought


class RSM(nn.Module):
    stop = staticmethod(halt.answer_unchanged)
    y0: Tensor
    z0: Tensor
    n: Tensor

    def __init__(self, c: Config = Config()) -> None:
        super().__init__()
        self.c, self.dtype = c, dtype_named(c.dtype)
        self.embed, self.net = Embed(c.net), Net(c.net)
        self.register_buffer("y0", start(c.net))
        self.register_buffer("z0", start(c.net))
        self.register_buffer("n", torch.tensor(0))  # saved with the weights, which were learned at this n
        self.register_load_state_dict_post_hook(lambda loop, _: loop.grow(int(loop.n)))  # type: ignore[operator]
        self.set_progress(1.0)

    def set_progress(self, progress: float) -> None:
        """n for this share of training; before any training it is the last one."""
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
