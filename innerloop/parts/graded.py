"""Graded layers: a learned scale (grade) per channel (Graded Transformers, arXiv 2507.20108). Experimental.

    linear:  x_i <- q_i x_i        exponential:  x_i <- lambda^{q_i} x_i

The parameter is a clipped log-scale: log q_i, or the grade q_i with factor log lambda. Both are positive diagonal
matrices, and differ only in the speed of learning. A grading before a linear map folds into it exactly (`absorb`), so a
graded net is no more expressive than a plain one; only its optimisation differs. The paper gives no code; here the
grading is applied to the inputs of attention and MLP. A norm right after a grading undoes part of it. The paper wants
q >= 0; a learned q may become negative, which is only a common factor.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from innerloop.errors import InputError
from innerloop.parts.attention import Attention, AttentionContext
from innerloop.parts.config import NetConfig
from innerloop.parts.layers import Linear, SwiGLU, inner_width

LIMIT = 3.0  # of a log-scale: no channel is scaled by more than e^3, about 20, or less than its inverse


class Grading(nn.Module):
    """x (..., D) -> x * scale. Without `grades` it starts as the identity; `learned=False` fixes the grades."""

    theta: Tensor

    def __init__(
        self,
        width: int,
        mode: str = "exponential",
        base: float = 2.0,  # lambda, of the exponential mode
        grades: Sequence[float] | None = None,
        learned: bool = True,
    ) -> None:
        super().__init__()
        if mode not in ("linear", "exponential") or base <= 1:
            raise InputError(f'a grading is "linear" or "exponential" with a base above 1, not "{mode}" with {base}')
        identity = 1.0 if mode == "linear" else 0.0
        q = torch.full((width,), identity) if grades is None else torch.tensor(grades, dtype=torch.float32)
        if len(q) != width or bool((q < 0).any()):
            raise InputError(f"{width} channels need {width} grades of 0 or more")
        self.rate = 1.0 if mode == "linear" else math.log(base)
        self.base = math.e if mode == "linear" else base
        theta = q.log() if mode == "linear" else q
        if learned:
            self.theta = nn.Parameter(theta)
        else:
            self.register_buffer("theta", theta)

    @property
    def scale(self) -> Tensor:
        """(D,) factor of each channel, from e^-LIMIT to e^LIMIT."""
        edge = LIMIT / self.rate
        return torch.pow(self.base, self.theta.clamp(-edge, edge))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale.to(x.dtype)


def absorb(linear: Linear, before: Grading | None = None, after: Grading | None = None) -> Linear:
    """One plain Linear equal to after(linear(before(x)))."""
    outputs, inputs = linear.weight.shape
    plain = Linear(inputs, outputs, bias=linear.bias is not None).to(linear.weight)
    weight, bias = linear.weight.detach(), None if linear.bias is None else linear.bias.detach()
    if before is not None:
        weight = weight * before.scale.detach()
    if after is not None:
        weight = weight * after.scale.detach()[:, None]
        bias = None if bias is None else bias * after.scale.detach()
    plain.weight.data.copy_(weight)
    if plain.bias is not None and bias is not None:
        plain.bias.data.copy_(bias)
    return plain


class GradedAttention(Attention):
    def __init__(self, config: NetConfig) -> None:
        super().__init__(config)
        self.grade = Grading(config.hidden_size)

    def forward(self, x_BLD: Tensor, context: AttentionContext | None = None) -> Tensor:
        return super().forward(self.grade(x_BLD), context)


class GradedMlp(SwiGLU):
    def __init__(self, config: NetConfig) -> None:
        super().__init__(config.hidden_size, inner_width(config.hidden_size, config.expansion, config.multiple_of))
        self.grade = Grading(config.hidden_size)

    def forward(self, x_BLD: Tensor) -> Tensor:
        return super().forward(self.grade(x_BLD))


def plain_state(graded: nn.Module) -> dict[str, Tensor]:
    """The state dict of the same net without grades, every grading folded into the map that follows it."""
    state = dict(graded.state_dict())
    for name, module in graded.named_modules():
        if isinstance(module, GradedAttention | GradedMlp):
            first = "qkv" if isinstance(module, GradedAttention) else "up"
            prefix = f"{name}." if name else ""
            del state[f"{prefix}grade.theta"]
            state[f"{prefix}{first}.weight"] = absorb(getattr(module, first), module.grade).weight.detach()
    return state
