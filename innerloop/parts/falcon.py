"""Falcon-H1: attention and a state space mixer side by side on one normed input, then an MLP (arXiv 2507.22448).

    u = norm(x);   x <- x + m_ssm ssd(u) + m_attn attention(u);   x <- x + MLP(norm(x))

Two output projections summed are one projection of both outputs side by side. Attention sees every place that `sight`
shows it, the state space mixer the earlier ones. The multipliers (muP) are fixed numbers; those of the embedding and
of the output head belong to a model, not to its blocks.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from innerloop.errors import InputError
from innerloop.parts import ssd
from innerloop.parts.attention import AttentionContext, attend, rotary, rotate
from innerloop.parts.config import NetConfig
from innerloop.parts.layers import Linear, SwiGLU, around, inner_width


@dataclass(frozen=True)
class Multipliers:
    """1 everywhere changes nothing."""

    attention_in: float = 1.0
    attention_out: float = 1.0  # m_attn
    key: float = 1.0
    ssm_in: float = 1.0
    ssm_out: float = 1.0  # m_ssm
    segments: tuple[float, float, float, float, float] = (1.0,) * 5  # of z, x, B, C and dt
    gate: float = 1.0
    down: float = 1.0


# Those of Falcon-H1-0.5B. They also keep a loop calm at the start: without them a perturbation of TRM's state grows
# two- to fourfold with every step before anything is learned, with them it stays.
SMALL = Multipliers(
    attention_out=0.9375,
    key=0.390625,
    ssm_in=1.25,
    ssm_out=2**0.5 / 6,
    segments=(2**-1.5, 0.25, 2**-1.5, 0.5, 2**-1.5),
    gate=2**0.5 / 1.6,
    down=0.5859375,
)


@dataclass(frozen=True)
class Config:
    heads: int  # of attention
    key_heads: int  # of its keys and values: each serves heads / key_heads of them
    head_width: int
    mixer: ssd.Config  # its scales are set from `multipliers`
    inner: int  # of the MLP
    base: float = 1e11  # of rotary positions
    multipliers: Multipliers = Multipliers()

    def __post_init__(self) -> None:
        if self.heads % self.key_heads:
            raise InputError(f"{self.heads} heads of attention cannot share {self.key_heads} keys equally")

    @classmethod
    def of(cls, config: NetConfig) -> Config:
        """Channels in about the paper's ratio, SSM : attention : MLP = 2 : 1 : 5; states as wide as a head."""
        head = config.hidden_size // config.heads
        heads = max(1, config.heads // 2)
        mixer = ssd.Config(2 * heads * head, head_width=head, state=head, normed=False)
        inner = inner_width(config.hidden_size, config.expansion, config.multiple_of)
        return cls(heads, heads, head, mixer, inner, config.rope_base, SMALL)


class HeadAttention(nn.Module):
    """Attention whose heads are fewer or more than the width, and share keys in groups."""

    cos: Tensor
    sin: Tensor

    def __init__(self, config: NetConfig, c: Config) -> None:
        super().__init__()
        self.c, self.turn = c, config.positions == "rope"
        self.q = Linear(config.hidden_size, c.heads * c.head_width)
        self.kv = Linear(config.hidden_size, 2 * c.key_heads * c.head_width)
        self.out = Linear(c.heads * c.head_width, config.hidden_size)
        if self.turn:
            cos, sin = rotary(config.length, c.head_width, c.base)
            self.register_buffer("cos", cos, persistent=False)
            self.register_buffer("sin", sin, persistent=False)

    def forward(self, x_BLD: Tensor, sight: AttentionContext | None = None) -> Tensor:
        c = self.c
        q = self.q(x_BLD).unflatten(-1, (c.heads, -1))
        k, v = self.kv(x_BLD).unflatten(-1, (2, c.key_heads, -1)).unbind(2)
        if c.multipliers.key != 1:
            k = k * c.multipliers.key
        if self.turn:
            q, k = rotate(q, self.cos, self.sin), rotate(k, self.cos, self.sin)
        q, k, v = (t.repeat_interleave(c.heads // t.shape[2], 2).transpose(1, 2) for t in (q, k, v))
        return self.out(attend(q, k, v, sight and sight.mask).transpose(1, 2).flatten(2))


class FalconBlock(nn.Module):
    """The hybrid block. `c` is derived from `size` where it is not given; of `size` a given `c` takes the rest."""

    sighted = True

    def __init__(self, config: NetConfig, c: Config | None = None) -> None:
        super().__init__()
        c = c or Config.of(config)
        m = c.multipliers
        scales = tuple(m.ssm_in * s for s in m.segments)
        self.norm, self.m = config.norm, m
        self.attention = HeadAttention(config, c)
        self.ssd = ssd.Mamba2(config.hidden_size, replace(c.mixer, scales=scales))  # type: ignore[arg-type]
        self.mlp = SwiGLU(config.hidden_size, c.inner)

    def forward(self, x_BLD: Tensor, sight: AttentionContext | None = None) -> Tensor:
        if sight and sight.memory:
            raise InputError('block "falcon" keeps no keys to go on from: read the text anew, or use block "attention"')
        x_BLD = around(self.norm, x_BLD, partial(self.mix, sight=sight))
        return around(self.norm, x_BLD, self.feed)

    def mix(self, u_BLD: Tensor, sight: AttentionContext | None = None) -> Tensor:
        m = self.m
        return m.ssm_out * self.ssd(u_BLD) + m.attention_out * self.attention(m.attention_in * u_BLD, sight)

    def feed(self, u_BLD: Tensor) -> Tensor:
        gate, up = self.mlp.up(u_BLD).chunk(2, -1)
        return self.m.down * self.mlp.down(F.silu(self.m.gate * gate) * up)
