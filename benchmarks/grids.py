"""Pencil puzzles of nine kinds, learned as grids of which no rule is told: accuracy on test files, over seeds.

    python benchmarks/grids.py DATA --seeds 0 1 2 --threads 1 --out results/grids.json

DATA holds `sgt_*_train.jsonl.gz` and `sgt_*_test.jsonl.gz`; benchmarks/grid_sets.py says how they are written as
grids. Each is learned by the recipe `grid` with the symmetries that `innerloop data` finds in its training file, for
as many steps as fit into about fifteen minutes of one thread: fewer for larger boards. The weights kept are the best on
a tenth held out of the training file; test puzzles are looked at once, at the end, at twice the trained depth: by one
trajectory, and by the surest of eight, each of which sees the puzzle in another of the symmetries found. Then the
rules are told, by examples/rules or the task's own: what the model, with a verifier, and with the exact solver behind
it answers, and what the solver does alone (innerloop.solve.worth), on a hundred, with the model of the first seed.
Resumable: a set and seed that is done is kept in --out, with a birth certificate of its own.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from by_seed import measure_each, options
from grid_sets import SETS, convert
from subject import of_recipe

from innerloop import recipes
from innerloop.data.found_symmetries import found_symmetries
from innerloop.data.leakage import leakage
from innerloop.data.opening import open_set
from innerloop.interval import wilson
from innerloop.learn import checkpoint
from innerloop.learn.evaluate import evaluate
from innerloop.learn.precision import prepare
from innerloop.learn.train import train
from innerloop.recipes.grid import changes_for
from innerloop.runs.certificate import birth_certificate
from innerloop.runs.fit import build
from innerloop.runs.folder import write_run
from innerloop.runs.run import override
from innerloop.solve.rules import read_rules, with_rules
from innerloop.solve.solver import Solver
from innerloop.solve.worth import compare
from innerloop.tasks.grid import Grid

CELL_STEPS, MOST_STEPS = 1_800_000, 20_000  # steps times cells of a training; steps
RULES = Path(__file__).resolve().parents[1] / "examples" / "rules"
SECONDS = 10.0  # of the exact solver for a puzzle
WIDTH, COMPARED = 8, 100  # trajectories; puzzles on which methods are compared


def with_known_rules(name: str, task: Any) -> Any:
    """The task with the rules of its kind, where it has none of its own."""
    file = RULES / f"{name.rstrip('0123456789')}.py"
    return with_rules(task, *read_rules(str(file))) if file.exists() else task


def compared(solver: Solver, inputs: np.ndarray, depth: int) -> list[dict[str, Any]]:
    """Rows of innerloop.solve.worth: the model, with verifier, with solver behind it, and the solver alone."""
    model, verified = ({"depth": depth, "width": 1, "pick": pick} for pick in ("certainty", "verified"))
    ways: dict[str, dict[str, Any]] = {"solver": {}, "model": model, "verified": verified, "hybrid": verified}
    return compare(solver, inputs, ways, ways, SECONDS)


def by_the_surest(loop: Any, task: Any, test: Any, depth: int) -> dict[str, Any]:
    """Share of the puzzles solved by the trajectory of eight that is surest of its answer, with its interval."""
    found = Solver(loop, task).solve(test, depth=depth, width=WIDTH, pick="certainty")
    answers = np.stack([s.answer for s in found])
    right = int(((answers == test.labels) | (test.labels == 0)).all(1).sum())
    low, high = wilson(right, len(test))
    return {"width": WIDTH, "pick": "certainty", "exact": right / len(test), "low": low, "high": high}


def learned(name: str, seed: int, args: argparse.Namespace) -> dict[str, Any]:
    """Train on one set and judge it. A training that was cut goes on."""
    train_file, test_file = (args.runs / "files" / f"{name}_{part}.csv" for part in ("train", "test"))
    for part, path in (("train", train_file), ("test", test_file)):
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            convert(Path(args.data) / f"sgt_{name}_{part}.jsonl.gz", path, SETS[name])
    task, examples = open_set(str(train_file))
    found = found_symmetries(task, examples) if isinstance(task, Grid) else ()
    run = replace(recipes.get("grid"), seed=seed)
    run = replace(
        run, data=replace(run.data, train=str(train_file), options={"symmetries": list(found)} if found else {})
    )
    steps = args.steps or min(MOST_STEPS, CELL_STEPS // examples.inputs.shape[1])
    width = changes_for(task, found) if isinstance(task, Grid) else []
    built = build(override(run, [f"plan.steps={steps}", *width, *args.set]))
    folder = args.runs / f"{name}_{seed}"
    write_run(folder, built.run, built)
    prepare(built.loop, "cpu")
    began, how = time.process_time(), {"validation": built.validation, "seed": seed, "live": False}
    result = train(built.loop, built.task, built.train, built.run.plan, folder, **how)
    seconds = time.process_time() - began
    checkpoint.load_weights(folder / checkpoint.MODEL, built.loop)
    test = open_set(str(test_file), built.task)[1]
    depth = 2 * built.run.plan.trained_depth
    row = evaluate(built.loop.eval(), built.task, test, (depth,), batch=128)[0]
    surest = by_the_surest(built.loop, built.task, test, depth)
    solver = Solver(built.loop, with_known_rules(name, built.task))
    worth = compared(solver, test.inputs[:COMPARED], depth) if seed == args.seeds[0] else []
    return {
        "set": name, "seed": seed, "symmetries": list(found), "learned_from": len(built.train), "steps": result.steps,
        "of_steps": built.run.plan.steps, "cpu_minutes": round(seconds / 60, 1), "depth": depth, "puzzles": row.puzzles,
        "exact": row.exact, "low": row.low, "high": row.high, "token": row.token, "best_validation": result.best,
        "surest": surest,
        "worth": worth,
        "leakage": str(leakage(built.train, test, built.task)),
        "subject": of_recipe("grid", sum(p.numel() for p in built.loop.parameters())),
        "born": birth_certificate([seed]),
    }  # fmt: skip


def tell(row: dict[str, Any]) -> None:
    one, eight = 100 * row["exact"], 100 * row["surest"]["exact"]
    print(f"{row['set']:13} seed {row['seed']}: {one:.1f} %, of 8 {eight:.1f} %", flush=True)


def main() -> None:
    parser = options(__doc__, "runs/grids", seeds=(0,))
    parser.set_defaults(threads=torch.get_num_threads())
    parser.add_argument("data")
    parser.add_argument("--sets", nargs="+", choices=list(SETS), default=list(SETS))
    parser.add_argument("--steps", type=int, default=0, help="of every training; 0: by the number of cells")
    args = parser.parse_args()
    measure_each(args, [{"set": name, "seed": seed} for seed in args.seeds for name in args.sets], learned, tell)


if __name__ == "__main__":
    main()
