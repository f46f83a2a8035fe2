"""Multi-head attention with rotary positions, masks and key-value memory; fused and plain kernels.

Shapes: B batch, L queries, K keys, H heads, E head width, D = H * E. K > L if a memory holds earlier keys.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from innerloop.parts.config import NetConfig
from innerloop.parts.layers import Linear

PLAIN_LENGTH = 256  # up to here three matrix products beat the fused kernel on CPUs

Memory = Callable[[int, Tensor, Tensor], tuple[Tensor, Tensor]]


class AttentionContext(NamedTuple):
    """Mask and key-value memory of an attention call. None in place of it: no mask, no memory."""

    mask: Tensor | None = None  # (B or 1, 1, L, K) bool: the query sees the key; at least one key per query
    first: int = 0  # position of the first query; earlier positions are in the memory
    memory: Memory | None = None  # memory(layer, k, v) -> (B, H, K, E) keys and values to use instead
    layer: int = 0  # index of the block within its net


def prefix_lengths(config: NetConfig, inputs_BS: Tensor) -> Tensor:
    """(B,) int64 length of the prefix that is read bidirectionally: all, none, or up to the separator (size.mask).

    A row without the separator is all prefix.
    """
    rows, places = inputs_BS.shape
    if config.mask == "prefix" and config.separator:
        hit = (inputs_BS == config.separator).long()
        return config.prefix + (hit.cumsum(1) - hit == 0).sum(1)
    return inputs_BS.new_full((rows,), 0 if config.mask == "causal" else config.prefix + places, dtype=torch.long)


def attention_context(config: NetConfig, prompt_B: Tensor) -> AttentionContext | None:
    """The causal or prefix mask of `size`: a position sees itself, earlier ones and the prefix. None without a mask."""
    if not config.causal:
        return None
    position = torch.arange(config.length, device=prompt_B.device)
    earlier_LL = position <= position[:, None]
    if config.mask == "causal":
        return AttentionContext(earlier_LL[None, None])
    return AttentionContext((earlier_LL | (position < prompt_B[:, None, None]))[:, None])


def attend_plain(q_BHLE: Tensor, k_BHKE: Tensor, v_BHKE: Tensor, mask: Tensor | None = None) -> Tensor:
    """softmax(q k' / sqrt(E)) v over the keys where `mask` (B or 1, 1, L, K) is True; softmax in float32."""
    scores = (q_BHLE * q_BHLE.shape[-1] ** -0.5) @ k_BHKE.transpose(-1, -2)
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    return torch.softmax(scores, -1, dtype=torch.float32).to(v_BHKE.dtype) @ v_BHKE


def attend(q_BHLE: Tensor, k_BHKE: Tensor, v_BHKE: Tensor, mask: Tensor | None = None) -> Tensor:
    """Plain or fused attention, whichever is faster for this device and length."""
    if q_BHLE.device.type == "cpu" and q_BHLE.shape[-2] <= PLAIN_LENGTH:
        return attend_plain(q_BHLE, k_BHKE, v_BHKE, mask)
    hidden = () if mask is None else (mask,)
    return F.scaled_dot_product_attention(q_BHLE, k_BHKE, v_BHKE, *hidden)


def rotary(length: int, width: int, base: float = 10_000.0) -> tuple[Tensor, Tensor]:
    """cos and sin tables (L, E) of rotary positions; both halves of E have the same angles (arXiv 2104.09864)."""
    frequency = base ** (-torch.arange(0, width, 2, dtype=torch.float32) / width)
    angle = torch.arange(length, dtype=torch.float32)[:, None] * frequency
    angle = torch.cat((angle, angle), -1)
    return angle.cos(), angle.sin()


def rotate(x_BLHE: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate every pair (x_i, x_{i + E/2}) by the angle of its position, in float32."""
    x = x_BLHE.to(cos.dtype)
    a, b = x.chunk(2, -1)
    turned = x * cos[:, None] + torch.cat((-b, a), -1) * sin[:, None]
    return turned.to(x_BLHE.dtype)


class Attention(nn.Module):
    """out(attend(q, k, v)) under the mask and memory of an AttentionContext."""

    cos: Tensor
    sin: Tensor

    def __init__(self, config: NetConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.qkv = Linear(config.hidden_size, 3 * config.hidden_size)
        self.out = Linear(config.hidden_size, config.hidden_size)
        if config.positions == "rope":
            cos, sin = rotary(config.length, config.hidden_size // config.heads, config.rope_base)
            self.register_buffer("cos", cos, persistent=False)
            self.register_buffer("sin", sin, persistent=False)
        self.rope = config.positions == "rope"

    def forward(self, x_BLD: Tensor, context: AttentionContext | None = None) -> Tensor:
        mask, first, memory, layer = context or AttentionContext()
        q, k, v = self.qkv(x_BLD).unflatten(-1, (3, self.heads, -1)).unbind(2)
        if self.rope:
            cos, sin = (t[first : first + x_BLD.shape[1]] for t in (self.cos, self.sin))
            q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        q, k, v = (t.transpose(1, 2) for t in (q, k, v))
        if memory is not None:
            k, v = memory(layer, k, v)
        a_BHLE = attend(q, k, v, mask)
        return self.project(a_BHLE.transpose(1, 2).flatten(2), x_BLD)

    def project(self, a_BLD: Tensor, x_BLD: Tensor) -> Tensor:
        return self.out(a_BLD)


class GatedAttention(Attention):
    """out(sigmoid(gate(x)) * attend(q, k, v)), the gate element by element (arXiv 2505.06708; HRM-Text)."""

    def __init__(self, config: NetConfig) -> None:
        super().__init__(config)
        self.gate = Linear(config.hidden_size, config.hidden_size)

    def project(self, a_BLD: Tensor, x_BLD: Tensor) -> Tensor:
        return self.out(torch.sigmoid(self.gate(x_BLD)) * a_BLD)
