"""Multi-token prediction: an extra module that predicts the token after the next (DeepSeek-V3, arXiv 2412.19437).

    h'_i = block(merge[norm(h_i); norm(embed(t_{i+1}))]);    logits' = head(norm(h'_i)), of t_{i+2}

Embedding and head are shared with the main model. Used in training only, with loss weight 0.3 and later 0.1.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from innerloop.errors import InputError
from innerloop.parts.layers import Linear, rms_norm


class MTP(nn.Module):
    """A module of depth 1; deeper ones are chained: each takes the previous h' and tokens shifted by one more.

    `block` maps (B, L, D) to (B, L, D) and must be causal, so that targets do not leak.
    """

    def __init__(self, width: int, block: nn.Module) -> None:
        super().__init__()
        self.merge, self.block = Linear(2 * width, width), block

    def forward(self, h_BLD: Tensor, next_BLD: Tensor, head: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        """(h', logits'), from the states h_i and the embeddings of t_{i+1}: see `shift_tokens`."""
        h_BLD = self.block(self.merge(torch.cat((rms_norm(h_BLD), rms_norm(next_BLD)), -1)))
        return h_BLD, head(rms_norm(h_BLD))


def shift_tokens(tokens_BL: Tensor, by: int, fill: int) -> Tensor:
    """(B, L) tokens shifted left by `by`, padded with `fill`.

    The labels of the main head are shift_tokens(t, 1, -100). A module of depth d takes the embeddings of
    shift_tokens(t, d, 0); its labels are shift_tokens(t, d + 1, -100). Positions with a label never see the padding.
    """
    if by < 0:
        raise InputError(f"ahead shifts by 0 or more places, not by {by}")
    return F.pad(tokens_BL[:, by:], (0, min(by, tokens_BL.shape[1])), value=fill)
