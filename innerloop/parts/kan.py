"""Kolmogorov-Arnold layers: every connection is a learned function of one number, a B-spline (arXiv 2404.19756).

    phi(x) = w silu(x) + sum_i c_i B_i(x);    out_j = sum_i phi_ji(in_i)

Splines of order k on G intervals; the grid is extended by k intervals at each end, which gives G + k bases that sum to
1 between the ends, inclusive. Inputs outside the grid get silu only. The paper's separate factor of the spline is
merged into c, so that the layer is linear in its weights. Shapes: I inputs, J outputs, T knots, N points.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from innerloop.errors import InputError
from innerloop.parts.config import NetConfig
from innerloop.parts.layers import Linear, inner_width, trunc_normal

EVEN_SHARE = 0.02  # weight of an even grid in a data-dependent one, so that knots never coincide
MARGIN = 0.01  # by which a data-dependent grid extends beyond the data, in units of the input


def bases(x: Tensor, knots_IT: Tensor, order: int = 3) -> Tensor:
    """(..., I) -> (..., I, T - order - 1): the B-splines on `knots_IT` at x, by the recursion of Cox and de Boor.

    Intervals are closed on the left. An input on the right end of the grid falls into the first extended interval, so
    its bases still sum to 1.
    """
    x, t = x[..., None], knots_IT
    b = ((x >= t[:, :-1]) & (x < t[:, 1:])).to(x.dtype)
    for k in range(1, order + 1):
        rise = (x - t[:, : -k - 1]) / (t[:, k:-1] - t[:, : -k - 1])
        fall = (t[:, k + 1 :] - x) / (t[:, k + 1 :] - t[:, 1:-k])
        b = rise * b[..., :-1] + fall * b[..., 1:]
    return b


def extended(grid_IG: Tensor, order: int) -> Tensor:
    """(I, G + 1) grid points -> (I, G + 1 + 2 order) knots: the grid extended evenly at both ends."""
    step_I1 = (grid_IG[:, -1:] - grid_IG[:, :1]) / (grid_IG.shape[1] - 1)
    reach = torch.arange(1, order + 1, dtype=grid_IG.dtype, device=grid_IG.device)
    return torch.cat((grid_IG[:, :1] - step_I1 * reach.flip(0), grid_IG, grid_IG[:, -1:] + step_I1 * reach), 1)


class KAN(nn.Module):
    """x (..., I) -> (..., J). Splines are computed in float32 or wider, and cast back."""

    knots: Tensor

    def __init__(
        self, inputs: int, outputs: int, intervals: int = 5, order: int = 3, low: float = -1.0, high: float = 1.0
    ) -> None:
        super().__init__()
        if intervals < 1 or order < 1 or not low < high:
            raise InputError(f"a spline needs intervals and order of 1 or more and low < high, not {low} .. {high}")
        self.intervals, self.order = intervals, order
        grid = torch.linspace(low, high, intervals + 1).expand(inputs, -1)
        self.register_buffer("knots", extended(grid, order))
        self.base = Linear(inputs, outputs)
        self.spline = nn.Parameter(trunc_normal(outputs, inputs, intervals + order, std=0.1 * inputs**-0.5))

    def forward(self, x: Tensor) -> Tensor:
        return self.base(F.silu(x)) + F.linear(
            self.bases(x).flatten(-2).to(x.dtype), self.spline.flatten(1).to(x.dtype)
        )

    def bases(self, x: Tensor) -> Tensor:
        wide = torch.promote_types(x.dtype, torch.float32)
        return bases(x.to(wide), self.knots.to(wide), self.order)

    def update_grid(self, x_NI: Tensor) -> None:
        """Adapt the knots to a sample of inputs, and refit the splines (update_grid_from_samples in pykan).

        The new grid points are the inputs' quantiles, mixed with a share EVEN_SHARE of an even grid. Call it between
        optimizer steps, on some hundreds of inputs, where the function is preserved as well as the new grid allows.
        """
        x_NI = x_NI.detach().flatten(0, -2).to(torch.float64)
        even = torch.linspace(0, 1, self.intervals + 1, dtype=x_NI.dtype, device=x_NI.device)
        low, high = x_NI.amin(0)[:, None] - MARGIN, x_NI.amax(0)[:, None] + MARGIN
        quantiles_IG = torch.quantile(x_NI, even, dim=0).T
        quantiles_IG = torch.cat((low, quantiles_IG[:, 1:-1], high), 1)
        knots_IT = extended(EVEN_SHARE * (low + even * (high - low)) + (1 - EVEN_SHARE) * quantiles_IG, self.order)
        knots_IT = knots_IT.to(self.knots.dtype)
        self.spline.data.copy_(self._fit(x_NI, knots_IT))
        self.knots.copy_(knots_IT)

    def refined(self, intervals: int) -> KAN:
        """A new layer of the same function on more intervals: exact if they subdivide the current ones evenly."""
        ends_IG = self.knots[:, self.order : -self.order].to(torch.float64)
        finer = KAN(self.base.weight.shape[1], self.base.weight.shape[0], intervals, self.order).to(self.knots)
        finer.knots.copy_(extended(_along(ends_IG, intervals), self.order))
        finer.spline.data.copy_(self._fit(_along(ends_IG, 20 * intervals).T, finer.knots))
        finer.base.weight.data.copy_(self.base.weight)
        return finer

    def _fit(self, x_NI: Tensor, knots_IT: Tensor) -> Tensor:
        """(J, I, C) coefficients on `knots_IT` that fit the current splines at x_NI, by least squares.

        In float64 on the CPU, with a driver for rank-deficient matrices: an interval may hold no input.
        """
        wide = torch.float64
        now_INC = bases(x_NI.to(wide), self.knots.to(wide), self.order).transpose(0, 1)
        said_INJ = now_INC @ self.spline.detach().to(wide).permute(1, 2, 0)
        new_INC = bases(x_NI.to(wide), knots_IT.to(wide), self.order).transpose(0, 1)
        return torch.linalg.lstsq(new_INC.cpu(), said_INJ.cpu(), driver="gelsd").solution.permute(2, 0, 1)


def _along(ends_IG: Tensor, parts: int) -> Tensor:
    """(I, G + 1) -> (I, parts + 1) points from end to end, equally many per interval."""
    place = torch.linspace(0, ends_IG.shape[1] - 1, parts + 1, dtype=ends_IG.dtype, device=ends_IG.device)
    left = place.long().clamp_max(ends_IG.shape[1] - 2)
    return torch.lerp(ends_IG[:, left], ends_IG[:, left + 1], place - left)


class KANMlp(nn.Module):
    """Two KAN layers in place of a SwiGLU, with about as many weights; tanh keeps their inputs on the grid."""

    def __init__(self, config: NetConfig, intervals: int = 5, order: int = 3) -> None:
        super().__init__()
        swiglu = 3 * inner_width(config.hidden_size, config.expansion, config.multiple_of)
        inner = max(1, round(swiglu / (2 * (intervals + order + 1))))
        self.up, self.down = (
            KAN(config.hidden_size, inner, intervals, order),
            KAN(inner, config.hidden_size, intervals, order),
        )

    def forward(self, x_BLD: Tensor) -> Tensor:
        return self.down(torch.tanh(self.up(torch.tanh(x_BLD))))
