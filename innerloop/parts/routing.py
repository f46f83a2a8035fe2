"""Routers of Mixture-of-Recursions: which positions a recursion step computes (arXiv 2507.10524).

    where on:  h <- base + gate * net(h);   elsewhere h stays

ExpertChoice (a step chooses positions): of the positions of the last step, the capacity_r * L of highest logit;
    base = h,  gate = alpha * sigmoid(logit)
TokenChoice (a position chooses its steps):  d = argmax p,  p = softmax(logits of h_0);  on while r <= d;
    base = 0,  gate = 1 before the last of its steps, and there  base = h_0,  gate = p_d

Shapes: B batch, L length, D width, R steps.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from innerloop.errors import InputError
from innerloop.parts.layers import Linear

RATE = 1e-3  # step of a balancing bias


class Route(NamedTuple):
    on: Tensor  # (B, L) bool
    base: Tensor  # (B, L, D)
    gate: Tensor  # (B, L, 1)
    loss: Tensor  # (B,) float32 router loss of this step


class ExpertChoice(nn.Module):
    """The top k positions of a row with `lookahead` (not causal), else every position with a logit above 0.

    The loss is the cross-entropy of the logits with the top-k choice, averaged over the remaining positions, so that
    the causal choice matches it. Capacities fall from 1 on a cosine over the share `warmup` of training.
    """

    capacity: Tensor

    def __init__(self, width: int, capacities: tuple[float, ...], alpha: float, warmup: float) -> None:
        super().__init__()
        self.score, self.alpha, self.warmup, self.extra = Linear(width, len(capacities)), alpha, warmup, 0.0
        self.register_buffer("capacity", torch.tensor(capacities), persistent=False)

    def set_progress(self, progress: float) -> None:
        share = min(1.0, progress / self.warmup) if self.warmup else 1.0
        self.extra = 0.5 * (1 + math.cos(math.pi * share))

    def forward(self, h_BLD: Tensor, h0_BLD: Tensor, depth_BL: Tensor, t_B: Tensor, lookahead: bool) -> Route:
        """Route step t of each row; `depth_BL`: steps that each position has had. Later steps use the last capacity."""
        step_B = t_B.clamp_max(len(self.capacity) - 1)
        logits_BLR = self.score(h_BLD.float())  # in float32: a rounded score could choose another position
        logit_BL = logits_BLR.gather(-1, step_B[:, None, None].expand(*depth_BL.shape, 1))[..., 0]
        left_BL = depth_BL == t_B[:, None]
        if lookahead:
            share_B = self.capacity[step_B]
            if self.training:
                share_B = share_B + (1 - share_B) * self.extra
            most_B = (share_B * depth_BL.shape[1] + 1e-4).floor().clamp_min(1)  # 2/3 of 96 is 64, whatever its rounding
            order_BL = logit_BL.masked_fill(~left_BL, -torch.inf).argsort(dim=-1, descending=True, stable=True)
            on_BL = left_BL & (order_BL.argsort(-1) < most_B[:, None])
        else:
            on_BL = left_BL & (logit_BL > 0)
        miss_BL = F.binary_cross_entropy_with_logits(logit_BL, on_BL.float(), reduction="none")
        loss_B = miss_BL.where(left_BL, 0.0).sum(-1) / left_BL.sum(-1).clamp_min(1)
        return Route(on_BL, h_BLD, (self.alpha * logit_BL.sigmoid())[..., None].to(h_BLD.dtype), loss_B)


class TokenChoice(nn.Module):
    """The number of steps of each position, chosen once from h_0; causal.

    Balanced by the loss R * sum of f_r P_r (f_r: share of a row's positions that chose r, P_r: mean probability of r),
    or by a `bias` on the choice alone, without gradient, which rises for depths that are chosen too rarely
    (arXiv 2408.15664).
    """

    bias: Tensor
    load: Tensor

    def __init__(self, width: int, steps: int, biased: bool) -> None:
        super().__init__()
        self.score, self.biased = Linear(width, steps), biased
        self.register_buffer("bias", torch.zeros(steps))
        self.register_buffer("load", torch.zeros(steps), persistent=False)

    def balance(self) -> None:
        """Once per optimizer step, without gradient; loads are summed over all processes."""
        if self.biased:
            if dist.is_available() and dist.is_initialized():
                dist.all_reduce(self.load)
            self.bias.add_(RATE * (self.load.mean() - self.load).sign())
        self.load.zero_()

    def forward(self, h_BLD: Tensor, h0_BLD: Tensor, depth_BL: Tensor, t_B: Tensor, lookahead: bool) -> Route:
        p_BLR = self.score(h0_BLD.float()).softmax(-1)
        chosen_BL = (p_BLR.detach() + self.bias).argmax(-1)
        share_BR, begins_B = F.one_hot(chosen_BL, len(self.bias)).float().mean(1), t_B == 0
        if self.training:
            self.load.add_((share_BR * begins_B[:, None]).sum(0))
        loss_B = len(self.bias) * (share_BR * p_BLR.mean(1)).sum(-1) * begins_B * (not self.biased)
        ends_BL1 = (chosen_BL == t_B[:, None])[..., None]
        gate_BL1 = p_BLR.gather(-1, chosen_BL[..., None]).where(ends_BL1, 1.0).to(h_BLD.dtype)
        return Route(chosen_BL >= t_B[:, None], h0_BLD.where(ends_BL1, 0.0), gate_BL1, loss_B)


def router(kind: str, width: int, capacities: tuple[float, ...], alpha: float, warmup: float) -> nn.Module:
    """The router called "expert", "token" (balanced by a loss) or "token_bias" (by a bias)."""
    if not capacities or not all(0 < c <= 1 for c in capacities):
        raise InputError(
            f"capacities {capacities} must be shares of the places, above 0 and up to 1, one for each step"
        )
    if kind == "expert":
        return ExpertChoice(width, capacities, alpha, warmup)
    if kind in ("token", "token_bias"):
        return TokenChoice(width, len(capacities), biased=kind == "token_bias")
    raise InputError(f'no router is called "{kind}": use "expert", "token" or "token_bias"')
