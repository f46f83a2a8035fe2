"""Mixture of experts with auxiliary-loss-free load balancing (DeepSeekMoE as in DeepSeek-V3, arXiv 2412.19437).

    s = sigmoid(router(x));   chosen = top K of s + b, within the best groups;   w = scale s / sum of the chosen s
    out = shared(x) + sum over the chosen of w_e expert_e(x);        b <- b + rate * sign(mean load - load)

The bias b affects the choice only: it is in no weight and gets no gradient. Experts have no capacity limit and no
position is dropped, so a position's result depends on that position alone. Shapes: B batch, L length, D width, E
experts, K chosen of them, I width of one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from innerloop.errors import InputError
from innerloop.parts.config import NetConfig
from innerloop.parts.layers import Linear, SwiGLU, inner_width, trunc_normal


@dataclass(frozen=True)
class Config:
    inner: int = 2048  # I
    experts: int = 256  # E
    chosen: int = 8  # K
    groups: int = 8  # of experts; the experts of a position come from `kept` groups
    kept: int = 4  # groups that a position may choose from
    shared: int = 1  # experts that every position uses
    scale: float = 2.5  # of the weights' sum

    def __post_init__(self) -> None:
        if self.experts % self.groups or not 1 <= self.kept <= self.groups:
            raise InputError(
                f"{self.experts} experts do not form {self.groups} equal groups of which {self.kept} count"
            )
        if not 1 <= self.chosen <= self.kept * (self.experts // self.groups):
            raise InputError(f"{self.kept} groups do not hold {self.chosen} experts to choose")

    @classmethod
    def of(cls, config: NetConfig) -> Config:
        """Eight experts, two chosen and one shared: the FLOPs of one SwiGLU, three times its weights."""
        inner = -(-inner_width(config.hidden_size, config.expansion, config.multiple_of) // 3)
        return cls(inner, experts=8, chosen=2, groups=1, kept=1, shared=1, scale=1.0)


# Initial scale of the experts' outputs, as a share of the usual one; the shared expert has twice it. A changed choice
# is a discontinuity; in an untrained loop at full scale one causes the next, and rounding errors decide the answer.
INITIAL_SCALE = 0.25


class Routes(NamedTuple):
    scores: Tensor  # (..., E) float32 or wider, each 0 .. 1
    chosen: Tensor  # (..., K) int64
    weights: Tensor  # (..., K) of the chosen, in the scores' dtype


class MoE(nn.Module):
    """(..., D) -> (..., D). In training `load` counts the positions of each expert; `balance` resets it."""

    bias: Tensor
    load: Tensor

    def __init__(self, config: NetConfig, c: Config | None = None) -> None:
        super().__init__()
        self.c = c = c or Config.of(config)
        self.router = Linear(config.hidden_size, c.experts)
        # Gate, then up.
        self.up = nn.Parameter(trunc_normal(c.experts, 2 * c.inner, config.hidden_size, std=config.hidden_size**-0.5))
        self.down = nn.Parameter(
            trunc_normal(c.experts, config.hidden_size, c.inner, std=INITIAL_SCALE * c.inner**-0.5)
        )
        self.shared = SwiGLU(config.hidden_size, c.shared * c.inner) if c.shared else None
        if self.shared is not None:
            self.shared.down.weight.data.mul_(2 * INITIAL_SCALE)
        self.register_buffer("bias", torch.zeros(c.experts))
        self.register_buffer("load", torch.zeros(c.experts, dtype=torch.long), persistent=False)

    def route(self, x: Tensor) -> Routes:
        """Scores and choice, in float32 or wider: a rounded score could choose another expert."""
        c = self.c
        scores = self.router(x.to(torch.promote_types(x.dtype, torch.float32))).sigmoid()
        rank = scores.detach() + self.bias
        if c.kept < c.groups:
            of_group = rank.unflatten(-1, (c.groups, -1))
            best = of_group.topk(min(2, of_group.shape[-1]), -1).values.sum(-1)
            barred = torch.ones_like(best, dtype=torch.bool).scatter(-1, best.topk(c.kept, -1).indices, False)
            rank = of_group.masked_fill(barred[..., None], float("-inf")).flatten(-2)
        chosen = rank.topk(c.chosen, -1).indices
        weights = scores.gather(-1, chosen)
        return Routes(scores, chosen, c.scale * weights / (weights.sum(-1, keepdim=True) + 1e-20))

    def forward(self, x: Tensor) -> Tensor:
        routes = self.route(x)
        if self.training:
            chosen = routes.chosen.flatten()
            self.load.scatter_add_(0, chosen, torch.ones_like(chosen))
        y = mix(x, routes, self.up, self.down)
        return y if self.shared is None else y + self.shared(x)

    def after_update(self) -> None:
        balance(self)


def mix(x: Tensor, routes: Routes, up_E2ID: Tensor, down_EDI: Tensor) -> Tensor:
    """The faster form: sorted on CPUs, dense on GPUs and under torch.compile, which needs static shapes."""
    if x.device.type == "cpu" and not torch.compiler.is_compiling():
        return mix_sorted(x, routes, up_E2ID, down_EDI)
    return mix_dense(x, routes, up_E2ID, down_EDI)


def mix_dense(x: Tensor, routes: Routes, up_E2ID: Tensor, down_EDI: Tensor) -> Tensor:
    """Every expert for every position, with weight 0 if not chosen: two matrix products."""
    weights_E = torch.zeros_like(routes.scores).scatter(-1, routes.chosen, routes.weights).to(x.dtype)
    gate_up = F.linear(x, up_E2ID.flatten(0, 1).to(x.dtype))
    gate, up = gate_up.unflatten(-1, (len(up_E2ID), 2, -1)).unbind(-2)
    h = F.silu(gate) * up * weights_E[..., None]
    return F.linear(h.flatten(-2), down_EDI.transpose(0, 1).flatten(1).to(x.dtype))


def mix_sorted(x: Tensor, routes: Routes, up_E2ID: Tensor, down_EDI: Tensor) -> Tensor:
    """The same, each expert for its own positions only: a third of the time with 8 experts, a tenth with 32."""
    k = routes.chosen.shape[-1]
    expert, order = routes.chosen.flatten().sort(stable=True)
    counts = torch.bincount(expert, minlength=len(up_E2ID)).tolist()
    inputs = x.flatten(0, -2)[order // k].split(counts)
    weights = routes.weights.flatten()[order, None].to(x.dtype).split(counts)
    said = []
    for part, weight, up_2ID, down_DI in zip(inputs, weights, up_E2ID, down_EDI, strict=True):
        gate, up = F.linear(part, up_2ID.to(x.dtype)).chunk(2, -1)
        said.append(F.linear(F.silu(gate) * up * weight, down_DI.to(x.dtype)))
    return torch.cat(said)[order.argsort()].unflatten(0, (-1, k)).sum(1).view_as(x)


def balance(net: nn.Module, rate: float = 1e-3) -> None:
    """Move the bias of every MoE in `net` by `rate` towards equal loads, and reset the loads.

    Once per optimizer step, never per micro-batch: the trainer calls `after_update`. Loads are summed over all
    processes.
    """
    for moe in net.modules():
        if isinstance(moe, MoE):
            if dist.is_available() and dist.is_initialized():
                dist.all_reduce(moe.load)
            load = moe.load.to(moe.bias.dtype)
            moe.bias.add_(rate * torch.sign(load.mean() - load))
            moe.load.zero_()


def max_violation(load_E: Tensor) -> Tensor:
    """MaxVio: max load / mean load - 1."""
    load = load_E.double()
    return load.max() / load.mean() - 1


def sequence_balance(routes: Routes) -> Tensor:
    """(B,) the paper's sequence-wise loss, before its weight (1e-4): 1 where a sequence uses all experts alike.

    Raises InputError unless the routes are those of (B, L, D).
    """
    if routes.scores.ndim != 3:
        raise InputError("sequence_balance needs the routes of whole sequences (B, L, D)")
    share_BLE = routes.scores / routes.scores.sum(-1, keepdim=True)
    experts, k = routes.scores.shape[-1], routes.chosen.shape[-1]
    used_BE = F.one_hot(routes.chosen, experts).sum((1, 2)) * (experts / (k * routes.scores.shape[1]))
    return (used_BE * share_BLE.mean(1)).sum(-1)
