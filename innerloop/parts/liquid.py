"""Liquid recurrent cells (CfC, LTC), whose time constants depend on the input: cell(x, h, dt) -> next h.

    CfC (gated)  b = backbone(x, h);   s = sigmoid(a(b) dt + c(b));   h <- (1 - s) tanh f(b) + s tanh g(b)
    CfC (pure)   h <- A - A exp(-dt (|w| + |f(b)|)) f(b)                                     both: arXiv 2106.13898
    LTC          C dv/dt = g (e0 - v) + sum over synapses of w sigmoid(sigma (u - mu)) (e - v);   arXiv 2006.04439
                 six sub-steps, each implicit in v and explicit in the sigmoids ("fused")

A CfC does not solve a fixed equation exactly: two steps of dt/2 differ from one of dt. Shapes: x (..., I), h (..., H),
dt a number or a tensor (..., 1) of seconds. Weights are those of the authors' package ncps (wiring "fully connected").
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from innerloop.errors import InputError
from innerloop.parts.layers import Linear

SUBSTEPS = 6  # of an LTC in one step


class Backbone(nn.Module):
    """(x, h) -> (..., units): layers with LeCun's tanh, 1.7159 tanh(2/3 v)."""

    def __init__(self, inputs: int, units: int, layers: int = 1) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Linear(inputs if i == 0 else units, units, bias=True) for i in range(layers))

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        b = torch.cat((x, h), -1)
        for layer in self.layers:
            b = 1.7159 * torch.tanh(0.666 * layer(b))
        return b


class CfC(nn.Module):
    """Gated closed-form continuous-time cell (CfC); the state stays in -1 .. 1."""

    def __init__(self, inputs: int, hidden: int, units: int = 128) -> None:
        super().__init__()
        self.backbone = Backbone(inputs + hidden, units)
        self.f, self.g, self.a, self.c = (Linear(units, hidden, bias=True) for _ in range(4))

    def forward(self, x: Tensor, h: Tensor, dt: Tensor | float = 1.0) -> Tensor:
        b = self.backbone(x, h)
        share = torch.sigmoid(self.a(b) * dt + self.c(b))
        return torch.tanh(self.f(b)) * (1 - share) + share * torch.tanh(self.g(b))


class PureCfC(nn.Module):
    """CfC without gates, "pure" in ncps: bounded by A (1 + 1 / (e dt)), since |f| exp(-dt |f|) <= 1 / (e dt)."""

    def __init__(self, inputs: int, hidden: int, units: int = 128) -> None:
        super().__init__()
        self.backbone, self.f = Backbone(inputs + hidden, units), Linear(units, hidden, bias=True)
        self.w, self.A = nn.Parameter(torch.zeros(hidden)), nn.Parameter(torch.ones(hidden))

    def forward(self, x: Tensor, h: Tensor, dt: Tensor | float = 1.0) -> Tensor:
        f = self.f(self.backbone(x, h))
        A = self.A.to(f.dtype)
        return A - A * torch.exp(-dt * (self.w.to(f.dtype).abs() + f.abs())) * f


class LTC(nn.Module):
    """Liquid time-constant cell, every neuron wired to every input and neuron, in float32 or wider.

    w, g and C are positive, as the softplus of the parameters, so that no clipping is needed: for any dt, a state that
    starts between the smallest and the largest potential (-1, 1 and e0, initially) stays there. A step costs
    H (I + 6 H) sigmoids per position, so H must be small.
    """

    def __init__(self, inputs: int, hidden: int, units: int = 0) -> None:
        super().__init__()
        draw = lambda low, high, *shape: nn.Parameter(low + (high - low) * torch.rand(*shape))  # noqa: E731
        for name, source in (("", hidden), ("in_", inputs)):
            shape = (source, hidden)
            self.register_parameter(f"{name}w", _raw(draw(0.001, 1.0, *shape)))
            self.register_parameter(f"{name}mu", draw(0.3, 0.8, *shape))
            self.register_parameter(f"{name}sigma", draw(3.0, 8.0, *shape))
            self.register_parameter(f"{name}e", nn.Parameter(1 - 2 * (torch.rand(*shape) < 1 / 3).float()))
        self.g, self.e0, self.C = _raw(draw(0.001, 1.0, hidden)), draw(-0.2, 0.2, hidden), _raw(draw(0.4, 0.6, hidden))

    def forward(self, x: Tensor, h: Tensor, dt: Tensor | float = 1.0) -> Tensor:
        wide = torch.promote_types(h.dtype, torch.float32)
        pull = lambda n, u: _synapses(u, *(getattr(self, n + k).to(wide) for k in ("w", "mu", "sigma", "e")))  # noqa: E731
        v, soft = h.to(wide), nn.functional.softplus
        C, g = soft(self.C.to(wide)) * SUBSTEPS / dt, soft(self.g.to(wide))
        in_top, in_bottom = pull("in_", x.to(wide))
        for _ in range(SUBSTEPS):
            top, bottom = pull("", v)
            v = (C * v + g * self.e0 + top + in_top) / (C + g + bottom + in_bottom)
        return v.to(h.dtype)


def _synapses(u: Tensor, w: Tensor, mu: Tensor, sigma: Tensor, e: Tensor) -> tuple[Tensor, Tensor]:
    """Sources u (..., S) -> (synaptic current (..., H), conductance (..., H)) of their targets."""
    open_ = nn.functional.softplus(w) * torch.sigmoid(sigma * (u[..., None] - mu))
    return (open_ * e).sum(-2), open_.sum(-2)


def _raw(positive: Tensor) -> nn.Parameter:
    """The inverse of softplus, as a parameter."""
    return nn.Parameter(torch.log(torch.expm1(positive.detach())))


CELLS: dict[str, type[nn.Module]] = {"cfc": CfC, "pure": PureCfC, "ltc": LTC}


def cell_named(name: str, *size: Any) -> nn.Module:
    """The cell with this name in a config, made with these sizes. Raises InputError for an unknown name."""
    if name not in CELLS:
        raise InputError(f'no cell is called "{name}": use one of {", ".join(CELLS)}')
    return CELLS[name](*size)
