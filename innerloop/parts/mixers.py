"""Blocks (sequence mixer + MLP) by name, and Net, a stack of them: interchangeable in every system.

A mixer maps a state (B, L, D) to a residual (B, L, D). A block adds it, with the norm placed as `size.norm` says, and
then an MLP's. Every block is called as block(x_BLD) -> (B, L, D), so that any block fits any system. A block that is
`takes_context` also takes an AttentionContext: block(x_BLD, context). Shapes: B batch, L length, D width.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from innerloop.core import repeat
from innerloop.errors import InputError
from innerloop.grad import Rule, full
from innerloop.ledger import charge_rows
from innerloop.parts import fused, fused_decode
from innerloop.parts.attention import Attention, AttentionContext, GatedAttention
from innerloop.parts.config import NetConfig
from innerloop.parts.constraints import ConstraintBlock
from innerloop.parts.conv import ConvBlock
from innerloop.parts.falcon import FalconBlock
from innerloop.parts.fast_weights import BidirectionalTitans, BidirectionalTTT
from innerloop.parts.graded import GradedAttention, GradedMlp
from innerloop.parts.kan import KANMlp
from innerloop.parts.layers import SwiGLU, inner_width, residual_branch, rms_norm
from innerloop.parts.mla import MLA
from innerloop.parts.moe import MoE
from innerloop.parts.orbits import OrbitBlock
from innerloop.parts.ssd import SSDBlock


def mix_plain(x_BLD: Tensor, mlp: SwiGLU) -> Tensor:
    """SwiGLU along the positions of (B, L, D), by transposing the state."""
    return mlp(x_BLD.transpose(1, 2)).transpose(1, 2)


def mix(x_BLD: Tensor, mlp: SwiGLU) -> Tensor:
    """The same without transposes: the weights multiply from the left (benchmarks/speed.py).

    bmm and not `@`, which would fold the batch into the columns: two transposed copies of the state per product.
    """
    up, down = (w.weight.to(x_BLD.dtype).expand(len(x_BLD), -1, -1) for w in (mlp.up, mlp.down))
    gate, value = torch.bmm(up, x_BLD).chunk(2, 1)
    return torch.bmm(down, F.silu(gate) * value)


class TokenMixer(nn.Module):
    """SwiGLU over positions, for one fixed length; the norm also runs over positions (TRM, MLP-Mixer)."""

    axis = 1

    def __init__(self, config: NetConfig) -> None:
        super().__init__()
        self.mlp = SwiGLU(config.length, inner_width(config.length, config.expansion, config.multiple_of))

    def forward(self, x_BLD: Tensor) -> Tensor:
        return mix(x_BLD, self.mlp)


def swiglu(config: NetConfig) -> nn.Module:
    return SwiGLU(config.hidden_size, inner_width(config.hidden_size, config.expansion, config.multiple_of))


class MixThenMlp(nn.Module):
    """x <- norm(x + mix(x));  x <- norm(x + mlp(x)): a mixer over positions, then an MLP (a SwiGLU by default)."""

    mixer: Callable[[NetConfig], nn.Module]
    feed_forward: Callable[[NetConfig], nn.Module] = staticmethod(swiglu)

    def __init__(self, config: NetConfig) -> None:
        super().__init__()
        self.norm, self.mix = config.norm, self.mixer(config)
        self.mlp = self.feed_forward(config)

    def forward(self, x_BLD: Tensor, context: AttentionContext | None = None) -> Tensor:
        look = self.mix if context is None else partial(self.mix, context=context)
        x_BLD = residual_branch(self.norm, x_BLD, look, getattr(self.mix, "axis", -1))
        return residual_branch(self.norm, x_BLD, self.mlp)


class AttentionBlock(MixThenMlp):
    mixer, takes_context = Attention, True


class GatedBlock(MixThenMlp):
    mixer, takes_context = GatedAttention, True


class TokenBlock(MixThenMlp):
    mixer = TokenMixer


class TTTBlock(MixThenMlp):
    mixer, takes_context = BidirectionalTTT, True


class TitansBlock(MixThenMlp):
    mixer, takes_context = BidirectionalTitans, True


class LatentBlock(MixThenMlp):
    mixer, takes_context = MLA, True


class ExpertBlock(MixThenMlp):
    mixer, feed_forward, takes_context = Attention, MoE, True


class KANBlock(MixThenMlp):
    mixer, feed_forward, takes_context = Attention, KANMlp, True


class GradedBlock(MixThenMlp):
    mixer, feed_forward, takes_context = GradedAttention, GradedMlp, True


BLOCKS: dict[str, type[nn.Module]] = {
    "attention": AttentionBlock,
    "tokens": TokenBlock,
    "units": ConstraintBlock,
    "orbit": OrbitBlock,
    "conv": ConvBlock,
    "ttt": TTTBlock,
    "titans": TitansBlock,
    "gated": GatedBlock,
    "ssd": SSDBlock,
    "falcon": FalconBlock,
    "kan": KANBlock,
    "graded": GradedBlock,
    "mla": LatentBlock,
    "moe": ExpertBlock,
}


class Net(nn.Module):
    """`size.layers` blocks applied to the sum of its inputs.

    With norm "magic" the result is normalised once more, so that a loop of calls stays bounded. Blocks that are not
    `takes_context` get no context; the constructor raises InputError for them if size.mask hides anything.
    """

    def __init__(self, config: NetConfig) -> None:
        super().__init__()
        if config.block not in BLOCKS:
            raise InputError(f'no block is called "{config.block}": use one of {", ".join(BLOCKS)}')
        self.magic, self.takes_context = config.norm == "magic", getattr(BLOCKS[config.block], "takes_context", False)
        if config.causal and not self.takes_context:
            raise InputError(
                f'block "{config.block}" sees every place, against the mask "{config.mask}": use block "attention"'
            )
        self.blocks = nn.ModuleList(BLOCKS[config.block](config) for _ in range(config.layers))

    def forward(self, *inputs_BLD: Tensor, context: AttentionContext | None = None) -> Tensor:
        x_BLD = sum(inputs_BLD[1:], inputs_BLD[0])
        charge_rows("nfe", x_BLD)
        if context and context.reading:
            z_BLD = fused_decode.decode(self, AttentionBlock, x_BLD, context)
            if z_BLD is not None:
                return z_BLD
            context = context.masked()
        for i, block in enumerate(self.blocks):
            x_BLD = block(x_BLD, context._replace(layer=i)) if context and self.takes_context else block(x_BLD)
        return rms_norm(x_BLD) if self.magic else x_BLD

    @property
    def fused(self) -> bool:
        """Whether the blocks have a fused CPU kernel, used for the calls it supports: parts/fused.py."""
        weight = next(self.parameters())
        kind = fused.allowed and weight.device.type == "cpu" and weight.dtype is torch.float32
        able = kind and all(getattr(b, "fusable", False) for b in self.blocks)
        return able and fused.compiled(self.blocks) is not None

    def iterate(self, h_BLD: Tensor, e_BLD: Tensor, times: int, grad: Rule = full) -> Tensor:
        """h <- net(h + e), `times` times: by the fused kernel if there is one and the gradient rule is `full`.

        Raises InputError where `times` is below 1.
        """
        if times < 1:
            raise InputError(f"a net is to be called {times} times: give 1 or more (a system's config says it)")
        z_BLD = fused.loop(self.blocks, h_BLD, e_BLD, times) if grad is full and not self.has_hooks else None
        if z_BLD is not None:
            charge_rows("nfe", h_BLD, times)
            return z_BLD
        return repeat(lambda h: self(h, e_BLD), h_BLD, times, grad)

    @property
    def has_hooks(self) -> bool:
        """Whether a hook is registered on the net itself, which must then see every call."""
        return bool(self._forward_hooks or self._forward_pre_hooks or self._backward_hooks or self._backward_pre_hooks)
