"""Attention with rotary positions, and what it may look at: the fused kernel and its plain twin.

Shapes: B batch, L length, H heads, E head width, D = H * E. Keys may be more than queries: K places, of which a memory
holds the earlier ones.
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
    """What an attention may look at. None in its place: every place sees every other, and there is no memory."""

    mask: Tensor | None = None  # (B or 1, 1, L, K) bool: the query sees the key; each query must see one at least
    first: int = 0  # the first query's place: those before it are in the memory
    memory: Memory | None = None  # memory(layer, k, v) -> the (B, H, K, E) keys and values to use in their place
    layer: int = 0  # index of the block within its net


def prefix_lengths(config: NetConfig, inputs_BS: Tensor) -> Tensor:
    """(B,) int64 places that are read in both directions: all, none, or those up to the separator, as size.mask says.

    A row without the separator is prompt throughout.
    """
    rows, places = inputs_BS.shape
    if config.mask == "prefix" and config.separator:
        hit = (inputs_BS == config.separator).long()
        return config.prefix + (hit.cumsum(1) - hit == 0).sum(1)
    return inputs_BS.new_full((rows,), 0 if config.mask == "causal" else config.prefix + places, dtype=torch.long)


def sight(config: NetConfig, prompt_B: Tensor) -> AttentionContext | None:
    """A place sees itself, what is earlier, and the prompt. None where nothing is hidden by `size`."""
    if not config.causal:
        return None
    place = torch.arange(config.length, device=prompt_B.device)
    earlier_LL = place <= place[:, None]
    if config.mask == "causal":
        return AttentionContext(earlier_LL[None, None])
    return AttentionContext((earlier_LL | (place < prompt_B[:, None, None]))[:, None])


def attend_plain(q_BHLE: Tensor, k_BHKE: Tensor, v_BHKE: Tensor, mask: Tensor | None = None) -> Tensor:
    """softmax(q k' / sqrt(E)) v over the keys that `mask` (B or 1, 1, L, K) shows, the softmax in float32."""
    scores = (q_BHLE * q_BHLE.shape[-1] ** -0.5) @ k_BHKE.transpose(-1, -2)
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    return torch.softmax(scores, -1, dtype=torch.float32).to(v_BHKE.dtype) @ v_BHKE


def attend(q_BHLE: Tensor, k_BHKE: Tensor, v_BHKE: Tensor, mask: Tensor | None = None) -> Tensor:
    """The faster of the two forms for this device and length."""
    if q_BHLE.device.type == "cpu" and q_BHLE.shape[-2] <= PLAIN_LENGTH:
        return attend_plain(q_BHLE, k_BHKE, v_BHKE, mask)
    hidden = () if mask is None else (mask,)
    return F.scaled_dot_product_attention(q_BHLE, k_BHKE, v_BHKE, *hidden)


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
    """out(attend(q, k, v)): every place reads every other that `sight` shows it."""

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
        self.turn = config.positions == "rope"

    def forward(self, x_BLD: Tensor, sight: AttentionContext | None = None) -> Tensor:
        mask, first, memory, layer = sight or AttentionContext()
        q, k, v = self.qkv(x_BLD).unflatten(-1, (3, self.heads, -1)).unbind(2)
        if self.turn:
            cos, sin = (t[first : first + x_BLD.shape[1]] for t in (self.cos, self.sin))
            q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        q, k, v = (t.transpose(1, 2) for t in (q, k, v))
        if memory is not None:
            k, v = memory(layer, k, v)
        a_BHLE = attend(q, k, v, mask)
        return self.close(a_BHLE.transpose(1, 2).flatten(2), x_BLD)

    def close(self, a_BLD: Tensor, x_BLD: Tensor) -> Tensor:
        return self.out(a_BLD)


class GatedAttention(Attention):
    """out(sigmoid(gate(x)) * attend(q, k, v)), the gate element by element (arXiv 2505.06708; HRM-Text)."""

    def __init__(self, config: NetConfig) -> None:
        super().__init__(config)
        self.gate = Linear(config.hidden_size, config.hidden_size)

    def close(self, a_BLD: Tensor, x_BLD: Tensor) -> Tensor:
        return self.out(torch.sigmoid(self.gate(x_BLD)) * a_BLD)
