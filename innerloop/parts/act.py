"""Adaptive computation time (ACT): halting accumulators, and the weighted mean state that is read out.

    N = first n with p_1 + ... + p_n >= 1 - eps;   R = 1 - (p_1 + ... + p_{N-1});   ponder cost = N + R
    weighted state = p_1 z_1 + ... + p_{N-1} z_{N-1} + R z_N

Pure functions over accumulators of any granularity: (B,) per example, (B, L) per position. A probability is added to
the sum only at the next step, so that the current state always has the remainder as its weight: the weights sum to 1 at
any step, halted or cut off. Sums are float32 or wider (bfloat16 would cross 1 - eps early), and a halted entry does not
change by a bit. Source: arXiv 1603.08983.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from innerloop.errors import InputError
from innerloop.parts.config import NetConfig
from innerloop.parts.layers import Linear

# "graves" is the weighted sum of the states. "interpolate" moves a running state towards each by its weight, as one
# mode of tensor2tensor: early states then weigh less than their probabilities, and the weights do not sum to one.
FORMS = ("graves", "interpolate")


class ActState(NamedTuple):
    """Halting accumulators; G is (B,) or (B, L)."""

    mean: Tensor  # (*G, ...) float32: weighted sum of the earlier states
    total: Tensor  # (*G) float32: sum of the earlier states' probabilities
    p: Tensor  # (*G) float32: probability to halt at the current state; 0 before the first step
    n: Tensor  # (*G) int64 steps taken: N once done
    done: Tensor  # (*G) bool


class HaltingUnit(nn.Module):
    """z (B, L, D) -> float32 halting probability: (B,) pooled as `size.pool` says, or (B, L) with `each`.

    The bias starts at 1, so that untrained models take few steps. The gradient reaches the state.
    """

    def __init__(self, config: NetConfig, each: bool = False) -> None:
        super().__init__()
        self.each, self.first = each, config.pool == "first"
        self.unit = Linear(config.hidden_size, 1, bias=True)
        nn.init.ones_(self.unit.bias)  # type: ignore[arg-type]

    def forward(self, z_BLD: Tensor) -> Tensor:
        z = z_BLD if self.each else z_BLD[:, 0] if self.first else z_BLD.mean(1)
        return self.unit(z.float())[..., 0].sigmoid()


def check_act(form: str, eps: float, tau: float) -> None:
    """Raises InputError unless form, slack eps and step cost tau are in range."""
    if form not in FORMS:
        raise InputError(f'no form of halting is called "{form}": use one of {", ".join(FORMS)}')
    if not 0 < eps < 1 or tau < 0:
        raise InputError(f"halting needs 0 < eps < 1 and tau >= 0, not eps={eps} and tau={tau}")


def initial_act(z: Tensor, granularity: int = 1) -> ActState:
    """Initial accumulators for states like `z`, whose first `granularity` axes halt separately."""
    dtype = torch.promote_types(z.dtype, torch.float32)
    shape = z.shape[:granularity]
    zero = z.new_zeros(shape, dtype=dtype)
    n, done = z.new_zeros(shape, dtype=torch.long), z.new_zeros(shape, dtype=torch.bool)
    return ActState(z.new_zeros(z.shape, dtype=dtype), zero, zero, n, done)


def advance(a: ActState, old: Tensor, p: Tensor, eps: float = 0.01, form: str = "graves") -> ActState:
    """Accumulators after a step from state `old` to one with halting probability `p` (*G)."""
    total = a.total + a.p
    mean = _mix(a.mean, a.p, old, form)
    new = ActState(mean, total, p.to(total.dtype), a.n + 1, total + p >= 1 - eps)
    return ActState(*(freeze_halted(a.done, before, after) for before, after in zip(a, new, strict=True)))


def freeze_halted(done: Tensor, old: Tensor, new: Tensor) -> Tensor:
    """`old` where `done` (*G), else `new`."""
    return torch.where(_over(done, new), old, new)


def remainder(a: ActState) -> Tensor:
    """(*G) R, the weight of the current state."""
    return 1 - a.total


def weighted(a: ActState, z: Tensor, form: str = "graves") -> Tensor:
    """The weighted mean state, in the dtype of the current state `z`."""
    return _mix(a.mean, remainder(a), z, form).to(z.dtype)


def ponder_cost(a: ActState) -> Tensor:
    """(*G) ponder cost N + R. Its derivative is -1 in every probability but the last, and 0 in the last."""
    return a.n + remainder(a)


def _mix(mean: Tensor, weight: Tensor, z: Tensor, form: str) -> Tensor:
    w = _over(weight, z)
    return (mean if form == "graves" else mean * (1 - w)) + w * z


def _over(t: Tensor, z: Tensor) -> Tensor:
    return t.view(*t.shape, *[1] * (z.ndim - t.ndim))
