"""Deep Equilibrium Model (2019): the fixed point of a net, found by a fixed-point solver.    arXiv 1909.01377

    x = embed(question);   z = 0
    a step:     solve z* = net(z*, x), starting from z;   z <- net(z*, x)
    gradient:   implicit: solve y = J'y + g, J = d net / d z* (grad.implicit)
    answer:     logits = head(z),  halt = q(z at the first position)

The solver stops after `iterations`; the state holds the final residual, and no warning is given. Other gradient rules:
phantom(k, tau) after the same solver (phantom(1, 1) is the one-step gradient), and those of plain iteration, such as
last(1). `jacobian` weights the regulariser |v'J|^2 / n, v normal (arXiv 2106.14342): one more net call per step.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from innerloop import grad
from innerloop.core import Answer, Question, run_schedule
from innerloop.halt import residual
from innerloop.noise import key_of, normal, scramble
from innerloop.parts.config import NetConfig
from innerloop.parts.embed import Embed
from innerloop.parts.heads import Heads
from innerloop.parts.layers import dtype_named
from innerloop.parts.mixers import Net
from innerloop.parts.solvers import solver_named
from innerloop.schema import Amount, Count, Positive, check

__all__ = ["DEQ", "Config"]


@dataclass(frozen=True)
class Config:
    net: NetConfig = field(default_factory=NetConfig)
    solver: str = "anderson"  # for forward and backward: "picard", "anderson" or "broyden"
    iterations: Count = 24  # most calls of the net in a solve, forward or backward
    tol: Positive = 1e-3  # relative residual at which an example's solve ends
    grad: str = "implicit"  # which calls carry gradient: "implicit", "phantom(5, 0.5)", or a rule of innerloop.grad
    jacobian: Amount = 0.0  # weight of the regulariser that keeps the map a contraction; 0: none
    dtype: str = "float32"  # of the state and of all products: bfloat16 does not resolve residuals under 1e-2

    def __post_init__(self) -> None:
        check(self)


class State(NamedTuple):
    z: Tensor  # (B, L, D)
    residual: Tensor  # (B,) float32 relative change in the last call of the net
    calls: Tensor  # (B,) int64 calls of the net so far with a residual above tol
    rough: Tensor  # (B,) float32 |v'J|^2 / n at z, differentiable; 0 without a regulariser or gradient
    probe: Tensor  # (B,) int64 key of v; not named `key`, since trajectories do not differ by noise


class DEQ(nn.Module):
    def __init__(self, c: Config = Config()) -> None:
        super().__init__()
        solver = solver_named(c.solver, tol=c.tol, limit=c.iterations, warn=False)
        self.c, self.grad, self.dtype = c, grad.rule_named(c.grad, solver), dtype_named(c.dtype)
        self.embed, self.net, self.heads = Embed(c.net), Net(c.net), Heads(c.net, continue_head=False)
        for p in self.net.parameters():
            if p.ndim > 1:
                p.data *= 0.5  # at the usual scale the initial map does not contract, and has no fixed point to find

    def init(self, x: Question) -> State:
        rows = len(x.inputs)
        z = x.inputs.new_zeros((rows, self.c.net.length, self.c.net.hidden_size), dtype=self.dtype)
        blank = x.inputs.new_zeros(rows, dtype=torch.float32)
        return State(z, blank + 1, x.inputs.new_zeros(rows, dtype=torch.long), blank, key_of(x))

    def step(self, s: State, x: Question) -> State:
        x_BLD = self.embed(x, self.dtype)
        left, calls = s.residual, s.calls

        def update(z_BLD: Tensor) -> Tensor:
            nonlocal left, calls
            new_BLD = self.net(z_BLD, x_BLD)
            left = residual(z_BLD.detach(), new_BLD.detach())
            calls = calls + (left > self.c.tol)
            return new_BLD

        z_BLD = run_schedule(("z",) * self.c.iterations, {"z": update}, s.z, self.grad)
        rough = self.roughness(z_BLD, x_BLD, s.probe) if self.c.jacobian and torch.is_grad_enabled() else s.rough * 0
        return State(z_BLD, left, calls, rough, scramble(s.probe + 1))

    def roughness(self, z_BLD: Tensor, x_BLD: Tensor, key: Tensor) -> Tensor:
        """(B,) |v'J|^2 / n, whose mean over v is |J|_F^2 / n; differentiable in the weights and in x."""
        z_BLD = z_BLD.detach().requires_grad_()
        v_BLD = normal(key, *z_BLD.shape[1:]).to(z_BLD.dtype)
        with sdpa_kernel(SDPBackend.MATH), grad.uncompiled():  # fused attention has no second derivative either
            (pulled_BLD,) = torch.autograd.grad(self.net(z_BLD, x_BLD), z_BLD, v_BLD, create_graph=True)
        return pulled_BLD.float().square().flatten(1).mean(1)

    def terms(self, s: State) -> dict[str, Tensor]:
        return {"jacobian_loss": self.c.jacobian * s.rough} if self.c.jacobian else {}

    def read(self, s: State) -> Answer:
        return self.heads(s.z)
