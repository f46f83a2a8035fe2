"""Memory limits of a run's model, checked before it is built: against its weights file and this machine's memory."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from innerloop.errors import InputError
from innerloop.files import shown

if TYPE_CHECKING:
    from innerloop.weights import System

__all__ = ["build"]
MAX_NUMBERS = 4_000_000_000  # parameters of a model, and numbers in the constant tables it builds
SMALL_MODEL = 1 << 23  # numbers up to which a model is simply built: a second
MAX_TRUSTED_FILE = 1 << 28  # numbers up to which a file's size is trusted; a larger file may be sparse
UNSAVED_NUMBERS = 1 << 22  # numbers in constant tables that are not saved


class TooManyNumbers(Exception):
    """A model holds more numbers than it may."""


class TensorBudget(TorchFunctionMode):
    """Inside it, created tensors may hold `left` numbers together; Exceeded is raised before the allocation."""

    def __init__(self, left: int) -> None:
        super().__init__()
        self.left = left

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None) -> Any:
        kwargs = kwargs or {}
        if func in CREATING_OPS:
            self.left -= CREATING_OPS[func](*args)
        if self.left < 0 or (func in BROADCASTING_OPS and broadcast_numel(*args) > self.left):
            raise TooManyNumbers
        return func(*args, **kwargs)


def shape_numel(*shape: Any) -> int:
    return math.prod(shape[0] if shape and isinstance(shape[0], tuple | list) else shape)


def broadcast_numel(a: Any, b: Any) -> int:
    """Elements of the product of two tensors, by broadcasting."""
    both = isinstance(a, Tensor) and isinstance(b, Tensor)
    return math.prod(torch.broadcast_shapes(a.shape, b.shape)) if both else 0


CREATING_OPS: dict[Any, Callable[..., int]] = {
    **dict.fromkeys((torch.empty, torch.zeros, torch.ones, torch.rand, torch.randn), shape_numel),
    torch.full: lambda shape, *_: shape_numel(*shape),
    torch.eye: lambda n, m=None, *_: n * (m or n),
    torch.arange: lambda *ends: int(ends[0] if len(ends) == 1 else ends[1] - ends[0]),
    Tensor.repeat: lambda tensor, *times: tensor.numel() * shape_numel(*times),
}
BROADCASTING_OPS = (torch.mul, Tensor.mul, Tensor.__mul__)


class MetaValues(TorchFunctionMode):
    """For torch.device("meta"): operations that need values return empty tensors or zeros."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None) -> Any:
        if func in (torch.Tensor.nonzero, torch.nonzero):
            return torch.empty(0, args[0].ndim, dtype=torch.long)
        if func in (torch.Tensor.item, torch.Tensor.__bool__):
            return func is torch.Tensor.item and 0
        return func(*args, **(kwargs or {}))


def build(kind: Any, config: Any, seed: int, path: Path | None = None) -> System:
    """kind(config) with weights drawn from `seed`, if that costs no more than it may.

    path: the safetensors file that its weights will be read from, if it is there: no number takes less than two bytes.
    Raises InputError before the memory is taken.
    """
    held = path.stat().st_size // 2 if path is not None and path.is_file() else None
    vouched = held is not None and held <= MAX_TRUSTED_FILE
    most = UNSAVED_NUMBERS + held if held is not None and vouched else SMALL_MODEL
    budget = TensorBudget(most)
    try:
        with budget:
            return build_seeded(kind, config, seed)
    except TooManyNumbers:
        huge = budget.left < -MAX_NUMBERS  # one tensor alone is more than may be: no need to count the others
        count = MAX_NUMBERS + 1 if huge else most + 1 if vouched else count_numbers(kind, config)
        if held is not None and count > UNSAVED_NUMBERS + held:
            raise InputError(
                f"{shown(path or '')} was saved by a model of another configuration, which is far smaller"
            ) from None
        if huge:
            raise too_large(MAX_NUMBERS) from None
    return build_seeded(kind, config, seed)


def too_large(most: int) -> InputError:
    return InputError(
        f"this config makes a model of more than {most:,} numbers, which is the most that this machine builds: "
        "give a smaller width, or fewer layers"
    )


def build_seeded(kind: Any, config: Any, seed: int) -> System:
    """kind(config) with weights drawn from `seed`; torch's global generator stays where it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return kind(config)  # type: ignore[no-any-return]


def count_numbers(kind: Callable[[Any], Any], config: Any) -> int:
    """Parameters and buffers of a model, counted on the meta device, which takes torch seconds to load.

    Raises InputError where they are above MOST, or take more than the memory of this machine.
    """
    most = min(MAX_NUMBERS, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 4)
    try:
        with torch.device("meta"), MetaValues(), TensorBudget(most):
            loop = kind(config)
    except TooManyNumbers:
        raise too_large(most) from None
    return sum(t.numel() for t in (*loop.parameters(), *loop.buffers()))
