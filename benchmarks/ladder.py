"""The ladder: what each factor of a recipe is worth per training FLOP, on rungs small enough for a CPU.

    python benchmarks/ladder.py --workers 2 --out results/ladder.jsonl                    every factor, rung and seed
    python benchmarks/ladder.py --factors base muon --rungs sudoku6 --seeds 0             some of them
    python benchmarks/ladder.py --halving --out runs/halving.jsonl                        quick: the better half goes on
    python benchmarks/ladder.py --table results/ladder.jsonl                              what is known so far

Every (rung, factor, seed) is trained for the same training FLOPs, counted; a factor that makes a step dearer gets fewer
steps. A row holds the validated accuracy over FLOPs, the FLOPs to fixed accuracies, and the accuracy on unseen
puzzles at 1 to 32 times the trained depth. Rows are appended as they are done, and what is in --out is not done again.
A factor is a name and what of the base recipe it changes: add a line to FACTORS.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from innerloop import weights
from innerloop.learn import checkpoint
from innerloop.learn.evaluate import evaluate
from innerloop.learn.plan import Plan
from innerloop.learn.supervise import Halting
from innerloop.learn.train import train
from innerloop.parts.size import Size
from innerloop.recipes.cost import training_flops
from innerloop.recipes.run import Data, Run, birth_certificate, build, commit, override, unseen

CHECKS = 12  # validations over a training
LEVELS = (0.5, 0.8, 0.9, 0.95, 0.98)
TIMES = (1, 2, 4, 8, 16, 32)  # the trained depth; a cell of less than the whole FLOPs is judged at the first three
FEW = 100  # puzzles judged from eight times the trained depth on


@dataclass(frozen=True)
class Rung:
    """A task of the ladder, the block that suits it, and what a training may spend."""

    data: Data
    mix: str
    width: int
    tera: float  # training FLOPs, in 10^12


RUNGS = {
    "sudoku6": Rung(Data("sudoku", {"size": 6, "givens": (8, 12)}, count=4000, holdout=300), "units", 64, 1.0),
    "sudoku9": Rung(Data("sudoku", {"size": 9, "givens": (24, 36)}, count=4000, holdout=300), "units", 64, 5.0),
    "maze11": Rung(Data("maze", {"size": 11, "kind": "perfect"}, count=6000, holdout=300), "conv", 48, 6.0),
    "maze15": Rung(Data("maze", {"size": 15, "kind": "perfect"}, count=6000, holdout=200), "conv", 48, 12.0),
}

FACTORS: dict[str, list[str]] = {
    "base": [],
    # known from the literature: the ladder must rank them as the literature does
    "one-step gradient": ["config.tape=last(1)"],
    "no averaging": ["plan.ema=0"],
    "halting in training": ["plan.halting.learned=true", "plan.halting.explore=0.1", "plan.halting.spread=false"],
    "no augmentation": ["plan.augment=false"],
    # what a step is
    "fewer thoughts": ["config.thoughts=2"],
    "more thoughts": ["config.thoughts=8"],
    "two cycles": ["config.cycles=2", "config.thoughts=3"],
    "two layers": ["config.size.layers=2", "config.thoughts=2"],
    "narrow inner": ["config.size.expansion=1.5"],
    "wide inner": ["config.size.expansion=5"],
    "pre norm": ["config.size.norm=sandwich"],
    # what is learned from
    "long lives": ["plan.halting.max_steps=16"],
    "short lives": ["plan.halting.max_steps=4"],
    "all spread": ["plan.halting.brief=0"],
    "mostly brief": ["plan.halting.brief=0.8"],
    "batch 16": ["plan.batch=16"],
    "batch 64": ["plan.batch=64"],
    # how
    "half the rate": ["plan.lr=1.5e-3"],
    "twice the rate": ["plan.lr=6e-3"],
    "muon": ["plan.optimizer=muon", "plan.lr=1e-3"],
    "fast muon": ["plan.optimizer=muon", "plan.lr=3e-3"],
    "adam-atan2": ["plan.optimizer=adam_atan2", "plan.lr=1e-3"],
    "stablemax": ["plan.loss=stablemax"],
    "no decay": ["plan.weight_decay=0"],
    "decay 1": ["plan.weight_decay=1.0"],
    "short memory": ["plan.ema=0.98"],
}
SYSTEMS = {
    "orbit": {"cycles": 1, "thoughts": 5},
    "orbit, slips": {"cycles": 1, "thoughts": 5, "slips": 0.3},
    "hrm": {"cycles": 2, "low_cycles": 2},
    "eqr": {"cycles": 1, "thoughts": 5},
    "urm": {"loops": 8, "tape": "last(6)"},
}


def recipe(rung: str, factor: str, seed: int, share: float = 1.0) -> tuple[Run, int]:
    """The Run of one cell of the table, and its FLOPs an example and optimizer step."""
    r = RUNGS[rung]
    system, changes = (factor.split(",")[0], []) if factor in SYSTEMS else ("trm", FACTORS[factor])
    size = Size(width=r.width, heads=2, layers=1, expansion=3.0, multiple=4, mix=r.mix, positions="none",
                prefix=0, puzzle_width=0, pool="mean")  # fmt: skip
    config = weights.get(system)[1](size=size, dtype="float32", **SYSTEMS.get(factor, {"cycles": 1, "thoughts": 5}))
    halting = Halting(max_steps=8, learned=False, explore=0.0, spread=True, brief=0.5)
    plan = Plan(
        steps=1000, batch=32, optimizer="adamw", lr=3e-3, weight_decay=0.1, clip=1.0, ema=0.995, loss="softmax",
        halting=halting, compile="off",
    )  # fmt: skip
    run = override(Run(f"{rung}-{factor}", system, config, r.data, plan, seed=seed), changes)
    fitted = build(replace(run, data=replace(run.data, count=8, holdout=4))).run  # with the sizes of its task
    flops = training_flops(fitted)
    steps = max(CHECKS, round(share * r.tera * 1e12 / (flops * run.plan.batch)))
    every = -(-steps // CHECKS)
    ema = min(run.plan.ema, 1 - 10 / steps) if run.plan.ema else 0.0
    horizon = {"steps": steps, "warmup": max(1, steps // 20), "ema": ema, "check_every": every, "save_every": 10**9}
    return replace(run, plan=replace(run.plan, **horizon, depths=(run.plan.deepest,))), flops


def one(rung: str, factor: str, seed: int, share: float, limit: int) -> dict[str, Any]:
    """Train and judge one cell, on one thread."""
    torch.set_num_threads(1)
    run, flops = recipe(rung, factor, seed, share)
    built = build(run)
    curve: list[list[float]] = []
    with tempfile.TemporaryDirectory() as folder:
        see = lambda step, rows: curve.append([step * run.plan.batch * flops / 1e12, rows[-1].valid])  # noqa: E731
        began = time.process_time()
        result = train(
            built.loop, built.task, built.train, run.plan, folder, validation=built.validation, seed=seed, live=False,
            on_check=see,
        )  # fmt: skip
        cpu = time.process_time() - began
        if result.best:
            checkpoint.load_weights(Path(folder) / checkpoint.MODEL, built.loop)
    built.loop.eval()
    depth = run.plan.deepest
    test = unseen(built.task, built.train, run.data, limit)
    near, far = [t for t in TIMES if t < 8], [t for t in TIMES if t >= 8 and share >= 1]
    judged = [
        row.valid
        for times, puzzles in ((near, test), (far, test.take(slice(FEW))))[: 1 + bool(far)]
        for row in evaluate(built.loop, built.task, puzzles, [t * depth for t in times], batch=256)
    ]
    return {
        "rung": rung, "factor": factor, "seed": seed, "share": share,
        "tera": run.plan.steps * run.plan.batch * flops / 1e12,
        "parameters": sum(p.numel() for p in built.loop.parameters()), "MFLOP": flops / 1e6, "steps": run.plan.steps,
        "seconds": result.seconds, "cpu_seconds": cpu, "stopped": result.stopped, "best": result.best.get("valid"),
        "trained_depth": depth, "accuracy": dict(zip(map(str, near + far), judged, strict=True)), "curve": curve,
        "to": {str(level): reached(curve, level) for level in LEVELS}, "commit": commit(),
    }  # fmt: skip


def reached(curve: list[list[float]], level: float) -> float | None:
    """10^12 FLOPs at which the accuracy first reached `level`, between validations by a straight line."""
    before = [0.0, 0.0]
    for at, value in curve:
        if value >= level:
            return before[0] + (at - before[0]) * (level - before[1]) / max(value - before[1], 1e-9)
        before = [at, value]
    return None


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines() if line] if path.exists() else []


def fill(args: argparse.Namespace, factors: list[str], share: float, seeds: list[int]) -> list[dict[str, Any]]:
    """Every cell asked for, done or fetched; as many at once as there are workers."""
    rows = read(args.out)
    known = {(r["rung"], r["factor"], r["seed"], r["share"]) for r in rows}
    cells = [(rung, factor, seed, share) for seed in seeds for rung in args.rungs for factor in factors]
    todo = [cell for cell in cells if cell not in known]
    for row in spread(todo, args):
        row["born"] = birth_certificate([row["seed"]])
        args.out.parent.mkdir(parents=True, exist_ok=True)
        with args.out.open("a") as file:
            file.write(json.dumps(row) + "\n")
        rows.append(row)
        told = {k: round(v, 3) for k, v in row["accuracy"].items()}
        at = row["to"]["0.9"]
        print(
            f"{row['rung']} {row['factor']} seed {row['seed']}: {row['seconds']:.0f} s, 90 % at {at}, {told}",
            flush=True,
        )
    return [r for r in rows if r["share"] == share and r["factor"] in factors and r["rung"] in args.rungs]


def spread(cells: list[tuple[str, str, int, float]], args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """The rows of these cells in whatever order they are done: on the cores of this machine, or of many by ray."""
    if args.ray:
        import ray

        ray.init(address=args.ray, log_to_driver=False)
        remote = ray.remote(num_cpus=1)(one)
        waiting = [remote.remote(*cell, args.limit) for cell in cells]
        while waiting:
            (done,), waiting = ray.wait(waiting)
            yield ray.get(done)
    elif args.workers == 1:
        yield from (one(*cell, args.limit) for cell in cells)
    else:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(args.workers, context) as pool:
            for done in as_completed([pool.submit(one, *cell, args.limit) for cell in cells]):
                yield done.result()


def errors(row: dict[str, Any]) -> float:
    """Share of unseen puzzles that are wrong at the trained depth, never quite none."""
    return max(1 - row["accuracy"]["1"], 0.5 / FEW)


def score(rows: list[dict[str, Any]], factor: str) -> float:
    """Errors against the base's of the same rung and seed: the geometric mean of their ratio, less is better."""
    base = {(r["rung"], r["seed"]): errors(r) for r in rows if r["factor"] == "base"}
    mine = [
        errors(r) / base[r["rung"], r["seed"]] for r in rows if r["factor"] == factor and (r["rung"], r["seed"]) in base
    ]
    return statistics.geometric_mean(mine) if mine else float("nan")


def show(rows: list[dict[str, Any]]) -> None:
    """One line a factor, best first: errors against the base, and accuracy by rung."""
    factors = sorted({r["factor"] for r in rows}, key=lambda f: score(rows, f))
    rungs = list(dict.fromkeys(r["rung"] for r in rows))
    print(f"{'factor':22} {'errors':>7}  " + "  ".join(f"{r:>24}" for r in rungs))
    for factor in factors:
        cells = []
        for rung in rungs:
            mine = [r for r in rows if r["factor"] == factor and r["rung"] == rung]
            shown = [t for t in ("1", "8", "32") if mine and t in mine[0]["accuracy"]]
            at = [statistics.mean(r["accuracy"][t] for r in mine) for t in shown]
            cells.append(f"{' '.join(f'{100 * a:6.1f}' for a in at)} n{len(mine)}".rjust(24))
        print(f"{factor:22} {score(rows, factor):7.2f}  " + "  ".join(cells))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--factors", nargs="+", default=[*FACTORS, *SYSTEMS])
    parser.add_argument("--rungs", nargs="+", default=list(RUNGS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--share", type=float, default=1.0, help="of every rung's training FLOPs")
    parser.add_argument(
        "--halving", action="store_true", help="a quarter of the FLOPs for all, half for the better half"
    )
    parser.add_argument("--limit", type=int, default=300, help="test puzzles")
    parser.add_argument("--workers", type=int, default=1, help="cells trained at once, each on one thread")
    parser.add_argument("--ray", default="", help="the address of a ray cluster to train on instead")
    parser.add_argument("--table", type=Path, help="show this file, and stop")
    parser.add_argument("--out", type=Path, default=Path("results/ladder.jsonl"))
    args = parser.parse_args()
    if args.table:
        return show(read(args.table))
    factors = args.factors
    for share in (args.share / 4, args.share / 2) if args.halving else ():
        rows = fill(args, list(dict.fromkeys(["base", *factors])), share, args.seeds[:1])
        show(rows)
        factors = sorted(factors, key=lambda f: score(rows, f))[: max(2, len(factors) // 2)]
    show(fill(args, list(dict.fromkeys(["base", *factors])), args.share, args.seeds))


if __name__ == "__main__":
    main()
