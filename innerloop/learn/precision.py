"""Process-wide CPU settings: the faster float32 matmul kernel where it is as exact, and reuse of freed memory.

Only the command line, the server and the scripts of benchmarks/ call `prepare`; no library function changes the
process. Your own program may call it once, before it trains or evaluates.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch

from innerloop import memory

TOLERANCE = 4.0  # largest error allowed, as a multiple of the default kernel's, both against float64


def matmul_error(precision: str) -> float:
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
    """Let float32 products use oneDNN ("medium") where that keeps float32 accuracy; returns a sentence for the log.

    On AMD CPUs torch's default (MKL) reaches less than half of the cores' speed and oneDNN is exact. On CPUs with
    bfloat16 matrix units the same setting rounds, which the comparison with float64 shows. The decision depends on the
    error alone, so that a resumed run computes as the first did. Speeds: benchmarks/float32.py.
    """
    default, medium = matmul_error("highest"), matmul_error("medium")
    if medium > TOLERANCE * default:
        return f"float32 products use torch's default: oneDNN rounds on this CPU (error {medium:.0e})"
    torch.set_float32_matmul_precision("medium")
    return f"float32 products use oneDNN: as exact as the default here (error {medium:.0e} against {default:.0e})"


def prepare(loop: Any, device: torch.device | str) -> str:
    """Set process-wide options for `loop` on `device`; returns a sentence about float32 for the log, or "".

    On a CPU: float32 products by oneDNN where that is as exact, and freed memory kept by glibc (innerloop.memory).
    """
    if torch.device(device).type != "cpu":
        return ""
    memory.keep()
    return fast_float32() if getattr(loop, "dtype", None) == torch.float32 else ""
