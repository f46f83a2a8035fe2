"""Information that travels cell by cell: for mazes, and any grid whose rules are about neighbours."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from innerloop.parts.config import NetConfig
from innerloop.parts.layers import Linear, around, inner_width


class ConvBlock(nn.Module):
    """x <- norm(x + out(silu(gate(x)) * near(up(x)))): SwiGLU whose `up` half sees a cell's 3x3 neighbourhood.

    One call moves information by one cell, so a path of n cells needs n calls: depth is reach. `near` is a depthwise
    convolution over the grid of `size.rows` rows (one for plain sequences); places of a prefix are left out of it. In
    the family of conv-SwiGLU (URM, arXiv 2512.14693), with a two-dimensional kernel.
    """

    def __init__(self, config: NetConfig) -> None:
        super().__init__()
        inner = inner_width(config.hidden_size, config.expansion, config.multiple_of)
        self.norm, self.prefix, self.grid = config.norm, config.prefix, (config.rows, config.seq // config.rows)
        self.gate, self.up = Linear(config.hidden_size, inner), Linear(config.hidden_size, inner)
        self.near = nn.Conv2d(inner, inner, 3, padding=1, groups=inner, bias=False)
        self.out = Linear(inner, config.hidden_size)

    def forward(self, x_BLD: Tensor) -> Tensor:
        return around(self.norm, x_BLD, self.look)

    def look(self, x_BLD: Tensor) -> Tensor:
        up_BLE = self.up(x_BLD)
        cells_BSE = up_BLE[:, self.prefix :] if self.prefix else up_BLE
        near_BERC = self._near(cells_BSE.unflatten(1, self.grid).permute(0, 3, 1, 2))
        cells_BSE = near_BERC.permute(0, 2, 3, 1).flatten(1, 2)
        if self.prefix:
            cells_BSE = F.pad(cells_BSE, (0, 0, self.prefix, 0))
        return self.out(F.silu(self.gate(x_BLD)) * cells_BSE)

    def _near(self, x_BERC: Tensor) -> Tensor:
        weight = self.near.weight.to(x_BERC.dtype)
        return F.conv2d(x_BERC, weight, padding=1, groups=weight.shape[0])
