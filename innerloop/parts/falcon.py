"""Falcon-H1 block: attention and Mamba-2 in parallel on one normed input, then an MLP (arXiv 2507.22448).

    u = norm(x);   x <- x + m_ssm ssd(u) + m_attn attention(u);   x <- x + MLP(norm(x))

The sum of two output projections equals one projection of the concatenated outputs. Attention uses the mask of its
context; the state space mixer is causal. The multipliers (muP) are constants; those of the embedding and of the output
head belong to the model, not to its blocks.
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
from innerloop.parts.layers import Linear, SwiGLU, inner_width, residual_branch


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


# Those of Falcon-H1-0.5B. They also stabilise loops at initialisation: without them a perturbation of TRM's state grows
# two- to fourfold per step, with them it does not.
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
    key_heads: int  # of keys and values (GQA): each serves heads / key_heads query heads
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
    """Grouped-query attention with a free number of heads and head width."""

    cos: Tensor
    sin: Tensor

    def __init__(self, config: NetConfig, c: Config) -> None:
        super().__init__()
        self.c, self.rope = c, config.positions == "rope"
        self.q = Linear(config.hidden_size, c.heads * c.head_width)
        self.kv = Linear(config.hidden_size, 2 * c.key_heads * c.head_width)
        self.out = Linear(c.heads * c.head_width, config.hidden_size)
        if self.rope:
            cos, sin = rotary(config.length, c.head_width, c.base)
            self.register_buffer("cos", cos, persistent=False)
            self.register_buffer("sin", sin, persistent=False)

    def forward(self, x_BLD: Tensor, context: AttentionContext | None = None) -> Tensor:
        c = self.c
        q = self.q(x_BLD).unflatten(-1, (c.heads, -1))
        k, v = self.kv(x_BLD).unflatten(-1, (2, c.key_heads, -1)).unbind(2)
        if c.multipliers.key != 1:
            k = k * c.multipliers.key
        if self.rope:
            q, k = rotate(q, self.cos, self.sin), rotate(k, self.cos, self.sin)
        q, k, v = (t.repeat_interleave(c.heads // t.shape[2], 2).transpose(1, 2) for t in (q, k, v))
        return self.out(attend(q, k, v, context and context.mask).transpose(1, 2).flatten(2))


class FalconBlock(nn.Module):
    """The hybrid block. Without `c` its config is derived from `size`, else `size` sets width, norm and positions."""

    takes_context = True

    def __init__(self, config: NetConfig, c: Config | None = None) -> None:
        super().__init__()
        c = c or Config.of(config)
        m = c.multipliers
        scales = tuple(m.ssm_in * s for s in m.segments)
        self.norm, self.m = config.norm, m
        self.attention = HeadAttention(config, c)
        self.ssd = ssd.Mamba2(config.hidden_size, replace(c.mixer, scales=scales))  # type: ignore[arg-type]
        self.mlp = SwiGLU(config.hidden_size, c.inner)

    def forward(self, x_BLD: Tensor, context: AttentionContext | None = None) -> Tensor:
        if context and context.memory:
            raise InputError('block "falcon" keeps no keys to go on from: read the text anew, or use block "attention"')
        x_BLD = residual_branch(self.norm, x_BLD, partial(self.mix, context=context))
        return residual_branch(self.norm, x_BLD, self.feed_forward)

    def mix(self, u_BLD: Tensor, context: AttentionContext | None = None) -> Tensor:
        m = self.m
        return m.ssm_out * self.ssd(u_BLD) + m.attention_out * self.attention(m.attention_in * u_BLD, context)

    def feed_forward(self, u_BLD: Tensor) -> Tensor:
        gate, up = self.mlp.up(u_BLD).chunk(2, -1)
        return self.m.down * self.mlp.down(F.silu(self.m.gate * gate) * up)
