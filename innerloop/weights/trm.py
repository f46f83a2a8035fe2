"""Tiny Recursive Model (2025): one small net updates a latent z, then the answer y.         arXiv 2510.04871

    e = embed(question);   y, z = two fixed random vectors, the same at every position
    a step:   T times:  ( z <- net(z + y + e)  n times;   y <- net(y + z) )
    answer:   logits = head(y at the tokens),  halt = q(y at position 0)

The 16 positions before the tokens hold the puzzle embedding; the halting head reads the first of them. The gradient
runs through the last of the T cycles only (all of it, if T is 1). Between optimizer steps the state is detached and
carried over (deep supervision: learn/supervise.py). The default block is attention;
Config(NetConfig(prefix=16, block="tokens", positions="none")) is the paper's MLP-mixer variant.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from torch import Tensor, nn

from innerloop import grad
from innerloop.core import Answer, Question, run_schedule
from innerloop.parts.config import NetConfig
from innerloop.parts.embed import Embed, initial_vectors
from innerloop.parts.heads import Heads
from innerloop.parts.layers import dtype_named
from innerloop.parts.mixers import Net
from innerloop.schema import Count, check

__all__ = ["TRM", "Config"]


@dataclass(frozen=True)
class Config:
    net: NetConfig = field(default_factory=lambda: NetConfig(prefix=16))
    cycles: Count = 3  # T in the paper, H_cycles in the official code: cycles of a step
    thoughts: Count = 6  # n in the paper, L_cycles in the official code: updates of z before each update of y
    grad: str = "last_cycle"  # which updates of a step carry gradient: the name of a rule in innerloop.grad
    dtype: str = "bfloat16"  # of the state and of all matrix products; weights stay float32

    def __post_init__(self) -> None:
        check(self)


class State(NamedTuple):
    y: Tensor  # (B, L, D) the answer so far; L = prefix + tokens
    z: Tensor  # (B, L, D) the latent


class TRM(nn.Module):
    y0: Tensor
    z0: Tensor

    def __init__(self, c: Config = Config()) -> None:
        super().__init__()
        self.c, self.grad, self.dtype = c, grad.rule_named(c.grad), dtype_named(c.dtype)
        self.embed, self.net, self.heads = Embed(c.net), Net(c.net), Heads(c.net, continue_head=False)
        self.schedule = (("z",) * c.thoughts + ("y",)) * c.cycles
        self.register_buffer("y0", initial_vectors(c.net))
        self.register_buffer("z0", initial_vectors(c.net))

    def init(self, x: Question) -> State:
        shape = (len(x.inputs), self.c.net.length, self.c.net.hidden_size)
        return State(self.y0.to(self.dtype).expand(shape), self.z0.to(self.dtype).expand(shape))

    def step(self, s: State, x: Question) -> State:
        e_BLD = self.embed(x, self.dtype)
        updates = {  # a net adds up its inputs
            "z": lambda s: State(s.y, self.net(s.z, s.y + e_BLD)),
            "y": lambda s: State(self.net(s.y, s.z), s.z),
        }
        return run_schedule(self.schedule, updates, s, self.grad)

    def read(self, s: State) -> Answer:
        return self.heads(s.y)
