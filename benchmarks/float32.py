"""Float32 products on this CPU: torch's default against oneDNN, speed and error against float64, taking turns.

python benchmarks/float32.py --out results/float32_cpu.json
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import torch
import torch.nn.functional as F

from innerloop.files import write_json
from innerloop.learn.precision import fast_float32, matmul_error
from innerloop.runs.certificate import birth_certificate

SHAPES = [(1552, 512, 3072), (1552, 1536, 512), (1552, 512, 1536), (2592, 96, 384)]


def speed(precision: str, rows: int, inner: int, outer: int) -> float:
    """GFLOP/s of one product."""
    torch.set_float32_matmul_precision(precision)
    x, w = torch.randn(rows, inner), torch.randn(outer, inner)
    F.linear(x, w)
    began = time.perf_counter()
    for _ in range(5):
        F.linear(x, w)
    return 10 * rows * inner * outer / (time.perf_counter() - began) / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    rows = []
    for shape in SHAPES:
        turns = [(speed("highest", *shape), speed("medium", *shape)) for _ in range(args.turns)]
        slow, fast = (statistics.median(c) for c in zip(*turns, strict=True))
        rows.append({"shape": shape, "default_gflops": slow, "onednn_gflops": fast, "ratio": fast / slow})
        print(f"{shape}: default {slow:.0f}, oneDNN {fast:.0f} GFLOP/s, ratio {fast / slow:.2f}")
    torch.set_float32_matmul_precision("highest")
    errors = {p: matmul_error(p) for p in ("highest", "high", "medium")}
    print(errors, fast_float32())
    if args.out:
        write_json(args.out, {"born": birth_certificate([0]), "rows": rows, "error_against_float64": errors})


if __name__ == "__main__":
    main()
