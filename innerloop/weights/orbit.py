"""Orbit (Innerloop, 2026): a tiny recursive model tied along the orbits of its puzzle's symmetries.

    a node (place, symbol) for each of the symbols whose names mean nothing: "this cell holds this digit"
    e = embed(question);   y, z = two fixed random vectors, the same at every node
    a step:   T times:  ( z <- net(z + y + e)  n times;   y <- net(y + z) )
    net:      x <- norm(x + out(swiglu(own(x) + what its place, its lines and its neighbours say)))
    answer:   logits of a symbol = head(y at its node),  halt = q(mean of y)

TRM's recursion (arXiv 2510.04871). Its net knows no rule of the puzzle, only which of its parts are alike
(recipes.run.fit reads that off the task's symmetries), and gives these the same weights: parts/orbits.py.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import NamedTuple

from torch import Tensor, nn

from innerloop import grad
from innerloop.core import Answer, Question, follow
from innerloop.parts.layers import dtype_named, trunc_normal
from innerloop.parts.mixers import Net
from innerloop.parts.orbits import OrbitBlock, OrbitEmbed, OrbitHeads, count
from innerloop.parts.recursion import schedule, updates
from innerloop.parts.size import Size

__all__ = ["Config", "Orbit"]

SIZE = replace(
    Size(), width=16, heads=2, layers=1, expansion=3.0, multiple=8, mix="orbit", positions="none", prefix=0,
    puzzle_width=0, pool="mean",
)  # fmt: skip


@dataclass(frozen=True)
class Config:
    size: Size = field(default_factory=lambda: SIZE)
    cycles: int = 1  # T
    thoughts: int = 5  # n, updates of z before each update of y
    tape: str = "full"  # which updates of a step carry gradient: the name of a rule in innerloop.grad
    dtype: str = "bfloat16"  # of the state and of all matrix products; weights stay float32


class State(NamedTuple):
    y: Tensor  # (B, L, N D) the answer so far, the nodes of a place side by side
    z: Tensor  # (B, L, N D) the thought


class Orbit(nn.Module):
    y0: Tensor
    z0: Tensor

    def __init__(self, c: Config = Config()) -> None:
        super().__init__()
        self.c, self.tape, self.dtype = c, grad.named(c.tape), dtype_named(c.dtype)
        self.embed, self.net, self.heads = OrbitEmbed(c.size), Net(c.size, OrbitBlock), OrbitHeads(c.size)
        self.schedule = schedule(c.thoughts, c.cycles)
        self.register_buffer("y0", trunc_normal(c.size.width, std=1.0))
        self.register_buffer("z0", trunc_normal(c.size.width, std=1.0))

    def init(self, x: Question) -> State:
        size, nodes = self.c.size, count(self.c.size)
        y, z = (t.to(self.dtype).repeat(nodes).expand(len(x.inputs), size.length, -1) for t in (self.y0, self.z0))
        return State(y, z)

    def step(self, s: State, x: Question) -> State:
        return follow(self.schedule, updates(self.net, self.embed(x, self.dtype)), s, self.tape)

    def read(self, s: State) -> Answer:
        return self.heads(s.y)
