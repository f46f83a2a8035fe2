"""What moves information between places, and the net that repeats it: interchangeable parts of every system.

A mixer maps a state (B, L, D) to what is added to it; a block adds it, with the norm where `size.norm` says, and then
an MLP's. Every block is called as block(x_BLD) -> (B, L, D), so that any of them serves in any system. Shapes: B batch,
L length, D width.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from innerloop.errors import InputError
from innerloop.parts.attention import Attention
from innerloop.parts.conv import ConvBlock
from innerloop.parts.layers import SwiGLU, around, inner_width, rms_norm
from innerloop.parts.size import Size
from innerloop.parts.units import UnitBlock


def mix_plain(x_BLD: Tensor, mlp: SwiGLU) -> Tensor:
    """SwiGLU along the places of (B, L, D), by turning the state on its side."""
    return mlp(x_BLD.transpose(1, 2)).transpose(1, 2)


def mix(x_BLD: Tensor, mlp: SwiGLU) -> Tensor:
    """The same without turning: the weights multiply from the left (a quarter faster on a CPU: benchmarks/step.py)."""
    gate, up = (mlp.up.weight.to(x_BLD.dtype) @ x_BLD).chunk(2, 1)
    return mlp.down.weight.to(x_BLD.dtype) @ (F.silu(gate) * up)


class TokenMixer(nn.Module):
    """SwiGLU over the places: for one fixed length; the norm too runs over places (TRM, MLP-Mixer)."""

    axis = 1

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.mlp = SwiGLU(size.length, inner_width(size.length, size.expansion, size.multiple))

    def forward(self, x_BLD: Tensor) -> Tensor:
        return mix(x_BLD, self.mlp)


class MixThenMlp(nn.Module):
    """Mix between places, then within each: x <- norm(x + mix(x));  x <- norm(x + SwiGLU(x))."""

    mixer: type[nn.Module]

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.norm, self.mix = size.norm, self.mixer(size)
        self.mlp = SwiGLU(size.width, inner_width(size.width, size.expansion, size.multiple))

    def forward(self, x_BLD: Tensor) -> Tensor:
        x_BLD = around(self.norm, x_BLD, self.mix, getattr(self.mix, "axis", -1))
        return around(self.norm, x_BLD, self.mlp)


class AttentionBlock(MixThenMlp):
    mixer = Attention


class TokenBlock(MixThenMlp):
    mixer = TokenMixer


BLOCKS: dict[str, type[nn.Module]] = {
    "attention": AttentionBlock,
    "tokens": TokenBlock,
    "units": UnitBlock,
    "conv": ConvBlock,
}


class Net(nn.Module):
    """`size.layers` blocks on the sum of its inputs: the injection is added before the first.

    With norm "magic" the result is normalised once more, so that a loop of calls stays bounded.
    """

    def __init__(self, size: Size) -> None:
        super().__init__()
        if size.mix not in BLOCKS:
            raise InputError(f'no block is called "{size.mix}": use one of {", ".join(BLOCKS)}')
        self.magic = size.norm == "magic"
        self.blocks = nn.ModuleList(BLOCKS[size.mix](size) for _ in range(size.layers))

    def forward(self, *inputs_BLD: Tensor) -> Tensor:
        x_BLD = sum(inputs_BLD[1:], inputs_BLD[0])
        for block in self.blocks:
            x_BLD = block(x_BLD)
        return rms_norm(x_BLD) if self.magic else x_BLD
