"""Universal Reasoning Model (2025): one state, one stack, a short convolution in its MLP.     arXiv 2512.14693

    x = embed(question);   z = a fixed random vector, the same at every position
    a step:   z <- net(z, x)  M times;   the first N of them carry no gradient
    answer:   logits = head(z),  halt = q(z at the first position)

net is a stack of blocks whose MLP is a ConvSwiGLU (parts/convglu.py) in place of a SwiGLU; blocks with another MLP or
none are not changed. Between optimizer steps the state is detached and carried over, as in TRM. M = 8 and
N = 2 are the paper's; the official scripts for Sudoku and ARC-AGI-2 run M = 12, N = 6: Config(loops=12), same tape.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import NamedTuple

from torch import Tensor, nn

from innerloop import grad
from innerloop.core import Answer, Question, run_schedule
from innerloop.parts.config import NetConfig
from innerloop.parts.convglu import ConvSwiGLU
from innerloop.parts.embed import Embed, initial_vectors
from innerloop.parts.heads import Heads
from innerloop.parts.layers import SwiGLU, dtype_named, inner_width
from innerloop.parts.mixers import MixThenMlp, Net
from innerloop.schema import Count, check

__all__ = ["URM", "Config"]


@dataclass(frozen=True)
class Config:
    net: NetConfig = field(default_factory=lambda: replace(NetConfig(), layers=4))
    loops: Count = 8  # M: calls of the stack in a step
    grad: str = "last(6)"  # which of them carry gradient, the last M - N: the name of a rule in innerloop.grad
    dtype: str = "bfloat16"  # of the state and of all products; weights stay float32

    def __post_init__(self) -> None:
        check(self)


class State(NamedTuple):
    z: Tensor  # (B, L, D) L = prefix + tokens


class URM(nn.Module):
    z0: Tensor

    def __init__(self, c: Config = Config()) -> None:
        super().__init__()
        self.c, self.grad, self.dtype = c, grad.rule_named(c.grad), dtype_named(c.dtype)
        self.embed, self.net, self.heads = Embed(c.net), Net(c.net), Heads(c.net, continue_head=False)
        inner = inner_width(c.net.hidden_size, c.net.expansion, c.net.multiple_of)
        for block in self.net.blocks:
            if isinstance(block, MixThenMlp) and type(block.mlp) is SwiGLU:
                block.mlp = ConvSwiGLU(c.net.hidden_size, inner)
        self.schedule = ("z",) * c.loops
        self.register_buffer("z0", initial_vectors(c.net))

    def init(self, x: Question) -> State:
        return State(self.z0.to(self.dtype).expand(len(x.inputs), self.c.net.length, self.c.net.hidden_size))

    def step(self, s: State, x: Question) -> State:
        x_BLD = self.embed(x, self.dtype)
        return run_schedule(self.schedule, {"z": lambda s: State(self.net(s.z, x_BLD))}, s, self.grad)

    def read(self, s: State) -> Answer:
        return self.heads(s.z)
