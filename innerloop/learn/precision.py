"""A process set up to think on a CPU: float32 products by the faster kernel where it is as exact, memory kept.

Only programs change their process: the verbs of the command line, the server and the scripts of benchmarks/ call
`prepare`. No function of the library does; a program of your own may call it too, once, before it trains or evaluates.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch

from innerloop import memory

TOLERANCE = 4.0  # error allowed, as a multiple of the default kernel's own against float64


def error(precision: str) -> float:
    """Relative error of one float32 product (256 x 512) (512 x 512) against float64 under this precision setting."""
    draw = torch.Generator().manual_seed(0)
    x, w = torch.randn(256, 512, generator=draw), torch.randn(512, 512, generator=draw)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        exact = x.double() @ w.double()
        return float(((x @ w).double() - exact).norm() / exact.norm())
    finally:
        torch.set_float32_matmul_precision(before)


@lru_cache
def fast_float32() -> str:
    """Let float32 products use oneDNN ("medium") where that is still float32; returns what was done and why.

    On AMD CPUs torch's default (MKL) runs below half of what the cores can do and oneDNN is exact; on CPUs with matrix
    units for bfloat16 the same setting rounds, which this finds out by comparing with float64. It decides by the error
    alone, so that a resumed run computes as the first did. benchmarks/float32.py has the speeds.
    """
    default, medium = error("highest"), error("medium")
    if medium > TOLERANCE * default:
        return f"float32 products stay with torch's default: oneDNN would round here (error {medium:.0e})"
    torch.set_float32_matmul_precision("medium")
    return f"float32 products use oneDNN: as exact as the default here (error {medium:.0e} against {default:.0e})"


def prepare(loop: Any, device: torch.device | str) -> str:
    """Set this whole process up for `loop` on `device`: what was done about float32, or an empty text.

    It lets torch choose oneDNN for float32 products where that is as exact, and glibc keep freed memory.
    """
    if torch.device(device).type != "cpu":
        return ""
    memory.keep()
    return fast_float32() if getattr(loop, "dtype", None) == torch.float32 else ""
