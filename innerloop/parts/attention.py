"""Attention without a mask, with rotary positions: the fused kernel and its plain twin.

Shapes: B batch, L length, H heads, E head width, D = H * E.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from innerloop.parts.layers import Linear
from innerloop.parts.size import Size

PLAIN_LENGTH = 256  # up to here three matrix products beat the fused kernel on CPUs


def attend_plain(q_BHLE: Tensor, k_BHLE: Tensor, v_BHLE: Tensor) -> Tensor:
    """softmax(q k' / sqrt(E)) v, the softmax in float32."""
    scores = (q_BHLE * q_BHLE.shape[-1] ** -0.5) @ k_BHLE.transpose(-1, -2)
    return torch.softmax(scores, -1, dtype=torch.float32).to(v_BHLE.dtype) @ v_BHLE


def attend(q_BHLE: Tensor, k_BHLE: Tensor, v_BHLE: Tensor) -> Tensor:
    """The faster of the two forms for this device and length."""
    if q_BHLE.device.type == "cpu" and q_BHLE.shape[-2] <= PLAIN_LENGTH:
        return attend_plain(q_BHLE, k_BHLE, v_BHLE)
    return F.scaled_dot_product_attention(q_BHLE, k_BHLE, v_BHLE)


def rotary(length: int, width: int, base: float = 10_000.0) -> tuple[Tensor, Tensor]:
    """cos and sin tables (L, E) of rotary positions, the two halves of E sharing their angles (arXiv 2104.09864)."""
    frequency = base ** (-torch.arange(0, width, 2, dtype=torch.float32) / width)
    angle = torch.arange(length, dtype=torch.float32)[:, None] * frequency
    angle = torch.cat((angle, angle), -1)
    return angle.cos(), angle.sin()


def rotate(x_BLHE: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn every pair (x_i, x_{i + E/2}) by its position's angle, in float32."""
    x = x_BLHE.to(cos.dtype)
    a, b = x.chunk(2, -1)
    turned = x * cos[:, None] + torch.cat((-b, a), -1) * sin[:, None]
    return turned.to(x_BLHE.dtype)


class Attention(nn.Module):
    """out(attend(q, k, v)): every place reads every other."""

    cos: Tensor
    sin: Tensor

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.heads = size.heads
        self.qkv = Linear(size.width, 3 * size.width)
        self.out = Linear(size.width, size.width)
        if size.positions == "rope":
            cos, sin = rotary(size.length, size.width // size.heads)
            self.register_buffer("cos", cos, persistent=False)
            self.register_buffer("sin", sin, persistent=False)
        self.turn = size.positions == "rope"

    def forward(self, x_BLD: Tensor) -> Tensor:
        q, k, v = self.qkv(x_BLD).unflatten(-1, (3, self.heads, -1)).unbind(2)
        if self.turn:
            q, k = rotate(q, self.cos, self.sin), rotate(k, self.cos, self.sin)
        a_BHLE = attend(*(t.transpose(1, 2) for t in (q, k, v)))
        return self.out(a_BHLE.transpose(1, 2).flatten(2))
