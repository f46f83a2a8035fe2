"""Fused C++ kernel for nets of attention blocks that read from a cache on a CPU: decode.cpp, compiled on first use.

A token takes about 60 small operations a layer, which cost more than their arithmetic. Calls that the kernel does not
support use the plain PyTorch form, which gives the same values but for rounding (tests/parts/test_fused_decode.py).
Shapes: B rows, P places of each that are read now, D width, E head width.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from innerloop.parts import fused
from innerloop.parts.attention import PLAIN_LENGTH, Attention, AttentionContext, Reading
from innerloop.parts.layers import Linear, SwiGLU

SOURCE = Path(__file__).with_name("decode.cpp")
SIZES = ("layers", "width", "heads", "inner", "length", "seen", "before", "after", "last")
NORMS = {"pre": (1, 0), "post": (0, 1), "sandwich": (1, 1), "magic": (1, 0)}  # norms before a branch, after its sum
DONE, OUTSIDE = 0, 1  # what decode returns; else there was no memory for it
HEADS = (8, 16, 24, 32, 48, 64)  # E that decode.cpp is compiled for


class Block(ctypes.Structure):
    """struct Block of decode.cpp."""

    _fields_ = [(name, ctypes.c_void_p) for name in ("qkv", "out", "up", "down", "k", "v")]


class Net(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_int) for name in SIZES),
        ("blocks", ctypes.POINTER(Block)),
        *((name, ctypes.c_void_p) for name in ("cos", "sin", "parallel")),
    ]


@functools.cache
def library() -> ctypes.CDLL | None:
    """decode.cpp, from the cache or compiled into it; None where fused.compile_file gives none."""
    found = fused.compile_file(SOURCE)
    if found is not None:
        pointers = [ctypes.c_void_p] * 5
        found.decode.argtypes = [ctypes.POINTER(Net), *pointers, ctypes.c_long, ctypes.c_int, ctypes.c_int]
        found.decode.restype = ctypes.c_int
        found.draw.argtypes, found.draw.restype = [*pointers, ctypes.c_long, ctypes.c_int], None
    return found


def decode(net: nn.Module, kind: type[nn.Module], x_BPD: Tensor, context: AttentionContext) -> Tensor | None:
    """What a net makes of the places at hand, whose keys and values it puts into the cache; None if not supported.

    kind  the class of its blocks; other classes are not supported, nor are those derived from it
    """
    reading = context.reading
    if reading is None or reading.cache is None or not supports(x_BPD, context, reading) or library() is None:
        return None
    plan = plans.get(net)
    if plan is None or not plan.holds():
        plans.pop(net, None)
        plan = plan_of(net, kind)
        if plan is None:
            return None
        plans[net] = plan
    if x_BPD.shape[-1] != plan.width or plan.length < reading.cache.length:
        return None
    slots = reading.cache.slots(len(plan.blocks), plan.heads, plan.width // plan.heads)
    return None if slots is None else plan.run(x_BPD.contiguous(), reading, slots)


def supports(x_BPD: Tensor, context: AttentionContext, reading: Reading) -> bool:
    """Whether a call is supported, the net aside: float32 on a CPU, no gradient, mask and memory those of the cache."""
    cache = reading.cache
    return (
        fused.allowed
        and cache is not None
        and context.mask is None
        and context.memory == cache.swap
        and context.places is cache.places
        and not torch.is_grad_enabled()
        and not torch.compiler.is_compiling()
        and fused.is_plain_float32(x_BPD)
        and x_BPD.dim() == 3
        and 0 < len(x_BPD) == cache.rows
        and x_BPD.shape[:2] == cache.places.shape == reading.first.shape == reading.last.shape
        and 0 < x_BPD.shape[1] <= PLAIN_LENGTH
        and reading.first.dtype == reading.last.dtype == cache.places.dtype == torch.int64
        and fused.runs_plainly()
    )


class Plan:
    """A net as the kernel sees it, valid while the net `holds` the same modules and weights, without hooks."""

    def __init__(self, net: Any) -> None:
        first, modules = net.blocks[0], list(net.modules())
        self.width, inner = first.mlp.down.weight.shape
        self.heads, self.norms = first.mix.heads, (*NORMS[first.norm], net.magic)
        self.sizes = (len(net.blocks), self.width, self.heads, inner)
        self.tables = (first.mix.cos, first.mix.sin) if first.mix.rope else ()
        self.rope = [t.data_ptr() for t in self.tables] or [None, None]
        self.length = len(self.tables[0]) if self.tables else fused.LARGEST
        self.hooks = [hooks for m in modules[1:] for hooks in (m._forward_hooks, m._forward_pre_hooks)]
        self.members = [d.values() for m in modules for d in (m._modules, m._parameters, m._buffers) if d]
        self.ids = [*map(id, chain.from_iterable(self.members))]
        self.tensors = [*net.parameters(), *net.buffers()]
        self.pointers = [*map(Tensor.data_ptr, self.tensors)]
        self.blocks = [[linear.weight.data_ptr() for linear in linears_of(block)] for block in net.blocks]

    def holds(self) -> bool:
        same = self.ids == [*map(id, chain.from_iterable(self.members))]
        return same and self.pointers == [*map(Tensor.data_ptr, self.tensors)] and not any(self.hooks)

    def run(self, x_BPD: Tensor, reading: Reading, slots: Sequence[tuple[Tensor, ...]]) -> Tensor:
        cache: Any = reading.cache
        z_BPD = torch.empty_like(x_BPD)
        blocks = (Block * len(slots))()  # of this call: calls in several threads have caches of their own
        for (qkv, out, up, down), (k, v), block in zip(self.blocks, slots, blocks, strict=True):
            block.__init__(qkv, out, up, down, k.data_ptr(), v.data_ptr())  # type: ignore[misc]
        rows, places, _ = x_BPD.shape
        what = Net(*self.sizes, cache.room, cache.width, *self.norms, blocks, *self.rope, fused.openmp_entry())
        ends = [t.contiguous() for t in (cache.places, reading.first, reading.last)]
        given = [t.data_ptr() for t in (x_BPD, z_BPD, *ends)]
        kernel: Any = library()
        found = kernel.decode(what, *given, rows, places, torch.get_num_threads())
        if found == OUTSIDE:
            raise IndexError(f"places lie outside the {cache.room} that this cache has memory for")
        fused.check_memory(found == DONE)
        return z_BPD


plans: WeakKeyDictionary[nn.Module, Plan] = WeakKeyDictionary()


def plan_of(net: Any, kind: type[nn.Module]) -> Plan | None:
    """The plan of a net; None unless its blocks are of one shape, and they and their parts just what they are named."""
    if not net.blocks or not all(is_plain(block, kind) for block in net.blocks):
        return None
    first, *others = net.blocks
    if any(shape_of(block) != shape_of(first) for block in others):
        return None
    width, inner = first.mlp.down.weight.shape
    shapes = [tuple(linear.weight.shape) for linear in linears_of(first)]
    right = [(3 * width, width), (width, width), (2 * inner, width), (width, inner)]
    if shapes != right or width % first.mix.heads or width // first.mix.heads not in HEADS:
        return None
    tables = (first.mix.cos, first.mix.sin) if first.mix.rope else ()
    return Plan(net) if all(fused.is_plain_float32(t) and t.is_contiguous() for t in tables) else None


def linears_of(block: Any) -> tuple[Linear, ...]:
    return block.mix.qkv, block.mix.out, block.mlp.up, block.mlp.down


def shape_of(block: Any) -> tuple[Any, ...]:
    return block.norm, block.mix.heads, block.mix.rope, [linear.weight.shape for linear in linears_of(block)]


def is_plain(block: Any, kind: type[nn.Module]) -> bool:
    """Whether a block and its parts are of just these classes, without hooks, their weights plain float32."""
    if type(block) is not kind or type(block.mix) is not Attention or type(block.mlp) is not SwiGLU:
        return False
    linears = linears_of(block)
    return not any(has_hooks(m) for m in (block, block.mix, block.mlp, *linears)) and all(
        type(m) is Linear and m.bias is None and fused.is_plain_float32(m.weight) and m.weight.is_contiguous()
        for m in linears
    )


def has_hooks(module: nn.Module) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks)


def draw(logits_BV: Tensor, temperature_B: Tensor, u_B: Tensor) -> tuple[Tensor, Tensor] | None:
    """lm.decoding.draw without a nucleus; None if it is not supported."""
    given = [t.contiguous() for t in (logits_BV, temperature_B, u_B)]
    if not fused.allowed or not all(map(fused.is_plain_float32, given)) or torch.is_grad_enabled():
        return None
    rows, vocab = logits_BV.shape
    kernel = library() if fused.runs_plainly() and not torch.compiler.is_compiling() else None
    if kernel is None or vocab < 2 or not len(temperature_B) == len(u_B) == rows:
        return None
    token_B, logprob_B = torch.empty(rows, dtype=torch.long), torch.empty(rows)
    kernel.draw(*[t.data_ptr() for t in (*given, token_B, logprob_B)], rows, vocab)
    return token_B, logprob_B
