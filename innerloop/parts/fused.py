"""Loops of Orbit's blocks as one compiled region on a CPU: orbits.cpp, made for a shape when first needed, and kept.

`serves` says whether blocks can have it; all other calls, and any gradient of a gradient, go to its plain twin in
parts/orbits.py. Both give the same values but for rounding (tests/parts/test_fused.py).
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import shutil
import subprocess
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.utils._python_dispatch import _get_current_dispatch_mode

Blocks = Any  # a sequence of OrbitBlocks of one shape: parts/orbits.py

SOURCE = Path(__file__).with_name("orbits.cpp")
FLAGS = ["-O3", "-march=native", "-std=gnu++17", "-fPIC", "-shared", "-pthread"]
SWITCH = "INNERLOOP_FUSED"  # set to 0 in the environment: never
allowed = True

NUMBERS = ("places", "prefix", "rows", "columns", "symbols", "kinds", "near")
LINES = ("kind_lines", "line_places", "line_place", "place_lines", "place_line")


class Block(ctypes.Structure):
    """What orbits.cpp calls Block."""

    _fields_ = [(n, ctypes.c_int) for n in NUMBERS] + [(n, ctypes.c_void_p) for n in (*LINES, "weights")]


class Loop(ctypes.Structure):
    _fields_ = [
        ("layers", ctypes.c_int),
        ("rounds", ctypes.c_int),
        ("blocks", ctypes.POINTER(Block)),
        ("parallel", ctypes.c_void_p),
    ]


@contextmanager
def plain() -> Iterator[None]:
    """Within it, every block is its plain twin."""
    global allowed
    before, allowed = allowed, False
    try:
        yield
    finally:
        allowed = before


def serves(blocks: Blocks, x_BLD: Tensor) -> bool:
    """Whether these blocks can be compiled for this call: float32 on a CPU, no transform around it, a compiler."""
    return (
        allowed
        and x_BLD.dtype is torch.float32
        and x_BLD.device.type == "cpu"
        and len(blocks) > 0
        and all(getattr(b, "fusable", False) and b.own.weight.dtype is torch.float32 for b in blocks)
        and not torch.compiler.is_compiling()
        and _get_current_dispatch_mode() is None
        and forward_ad._current_level < 0
        and torch._C._functorch.peek_interpreter_stack() is None
        and compiled(blocks) is not None
    )


def compiled(blocks: Blocks) -> Any:
    """The functions for blocks of this shape: see `library`."""
    return library(*blocks[0].shape)


@functools.cache
def library(nodes: int, width: int, inner: int) -> ctypes.CDLL | None:
    """orbits.cpp for a shape, from the cache or compiled into it; None without a compiler or where it fails."""
    compiler = shutil.which("g++") or shutil.which("clang++")
    if os.environ.get(SWITCH) == "0" or compiler is None or width % 8 or inner % 8:
        return None
    flags = [*FLAGS, f"-DN={nodes}", f"-DD={width}", f"-DE={inner}"]
    told = "\n".join([SOURCE.read_text(), compiler, *flags, machine()])
    made = folder() / f"orbits-{hashlib.sha256(told.encode()).hexdigest()[:16]}.so"
    try:
        if not made.exists():
            build([compiler, *flags, str(SOURCE)], made)
        return declared(ctypes.CDLL(str(made)))
    except (OSError, subprocess.CalledProcessError) as e:
        why = (e.stderr if isinstance(e, subprocess.CalledProcessError) else str(e))[:400]
        warnings.warn(f"these blocks are not compiled, and slower for it: {why}", stacklevel=2)
        return None


def build(command: list[str], made: Path) -> None:
    """Run the compiler; its output appears under its name only once it is whole."""
    made.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=made.parent) as here:
        new = Path(here) / made.name
        subprocess.run([*command, "-o", str(new)], capture_output=True, text=True, check=True)
        new.replace(made)


def declared(found: ctypes.CDLL) -> ctypes.CDLL:
    loop, pointer, ends = ctypes.POINTER(Loop), ctypes.c_void_p, [ctypes.c_long, ctypes.c_int]
    found.forward.argtypes, found.forward.restype = [loop, *[pointer] * 5, *ends], None
    found.backward.argtypes, found.backward.restype = [loop, *[pointer] * 8, *ends], None
    return found


@functools.cache
def team() -> int | None:
    """Where torch's OpenMP begins to work in parallel; None if it has none, or brings it in another way."""
    for path in sorted(Path(torch.__file__).parent.glob("lib/libgomp*")):
        return ctypes.cast(ctypes.CDLL(str(path)).GOMP_parallel, ctypes.c_void_p).value
    return None


def folder() -> Path:
    """Where compiled blocks are kept: innerloop/ in the user's cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "innerloop"


def machine() -> str:
    """What -march=native depends on: a cache can be on a disk that machines share."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next((line for line in lines if line.startswith(("flags", "Features"))), "")
    except OSError:
        return ""


def described(block: Any, places: int, weights: Sequence[Tensor]) -> Block:
    """The block as orbits.cpp wants it. It points into the weights and the block's buffers."""
    symbols, lines, near = map(dict(block.hear.named_children()).get, ("symbols", "lines", "near"))
    what = Block(places=places, symbols=symbols is not None, near=near is not None)
    if near is not None:
        what.prefix, (what.rows, what.columns) = near.prefix, near.grid
    if lines is not None:
        what.kinds = len(lines.kinds)
        for name in LINES:
            setattr(what, name, getattr(lines, name).data_ptr())
    what.kept = (ctypes.c_void_p * len(weights))(*(w.data_ptr() for w in weights))
    what.weights = ctypes.addressof(what.kept)
    return what


def loop(blocks: Blocks, h_BLD: Tensor, e_BLD: Tensor | None, rounds: int) -> Tensor:
    """`rounds` times all blocks in turn, e added before the first of them: for what `serves`."""
    weights = [w for block in blocks for w in block.parameters()]
    h_BLD, e_BLD = h_BLD.contiguous(), None if e_BLD is None else e_BLD.expand_as(h_BLD).contiguous()
    leaves = [h_BLD, *weights] if e_BLD is None else [h_BLD, e_BLD, *weights]
    if torch.is_grad_enabled() and any(t.requires_grad for t in leaves):
        return Called.apply(blocks, rounds, h_BLD, e_BLD, *weights)
    return forward(blocks, rounds, h_BLD, e_BLD, weights)[0]


def looped(blocks: Blocks, rounds: int, places: int, weights: Sequence[Tensor]) -> Loop:
    each = len(weights) // len(blocks)
    parts = [described(b, places, weights[i * each : (i + 1) * each]) for i, b in enumerate(blocks)]
    what = Loop(len(blocks), rounds, (Block * len(blocks))(*parts), team())
    what.kept = parts
    return what


def forward(
    blocks: Blocks, rounds: int, h_BLD: Tensor, e_BLD: Tensor | None, weights: Sequence[Tensor], keep: bool = False
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """The state after the loop; if they are to be kept, what every call gave and one over its rms, (calls, B, L, .)."""
    z_BLD, kept, inverse = torch.empty_like(h_BLD), None, None
    if keep:
        kept = h_BLD.new_empty(rounds * len(blocks), *h_BLD.shape)
        inverse = kept.new_empty(kept.shape[:-1])
    what = looped(blocks, rounds, h_BLD.shape[1], weights)
    compiled(blocks).forward(what, *map(_at, (h_BLD, e_BLD, z_BLD, kept, inverse)), *_ends(h_BLD))
    return z_BLD, kept, inverse


def backward(
    blocks: Blocks, rounds: int, saved: Sequence[Tensor | None], dz: Tensor, weights: Sequence[Tensor]
) -> tuple[Tensor | None, ...]:
    """Gradients of h, of e (None if there was none) and of each weight, from (h, e, kept, inverse) and that of z."""
    sizes, dz = [w.numel() for w in weights], dz.contiguous()
    dh, de = torch.empty_like(dz), None if saved[1] is None else torch.zeros_like(dz)
    grads = torch.zeros(torch.get_num_threads(), sum(sizes))
    what = looped(blocks, rounds, dz.shape[1], weights)
    compiled(blocks).backward(what, *map(_at, (*saved, dz, dh, de, grads)), *_ends(dz))
    return dh, de, *(g.view_as(w) for g, w in zip(grads.sum(0).split(sizes), weights, strict=True))


def _at(t: Tensor | None) -> int | None:
    return None if t is None else t.data_ptr()


def _ends(t: Tensor) -> tuple[int, int]:
    return len(t), torch.get_num_threads()


class Called(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, blocks: Blocks, rounds: int, h_BLD: Tensor, e_BLD: Tensor | None, *weights: Tensor) -> Tensor:  # type: ignore[override]
        z_BLD, *kept = forward(blocks, rounds, h_BLD, e_BLD, weights, keep=True)
        ctx.blocks, ctx.rounds = blocks, rounds
        ctx.save_for_backward(h_BLD, e_BLD, *kept, *weights)
        return z_BLD

    @staticmethod
    def backward(ctx: Any, dz: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        h_BLD, e_BLD, kept, inverse, *weights = ctx.saved_tensors
        if not torch.is_grad_enabled():
            return None, None, *backward(ctx.blocks, ctx.rounds, (h_BLD, e_BLD, kept, inverse), dz, weights)
        again = slowly(ctx.blocks, ctx.rounds, h_BLD, e_BLD, weights)  # somebody wants the gradient of this gradient
        leaves = [t for t in (h_BLD, e_BLD, *weights) if t is not None and t.requires_grad]
        grads = iter(torch.autograd.grad(again, leaves, dz, create_graph=True))
        given = (h_BLD, e_BLD, *weights)
        return None, None, *(next(grads) if t is not None and t.requires_grad else None for t in given)


def slowly(blocks: Blocks, rounds: int, h_BLD: Tensor, e_BLD: Tensor | None, weights: Sequence[Tensor]) -> Tensor:
    """What `loop` gives, by the plain twin, as a function of these very tensors."""
    each = len(weights) // len(blocks)
    with plain():
        for _ in range(rounds):
            h_BLD = h_BLD if e_BLD is None else h_BLD + e_BLD
            for i, block in enumerate(blocks):
                named = zip((n for n, _ in block.named_parameters()), weights[i * each : (i + 1) * each], strict=True)
                h_BLD = torch.func.functional_call(block, dict(named), h_BLD)
    return h_BLD
