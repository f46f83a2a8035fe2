"""Adaptive computation time: each entry halts when it has enough, and is read as a mean over its steps.

    N = first n with p_1 + ... + p_n >= 1 - eps;   R = 1 - (p_1 + ... + p_{N-1});   ponder cost = N + R
    weighted state = p_1 z_1 + ... + p_{N-1} z_{N-1} + R z_N

Pure functions over accumulators of any granularity: (B,) for an example, (B, L) for a place. A probability joins the
sum only when the next step comes, so that the present state always owns the remainder: what is read is right at any
step, be the entry halted or cut off. Sums are float32 at least (bfloat16 would cross 1 - eps early), and a halted
entry stays as it is to the last bit. Source: arXiv 1603.08983.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from innerloop.errors import InputError
from innerloop.parts.config import NetConfig
from innerloop.parts.layers import Linear

# "graves" sums the states by their weights. "interpolate" moves a running state to each by its weight, as one mode of
# tensor2tensor means to: early states then weigh less than their probabilities, and the weights do not sum to one.
FORMS = ("graves", "interpolate")


class Act(NamedTuple):
    """What halting remembers; G is the granularity's shape, (B,) or (B, L)."""

    mean: Tensor  # (*G, ...) float32: the earlier states by their weights
    total: Tensor  # (*G) float32: sum of the earlier states' probabilities
    p: Tensor  # (*G) float32: probability to halt at the present state; 0 before the first
    n: Tensor  # (*G) int64 steps taken: N once done
    done: Tensor  # (*G) bool


class HaltingUnit(nn.Module):
    """z (B, L, D) -> float32 probability to halt: (B,) from what `size.pool` says, or (B, L) at `each` place.

    Its bias starts at 1, so that thoughts are short before they are worth their cost. Its gradient reaches the state.
    """

    def __init__(self, config: NetConfig, each: bool = False) -> None:
        super().__init__()
        self.each, self.first = each, config.pool == "first"
        self.unit = Linear(config.hidden_size, 1, bias=True)
        nn.init.ones_(self.unit.bias)  # type: ignore[arg-type]

    def forward(self, z_BLD: Tensor) -> Tensor:
        z = z_BLD if self.each else z_BLD[:, 0] if self.first else z_BLD.mean(1)
        return self.unit(z.float())[..., 0].sigmoid()


def check(form: str, eps: float, tau: float) -> None:
    """Raises InputError unless these can be a form, a slack and a price of halting."""
    if form not in FORMS:
        raise InputError(f'no form of halting is called "{form}": use one of {", ".join(FORMS)}')
    if not 0 < eps < 1 or tau < 0:
        raise InputError(f"halting needs 0 < eps < 1 and tau >= 0, not eps={eps} and tau={tau}")


def begin(z: Tensor, granularity: int = 1) -> Act:
    """Accumulators before the first step of states like `z`, whose first `granularity` axes halt one by one."""
    dtype = torch.promote_types(z.dtype, torch.float32)
    shape = z.shape[:granularity]
    zero = z.new_zeros(shape, dtype=dtype)
    n, done = z.new_zeros(shape, dtype=torch.long), z.new_zeros(shape, dtype=torch.bool)
    return Act(z.new_zeros(z.shape, dtype=dtype), zero, zero, n, done)


def advance(a: Act, old: Tensor, p: Tensor, eps: float = 0.01, form: str = "graves") -> Act:
    """From state `old` to the next, whose halting probability is `p` (*G): tested first, and added a step later."""
    total = a.total + a.p
    mean = _mix(a.mean, a.p, old, form)
    new = Act(mean, total, p.to(total.dtype), a.n + 1, total + p >= 1 - eps)
    return Act(*(hold(a.done, before, after) for before, after in zip(a, new, strict=True)))


def hold(done: Tensor, old: Tensor, new: Tensor) -> Tensor:
    """`old` where `done` (*G), else `new`."""
    return torch.where(_over(done, new), old, new)


def remainder(a: Act) -> Tensor:
    """(*G) R, the weight of the present state."""
    return 1 - a.total


def weighted(a: Act, z: Tensor, form: str = "graves") -> Tensor:
    """The weighted state, in the dtype of the present state `z`."""
    return _mix(a.mean, remainder(a), z, form).to(z.dtype)


def cost(a: Act) -> Tensor:
    """(*G) ponder cost N + R. Its slope is -1 in every probability before the last, and 0 in the last."""
    return a.n + remainder(a)


def _mix(mean: Tensor, weight: Tensor, z: Tensor, form: str) -> Tensor:
    w = _over(weight, z)
    return (mean if form == "graves" else mean * (1 - w)) + w * z


def _over(t: Tensor, z: Tensor) -> Tensor:
    return t.view(*t.shape, *[1] * (z.ndim - t.ndim))
