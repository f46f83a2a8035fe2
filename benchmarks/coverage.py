"""How many of a puzzle's solutions do 20 samples find: TRM, noise on it (PTRM), noise learned with (EqR), GRAM.

    python benchmarks/coverage.py --steps 3000 --seeds 0 1 2 --out results/coverage.json
    python benchmarks/coverage.py --test queens=DATA/rg_nqueens8.jsonl.gz --out results/coverage_queens.json

8x8 N-Queens completion and colouring of graphs of 8 vertices, learned from generated puzzles of which none is a test
puzzle, not even turned or renamed. All systems have one width, block, schedule of cycles, batch and number of optimizer
steps (with --minutes each has its own, of equal time); PTRM is the trained TRM of the same seed. Coverage and validity
as innerloop.study.coverage defines them, on test puzzles of two solutions or more. Every (task, system, seed) that is
done is written to --out at once, and a run that was cut off goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from innerloop import files, tasks
from innerloop.data.leakage import leakage
from innerloop.data.opening import open_set
from innerloop.learn import checkpoint
from innerloop.learn.plan import Plan
from innerloop.learn.precision import prepare
from innerloop.learn.supervise import HaltingConfig
from innerloop.learn.train import Trainer, train
from innerloop.parts.config import NetConfig
from innerloop.runs.certificate import birth_certificate
from innerloop.runs.fit import fit_config
from innerloop.study.coverage import coverage
from innerloop.tasks.colouring import read_graphs
from innerloop.weights import eqr, gram, trm
from innerloop.width import Noisy

BETA = {"queens": 2.0, "colouring": 4.0}  # of GRAM; the paper's .07 and .5 are for 24 times as many pushed numbers
MADE = {"queens": {"size": 8}, "colouring": {"size": 8, "colours": 3}}
SIZE = replace(
    NetConfig(),
    heads=4,
    layers=1,
    expansion=1.5,
    multiple_of=32,
    block="units",
    prefix=0,
    puzzle_emb_size=0,
    pool="mean",
)
CYCLES = {"cycles": 1, "thoughts": 3}  # one transition a step: each of GRAM's pushes is charged


def sets(name: str, path: str, puzzles: int, limit: int) -> tuple[Any, Any, Any]:
    """Task, training and test set: test puzzles have two solutions or more, and none is trained on in disguise."""
    if path and name == "colouring":
        task, test = read_graphs(path)
    elif path:
        task, test = open_set(path, name)
    else:
        task = tasks.get(name, **MADE[name])
        test = task.make(8 * limit, 1_000_003)
    _, first = np.unique(test.inputs, axis=0, return_index=True)
    test = test.take(np.array([i for i in np.sort(first) if task.solutions(test.inputs[i]) > 1][:limit]))
    learned = task.make(puzzles, 0)
    twins = leakage(test, learned, task).rows
    return task, learned.take(np.setdiff1d(np.arange(len(learned)), twins)), test


def made(args: argparse.Namespace, system: str, task: Any, seed: int) -> Any:
    """A loop of the common size with fresh weights."""
    torch.manual_seed(seed)
    size = fit_config(replace(SIZE, hidden_size=args.width, positions="learned"), task, 1)
    if system == "gram":
        return gram.GRAM(gram.Config(size, beta=args.beta[task.name], dtype="float32", **CYCLES))
    if system == "eqr":
        return eqr.EqR(eqr.Config(size, dtype="float32", **CYCLES))
    return trm.TRM(trm.Config(size, dtype="float32", **CYCLES))


def affordable(loop: Any, task: Any, learned: Any, plan: Plan, minutes: float, device: str) -> int:
    """Optimizer steps that fit into so many minutes on this machine, from the pace of a few."""
    with tempfile.TemporaryDirectory() as folder:
        prepare(loop, device)
        trainer = Trainer(loop, task, learned, plan, Path(folder), device=device, live=False)
        for _ in range(3):
            trainer.train_step()
        began = time.perf_counter()
        for _ in range(8):
            trainer.train_step()
        return max(1, round(60 * minutes * 8 / (time.perf_counter() - began)))


def trained(args: argparse.Namespace, system: str, seed: int, task: Any, learned: Any) -> tuple[Any, dict[str, Any]]:
    """The loop of one (system, task, seed), learned or fetched, and how its training went.

    train_exact far above valid means that GRAM's answer leaks through its posterior: raise --beta.
    """
    folder = args.runs / f"{task.name}-{system}-{seed}"
    done = 10**9
    plan = Plan(
        steps=args.steps, batch=args.batch, optimizer="adamw", lr=args.lr, weight_decay=0.1, warmup=50, clip=1.0,
        ema=0.995, loss="softmax", halting=HaltingConfig(args.depth, learned=False, explore=0.0), compile="off",
        check_every=done, save_every=200,
    )  # fmt: skip
    if args.minutes:
        paced = folder / "pace.json"
        if not paced.exists():
            steps = affordable(made(args, system, task, seed), task, learned, plan, args.minutes, args.device)
            files.write_json(paced, {"steps": steps})
        plan = replace(plan, steps=files.read_json(paced)["steps"])
    loop = made(args, system, task, seed)
    prepare(loop, args.device)
    result = train(loop, task, learned, plan, folder, seed=seed, device=args.device, live=False)
    if result.stopped:
        print(f"{folder.name} stopped: {result.stopped}", flush=True)
    checkpoint.load_weights(folder / checkpoint.MODEL, loop)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    last = next((x["train/exact_accuracy"] for x in reversed(lines) if "train/exact_accuracy" in x), None)
    return loop.eval(), {"steps": result.steps, "seconds": result.seconds, "train_exact": last}


def measured(args: argparse.Namespace, system: str, seed: int, data: Any) -> list[dict[str, Any]]:
    """Rows of one (system, task, seed), one for every number of samples."""
    task, learned, test = data
    loop, course = trained(args, "trm" if system == "ptrm" else system, seed, task, learned)
    parameters = sum(p.numel() for p in loop.parameters())
    if system == "ptrm":
        loop = Noisy(loop, args.sigma, args.sigma, ("z",), seed)
    counts = sorted({1, 5, args.samples})
    found = coverage(loop, task, test, counts, args.depth, batch=args.rows, device=args.device)
    rows = []
    for c in found:
        row = {"task": task.name, "system": system, "seed": seed, "samples": c.samples, "coverage": c.coverage.value}
        row |= {"low": c.coverage.low, "high": c.coverage.high, "ceiling": c.ceiling, "valid": c.valid.value}
        row |= {"valid_low": c.valid.low, "valid_high": c.valid.high, "answers": c.answers, "solutions": c.solutions}
        rows.append(row | {"test_puzzles": len(test), "parameters": parameters} | course)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--systems", nargs="+", default=["trm", "ptrm", "eqr", "gram"])
    parser.add_argument("--tasks", nargs="+", default=["queens", "colouring"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--test", action="append", default=[], metavar="TASK=FILE", help="none: generated puzzles")
    parser.add_argument("--limit", type=int, default=200, help="test puzzles at most")
    parser.add_argument("--puzzles", type=int, default=6000, help="training puzzles to generate")
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--minutes", type=float, default=0, help="instead of --steps: time for each training")
    parser.add_argument("--depth", type=int, default=8, help="steps of a thought, in training and in the test")
    parser.add_argument("--samples", type=int, default=20)
    parser.add_argument("--sigma", type=float, default=0.3, help="noise of PTRM")
    parser.add_argument("--beta", action="append", default=[], metavar="TASK=VALUE", help=f"of GRAM; else {BETA}")
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--rows", type=int, default=512, help="trajectories run at once in the test")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--runs", type=Path, default=Path("runs/coverage"))
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    tests = dict(t.split("=", 1) for t in args.test)
    args.beta = BETA | {name: float(value) for name, value in (b.split("=", 1) for b in args.beta)}
    named = ("steps", "minutes", "depth", "samples", "sigma", "beta", "width", "batch", "lr", "puzzles", "limit")
    setup = {k: getattr(args, k) for k in named} | {"block": SIZE.block, **CYCLES}
    setup["test"] = {k: Path(v).name for k, v in tests.items()} or "generated"
    args.runs = args.runs / args.out.stem
    noted = args.runs / "setup.json"
    if not noted.exists():
        args.runs.mkdir(parents=True, exist_ok=True)
        files.write_json(noted, setup)
    old = files.read_json(noted)
    if differ := [k for k in setup if old.get(k) != setup[k]]:
        parser.error(f"{args.runs} was begun with another {', '.join(differ)}: repeat those, or name another --out")
    rows: list[dict[str, Any]] = files.read_json(args.out)["rows"] if args.out.exists() else []
    for name in args.tasks:
        data = sets(name, tests.get(name, ""), args.puzzles, args.limit)
        print(f"{name}: {len(data[1])} puzzles to learn from, {len(data[2])} to test", flush=True)
        for seed in args.seeds:
            for system in args.systems:
                if any((r["task"], r["system"], r["seed"]) == (name, system, seed) for r in rows):
                    continue
                rows += measured(args, system, seed, data)
                value = {"born": birth_certificate(args.seeds), "setup": setup, "rows": rows}
                args.out.parent.mkdir(parents=True, exist_ok=True)
                files.write_json(args.out, value)
                print(json.dumps(rows[-1]), flush=True)


if __name__ == "__main__":
    main()
