"""Train a recipe on a real set and report accuracy over depth on the set's own test puzzles.

    python benchmarks/records.py sudoku_easy --train T.csv --test E.csv --out results/sudoku_easy.json

Resumes where it was cut off. The weights kept are the best on a validation part held out of the training file (or,
for generated sets, on puzzles of another seed); the test puzzles are looked at once, at the end. Reports every depth at
fixed depth; all test puzzles are judged at the trained depth, fixed and at the model's own halting step.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from innerloop import recipes, tasks
from innerloop.learn import checkpoint
from innerloop.learn.evaluate import Row, as_dicts, evaluate
from innerloop.learn.train import train
from innerloop.recipes.run import birth_certificate, build, override, to_json, unseen, write_run


def report(step: int, rows: list[Row]) -> None:
    print(step, [(r.depth, round(r.exact, 4), round(r.valid, 4)) for r in rows], flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("--train", default="", help="training file; none: the recipe's generated puzzles")
    parser.add_argument("--test", default="", help="test file; none: 1000 puzzles of yet another seed")
    parser.add_argument("--limit", type=int, default=0, help="at most so many test puzzles; 0: all")
    parser.add_argument("--depths", type=int, nargs="+", help="test depths of the curve; none: 1/32 to 16 x trained")
    parser.add_argument("--sweep", type=int, default=300, help="test puzzles for the curve over depth")
    parser.add_argument("--set", nargs="*", default=[], help="changes of the recipe, such as plan.steps=500")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--runs", type=Path, default=Path("runs/records"))
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    run = recipes.get(args.recipe)
    if args.train:
        run = replace(run, data=replace(run.data, train=args.train, test="", count=0))
    run = override(run, args.set)
    built = build(run)
    folder = args.runs / args.out.stem
    write_run(folder, built.run)
    how = {"validation": built.validation, "seed": run.seed, "device": args.device, "live": False, "on_check": report}
    result = train(built.loop, built.task, built.train, built.run.plan, folder, **how)
    checkpoint.load_weights(folder / checkpoint.MODEL, built.loop)
    if args.test:
        _, test = tasks.open_set(args.test, built.task, args.limit or None)
    else:
        test = unseen(built.task, built.train, run.data, args.limit or 1000)
    leak = tasks.leakage(built.train, test, built.task)
    deepest = built.run.plan.deepest
    depths = [deepest >> k for k in range(5, 0, -1) if deepest >> k] + [deepest * k for k in (1, 2, 4, 8, 16)]
    depths = args.depths or depths
    began = time.perf_counter()
    built.loop.eval()
    rows = evaluate(built.loop, built.task, test, (deepest,), halting=(False, True), device=args.device, batch=128)
    part = test.take(np.arange(min(args.sweep, len(test))))
    rows += evaluate(built.loop, built.task, part, depths, device=args.device, batch=128)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    key = f"valid/exact@{built.run.plan.depths[-1]}"
    reached = {g: next((x["seconds"] for x in lines if x.get(key, 0) >= g), None) for g in (0.9, 0.95, 0.98, 0.99)}
    value = {
        "born": birth_certificate([run.seed]),
        "recipe": to_json(built.run) | {"config": to_json(built.run)["config"] | {"size": "see run.json"}},
        "train": {"puzzles": len(built.train), "source": Path(built.train.source).name, "seconds": result.seconds},
        "test": {"puzzles": len(test), "source": Path(test.source).name, "seconds": time.perf_counter() - began},
        "leakage": str(leak),
        "selection": "best validated weights; one trajectory; fixed depth, or its own halting step",
        "seconds_to_validated_exact": {f"{g:.0%}": s for g, s in reached.items()},
        "parameters": sum(p.numel() for p in built.loop.parameters()),
        "trained_depth": deepest,
        "result": {
            "steps": result.steps,
            "best_validation": result.best,
            "warnings": result.warnings,
            "stopped": result.stopped,
        },
        "rows": as_dicts(rows),
    }
    value["recipe"]["data"]["train"] = Path(value["recipe"]["data"]["train"]).name
    value["born"]["command"] = (
        f"python benchmarks/records.py {args.recipe} --set {' '.join(args.set)} (seed {run.seed})"
    )
    checkpoint.write_json(args.out, value)
    for r in rows:
        print(
            f"depth {r.depth:4d} halting {r.halting!s:5} exact {r.exact:.4f} "
            f"[{r.low:.4f}, {r.high:.4f}] valid {r.valid:.4f}"
        )
    print(json.dumps(value["train"]), json.dumps(value["leakage"]))


if __name__ == "__main__":
    main()
