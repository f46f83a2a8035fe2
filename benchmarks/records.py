"""Train a recipe on a real set and report accuracy over depth on the set's own test puzzles.

    python benchmarks/records.py sudoku_easy --train T.csv --test E.csv --out results/sudoku_easy.json

Resumes where it was cut off; with --minutes it ends by itself, and the same command goes on. The weights kept are the
best on a validation part held out of the training file (or, for generated sets, on puzzles of another seed); the test
puzzles are looked at once, at the end. Reports every depth at fixed depth; all test puzzles are judged at the trained
depth, fixed and at the model's own halting step.
"""

from __future__ import annotations

import argparse
import json
import shlex
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from subject import of_run

from innerloop import files, recipes
from innerloop.data.leakage import leakage
from innerloop.data.opening import open_set
from innerloop.learn import checkpoint
from innerloop.learn.evaluate import Row, as_dicts, evaluate
from innerloop.learn.precision import prepare
from innerloop.learn.train import Result, train
from innerloop.runs.certificate import birth_certificate
from innerloop.runs.fit import BuiltRun, build, unseen_puzzles
from innerloop.runs.folder import write_run
from innerloop.runs.run import Run, override, to_json

GOALS = (0.9, 0.95, 0.98, 0.99)


def report(step: int, rows: list[Row]) -> None:
    print(step, [(r.depth, round(r.exact, 4), r.valid and round(r.valid, 4)) for r in rows], flush=True)


def arguments(parser: argparse.ArgumentParser) -> None:
    """What every record script takes."""
    parser.add_argument("--limit", type=int, default=0, help="at most so many test puzzles; 0: all")
    parser.add_argument("--depths", type=int, nargs="+", help="test depths of the curve; none: 1/32 to 16 x trained")
    parser.add_argument("--sweep", type=int, default=300, help="test puzzles for the curve over depth")
    parser.add_argument("--set", nargs="*", default=[], help="changes of the recipe, such as plan.steps=500")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--minutes", type=float, default=0.0, help="train at most so long in this call; 0: to the end")
    parser.add_argument("--runs", type=Path, default=Path("runs/records"))
    parser.add_argument("--out", type=Path, required=True)


def record(run: Run, test: Any, args: argparse.Namespace, command: str) -> None:
    """Train a slice of `run`; once it is done, judge it on `test(built)` and write the result."""
    torch.set_num_threads(args.threads)
    built = build(override(run, args.set))
    folder = args.runs / args.out.stem
    write_run(folder, built.run, built)
    result = learn(built, folder, args)
    if result.steps < built.run.plan.steps and not (result.stopped or result.flat):
        print(f"step {result.steps} of {built.run.plan.steps}: the same command goes on", flush=True)
        return
    checkpoint.load_weights(folder / checkpoint.MODEL, built.loop)
    value = judged(built, folder, result, test(built), args)
    changes = f" --set {shlex.join(args.set)}" if args.set else ""
    value["born"]["command"] = f"{command}{changes}"
    value = {"subject": of_run(run, value["parameters"])} | value
    files.write_json(args.out, value)
    print(json.dumps(value["train"]), json.dumps(value["leakage"]))


def learn(built: BuiltRun, folder: Path, args: argparse.Namespace) -> Result:
    """One slice of training, noted in slices.jsonl with where and when it ran."""
    began = time.perf_counter()
    how = {"validation": built.validation, "seed": built.run.seed, "device": args.device, "live": False}
    prepare(built.loop, args.device)
    result = train(built.loop, built.task, built.train, built.run.plan, folder, minutes=args.minutes,
                   on_check=report, **how)  # fmt: skip
    line = {"to_step": result.steps, "seconds": time.perf_counter() - began, "born": birth_certificate()}
    with (folder / "slices.jsonl").open("a") as file:
        file.write(json.dumps(line) + "\n")
    return result


def judged(built: BuiltRun, folder: Path, result: Result, test: Any, args: argparse.Namespace) -> dict[str, Any]:
    """The result as it is written down."""
    run, loop = built.run, built.loop.to(args.device).eval()
    leak = leakage(built.train, test, built.task)
    deepest = run.plan.trained_depth
    depths = [deepest >> k for k in range(5, 0, -1) if deepest >> k] + [deepest * k for k in (1, 2, 4, 8, 16)]
    began = time.perf_counter()
    rows = evaluate(loop, built.task, test, (deepest,), halting=(False, True), device=args.device, batch=128)
    part = test.take(np.arange(min(args.sweep, len(test))))
    rows += evaluate(loop, built.task, part, args.depths or depths, device=args.device, batch=128)
    for r in rows:
        told = f"depth {r.depth:4d} halting {r.halting!s:5} exact {r.exact:.4f} [{r.low:.4f}, {r.high:.4f}]"
        print(told + ("" if r.valid is None else f" valid {r.valid:.4f}"))
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    key = f"valid/exact@{run.plan.depths[-1]}"
    reached = {g: next((x["seconds"] for x in lines if x.get(key, 0) >= g), None) for g in GOALS}
    recipe = to_json(run) | {"config": to_json(run)["config"] | {"size": "see run.json"}}
    recipe["data"] |= {name: Path(recipe["data"][name]).name for name in ("train", "test")}
    return {
        "born": birth_certificate([run.seed]),
        "slices": [json.loads(line) for line in (folder / "slices.jsonl").read_text().splitlines()],
        "recipe": recipe,
        "train": {"puzzles": len(built.train), "source": Path(built.train.source).name, "seconds": result.seconds},
        "test": {"puzzles": len(test), "source": Path(test.source).name, "seconds": time.perf_counter() - began},
        "leakage": str(leak),
        "selection": "best validated weights; one trajectory; fixed depth, or its own halting step",
        "seconds_to_validated_exact": {f"{g:.0%}": s for g, s in reached.items()},
        "curve": [{k: v for k, v in x.items() if k in ("step", "seconds") or "valid/" in k} for x in lines if key in x],
        "parameters": sum(p.numel() for p in loop.parameters()),
        "trained_depth": deepest,
        "result": {"steps": result.steps, "best_validation": result.best, "warnings": result.warnings,
                   "stopped": result.stopped, "flat": result.flat},
        "rows": as_dicts(rows),
    }  # fmt: skip


def known_set(script: str, doc: str, recipe: str, files: tuple[str, str], hub: str, smoke: list[str]) -> None:
    """A record on a set that everybody knows, from a folder with its training and test file, or from the hub."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help=f"a folder with {' and '.join(files)}, or {hub}")
    parser.add_argument("--smoke", action="store_true", help="a few steps, to see that all of it works")
    arguments(parser)
    args = parser.parse_args()
    local = Path(args.data).is_dir()
    train, test = (str(Path(args.data) / name) for name in files) if local else (args.data, f"{args.data}/test")
    run = recipes.get(recipe)
    run = replace(run, data=replace(run.data, options={}, train=train, test="", count=1000, holdout=100))
    find = lambda built: open_set(test, built.task, args.limit or None)[1]  # noqa: E731
    record(override(run, smoke if args.smoke else []), find, args, f"python benchmarks/{script} DATA")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("--train", default="", help="training file; none: the recipe's generated puzzles")
    parser.add_argument("--test", default="", help="test file; none: 1000 puzzles of yet another seed")
    arguments(parser)
    args = parser.parse_args()
    run = recipes.get(args.recipe)
    if args.train:
        run = replace(run, data=replace(run.data, train=args.train, test="", count=0))

    def test(built: BuiltRun) -> Any:
        if args.test:
            return open_set(args.test, built.task, args.limit or None)[1]
        return unseen_puzzles(built.task, built.train, run.data, args.limit or 1000)

    told = "".join(f" --{k} {Path(v).name}" for k, v in (("train", args.train), ("test", args.test)) if v)
    record(run, test, args, f"python benchmarks/records.py {args.recipe}{told}")


if __name__ == "__main__":
    main()
