"""Peak memory of a training step: against plain eager, and with four times as many untaped cycles.

    python benchmarks/memory.py --out results/memory_cpu.json

Each case is a process of its own; what counts is its largest resident size, torch itself included.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import torch
from step import MODELS, Learner, Plain

from innerloop.files import write_json
from innerloop.runs.certificate import birth_certificate


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # MiB


def one(kind: str, name: str, cycles: int) -> None:
    """Two steps of one model; prints its peak in MiB."""

    def make(dtype: str) -> torch.nn.Module:
        model = MODELS[name](dtype)
        return type(model)(replace(model.c, cycles=cycles))

    cpu = torch.device("cpu")
    learner = {"plain": Plain, "ours": Learner}[kind](make, "bfloat16", 16, cpu, "on" if kind == "ours" else "off")
    learner.step()
    learner.step()
    print(peak())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--one", nargs=3)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    if args.one:
        return one(args.one[0], args.one[1], int(args.one[2]))
    rows = []
    for name, base in (("trm", 3), ("hrm", 2)):
        for kind, cycles in (("plain", base), ("ours", base), ("ours", 4 * base)):
            command = [sys.executable, __file__, "--one", kind, name, str(cycles)]
            out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            rows.append({"system": name, "kind": kind, "cycles": cycles, "peak_mib": float(out.split()[-1])})
            print(rows[-1], flush=True)
    if args.out:
        write_json(args.out, {"born": birth_certificate([0]), "rows": rows})
    return None


if __name__ == "__main__":
    main()
