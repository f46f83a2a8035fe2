"""Should anyone use this: exact solver alone, model alone, with a verifier, and with the exact solver behind it.

    python benchmarks/hybrid.py RUN RUN RUN --limit 1000 --out results/hybrid.json

Every method of innerloop.solve.worth answers the same unseen instances, one at a time for latency (median and p99), and
all together for throughput, on as many threads. `gap` is the cost of valid answers above the best possible, where the
task has an objective and the solver alone proved the best. Depth and width are those of least mean time on --tune other
instances (solve.hybrid.tune_fallback), one choice for single instances and one for all together, unless --depth names
them.
Resumable: every run that is done is kept in --out.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from subject import of_model

from innerloop import files
from innerloop.data.opening import open_set
from innerloop.learn.precision import prepare
from innerloop.pretrained import open as open_model
from innerloop.runs.certificate import birth_certificate
from innerloop.runs.fit import load_data
from innerloop.runs.solving import solver_of
from innerloop.solve.exact import cp_sat
from innerloop.solve.hybrid import tune_fallback
from innerloop.solve.solver import Solver
from innerloop.solve.worth import METHODS, compare


def compared(run: str, args: argparse.Namespace) -> dict[str, Any]:
    opened = open_model(run)
    prepare(opened.loop, "cpu")
    task, solver = opened.task, solver_of(opened, compile=args.compile)
    if args.data:
        test = open_set(args.data, task, args.limit)[1]
    else:
        test = task.make(args.limit, opened.run.data.seed + 8_000_003)
    others = task.make(args.tune, opened.run.data.seed + 9_000_003).inputs
    chosen = [dials(solver, others, args, many) for many in (False, True)]
    trusted = {"depth": opened.run.plan.trained_depth, "pick": "certainty", "views": False}
    how, at_once = ({m: trusted if m == "model" else c["dials"] for m in METHODS} for c in chosen)
    rows = compare(solver, test.inputs, how, at_once, args.seconds, warm_up=args.compile)
    trained = files.read_json(opened.folder / "result.json") if (opened.folder / "result.json").exists() else {}
    return {
        "run": Path(run).name, "subject": of_model(opened), "task": task.name,
        "options": task.options, "cells": int(np.prod(task.shape)),
        "instances": len(test), "train_puzzles": len(load_data(opened.run.data)[1]), "trusted_depth": trusted["depth"],
        "single": chosen[0], "together": chosen[1],
        "compiled": args.compile, "parameters": sum(p.numel() for p in solver.loop.parameters()),
        "training_seconds": trained.get("seconds"), "data": test.source, "rows": rows,
        "born": birth_certificate([opened.run.seed]),
    }  # fmt: skip


def dials(solver: Solver, questions: np.ndarray, args: argparse.Namespace, many: bool) -> dict[str, Any]:
    """Options of the model, and the measurements that chose them; a model that only adds time runs one step."""
    if args.depth:
        return {"dials": {"depth": args.depth, "width": args.width, "pick": "verified"}}
    found = tune_fallback(solver, questions, args.seconds, batched=many)
    print("together" if many else "single", found, flush=True)
    measured = found._asdict()
    measured["alone"] = measured.pop("exact_seconds")  # the key of results/hybrid.json
    return {"dials": {"depth": found.depth or 1, "width": found.width, "pick": "verified"}, "patience": measured}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+")
    parser.add_argument("--data", default="", help="instances of a file; none: generated ones that no run has seen")
    parser.add_argument("--limit", type=int, default=1000)
    parser.add_argument("--depth", type=int, default=0, help="0: chosen on other instances")
    parser.add_argument("--width", type=int, default=1, help="with --depth")
    parser.add_argument("--tune", type=int, default=60, help="instances to choose depth and width on")
    parser.add_argument("--seconds", type=float, default=30.0, help="the exact solver's limit for an instance")
    parser.add_argument("--compile", action="store_true", help="the model's step as one graph")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    cp_sat()
    done = files.read_json(args.out)["runs"] if args.out.exists() else []
    for run in args.runs:
        if any(d["run"] == Path(run).name for d in done):
            continue
        done.append(compared(run, args))
        files.write_json(args.out, {"runs": done, "born": birth_certificate([0])})
        for r in done[-1]["rows"]:
            print({k: round(v, 3) if isinstance(v, float) else v for k, v in r.items()}, flush=True)


if __name__ == "__main__":
    main()
