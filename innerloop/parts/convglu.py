"""ConvSwiGLU: a SwiGLU with a causal depthwise convolution between gate and output.

    g, u = up(x);   h = silu(g) * u;   y = down(silu(conv(h)))

Source: URM (arXiv 2512.14693).
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from innerloop.parts.layers import Linear

KERNEL = 2  # kernel size, causal: the best in the paper


class ConvSwiGLU(nn.Module):
    """x (B, L, D) -> (B, L, D), zero-padded on the left. No biases."""

    def __init__(self, width: int, inner: int, kernel: int = KERNEL) -> None:
        super().__init__()
        self.up, self.down = Linear(width, 2 * inner), Linear(inner, width)
        self.near = nn.Conv1d(inner, inner, kernel, groups=inner, bias=False)

    def forward(self, x_BLD: Tensor) -> Tensor:
        gate, up = self.up(x_BLD).chunk(2, -1)
        h_BEL = F.pad((F.silu(gate) * up).transpose(1, 2), (self.near.kernel_size[0] - 1, 0))
        h_BEL = F.conv1d(h_BEL, self.near.weight.to(h_BEL.dtype), groups=h_BEL.shape[1])
        return self.down(F.silu(h_BEL).transpose(1, 2))
