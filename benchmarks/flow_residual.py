"""Does a flow know when it is right? The residual's AUROC for correctness, with and without fixed-point forcing.

    python benchmarks/flow_residual.py --threads 1 --seeds 0 1 2 --out results/flow_residual.json

Trains innerloop.weights.flow on a few 4x4 Sudokus, three ways per seed: a plain flow, one that learns with its last
prediction as a further input (self-conditioning), and one that learns with what its own rollout predicts (fixed-point
forcing). Then it thinks about unseen puzzles, walking time to `hold` and iterating there, and the residual of the last
step is held against whether the answer is right. 0.5 is chance, which is also what a residual of zero everywhere gets.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from innerloop.core import think
from innerloop.files import write_json
from innerloop.learn.precision import prepare
from innerloop.learn.stream import to_batch
from innerloop.learn.train import train
from innerloop.learn.unroll import Unroll
from innerloop.recipes.sudoku import QUICK, SMALL
from innerloop.runs.certificate import birth_certificate
from innerloop.runs.fit import build, unseen_puzzles
from innerloop.runs.run import Data, Run
from innerloop.weights import flow

ARMS = {
    "plain": {"forcing": 0.0},
    "self-conditioned": {"rollout": 1},
    "forced": {"rollout": 8},
}
HOLDS, DEPTH = (0.0, 0.3, 0.9), 16


def auroc(score: Tensor, right: Tensor) -> float:
    """Chance that a right example scores higher than a wrong one, ties counting half; 0.5 where all are alike."""
    wins = (score[right][:, None] > score[~right]).double() + 0.5 * (score[right][:, None] == score[~right]).double()
    return float(wins.mean()) if wins.numel() else 0.5


def measured(arm: str, seed: int, steps: int) -> list[dict[str, Any]]:
    """Train one arm and test it at every time to hold at."""
    size = replace(SMALL, hidden_size=48, heads=2)
    plan = replace(QUICK, steps=steps, batch=64, warmup=20, ema=0.98, unroll=Unroll(depth=1), compile="off")
    data = Data("sudoku", {"size": 4, "givens": (4, 6)}, count=240, holdout=100)
    config = flow.Config(size, dtype="float32", **ARMS[arm])  # type: ignore[arg-type]
    built = build(Run("flow4", "flow", config, data, plan, seed))
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        prepare(built.loop, "cpu")
        train(built.loop, built.task, built.train, plan, folder, seed=seed, live=False)
    seconds, test = time.perf_counter() - began, unseen_puzzles(built.task, built.train, data, 600)
    batch, rows = to_batch(test.inputs, test.labels, test.puzzle, "cpu"), []
    loop = built.loop.eval()
    for hold in HOLDS:
        loop.c = replace(loop.c, hold=hold)
        with torch.no_grad():
            thought = think(loop, batch.question, DEPTH)
        right = (thought.answer.logits.argmax(-1) == batch.labels).all(1)
        row = {"arm": arm, "seed": seed, "hold": hold, "depth": DEPTH, "test_puzzles": len(test)}
        row |= {"exact_share": float(right.float().mean()), "auroc": auroc(-thought.state.r, right)}
        rows.append(row | {"training_seconds": seconds})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=250)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rows: list[dict[str, Any]] = []
    for seed in args.seeds:
        for arm in ARMS:
            rows += measured(arm, seed, args.steps)
            for row in rows[-len(HOLDS) :]:
                print(row, flush=True)
    means = {}
    for arm in ARMS:
        for hold in HOLDS:
            mine = [r for r in rows if (r["arm"], r["hold"]) == (arm, hold)]
            both = {k: [round(r[k], 3) for r in mine] for k in ("exact_share", "auroc")}
            means[f"{arm}, held at {hold}"] = {k: round(statistics.mean(v), 3) for k, v in both.items()}
            print(f"{arm:16} held at {hold}: {means[f'{arm}, held at {hold}']}")
    if args.out:
        train_note = {"puzzles": 240, "task": "4x4 Sudoku, 4 to 6 givens", "steps": args.steps}
        value = {"born": birth_certificate(args.seeds), "rows": rows, "means": means, "training": train_note}
        write_json(args.out, value | {"selection": "last averaged weights; one trajectory; fixed depth"})


if __name__ == "__main__":
    main()
