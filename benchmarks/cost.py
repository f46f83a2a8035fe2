"""Cost of inference: time over depth, batch, width, length and trajectories, and where it is linear.

    python benchmarks/cost.py --out results/cost_cpu.json        # two minutes

Orbit, untrained, on empty boards: no answer is looked at. Each curve changes one thing of a base (9x9 Sudoku, 16
channels a symbol, 32 boards, 8 steps, one trajectory); a point is the median of --turns, all points of a curve in
turns. The exponent is that of a power law through the last two points: 1 is linear. `memory` counts the bytes that
autograd holds after one step of training, by how many of its calls are on the tape; `processes` is torchrun's over one
and two of them.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from innerloop import tasks
from innerloop.core import Question, think
from innerloop.files import write_json
from innerloop.learn.precision import fast_float32
from innerloop.noise import salted
from innerloop.recipes.sudoku import sized
from innerloop.runs.certificate import birth_certificate
from innerloop.runs.fit import fit_config
from innerloop.weights.orbit import Orbit

BASE = {"depth": 8, "batch": 32, "node width": 16, "cells": 81, "trajectories": 1}
CURVES: dict[str, list[int]] = {
    "depth": [1, 2, 4, 8, 16, 32, 64],
    "batch": [1, 2, 4, 8, 16, 32, 64, 128],
    "node width": [8, 16, 32, 64],
    "cells": [16, 36, 81, 256],
    "trajectories": [1, 2, 4, 8, 16],
}
UNTAPED = (0, 6, 30, 114)  # calls of a step off the tape, before six that are on it


def loop_of(point: dict[str, int], rounds: int = 6, grad: str = "full") -> tuple[Orbit, Question]:
    torch.manual_seed(0)
    size = math.isqrt(point["cells"])
    task = tasks.get("sudoku", size=size)
    config = replace(sized(point["node width"] * size), rounds=rounds, grad=grad)
    loop = Orbit(replace(config, net=fit_config(config.net, task, 1)))
    rows = point["batch"] * point["trajectories"]
    return loop, Question(torch.ones(rows, point["cells"], dtype=torch.long), torch.zeros(rows, dtype=torch.long))


def thinking(point: dict[str, int]) -> Callable[[], Any]:
    loop, question = loop_of(point)
    loop.eval()
    salt = torch.arange(point["trajectories"]).repeat_interleave(point["batch"])

    @torch.no_grad()
    def go() -> Any:
        return think(loop, question, point["depth"], state=salted(loop.init(question), salt))

    return go


def seconds(go: Callable[[], Any]) -> float:
    began = time.perf_counter()
    go()
    return time.perf_counter() - began


def curve(name: str, turns: int) -> dict[str, Any]:
    points = [thinking(BASE | {name: value}) for value in CURVES[name]]
    for go in points:
        go()
    times = list(zip(*([seconds(go) for go in points] for _ in range(turns)), strict=True))
    medians = [statistics.median(t) for t in times]
    pairs = zip(CURVES[name], medians, strict=True)
    (a, s), (b, t) = list(pairs)[-2:]
    return {"curve": name, "points": CURVES[name], "seconds": medians, "exponent": math.log(t / s) / math.log(b / a)}


def held(untaped: int) -> dict[str, Any]:
    """Bytes saved for the backward pass of one step of which six calls are on the tape."""
    loop, question = loop_of(BASE, rounds=untaped + 6, grad="last(6)")
    seen: dict[int, int] = {}

    def note(t: torch.Tensor) -> torch.Tensor:
        seen[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        return t

    with torch.autograd.graph.saved_tensors_hooks(note, lambda t: t):
        loss = loop.read(loop.step(loop.init(question), question)).logits.square().mean()
    loss.backward()
    return {"untaped calls": untaped, "taped calls": 6, "MiB": sum(seen.values()) / 2**20}


def processes(count: int) -> dict[str, Any]:
    """Seconds of 60 optimizer steps of the demo's recipe at batch 64, on one thread a process."""
    with tempfile.TemporaryDirectory() as folder:
        launch = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={count}", "-m", "innerloop.cli"]
        changes = ["plan.batch=64", "plan.steps=60", "plan.check_every=1000", "data.count=300", "data.holdout=10"]
        command = [*launch, "train", "demo", "--out", f"{folder}/run", "--device", "cpu", "--set", *changes]
        alone = os.environ | {"OMP_NUM_THREADS": "1"}  # torchrun sets it for several processes, not for one
        done = subprocess.run(command, capture_output=True, text=True, env=alone)
        if done.returncode:
            raise RuntimeError(done.stderr[-2000:])
        lines = [json.loads(line) for line in Path(folder, "run", "metrics.jsonl").read_text().splitlines()]
        ends = {line["step"]: line["seconds"] for line in lines if "train/loss" in line}
    return {"processes": count, "seconds of 50 steps": ends[60] - ends[10]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    fast_float32()
    rows: list[dict[str, Any]] = [curve(name, args.turns) for name in CURVES]
    rows += [held(n) for n in UNTAPED] + [processes(n) for n in (1, 2)]
    for row in rows:
        print(row, flush=True)
    if args.out:
        write_json(args.out, {"born": birth_certificate([0]), "base": BASE, "rows": rows})


if __name__ == "__main__":
    main()
