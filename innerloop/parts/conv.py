"""Convolutional block for grids whose rules are local, such as mazes: a SwiGLU with a 3x3 depthwise convolution."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from innerloop.parts.config import NetConfig
from innerloop.parts.layers import Linear, inner_width, residual_branch


class ConvBlock(nn.Module):
    """x <- norm(x + out(silu(gate(x)) * near(up(x)))): a SwiGLU whose `up` half is convolved.

    One call moves information by one cell, so a path of n cells needs n calls. `near` is a 3x3 depthwise convolution
    over the grid of `size.rows` rows (one for plain sequences), without the prefix. Related to conv-SwiGLU (URM, arXiv
    2512.14693), with a two-dimensional kernel.
    """

    def __init__(self, config: NetConfig) -> None:
        super().__init__()
        inner = inner_width(config.hidden_size, config.expansion, config.multiple_of)
        self.norm, self.prefix, self.grid = config.norm, config.prefix, (config.rows, config.seq // config.rows)
        self.gate, self.up = Linear(config.hidden_size, inner), Linear(config.hidden_size, inner)
        self.near = nn.Conv2d(inner, inner, 3, padding=1, groups=inner, bias=False)
        self.out = Linear(inner, config.hidden_size)

    def forward(self, x_BLD: Tensor) -> Tensor:
        return residual_branch(self.norm, x_BLD, self.gated)

    def gated(self, x_BLD: Tensor) -> Tensor:
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
