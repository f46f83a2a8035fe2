"""Should anyone use this: exact solver alone, model alone, with a verifier, and with the exact solver behind it.

    python benchmarks/hybrid.py runs/roster_small runs/roster runs/roster_large --limit 1000 --out results/hybrid.json

Every method answers the same unseen instances, one at a time for latency (median and p99), and all together for
throughput (the model in batches, the exact solver one by one, on as many threads). `gap` is the cost of valid
answers above the best possible, where the task has an objective and the solver alone proved the best. The methods
take turns of fifty instances: all meet the same noise of the machine, and each finds the caches as it left them.
Depth and width are those of least mean time on --tune other instances (solve.hybrid.tune_fallback), one choice for
single instances and one for all together, unless --depth names them.
  solver            CP-SAT alone, no proposal
  model             one trajectory to the trained depth, its answer is trusted
  verified          up to `width` trajectories, the first valid answer; else "I don't know"
  hybrid            the same, and CP-SAT where nothing is valid, started from the guess
  hybrid, no hints  the same, but CP-SAT is not told of the guess
Resumable: every run that is done is kept in --out.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from subject import of_model

from innerloop import files
from innerloop.data.opening import open_set
from innerloop.interval import wilson
from innerloop.learn.precision import prepare
from innerloop.pretrained import open as open_model
from innerloop.runs.certificate import birth_certificate
from innerloop.runs.fit import load_data
from innerloop.runs.solving import solver_of
from innerloop.solve.exact import cp_sat, exact
from innerloop.solve.hybrid import tune_fallback, with_exact_fallback
from innerloop.solve.solver import Solver

TURN = 50  # instances that one method answers before the next has its turn
METHODS = ("solver", "model", "verified", "hybrid", "hybrid, no hints")


class Answered:
    """What one method said to every instance."""

    def __init__(self) -> None:
        self.answers: list[np.ndarray | None] = []
        self.seconds: list[float] = []
        self.calls = 0  # of the exact solver
        self.together: dict[str, Any] = {}  # what became of all instances at once


def alone(task: Any, question: np.ndarray, limit: float) -> tuple[np.ndarray | None, bool]:
    found = exact(task, question, seconds=limit)
    return found.answer, found.status == "optimal"


def one(method: str, solver: Solver, question: np.ndarray, how: dict[str, Any], limit: float) -> tuple[Any, bool, bool]:
    """(answer or None, whether the exact solver was asked, whether the answer is proved best) to one instance."""
    if method == "solver":
        answer, best = alone(solver.task, question, limit)
        return answer, True, best
    if method == "model":
        return solver.solve(question, **how)[0].answer, False, False
    found = solver.solve(question, **how)[0]
    if method == "verified" or found.known:
        return found.answer if found.known else None, False, False
    found = with_exact_fallback(solver.task, question, found, limit, hints=method == "hybrid")
    return found.answer if found.known else None, True, False


def together(method: str, solver: Solver, inputs: np.ndarray, how: dict[str, Any], limit: float) -> dict[str, Any]:
    """All instances at once: how many a second, how many of the answers are valid, how often the solver was asked."""
    began, asked = time.perf_counter(), 0
    if method == "solver":
        answers, asked = [alone(solver.task, question, limit)[0] for question in inputs], len(inputs)
    else:
        found = solver.solve(inputs, **how)
        if method.startswith("hybrid"):
            asked = sum(not f.known for f in found)
            pairs = zip(inputs, found, strict=True)
            found = [
                f if f.known else with_exact_fallback(solver.task, q, f, limit, hints=method == "hybrid")
                for q, f in pairs
            ]
        answers = [f.answer if f.known or method == "model" else None for f in found]
    seconds = time.perf_counter() - began
    _, valid = judged(solver.task, inputs, answers)
    return {"per_second": len(inputs) / seconds, "together_valid": float(valid.mean()), "together_calls": int(asked)}


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
    said = {method: Answered() for method in METHODS}
    proved = np.zeros(len(test), bool)
    for method in METHODS:
        one(method, solver, test.inputs[0], how[method], args.seconds)  # the first call pays for what all share
    turns = [(m, i) for k in range(0, len(test), TURN) for m in METHODS for i in range(k, min(k + TURN, len(test)))]
    for method, i in turns:
        question = test.inputs[i]
        began = time.perf_counter()
        answer, asked, best = one(method, solver, question, how[method], args.seconds)
        said[method].seconds.append(time.perf_counter() - began)
        said[method].answers.append(answer)
        said[method].calls += asked
        proved[i] |= best
    for method in ("model", "verified") if args.compile else ():
        solver.solve(test.inputs, **at_once[method])  # a graph for every batch size is made before the clock runs
    for method in METHODS:
        said[method].together = together(method, solver, test.inputs, at_once[method], args.seconds)
    best_cost = cost(task, test.inputs, said["solver"].answers)
    rows = [row(task, test.inputs, name, s, best_cost, proved) for name, s in said.items()]
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


def cost(task: Any, inputs: np.ndarray, answers: list[Any]) -> np.ndarray | None:
    """(N,) cost of each answer, NaN where there is none; None where the task has no objective."""
    filled, valid = judged(task, inputs, answers)
    known = task.cost(inputs, filled)
    return None if known is None else np.where(valid, known, np.nan)


def judged(task: Any, inputs: np.ndarray, answers: list[Any]) -> tuple[np.ndarray, np.ndarray]:
    """(N, S) answers, the question where there is none, and (N,) whether each is there and valid."""
    filled = np.stack([q if a is None else a for q, a in zip(inputs, answers, strict=True)])
    return filled, task.valid_batch(inputs, filled) & np.array([a is not None for a in answers])


def row(task: Any, inputs: np.ndarray, method: str, said: Answered, best: Any, proved: np.ndarray) -> dict[str, Any]:
    n = len(inputs)
    _, valid = judged(task, inputs, said.answers)
    low, high = wilson(float(valid.sum()), n)
    p50, p99 = np.quantile(said.seconds, [0.5, 0.99]) * 1000
    made = {"method": method, "valid": float(valid.mean()), "low": low, "high": high, "solver_calls": said.calls}
    made |= {"p50_ms": float(p50), "p99_ms": float(p99), "mean_ms": float(np.mean(said.seconds) * 1000)}
    made |= said.together
    if best is not None:
        gaps = (cost(task, inputs, said.answers) - best)[valid & proved]
        made |= {"gap": float(gaps.mean()), "best": float((gaps == 0).mean()), "compared": len(gaps)}
        made["best_cost"] = float(np.nanmean(best))
    return made


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
