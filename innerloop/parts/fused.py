"""Fused C++ kernel for loops of Orbit blocks on a CPU: orbits.cpp, compiled per shape on first use, and cached.

`supports` says whether a call is supported. Other calls, and second derivatives, use the plain PyTorch form in
parts/orbits.py. Both give the same values but for rounding (tests/parts/test_fused.py).
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import os
import shutil
import subprocess
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn.modules import module
from torch.utils._python_dispatch import _get_current_dispatch_mode

from innerloop import files
from innerloop.errors import InputError

Blocks = Any  # a sequence of OrbitBlocks of one shape: parts/orbits.py

SOURCE = Path(__file__).with_name("orbits.cpp")
HEADER = SOURCE.with_name("vectors.h")  # that every source includes
FLAGS = ["-O3", "-march=native", "-std=gnu++17", "-fPIC", "-shared", "-pthread"]
SWITCH = "INNERLOOP_FUSED"  # environment variable; 0 turns the fused kernel off
allowed = True

TENSORS = (Tensor, nn.Parameter)  # exact types: a subclass may behave differently
SECONDS = 600  # time limit of the compiler
LARGEST = 2**31  # orbits.cpp counts in int

NUMBERS = ("places", "prefix", "rows", "columns", "symbols", "kinds", "near", "along")
LINES = ("kind_lines", "line_places", "line_place", "place_lines", "place_line")


class Block(ctypes.Structure):
    """struct Block of orbits.cpp."""

    _fields_ = [(n, ctypes.c_int) for n in NUMBERS] + [(n, ctypes.c_void_p) for n in (*LINES, "weights")]


class Loop(ctypes.Structure):
    _fields_ = [
        ("layers", ctypes.c_int),
        ("rounds", ctypes.c_int),
        ("blocks", ctypes.POINTER(Block)),
        ("parallel", ctypes.c_void_p),
    ]


@contextlib.contextmanager
def plain() -> Iterator[None]:
    """Context in which every block runs its plain PyTorch form."""
    global allowed
    before, allowed = allowed, False
    try:
        yield
    finally:
        allowed = before


def supports(blocks: Blocks, h_BLD: Tensor, e_BLD: Tensor | None = None, rounds: int = 1) -> bool:
    """Whether `loop` supports this call: all assumptions of orbits.cpp hold.

    These are float32 on a CPU, sizes and memory layout as compiled, no function transform, dispatch mode or hook, and
    a compiler. All other calls go to the plain form, which also checks shapes.
    """
    if not allowed or torch.compiler.is_compiling() or not blocks:
        return False
    first, *others = blocks
    return (
        available(blocks, h_BLD.dtype, h_BLD.device)
        and h_BLD.dim() == 3
        and all(shapes_match(block, h_BLD) for block in blocks)
        and all(block.layout == first.layout and block.shape == first.shape for block in others)
        and 1 <= rounds * len(blocks) < LARGEST
        and is_plain_float32(h_BLD)
        and (e_BLD is None or (is_plain_float32(e_BLD) and broadcasts(e_BLD.shape, h_BLD.shape)))
        and runs_plainly()
    )


def runs_plainly() -> bool:
    """Whether no dispatch mode, function transform or global hook would miss the operations of a fused kernel."""
    return (
        _get_current_dispatch_mode() is None
        and forward_ad._current_level < 0
        and torch._C._functorch.peek_interpreter_stack() is None
        and not module._has_any_global_hook()
    )


def available(blocks: Blocks, dtype: torch.dtype, device: torch.device) -> bool:
    """Whether these blocks have a compiled kernel for states of this dtype and device."""
    kind = dtype is torch.float32 and device.type == "cpu" and len(blocks) > 0
    return kind and all(getattr(b, "fusable", False) for b in blocks) and compiled(blocks) is not None


def shapes_match(block: Any, h_BLD: Tensor) -> bool:
    """Whether a state has the width and length of a block, and the block's weights the expected shapes and dtype.

    Weights need not be contiguous: they are copied.
    """
    nodes, width, _ = block.shape
    _, length, channels = h_BLD.shape
    return (
        channels == nodes * width
        and block.places in (None, length)
        and 0 < length * channels < LARGEST
        and all(is_plain_float32(w) and w.shape == size for w, size in zip(block.weights, block.layout, strict=True))
    )


def is_plain_float32(t: Tensor) -> bool:
    """Whether a tensor is a plain strided float32 CPU tensor."""
    kind = t.dtype is torch.float32 and t.is_cpu and t.layout is torch.strided
    return kind and type(t) in TENSORS and not t.is_neg()


def broadcasts(small: torch.Size, large: torch.Size) -> bool:
    return len(small) <= len(large) and all(s in (1, n) for s, n in zip(small[::-1], large[::-1], strict=False))


def compiled(blocks: Blocks) -> Any:
    """The compiled library for blocks of this shape: see `library`."""
    return library(*blocks[0].shape)


@functools.cache
def library(nodes: int, width: int, inner: int) -> ctypes.CDLL | None:
    """orbits.cpp for a shape; None where `compile_file` gives none, or no vector fits the shape."""
    if width % 8 or inner % 8:
        return None
    found = compile_file(SOURCE, f"-DN={nodes}", f"-DD={width}", f"-DE={inner}")
    return None if found is None else with_signatures(found)


def compile_file(source: Path, *defines: str) -> ctypes.CDLL | None:
    """A C++ file as a library, from the cache or compiled into it; None without a compiler, or if it fails."""
    compiler = shutil.which("g++") or shutil.which("clang++")
    if os.environ.get(SWITCH) == "0" or compiler is None:
        return None
    flags = [*FLAGS, *defines]
    told = "\n".join([source.read_text(), HEADER.read_text(), compiler, *flags, cpu_flags()])
    name = f"{source.stem}-{hashlib.sha256(told.encode()).hexdigest()[:16]}"
    try:
        where, why = folder()
        found = cached_library(where, name) if where else None
        if found is not None:
            return ctypes.CDLL(str(found))
        return build_library([compiler, *flags, str(source)], where, name, why)
    except (OSError, subprocess.SubprocessError) as e:
        said = e.stderr if isinstance(e, subprocess.CalledProcessError) else e
        warnings.warn(f"these blocks are not compiled, and slower for it: {str(said)[:400]}", stacklevel=3)
        return None


def cached_library(where: Path, name: str) -> Path | None:
    """The library in the cache: NAME-HASH.so whose bytes have that hash. Damaged files of that name are deleted.

    A truncated library would crash the process when used.
    """
    for path in sorted(where.glob(f"{name}-*.so")):
        with contextlib.suppress(InputError, OSError):  # an unreadable file may be intact
            if path.stem == f"{name}-{digest(files.read_bytes(path))}":
                return path
            path.unlink()
    return None


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def build_library(command: list[str], where: Path | None, name: str, why: str) -> ctypes.CDLL:
    """Compile and load the library: into the cache, or a temporary folder if there is none."""
    with tempfile.TemporaryDirectory(prefix="innerloop-") as own:
        new = Path(own) / f"{name}.so"
        subprocess.run([*command, "-o", str(new)], capture_output=True, text=True, check=True, timeout=SECONDS)
        data = new.read_bytes()
        if where is not None:
            path = where / f"{name}-{digest(data)}.so"
            try:
                files.write_bytes(path, data)
                return ctypes.CDLL(str(path))
            except (InputError, OSError) as e:
                why = str(e)
        warnings.warn(
            f"compiled blocks are not kept, and every start compiles them anew ({why}): "
            "let XDG_CACHE_HOME name a folder that can be written",
            stacklevel=4,
        )
        return ctypes.CDLL(str(new))  # once loaded, the file may be deleted


def with_signatures(found: ctypes.CDLL) -> ctypes.CDLL:
    loop, pointer, ends = ctypes.POINTER(Loop), ctypes.c_void_p, [ctypes.c_long, ctypes.c_int]
    found.forward.argtypes, found.forward.restype = [loop, *[pointer] * 5, *ends], ctypes.c_bool
    found.backward.argtypes, found.backward.restype = [loop, *[pointer] * 8, *ends], ctypes.c_bool
    return found


@functools.cache
def openmp_entry() -> int | None:
    """Address of GOMP_parallel in torch's own libgomp; None if torch ships none."""
    for path in sorted(Path(torch.__file__).parent.glob("lib/libgomp*")):
        return ctypes.cast(ctypes.CDLL(str(path)).GOMP_parallel, ctypes.c_void_p).value
    return None


def folder() -> tuple[Path | None, str]:
    """(the cache folder, innerloop/ in the user's cache, ""), or (None, why there is none)."""
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "innerloop", ""
    except RuntimeError as e:  # no HOME and unknown user
        return None, str(e)


def cpu_flags() -> str:
    """CPU features, which -march=native depends on, since machines may share a cache folder."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next((line for line in lines if line.startswith(("flags", "Features"))), "")
    except OSError:
        return ""


def block_struct(block: Any, places: int, weights: Sequence[Tensor]) -> Block:
    """The C struct of a block. It points into the weights and the block's buffers."""
    symbols, lines, near = map(block.messages._modules.get, ("symbols", "lines", "near"))
    what = Block(places=places, symbols=symbols is not None, near=near is not None)
    if near is not None:
        what.prefix, (what.rows, what.columns), what.along = near.prefix, near.grid, near.along
    if lines is not None:
        what.kinds = len(lines.kinds)
        for name in LINES:
            setattr(what, name, getattr(lines, name).data_ptr())
    what.kept = (ctypes.c_void_p * len(weights))(*(w.data_ptr() for w in weights))
    what.weights = ctypes.addressof(what.kept)
    return what


def loop(blocks: Blocks, h_BLD: Tensor, e_BLD: Tensor | None, rounds: int) -> Tensor | None:
    """`rounds` times all blocks in turn, e added before the first; None if `supports` is False."""
    if not supports(blocks, h_BLD, e_BLD, rounds):
        return None
    weights = [w.contiguous() for block in blocks for w in block.weights]
    h_BLD, e_BLD = h_BLD.contiguous(), None if e_BLD is None else e_BLD.expand_as(h_BLD).contiguous()
    leaves = [h_BLD, *weights] if e_BLD is None else [h_BLD, e_BLD, *weights]
    if torch.is_grad_enabled() and any(t.requires_grad for t in leaves):
        return FusedLoop.apply(blocks, rounds, h_BLD, e_BLD, *weights)  # type: ignore[no-any-return]
    return forward(blocks, rounds, h_BLD, e_BLD, weights)[0]


def loop_struct(blocks: Blocks, rounds: int, places: int, weights: Sequence[Tensor]) -> Loop:
    each = len(weights) // len(blocks)
    parts = [block_struct(b, places, weights[i * each : (i + 1) * each]) for i, b in enumerate(blocks)]
    what = Loop(len(blocks), rounds, (Block * len(blocks))(*parts), openmp_entry())
    what.kept = parts
    return what


def forward(
    blocks: Blocks, rounds: int, h_BLD: Tensor, e_BLD: Tensor | None, weights: Sequence[Tensor], keep: bool = False
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """(state after the loop; with `keep` also outputs (calls, B, L, D) and 1 / rms (calls, B, L), else None)."""
    z_BLD, every, inverse = torch.empty_like(h_BLD), None, None
    if keep:
        every = h_BLD.new_empty(rounds * len(blocks), *h_BLD.shape)
        inverse = every.new_empty(every.shape[:-1])
    what = loop_struct(blocks, rounds, h_BLD.shape[1], weights)
    threads = torch.get_num_threads()
    check_memory(compiled(blocks).forward(what, *map(_at, (h_BLD, e_BLD, z_BLD, every, inverse)), len(h_BLD), threads))
    return z_BLD, every, inverse


def backward(
    blocks: Blocks, rounds: int, saved: Sequence[Tensor | None], dz: Tensor, weights: Sequence[Tensor]
) -> tuple[Tensor | None, ...]:
    """Gradients of h, e (or None) and each weight, from saved (h, e, outputs, 1 / rms) and the gradient of z."""
    sizes, dz = [w.numel() for w in weights], dz.contiguous()
    dh, de = torch.empty_like(dz), None if saved[1] is None else torch.zeros_like(dz)
    threads = torch.get_num_threads()
    grads = torch.zeros(threads, sum(sizes), dtype=torch.float32)
    what = loop_struct(blocks, rounds, dz.shape[1], weights)
    check_memory(compiled(blocks).backward(what, *map(_at, (*saved, dz, dh, de, grads)), len(dz), threads))
    return dh, de, *(g.view_as(w) for g, w in zip(grads.sum(0).split(sizes), weights, strict=True))


def _at(t: Tensor | None) -> int | None:
    return None if t is None else t.data_ptr()


def check_memory(enough: bool) -> None:
    if not enough:
        raise RuntimeError("not enough memory: the compiled blocks need room for every thread; take a smaller batch")


class FusedLoop(torch.autograd.Function):
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
        again = loop_plain(ctx.blocks, ctx.rounds, h_BLD, e_BLD, weights)  # create_graph=True: differentiable backward
        leaves = [t for t in (h_BLD, e_BLD, *weights) if t is not None and t.requires_grad]
        grads = iter(torch.autograd.grad(again, leaves, dz, create_graph=True))
        given = (h_BLD, e_BLD, *weights)
        return None, None, *(next(grads) if t is not None and t.requires_grad else None for t in given)


def loop_plain(blocks: Blocks, rounds: int, h_BLD: Tensor, e_BLD: Tensor | None, weights: Sequence[Tensor]) -> Tensor:
    """`loop` in its plain form, as a function of the given weights, for second derivatives."""
    each = len(weights) // len(blocks)
    with plain():
        for _ in range(rounds):
            h_BLD = h_BLD if e_BLD is None else h_BLD + e_BLD
            for i, block in enumerate(blocks):
                named = zip((n for n, _ in block.named_parameters()), weights[i * each : (i + 1) * each], strict=True)
                h_BLD = torch.func.functional_call(block, dict(named), h_BLD)
    return h_BLD
