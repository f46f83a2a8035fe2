"""Message passing through a puzzle's own constraints: rows, columns, boxes, or whatever sets of places it names."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from innerloop.errors import InputError
from innerloop.parts.config import NetConfig
from innerloop.parts.layers import Linear, around, inner_width


class ConstraintBlock(nn.Module):
    """Every place tells its units what it holds, and hears what they say together; one SwiGLU takes both in.

        m = back(silu(tell(sum over each unit of x)));   g, u = own(x) + sum over a place's units of m
        x <- norm(x + out(silu(g) * u)), or with the norm where size.norm says

    A block for `size.units` (sets of token places; U of them), which know nothing of what they constrain. In the
    family of recurrent relational networks (arXiv 1711.08028), with sums over sets in place of pairs.
    """

    share: Tensor

    def __init__(self, config: NetConfig) -> None:
        super().__init__()
        if not config.units:
            raise InputError('block "units" needs a task that names its units: use the recipe grid, or another block')
        inner = inner_width(config.hidden_size, config.expansion, config.multiple_of)
        self.norm = config.norm
        share = torch.zeros(len(config.units), config.length)
        for unit, places in zip(share, config.units, strict=True):
            unit[torch.tensor(places) + config.prefix] = len(places) ** -0.5
        self.register_buffer("share", share, persistent=False)
        self.tell, self.back = Linear(config.hidden_size, inner), Linear(inner, 2 * inner)
        self.own, self.out = Linear(config.hidden_size, 2 * inner), Linear(inner, config.hidden_size)

    def forward(self, x_BLD: Tensor) -> Tensor:
        return around(self.norm, x_BLD, self.hear)

    def hear(self, x_BLD: Tensor) -> Tensor:
        share_UL = self.share.to(x_BLD.dtype)
        m_BUE = self.back(F.silu(self.tell(share_UL @ x_BLD)))
        gate, up = (self.own(x_BLD) + share_UL.T @ m_BUE).chunk(2, -1)
        return self.out(F.silu(gate) * up)
