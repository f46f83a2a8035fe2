"""Continuous depth batching against its rivals, at equal accuracy, and its latency under Poisson arrivals.

    python benchmarks/engine.py runs/records/sudoku6 --mix 8,24 --threads 1 --out results/engine_sudoku6.json

Policies, on the same unseen puzzles in the same order, timed in turn:
  full       every batch runs to the full depth, as official evaluation does
  fixed      every batch runs to the best fixed depth: the smallest that is as accurate as `full` on validation puzzles
  wait       a batch stops when its last puzzle halts
  compaction rows that halt leave the batch; the next batch begins when it is empty
  continuous rows that halt are filled at once (solve/engine.py)
  verified   continuous, and a row halts as soon as its answer is valid
  compiled   verified, with the step as one compiled graph; compiling is not timed
The halting rule is `sure(p)`, with p tuned on validation puzzles alone: the fewest steps at the accuracy of `full`,
less --slack. Occupancy is the steps that the puzzles needed over the row-steps that were run; 1 is ideal.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from innerloop import files, tasks
from innerloop.core import Question, think
from innerloop.data.opening import open_set
from innerloop.data.sets import PuzzleSet
from innerloop.halt import Halt, sure
from innerloop.learn.precision import prepare
from innerloop.pretrained import open as open_model
from innerloop.runs.certificate import birth_certificate
from innerloop.solve.engine import Engine, Job
from innerloop.solve.loops import Compiled, few_sizes

LEVELS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.97, 0.99)


def batches(inputs: np.ndarray, rows: int) -> Any:
    for first in range(0, len(inputs), rows):
        tokens = torch.from_numpy(inputs[first : first + rows].astype(np.int64))
        yield slice(first, first + rows), Question(tokens, torch.zeros(len(tokens), dtype=torch.long))


@torch.no_grad()
def fixed(loop: Any, inputs: np.ndarray, rows: int, depth: int, halt: Halt | None = None) -> tuple[np.ndarray, Any]:
    """(answers, (row-steps needed, row-steps run)) of batches that all run to `depth`, or until all have halted."""
    answers, needed, run = np.zeros_like(inputs), 0, 0
    for part, question in batches(inputs, rows):
        thought = think(loop, question, depth, **({"halt": halt} if halt else {}))
        answers[part] = thought.answer.logits.argmax(-1).numpy()
        steps = torch.as_tensor(thought.steps).expand(len(question.inputs))
        needed, run = needed + int(steps.sum()), run + int(steps.max()) * len(steps)
    return answers, (needed, run)


def engine(loop: Any, inputs: np.ndarray, rows: int, depth: int, halt: Any, verify: Any, **how: Any) -> Any:
    """The same by the engine; refill=False lets a batch run empty before the next begins."""
    refill = how.pop("refill", True)
    made = Engine(loop, rows, halt=halt, verify=verify, **how)
    answers = np.zeros_like(inputs)
    for first in range(0, len(inputs), len(inputs) if refill else rows):
        for i in range(first, min(len(inputs), first + (len(inputs) if refill else rows))):
            made.submit(Job(inputs[i], depth, halting=halt is not None, verify=verify is not None, owner=i))
        for done in made.run():
            answers[done.job.owner] = done.moment.answer  # type: ignore[union-attr]
    return answers, (made.tally.steps, made.tally.rows, made.tally.ticks)


def tuned(loop: Any, task: Any, validation: Any, depth: int, slack: float, rows: int) -> dict[str, Any]:
    """The best fixed depth and the best halting level, both chosen on validation puzzles."""
    right = lambda answers: float(task.valid_batch(validation.inputs, answers).mean())  # noqa: E731
    full = right(fixed(loop, validation.inputs, rows, depth)[0])
    tried = {d: right(fixed(loop, validation.inputs, rows, d)[0]) for d in range(1, depth + 1)}
    best = min(d for d, accuracy in tried.items() if accuracy >= full - slack)
    levels = []
    for p in LEVELS:
        answers, (needed, *_) = engine(loop, validation.inputs, rows, depth, sure(p), None)
        levels.append((right(answers), needed / len(validation), p))
    enough = [(steps, p) for accuracy, steps, p in levels if accuracy >= full - slack]
    steps, p = min(enough) if enough else (levels[-1][1], LEVELS[-1])
    found = {"full": full, "fixed_depth": best, "fixed": tried[best], "level": p, "steps": steps}
    return found | {"reached": bool(enough)}


def arrivals(loop: Any, inputs: np.ndarray, rows: int, depth: int, halt: Any, verify: Any, rate: float) -> np.ndarray:
    """Latencies (s) of puzzles that arrive at `rate` a second at random moments (a Poisson process)."""
    at = np.cumsum(np.random.default_rng(0).exponential(1 / rate, len(inputs)))
    made = Engine(loop, rows, halt=halt, verify=verify)
    took = np.zeros(len(inputs))
    began, next_ = time.perf_counter(), 0
    while next_ < len(inputs) or len(made):
        clock = time.perf_counter() - began
        while next_ < len(inputs) and at[next_] <= clock:
            made.submit(Job(inputs[next_], depth, halting=halt is not None, verify=verify is not None, owner=next_))
            next_ += 1
        if not len(made):
            time.sleep(min(0.001, max(0.0, at[next_] - clock)))
            continue
        for done in made.tick():
            took[done.job.owner] = time.perf_counter() - began - at[done.job.owner]
    return took


def mixed(task: Any, count: int, seed: int, mix: str) -> PuzzleSet:
    """Easy and hard puzzles in random order: givens drawn from the whole span `mix` instead of the task's own."""
    made = tasks.get(task.name, **(task.options | ({"givens": [int(v) for v in mix.split(",")]} if mix else {})))
    return made.make(count, seed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("--data", default="", help="puzzles of a file instead; its first half tunes, the second tests")
    parser.add_argument("--mix", default="", help="givens of generated puzzles, FEWEST,MOST: easy and hard together")
    parser.add_argument("--limit", type=int, default=1000)
    parser.add_argument("--depth", type=int, default=16)
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--slack", type=float, default=0.005, help="accuracy that may be lost against full depth")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--loads", type=float, nargs="+", default=[0.5, 0.8, 0.95], help="shares of the throughput")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    opened = open_model(args.run)
    prepare(opened.loop, "cpu")
    loop, task = opened.loop, opened.task
    if args.data:
        every = open_set(args.data, task, 2 * args.limit)[1]
        validation, test = every.take(slice(len(every) // 2)), every.take(slice(len(every) // 2, None))
    else:
        validation = mixed(task, min(500, args.limit), 6_000_003, args.mix)
        test = mixed(task, args.limit, 7_000_003, args.mix)
    chosen = tuned(loop, task, validation, args.depth, args.slack, args.rows)
    print(chosen, flush=True)
    halt = sure(chosen["level"])
    x, rows, depth, valid = test.inputs, args.rows, args.depth, task.valid_batch
    policies = {
        "full": lambda: fixed(loop, x, rows, depth),
        "fixed": lambda: fixed(loop, x, rows, chosen["fixed_depth"]),
        "wait": lambda: fixed(loop, x, rows, depth, halt),
        "compaction": lambda: engine(loop, x, rows, depth, halt, None, refill=False),
        "continuous": lambda: engine(loop, x, rows, depth, halt, None),
        "verified": lambda: engine(loop, x, rows, depth, None, valid),
        "compiled": lambda: engine(graph, x, rows, depth, None, valid, sizes=few_sizes(rows)),
    }
    graph = Compiled(loop)
    for policy in policies.values():  # each meets its batch sizes once
        policy()
    seconds: dict[str, list[float]] = {name: [] for name in policies}
    found: dict[str, Any] = {}
    for _ in range(args.repeat):
        for name, policy in policies.items():
            began = time.perf_counter()
            answers, cost = policy()
            seconds[name].append(time.perf_counter() - began)
            found[name] = (float(valid(x, answers).mean()), cost)
    table = []
    for name, (accuracy, (needed, run, *ticks)) in found.items():
        speed = len(test) / np.array(seconds[name])
        row = {"policy": name, "accuracy": accuracy, "mean_steps": needed / len(test)}
        row |= {"puzzles_per_s": np.median(speed), "low": speed.min(), "high": speed.max()}
        row |= {"occupancy": needed / (ticks[0] * rows if ticks else run)}
        for rival in ("fixed", "full"):
            row[f"against_{rival}"] = np.median(np.array(seconds[rival]) / np.array(seconds[name]))
        table.append(row)
        print({k: round(float(v), 3) if not isinstance(v, str) else v for k, v in table[-1].items()}, flush=True)
    best = next(r for r in table if r["policy"] == "continuous")["puzzles_per_s"]
    load = []
    for share in args.loads:
        for name, rule, judge in (("continuous", halt, None), ("verified", None, valid), ("fixed", None, None)):
            deep = chosen["fixed_depth"] if name == "fixed" else depth
            took = arrivals(loop, x, rows, deep, rule, judge, share * best)
            p50, p99 = np.quantile(took, [0.5, 0.99])
            load.append({"policy": name, "load": share, "rate": share * best, "p50_ms": 1e3 * p50, "p99_ms": 1e3 * p99})
            print({k: round(float(v), 2) if not isinstance(v, str) else v for k, v in load[-1].items()}, flush=True)
    plain = lambda rows_: [{k: v if isinstance(v, str) else float(v) for k, v in r.items()} for r in rows_]  # noqa: E731
    value = {
        "run": str(args.run), "data": test.source, "mix": args.mix, "test_puzzles": len(test), "batch": rows,
        "validation_puzzles": len(validation), "depth": depth, "slack": args.slack, "chosen": chosen,
        "rows": plain(table), "arrivals": plain(load), "born": birth_certificate([0]),
    }  # fmt: skip
    files.write_json(args.out, value)


if __name__ == "__main__":
    main()
