"""Mamba-2 (SSD): a linear recurrence with input-dependent decay, and its chunked matrix form (arXiv 2405.21060).

    S_t = exp(dt_t a) S_{t-1} + dt_t x_t b_t',     y_t = S_t c_t          one state S (P, N) for every head
    z | x, b, c | dt = in(u);   x, b, c = silu(conv(x, b, c));   out(norm((y + d x) * silu(z)))

`ssd` is the fast form, `ssd_steps` the slow reference. Both are causal. Shapes: B
batch, L length, H heads, P head width, G groups that share b and c (H / G heads each), N numbers of state, D width;
in `ssd` also K chunks of M positions and R = H / G.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from innerloop.errors import InputError
from innerloop.parts.attention import AttentionContext
from innerloop.parts.config import NetConfig
from innerloop.parts.layers import Linear, residual_branch, rms_norm


def ssd_steps(
    x_BLHP: Tensor, dt_BLH: Tensor, a_H: Tensor, b_BLGN: Tensor, c_BLGN: Tensor, state_BHPN: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The recurrence position by position: (y (B, L, H, P), last state (B, H, P, N)), in the dtype of the inputs."""
    share = x_BLHP.shape[2] // b_BLGN.shape[2]
    b_BLHN, c_BLHN = (t.repeat_interleave(share, 2) for t in (b_BLGN, c_BLGN))  # heads of a group are adjacent
    state = _rest(x_BLHP, b_BLGN) if state_BHPN is None else state_BHPN
    ys = []
    for t in range(x_BLHP.shape[1]):
        decay_BH = (dt_BLH[:, t] * a_H).exp()
        entering = (dt_BLH[:, t, :, None] * x_BLHP[:, t])[..., None] * b_BLHN[:, t, :, None]
        state = decay_BH[..., None, None] * state + entering
        ys.append((state @ c_BLHN[:, t, :, :, None]).squeeze(-1))
    return torch.stack(ys, 1), state


def ssd(
    x_BLHP: Tensor,
    dt_BLH: Tensor,
    a_H: Tensor,
    b_BLGN: Tensor,
    c_BLGN: Tensor,
    state_BHPN: Tensor | None = None,
    chunk: int = 64,
) -> tuple[Tensor, Tensor]:
    """The same by matrix products: all pairs of positions within a chunk, the recurrence between chunks.

    Chunks have at most `chunk` positions and equal sizes, to pad little; padding has dt = 0, which does not change the
    state.
    """
    length, groups = x_BLHP.shape[1], b_BLGN.shape[2]
    chunks = -(-length // chunk)
    places = -(-length // chunks)

    def cut(t: Tensor) -> Tensor:
        short = chunks * places - length
        t = F.pad(t, (0, 0) * (t.ndim - 2) + (0, short)) if short else t
        return t.unflatten(1, (chunks, places))

    x_BKGRMP = cut(x_BLHP * dt_BLH[..., None]).unflatten(3, (groups, -1)).movedim(2, 4)
    b_BKGMN, c_BKGMN = cut(b_BLGN).transpose(2, 3), cut(c_BLGN).transpose(2, 3)
    log_BKGRM = cut(dt_BLH * a_H).unflatten(3, (groups, -1)).movedim(2, 4).cumsum(-1)

    # Masked before exp: above the diagonal the differences are positive and could overflow.
    ahead = torch.ones(places, places, dtype=torch.bool, device=x_BLHP.device).triu(1)
    decay_BKGRMM = (log_BKGRM[..., :, None] - log_BKGRM[..., None, :]).masked_fill(ahead, -math.inf).exp()
    pairs_BKGMM = c_BKGMN @ b_BKGMN.transpose(-1, -2)
    y_BKGRMP = (pairs_BKGMM[:, :, :, None] * decay_BKGRMM) @ x_BKGRMP

    left_BKGRM = (log_BKGRM[..., -1:] - log_BKGRM).exp()  # decay from each position to the end of its chunk
    added_BKGRPN = (x_BKGRMP * left_BKGRM[..., None]).transpose(-1, -2) @ b_BKGMN[:, :, :, None]
    kept_BKGR = log_BKGRM[..., -1].exp()
    state = (_rest(x_BLHP, b_BLGN) if state_BHPN is None else state_BHPN).unflatten(1, (groups, -1))
    starts = []
    for k in range(chunks):
        starts.append(state)
        state = kept_BKGR[:, k, :, :, None, None] * state + added_BKGRPN[:, k]
    start_BKGRPN = torch.stack(starts, 1)
    y_BKGRMP = y_BKGRMP + log_BKGRM.exp()[..., None] * (c_BKGMN[:, :, :, None] @ start_BKGRPN.transpose(-1, -2))
    return y_BKGRMP.movedim(4, 2).flatten(3, 4).flatten(1, 2)[:, :length], state.flatten(1, 2)


def _rest(x_BLHP: Tensor, b_BLGN: Tensor) -> Tensor:
    return x_BLHP.new_zeros(x_BLHP.shape[0], *x_BLHP.shape[2:], b_BLGN.shape[-1])


@dataclass(frozen=True)
class Config:
    inner: int  # channels of the recurrence; the paper's are twice the width
    head_width: int = 64  # P
    state: int = 128  # N
    groups: int = 1  # G, sets of heads that share b and c
    kernel: int = 4  # kernel size of the causal convolution
    chunk: int = 64  # most positions in a chunk; the paper's kernel takes 256. It does not change the result
    normed: bool = True  # gated RMS norm; False: the gate alone, as in Falcon-H1
    limit: tuple[float, float] = (0.0, math.inf)  # dt is clamped to this
    scales: tuple[float, float, float, float, float] = (1.0,) * 5  # multipliers of z, x, b, c and dt (muP, Falcon-H1)

    def __post_init__(self) -> None:
        if self.inner % self.head_width or (self.inner // self.head_width) % self.groups or self.inner % self.groups:
            raise InputError(
                f"{self.inner} channels do not split into heads of {self.head_width} in {self.groups} equal groups"
            )
        if min(self.state, self.kernel, self.chunk) < 1:
            raise InputError("a state space mixer needs state, kernel and chunk of 1 or more")

    @property
    def heads(self) -> int:
        return self.inner // self.head_width


class Memory(NamedTuple):
    """Recurrent state of a mixer for decoding, of constant size."""

    window: Tensor  # (B, kernel - 1, inner + 2 G N) last inputs of the convolution, in the activation's dtype
    state: Tensor  # (B, H, P, N) in float32 or wider


class Mamba2(nn.Module):
    """The mixer of Mamba-2, (B, L, D) -> (B, L, D), causal. The recurrence runs in float32 whatever the activations."""

    def __init__(self, width: int, c: Config) -> None:
        super().__init__()
        self.c = c
        mixed = c.inner + 2 * c.groups * c.state
        self.split = [c.inner, mixed, c.heads]
        self.enter = Linear(width, c.inner + mixed + c.heads)
        self.near = nn.Conv1d(mixed, mixed, c.kernel, groups=mixed)
        self.dt_bias = nn.Parameter(
            _inverse_softplus(torch.empty(c.heads).uniform_(math.log(1e-3), math.log(0.1)).exp())
        )
        self.a_log = nn.Parameter(torch.arange(1, c.heads + 1).float().log())
        self.d = nn.Parameter(torch.ones(c.heads))
        if c.normed:
            self.gain = nn.Parameter(torch.ones(c.inner))
        self.leave = Linear(c.inner, width)
        sizes = (c.inner, c.inner, c.groups * c.state, c.groups * c.state, c.heads)
        scale = torch.cat([torch.full((n,), s) for n, s in zip(sizes, c.scales, strict=True)])
        self.register_buffer("scale", None if set(c.scales) == {1.0} else scale, persistent=False)

    def forward(self, x_BLD: Tensor, mask_BL: Tensor | None = None) -> Tensor:
        """A whole sequence. Where `mask_BL` is False there is padding, which does not affect later positions."""
        return self.read(x_BLD, None, mask_BL)[0]

    def read(self, x_BLD: Tensor, memory: Memory | None = None, mask_BL: Tensor | None = None) -> tuple[Tensor, Memory]:
        """Continue from `memory` by one position or more: (output, new memory). Decoding is L = 1."""
        c = self.c
        keep = None if mask_BL is None else mask_BL[..., None].to(x_BLD.dtype)
        z_BLI, mixed_BLM, dt_BLH = self._project(x_BLD if keep is None else x_BLD * keep)
        before = mixed_BLM.new_zeros(len(x_BLD), c.kernel - 1, self.split[1]) if memory is None else memory.window
        wide_BLM = torch.cat((before, mixed_BLM), 1)
        mixed_BLM = F.silu(self._convolve(wide_BLM))
        wider = torch.promote_types(x_BLD.dtype, torch.float32)
        dt_BLH = F.softplus(dt_BLH.to(wider) + self.dt_bias).clamp(*c.limit)
        if keep is not None:  # again: the convolution's bias is added to padding too
            mixed_BLM, dt_BLH = mixed_BLM * keep, dt_BLH * keep
        x_BLI, b, c_ = mixed_BLM.to(wider).split([c.inner, c.groups * c.state, c.groups * c.state], -1)
        x_BLHP = x_BLI.unflatten(-1, (c.heads, c.head_width))
        b_BLGN, c_BLGN = (t.unflatten(-1, (c.groups, c.state)) for t in (b, c_))
        a_H = -self.a_log.to(wider).exp()
        state = None if memory is None else memory.state
        y_BLHP, state = ssd(x_BLHP, dt_BLH, a_H, b_BLGN, c_BLGN, state, c.chunk)
        y_BLI = (y_BLHP + self.d[:, None] * x_BLHP).flatten(2) * F.silu(z_BLI.to(wider))
        if c.normed:
            y_BLI = rms_norm(y_BLI.unflatten(-1, (c.groups, -1))).flatten(-2) * self.gain
        return self.leave(y_BLI.to(x_BLD.dtype)), Memory(wide_BLM[:, x_BLD.shape[1] :], state)

    def _project(self, x_BLD: Tensor) -> tuple[Tensor, ...]:
        y = self.enter(x_BLD)
        return (y if self.scale is None else y * self.scale.to(y.dtype)).split(self.split, -1)

    def _convolve(self, x_BLM: Tensor) -> Tensor:
        weight, bias = self.near.weight.to(x_BLM.dtype), self.near.bias
        assert bias is not None
        return F.conv1d(x_BLM.transpose(1, 2), weight, bias.to(x_BLM.dtype), groups=len(weight)).transpose(1, 2)


def _inverse_softplus(x: Tensor) -> Tensor:
    return x + (-torch.expm1(-x)).log()


INITIAL_SCALE = 0.25  # initial scale of the output, as a share of the usual one


class SSDBlock(nn.Module):
    """x <- norm(x + ahead(x) + back(x)): two Mamba-2 mixers, one over the positions in order, one in reverse.

    Bidirectional, since every position of a puzzle depends on every other. Each mixer has `width` channels, together
    the paper's expansion of 2, in heads of width D / heads with as wide a state. With a causal `size` there is one
    mixer of twice the width, as in the paper. As there, no MLP follows, and `size.positions` is not used.

    The output starts at the share INITIAL_SCALE of the usual scale: a mixer is a product of four functions of its
    input, and at full scale a perturbation of TRM's loop doubles with every step at initialisation.
    """

    takes_context = True

    def __init__(self, config: NetConfig) -> None:
        super().__init__()
        head = config.hidden_size // config.heads
        inner = 2 * config.hidden_size if config.causal else config.hidden_size
        c = Config(inner, head_width=head, state=head)
        self.norm, self.ahead = config.norm, Mamba2(config.hidden_size, c)
        self.back = None if config.causal else Mamba2(config.hidden_size, c)
        for mixer in (self.ahead, self.back):
            if mixer is not None:
                mixer.leave.weight.data.mul_(INITIAL_SCALE)

    def forward(self, x_BLD: Tensor, context: AttentionContext | None = None) -> Tensor:
        if context and context.memory:
            raise InputError('block "ssd" keeps no keys to go on from: read the text anew, or use block "attention"')
        return residual_branch(self.norm, x_BLD, self.mix)

    def mix(self, x_BLD: Tensor) -> Tensor:
        y_BLD = self.ahead(x_BLD)
        return y_BLD if self.back is None else y_BLD + self.back(x_BLD.flip(1)).flip(1)
