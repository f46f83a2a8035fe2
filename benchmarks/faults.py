"""What keeping freed memory saves (innerloop/memory.py): seconds and page faults of batched inference, in turns.

python benchmarks/faults.py --threads 1 --out results/faults.json
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from subject import of_model

from innerloop import files, memory, pretrained
from innerloop.learn.evaluate import evaluate
from innerloop.learn.precision import prepare
from innerloop.runs.certificate import birth_certificate


def once(name: str, rows: int, depth: int, kept: bool) -> dict[str, Any]:
    """In a process of its own: what is set for one stays set."""
    command = [sys.executable, __file__, "--inner", name, str(rows), str(depth), "kept" if kept else "given back"]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)  # type: ignore[no-any-return]


def inner(name: str, rows: int, depth: int, kept: bool) -> dict[str, Any]:
    if not kept:
        memory.keep = lambda: False  # type: ignore[assignment]
    opened = pretrained.open(name)
    prepare(opened.loop, "cpu")
    puzzles = opened.task.make(rows, 5)
    evaluate(opened.loop, opened.task, puzzles, (1,), batch=rows)
    before, began = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    evaluate(opened.loop, opened.task, puzzles, (depth,), batch=rows)
    seconds, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF)
    return {
        "seconds": seconds, "system_seconds": after.ru_stime - before.ru_stime,
        "faults": after.ru_minflt - before.ru_minflt, "peak_MB": after.ru_maxrss / 1024,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["demo-sudoku6", "demo-sudoku9"])
    parser.add_argument("--rows", type=int, nargs="+", default=[16, 64, 256])
    parser.add_argument("--depth", type=int, default=16)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, default=Path("results/faults.json"))
    args = parser.parse_args()
    table = []
    for name in args.models:
        for rows in args.rows:
            pairs = [
                (once(name, rows, args.depth, True), once(name, rows, args.depth, False)) for _ in range(args.repeat)
            ]
            ratios = [given["seconds"] / kept["seconds"] for kept, given in pairs]
            row: dict[str, Any] = {"model": name, "rows": rows, "faster": statistics.median(ratios)}
            row |= {"from": min(ratios), "to": max(ratios)}
            for i, what in enumerate(("kept", "given back")):
                for key in ("faults", "peak_MB"):
                    row[f"{key}, {what}"] = statistics.median(p[i][key] for p in pairs)
            table.append(row)
            print({k: round(v, 2) if isinstance(v, float) else v for k, v in row.items()}, flush=True)
    value = {"subjects": [of_model(pretrained.open(name)) for name in args.models], "depth": args.depth}
    files.write_json(args.out, value | {"born": birth_certificate([5]), "rows": table})


if __name__ == "__main__":
    if "--inner" in sys.argv:
        torch.set_num_threads(1)
        _, _, name_, rows_, depth_, kept_ = sys.argv
        print(json.dumps(inner(name_, int(rows_), int(depth_), kept_ == "kept")))
    else:
        main()
