"""Basic layers: Linear with cast on use, RMS norm, norm placement, SwiGLU, truncated normal initialisation."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from innerloop.errors import InputError

EPS = 1e-5  # of the RMS norms in HRM and TRM


def rms_norm(x: Tensor, eps: float = EPS, dim: int = -1) -> Tensor:
    """x / rms(x) over one axis, without weight; computed in float32."""
    wide = x.float()
    return (wide * torch.rsqrt(wide.square().mean(dim, keepdim=True) + eps)).to(x.dtype)


NORMS = ("post", "pre", "sandwich", "magic")


def residual_branch(norm: str, x: Tensor, branch: Callable[[Tensor], Tensor], dim: int = -1) -> Tensor:
    """A residual branch with the norm placed as `norm` says.

    post      norm(x + f(x))         the state is bounded after every block: HRM, TRM, the Universal Transformer
    pre       x + f(norm(x))         the state grows with every call: loops need an outer norm
    sandwich  norm(x + f(norm(x)))   Huginn (arXiv 2502.05171)
    magic     x + f(norm(x))         as "pre", and each call of a Net ends with a norm: HRM-Text (arXiv 2605.20613)
    """
    y = x + branch(rms_norm(x, dim=dim) if norm != "post" else x)
    return y if norm in ("pre", "magic") else rms_norm(y, dim=dim)


def trunc_normal(*shape: int, std: float) -> Tensor:
    """Normal truncated at two deviations, with standard deviation `std` after truncation, as in JAX."""
    if std == 0:
        return torch.zeros(*shape)
    # Variance of a unit normal truncated to -2 .. 2; dividing by its root restores `std`.
    density, mass = math.exp(-2) / math.sqrt(2 * math.pi), math.erf(math.sqrt(2))
    kept = math.sqrt(1 - 4 * density / mass)
    wide = std / kept
    return nn.init.trunc_normal_(torch.empty(*shape), 0.0, wide, -2 * wide, 2 * wide)


def saved_as(module: nn.Module, **keys: str) -> None:
    """Parts of `module` keep the key they were first saved under in state dicts, whatever they are called now."""

    def save(module: nn.Module, state: dict[str, Tensor], prefix: str, *_: object) -> None:
        _rename(state, prefix, keys)

    def load(module: nn.Module, state: dict[str, Tensor], prefix: str, *_: object) -> None:
        _rename(state, prefix, {key: name for name, key in keys.items()})

    module.register_state_dict_post_hook(save)
    module.register_load_state_dict_pre_hook(load)


def _rename(state: dict[str, Tensor], prefix: str, names: dict[str, str]) -> None:
    """Rename the keys of one module in place, in their order."""
    held = list(state.items())
    state.clear()
    for key, value in held:
        name, dot, rest = key.removeprefix(prefix).partition(".")
        state[prefix + names.get(name, name) + dot + rest if key.startswith(prefix) else key] = value


class Linear(nn.Module):
    """x (..., in) -> (..., out): float32 master weights, cast to the activation's dtype at every use."""

    def __init__(self, inputs: int, outputs: int, bias: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(trunc_normal(outputs, inputs, std=inputs**-0.5))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight.to(x.dtype), None if self.bias is None else self.bias.to(x.dtype))


class SwiGLU(nn.Module):
    """down(silu(gate(x)) * up(x)); gate and up are one matrix, gate first."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.up = Linear(width, 2 * inner)
        self.down = Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.up(x).chunk(2, -1)
        return self.down(F.silu(gate) * up)


def inner_width(width: int, expansion: float, multiple: int) -> int:
    """Two thirds of expansion x width (SwiGLU has three matrices), rounded up to `multiple`."""
    return -(-round(expansion * width * 2 / 3) // multiple) * multiple


def dtype_named(name: str) -> torch.dtype:
    """The torch dtype with this name in a config. Raises InputError for any but the two supported."""
    if name not in ("bfloat16", "float32"):
        raise InputError(f'dtype is "{name}": use "bfloat16" or "float32"')
    return {"bfloat16": torch.bfloat16, "float32": torch.float32}[name]
