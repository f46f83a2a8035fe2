"""Message passing over a puzzle's constraint sets (units): rows, columns, boxes, or other sets of positions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from innerloop.errors import InputError
from innerloop.parts.config import NetConfig
from innerloop.parts.layers import Linear, inner_width, residual_branch, saved_as


class ConstraintBlock(nn.Module):
    """Each unit sums its positions and sends a message back; one SwiGLU combines it with the position's own state.

        m = decode(silu(encode(sum over each unit of x)));   g, u = self_proj(x) + sum of m over a position's units
        x <- norm(x + out(silu(g) * u)), or with the norm where size.norm says

    `size.units` are U sets of token positions; the rules they stand for are not given. Related to recurrent relational
    networks (arXiv 1711.08028), with sums over sets in place of pairs.
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
        self.encode, self.decode = Linear(config.hidden_size, inner), Linear(inner, 2 * inner)
        self.self_proj, self.out = Linear(config.hidden_size, 2 * inner), Linear(inner, config.hidden_size)
        saved_as(self, encode="tell", decode="back", self_proj="own")

    def forward(self, x_BLD: Tensor) -> Tensor:
        return residual_branch(self.norm, x_BLD, self.aggregate)

    def aggregate(self, x_BLD: Tensor) -> Tensor:
        share_UL = self.share.to(x_BLD.dtype)
        m_BUE = self.decode(F.silu(self.encode(share_UL @ x_BLD)))
        gate, up = (self.self_proj(x_BLD) + share_UL.T @ m_BUE).chunk(2, -1)
        return self.out(F.silu(gate) * up)
