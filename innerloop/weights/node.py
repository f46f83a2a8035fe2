"""Neural ODE (2018): depth is time; a step integrates the ODE over one unit of it.          arXiv 1806.07366

    x = embed(question);   z(0) = 0
    a step:   z(t + 1) = z(t) + the integral of  dz/dt = net(z + x) - z
    answer:   logits = head(z),  halt = q(z at the first position)

The decay -z bounds the state if the net's output is normalised, and makes the fixed points of net(z + x) equilibria.
The gradient is by backpropagation through the integrator, or by the adjoint equation for each unit of time: the memory
of one net call, with the method's error in the gradient. The adjoint integrates z backward in time: use float32.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from torch import Tensor, nn

from innerloop import grad
from innerloop.core import Answer, Question, run_schedule
from innerloop.errors import InputError
from innerloop.parts import ode
from innerloop.parts.config import NetConfig
from innerloop.parts.embed import Embed
from innerloop.parts.heads import Heads
from innerloop.parts.layers import dtype_named
from innerloop.parts.mixers import Net
from innerloop.schema import Count, check

__all__ = ["NODE", "Config"]


@dataclass(frozen=True)
class Config:
    net: NetConfig = field(default_factory=NetConfig)
    method: str = "rk4"  # of integration: "rk4", four calls of the net, or "euler", one
    steps: Count = 2  # of the integrator, in a unit of time
    grad: str = "full"  # which of them carry gradient: "adjoint", or the name of a rule in innerloop.grad
    dtype: str = "bfloat16"  # of the state and of all products; weights stay float32

    def __post_init__(self) -> None:
        check(self)
        if self.method not in ode.METHODS or self.steps < 1:
            raise InputError(f"node takes 1 or more steps of euler or rk4, not {self.steps} of {self.method}")


class State(NamedTuple):
    z: Tensor  # (B, L, D)


class NODE(nn.Module):
    def __init__(self, c: Config = Config()) -> None:
        super().__init__()
        self.c, self.dtype = c, dtype_named(c.dtype)
        self.grad = None if c.grad == "adjoint" else grad.rule_named(c.grad)
        self.embed, self.net, self.heads = Embed(c.net), Net(c.net), Heads(c.net, continue_head=False)

    def init(self, x: Question) -> State:
        shape = (len(x.inputs), self.c.net.length, self.c.net.hidden_size)
        return State(x.inputs.new_zeros(shape, dtype=self.dtype))

    def step(self, s: State, x: Question) -> State:
        c, x_BLD = self.c, self.embed(x, self.dtype)

        def slope(_: Tensor, z_BLD: Tensor) -> Tensor:
            return self.net(z_BLD, x_BLD) - z_BLD

        if self.grad is None:
            theta = (x_BLD, *self.net.parameters())
            return State(ode.adjoint(slope, s.z, theta, 0.0, 1.0, c.steps, c.method))
        update = lambda s: State(ode.integrate(slope, s.z, 0.0, 1 / c.steps, 1, c.method))  # noqa: E731
        return run_schedule(("z",) * c.steps, {"z": update}, s, self.grad)

    def read(self, s: State) -> Answer:
        return self.heads(s.z)
