"""What a run's model costs, known before it is paid: against its weights file, and against this machine."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NotRequired, TypedDict

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from innerloop import schema
from innerloop.errors import InputError
from innerloop.files import open_regular, parse_json, reason
from innerloop.schema import Length
from innerloop.text import printable

__all__ = ["build", "header"]
MOST = 4_000_000_000  # parameters of a model, and numbers in the constant tables it builds
SMALL = 1 << 26  # numbers up to which a model is simply built
SLACK = 1 << 24  # numbers of tables that a model makes and no file holds
HEADER = 16 << 20  # bytes of a safetensors header
Shape = Annotated[tuple[Annotated[int, schema.Range(0, 1 << 40)], ...], Length(0, 16)]


class Entry(TypedDict):
    """One tensor of a safetensors header."""

    dtype: str
    shape: Shape
    data_offsets: tuple[int, int]


class Header(TypedDict):
    __metadata__: NotRequired[dict[str, str]]


class Exceeded(Exception):
    """A model holds more numbers than it may."""


class Budget(TorchFunctionMode):
    """Inside it, tensors that are made may hold `left` numbers together; Exceeded is raised before one is made."""

    def __init__(self, left: int) -> None:
        super().__init__()
        self.left = left

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None) -> Any:
        kwargs = kwargs or {}
        if func in MADE:
            self.left -= MADE[func](*args)
        if self.left < 0 or (func in SPREAD and spread(*args) > self.left):
            raise Exceeded
        return func(*args, **kwargs)


def numbers(*shape: Any) -> int:
    return math.prod(shape[0] if shape and isinstance(shape[0], tuple | list) else shape)


def spread(a: Any, b: Any) -> int:
    """Numbers of a product of two, by broadcasting."""
    both = isinstance(a, Tensor) and isinstance(b, Tensor)
    return math.prod(torch.broadcast_shapes(a.shape, b.shape)) if both else 0


MADE: dict[Any, Callable[..., int]] = {
    **dict.fromkeys((torch.empty, torch.zeros, torch.ones, torch.rand, torch.randn), numbers),
    torch.full: lambda shape, *_: numbers(*shape),
    torch.eye: lambda n, m=None, *_: n * (m or n),
    torch.arange: lambda *ends: int(ends[0] if len(ends) == 1 else ends[1] - ends[0]),
    Tensor.repeat: lambda tensor, *times: tensor.numel() * numbers(*times),
}
SPREAD = (torch.mul, Tensor.mul, Tensor.__mul__)


class Sketch(TorchFunctionMode):
    """Inside torch.device("meta"): what depends on values has none, and reads as empty or zero."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None) -> Any:
        if func in (torch.Tensor.nonzero, torch.nonzero):
            return torch.empty(0, args[0].ndim, dtype=torch.long)
        if func in (torch.Tensor.item, torch.Tensor.__bool__):
            return func is torch.Tensor.item and 0
        return func(*args, **(kwargs or {}))


def build(kind: Any, config: Any, seed: int, path: Path | str | None = None) -> torch.nn.Module:
    """kind(config) with weights drawn from `seed`, if that costs no more than it may.

    path: the safetensors file that its weights will be read from; its shapes must be the same.
    Raises InputError before the memory is taken.
    """
    theirs = None if path is None else {name: entry["shape"] for name, entry in header(path)[0].items()}
    torch.manual_seed(seed)
    try:
        with Budget(SMALL if theirs is None else SLACK + sum(map(numbers, theirs.values()))):
            loop = kind(config)
    except Exceeded:
        if theirs is not None:
            raise other(path, "that one is far smaller") from None
        afford(kind, config)
        torch.manual_seed(seed)
        loop = kind(config)
    if theirs is not None:
        ours = {name: tuple(tensor.shape) for name, tensor in loop.state_dict().items()}
        wrong = sorted(ours.keys() ^ theirs.keys()) or [name for name in ours if ours[name] != theirs[name]]
        if wrong:
            raise other(path, f"it differs in {printable(wrong[0], 100)}")
    return loop


def other(path: Path | str | None, how: str) -> InputError:
    return InputError(f"{printable(str(path))} was saved by a model of another configuration ({how})")


def afford(kind: Callable[[Any], Any], config: Any) -> None:
    """Raise InputError where a model is above MOST numbers, or its weights alone above the memory of this machine.

    It is built without memory for that. Torch takes seconds to get ready to, so small models are not asked.
    """
    with torch.device("meta"), Sketch():
        loop = kind(config)
    count = sum(t.numel() for t in (*loop.parameters(), *loop.buffers()))
    have = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if count > MOST or 4 * count > have:
        raise InputError(
            f"this config makes a model of {count:,} numbers, or {4 * count / 1e9:,.0f} GB: at most {MOST:,} are "
            f"built, and this machine has {have / 1e9:,.0f} GB; give a smaller width, or fewer layers"
        )


def header(path: Path | str) -> tuple[dict[str, Entry], dict[str, str]]:
    """(tensors by name, metadata) of a safetensors file. Raises InputError for anything else; no tensor is read."""
    name = printable(str(path))
    with open_regular(path) as file:
        try:
            size = os.fstat(file.fileno()).st_size
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or length > min(size - 8, HEADER):
                raise InputError(f"{name} is damaged or no safetensors file (its header is cut short): get it again")
            text = file.read(length)
        except OSError as error:
            raise InputError(f"{name} cannot be read ({reason(error)}): try again once that is mended") from None
    value = parse_json(text, f"the header of {name}")
    schema.read(Header, value, f"the header of {name}")
    metadata = value.pop("__metadata__", {})
    tensors = schema.read(dict[str, Entry], value, f"the header of {name}")
    for key, entry in tensors.items():
        begin, end = entry["data_offsets"]
        if not 0 <= begin <= end <= size - 8 - length:
            raise InputError(f"{name} is damaged (it lacks a part of {printable(key, 100)}): get it again")
    return tensors, metadata
