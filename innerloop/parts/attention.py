"""Multi-head attention with rotary positions, masks and key-value memory; fused and plain kernels.

Shapes: B batch, L queries, K keys, H heads, E head width, D = H * E. K > L if a memory holds earlier keys.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from innerloop.core import Question
from innerloop.errors import InputError
from innerloop.parts.cache import Cache
from innerloop.parts.config import NetConfig
from innerloop.parts.layers import Linear

PLAIN_LENGTH = 256  # up to here three matrix products beat the fused kernel on CPUs

Memory = Callable[[int, Tensor, Tensor], tuple[Tensor, ...]]


class AttentionContext(NamedTuple):
    """Mask and key-value memory of an attention call. None in place of it: no mask, no memory."""

    mask: Tensor | None = None  # (B or 1, 1, L, K) bool: the query sees the key; at least one key per query
    places: Tensor | None = None  # (B, L) int64 positions of the queries; None: 0, 1, ...
    memory: Memory | None = None  # memory(layer, k, v) -> (B, H, K, E) keys and values to use instead
    layer: int = 0  # index of the block within its net
    reading: Reading | None = None  # in place of a mask that is not made yet

    def masked(self) -> AttentionContext:
        """The same with the mask itself."""
        if self.reading is None:
            return self
        return self._replace(mask=self.reading.mask if self.mask is None else self.mask, reading=None)


class Reading(NamedTuple):
    """The positions of a row that are read, and which ones each of them sees: all from `first` to `last`."""

    first: Tensor  # (B, P) int64
    last: Tensor  # (B, P) int64, that position included
    cache: Cache | None = None  # what was read before; None: P = L, the whole row

    @property
    def mask(self) -> Tensor:
        """(B, 1, P, K) bool: the query sees the key."""
        width = self.first.shape[1] if self.cache is None else self.cache.width
        keys = torch.arange(width, device=self.first.device)
        return ((keys >= self.first[..., None]) & (keys <= self.last[..., None]))[:, None]

    @property
    def own(self) -> Tensor:
        """(B or 1, P, K) bool: the key is the query itself."""
        if self.cache is None:
            return torch.eye(self.first.shape[1], dtype=torch.bool, device=self.first.device)[None]
        return self.cache.places[..., None] == torch.arange(self.cache.width, device=self.first.device)

    def of_all_places(self, flags_BP: Tensor) -> Tensor:
        """(B, K) of every position so far, from those of the positions read now; keeps them in the cache."""
        if self.cache is None:
            return flags_BP
        (kept,) = self.cache.swap(0, flags_BP[:, None, :, None])
        return kept[:, 0, :, 0]


def reading_of(config: NetConfig, x: Question) -> Reading:
    """What each position of a question may see under `config.mask`: itself, earlier ones of its text, and its prompt.

    A text ends with `config.end`, so that several may stand in a row; its prompt ends with `config.separator`.
    Raises InputError for a cache without a mask, whose values would be wrong.
    """
    if x.cache is not None and config.mask == "causal" and not config.prefix and x.cache.places.shape[1] == 1:
        return Reading(first_of_text(config, x.inputs, x.cache.places), x.cache.places, x.cache)
    tokens = x.inputs.long()
    position_L = torch.arange(config.length, device=tokens.device)
    first_BL, last_BL = torch.zeros_like(position_L).expand(len(tokens), -1), position_L.expand(len(tokens), -1)
    stop_BL = last_BL
    if config.end:
        is_end_BL = F.pad(tokens == config.end, (config.prefix, 0))
        after = torch.where(is_end_BL, position_L + 1, 0).cummax(1).values
        first_BL = F.pad(after[:, :-1], (1, 0))
        stop_BL = next_hit(is_end_BL, config.length - 1) if config.mask == "prefix" else stop_BL
    elif config.mask == "prefix":
        stop_BL = last_BL.new_full(last_BL.shape, config.length - 1)
    if config.mask == "prefix":
        is_separator_BL = F.pad(tokens == config.separator, (config.prefix, 0))
        prompt_BL = next_hit(is_separator_BL, config.length - 1).gather(1, first_BL)
        last_BL = torch.maximum(last_BL, torch.minimum(prompt_BL, stop_BL))
    cache = x.cache
    if cache is None:
        return Reading(first_BL, last_BL)
    if not config.causal or config.prefix:
        raise InputError(
            'a cache needs a model that reads in order: give its NetConfig the mask "causal" or "prefix", and prefix 0'
        )
    return Reading(first_BL.gather(1, cache.places), last_BL.gather(1, cache.places), cache)


def first_of_text(config: NetConfig, inputs_BS: Tensor, places_B1: Tensor) -> Tensor:
    """(B, 1) int64 the first position of the text that a position of each row is in; of decoding, which asks often."""
    if not config.end:
        return torch.zeros_like(places_B1)
    position_S = torch.arange(inputs_BS.shape[1], device=places_B1.device)
    ended_BS = (inputs_BS == config.end) & (position_S < places_B1)
    return torch.where(ended_BS, position_S + 1, 0).amax(1, keepdim=True)


def next_hit(hits_BL: Tensor, otherwise: int) -> Tensor:
    """(B, L) int64 the first position from each one on that is a hit; `otherwise` where there is none."""
    position_L = torch.arange(hits_BL.shape[1], device=hits_BL.device)
    return torch.where(hits_BL, position_L, otherwise).flip(1).cummin(1).values.flip(1)


def prefix_lengths(config: NetConfig, inputs_BS: Tensor) -> Tensor:
    """(B,) int64 length of the prefix that is read bidirectionally: all, none, or up to the separator (size.mask).

    A row without the separator is all prefix.
    """
    rows, places = inputs_BS.shape
    if config.mask == "prefix" and config.separator:
        hit = (inputs_BS == config.separator).long()
        return config.prefix + (hit.cumsum(1) - hit == 0).sum(1)
    return inputs_BS.new_full((rows,), 0 if config.mask == "causal" else config.prefix + places, dtype=torch.long)


def attention_context(config: NetConfig, reading: Reading) -> AttentionContext | None:
    """The mask, made at once only for whole rows, and memory of a reading. None where nothing is hidden."""
    if not config.causal:
        return None
    cache = reading.cache
    if cache is None:
        return AttentionContext(reading.mask)
    return AttentionContext(None, cache.places, cache.swap, reading=reading)


def context_of(config: NetConfig, x: Question) -> AttentionContext | None:
    """The mask and memory with which a question is read."""
    return None if not config.causal and x.cache is None else attention_context(config, reading_of(config, x))


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
    turned = x * cos[..., None, :] + torch.cat((-b, a), -1) * sin[..., None, :]
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
        mask, places, memory, layer, _ = (context or AttentionContext()).masked()
        q, k, v = self.qkv(x_BLD).unflatten(-1, (3, self.heads, -1)).unbind(2)
        if self.rope:
            cos, sin = (t[: x_BLD.shape[1]] if places is None else t[places] for t in (self.cos, self.sin))
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
