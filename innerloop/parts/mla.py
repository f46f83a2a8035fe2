"""Multi-head latent attention: keys and values compressed to a latent per position (DeepSeek-V3, arXiv 2412.19437).

    c = norm(down(x)) in R,  r = rotary(shared(x)) in U;   k = [up_k(c); r],  v = up_v(c);   q = [q_n; rotary(q_r)]
    expanded: softmax(q k') v        absorbed: softmax((q_n up_k) c' + q_r r') c, and then up_v

The absorbed form never computes keys and values: a decoder caches R + U numbers per position (512 + 64 in the paper)
instead of 2 * heads * width. The norms have no weights, as those fold into the maps that follow. Shapes: B batch, L
positions, H heads, N width of keys without rotary position, U with, V of values, R of the latent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from innerloop.errors import InputError
from innerloop.parts.attention import AttentionContext, attend, rotary, rotate
from innerloop.parts.config import NetConfig
from innerloop.parts.layers import Linear, rms_norm

EPS = 1e-6  # of the two inner norms, as in the official code


@dataclass(frozen=True)
class Config:
    heads: int = 128
    plain: int = 128  # N, width of a head's part without position
    turned: int = 64  # U, width of the part with rotary position, whose key all heads share; 0: none
    value: int = 128  # V
    latent: int = 512  # R
    query: int = 1536  # width of the queries' own latent; 0: straight from x
    base: float = 10_000.0  # of rotary positions

    def __post_init__(self) -> None:
        if self.turned % 2:
            raise InputError(f"rotary positions turn pairs of channels: {self.turned} is odd")

    @classmethod
    def of(cls, config: NetConfig) -> Config:
        """The proportions of DeepSeek-V2-Lite: a latent of a quarter of the width, queries without one."""
        head = config.hidden_size // config.heads
        turned = 2 * max(1, head // 4) if config.positions == "rope" else 0
        return cls(config.heads, head, turned, head, max(1, config.hidden_size // 4), 0, config.rope_base)


class Latent(NamedTuple):
    """What is cached of each position."""

    c: Tensor  # (B, L, R)
    r: Tensor  # (B, L, U)


class MLA(nn.Module):
    """(B, L, D) -> (B, L, D). `c` is derived from `size` where it is not given.

    A memory (parts.attention.AttentionContext) is given the latents, (B, 1, L, R) and (B, 1, L, U), as keys and values.
    """

    takes_context = True
    cos: Tensor
    sin: Tensor

    def __init__(self, config: NetConfig, c: Config | None = None) -> None:
        super().__init__()
        self.c = c = c or Config.of(config)
        queries = c.heads * (c.plain + c.turned)
        if c.query:
            self.q_down = Linear(config.hidden_size, c.query)
        self.q_up = Linear(c.query or config.hidden_size, queries)
        self.down = Linear(config.hidden_size, c.latent + c.turned)
        self.up = Linear(c.latent, c.heads * (c.plain + c.value))  # a head's key, then its value
        self.out = Linear(c.heads * c.value, config.hidden_size)
        cos, sin = rotary(config.length, c.turned, c.base) if c.turned else (torch.ones(config.length, 0),) * 2
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    def forward(self, x_BLD: Tensor, context: AttentionContext | None = None) -> Tensor:
        mask, places, memory, layer, _ = (context or AttentionContext()).masked()
        plain, turned = self.queries(x_BLD, places)
        kept = self.latents(x_BLD, places)
        if memory is None:
            return self.expanded(plain, turned, kept, mask)
        c, r = memory(layer, kept.c[:, None], kept.r[:, None])
        return self.absorbed(plain, turned, Latent(c[:, 0], r[:, 0]), mask)

    def queries(self, x_BLD: Tensor, places: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(B, L, H, N) and (B, L, H, U), for positions 0, 1, ... or `places` (B, L)."""
        q = self.q_up(rms_norm(self.q_down(x_BLD), EPS) if self.c.query else x_BLD)
        plain, turned = q.unflatten(-1, (self.c.heads, -1)).split([self.c.plain, self.c.turned], -1)
        return plain, self._turn(turned, places)

    def latents(self, x_BLD: Tensor, places: Tensor | None = None) -> Latent:
        """Latents of positions 0, 1, ... or `places` (B, L), to be cached; later ones are appended along L."""
        c, r = self.down(x_BLD).split([self.c.latent, self.c.turned], -1)
        return Latent(rms_norm(c, EPS), self._turn(r[:, :, None], places)[:, :, 0])

    def expanded(self, plain_BLHN: Tensor, turned_BLHU: Tensor, kept: Latent, mask: Tensor | None = None) -> Tensor:
        """With keys and values of every head: faster for whole sequences."""
        k, v = self.up(kept.c).unflatten(-1, (self.c.heads, -1)).split([self.c.plain, self.c.value], -1)
        r = kept.r[:, :, None].expand(-1, -1, self.c.heads, -1)
        q, k = torch.cat((plain_BLHN, turned_BLHU), -1), torch.cat((k, r), -1)
        q, k, v = (t.transpose(1, 2) for t in (q, k, v))
        a_BHLV = attend(q, k, v, mask)
        return self.out(a_BHLV.transpose(1, 2).flatten(2))

    def absorbed(self, plain_BLHN: Tensor, turned_BLHU: Tensor, kept: Latent, mask: Tensor | None = None) -> Tensor:
        """The same from the latents, shared by all heads: for decoding."""
        n, v = self.c.plain, self.c.value
        up_HER = self.up.weight.to(kept.c.dtype).unflatten(0, (self.c.heads, n + v))
        q_BHLR = plain_BLHN.transpose(1, 2) @ up_HER[:, :n]
        q = torch.cat((q_BHLR, turned_BLHU.transpose(1, 2)), -1)
        q = q * ((q.shape[-1] / (n + self.c.turned)) ** 0.5)  # attend scales by the width it sees, which is R + U here
        k = torch.cat(kept, -1)[:, None].expand(-1, self.c.heads, -1, -1)
        v_ = kept.c[:, None].expand(-1, self.c.heads, -1, -1)
        a_BHLR = attend(q, k, v_, mask)
        return self.out((a_BHLR @ up_HER[:, n:].transpose(-1, -2)).transpose(1, 2).flatten(2))

    def _turn(self, x_BLHU: Tensor, places: Tensor | None) -> Tensor:
        if not self.c.turned:
            return x_BLHU
        cos, sin = (t[: x_BLHU.shape[1]] if places is None else t[places] for t in (self.cos, self.sin))
        return rotate(x_BLHU, cos, sin)
