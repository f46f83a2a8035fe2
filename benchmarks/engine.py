"""Continuous depth batching against other batching policies at equal accuracy, and its latency under Poisson arrivals.

    python benchmarks/engine.py demo-sudoku6 --mix 8,24 --threads 1 --out results/engine_sudoku6.json

Policies, on the same unseen puzzles in the same order, timed in turn:
  full       every batch runs to the full depth, as official evaluation does
  fixed      every batch runs to the best fixed depth: the smallest that is as accurate as `full` on validation puzzles
  rounds     the same, but a fixed number of rounds, which may end within a step; for loops that can be cut finer
  wait       a batch stops when its last puzzle halts
  compaction rows that halt leave the batch; the next batch begins when it is empty
  continuous rows that halt are filled at once (innerloop/rows.py)
  verified   continuous, and a row halts as soon as its answer is valid
  compiled   verified, with the step as one compiled graph; compiling is not timed. Left out where the loop's blocks are
             one compiled region already
The halting rule is the one of halt.certain, halt.confident and halt.confident_and_unchanged, and its probability, that
takes the fewest steps on validation puzzles at the accuracy of `fixed` there. Where a step can be cut (split_steps),
continuous and verified look at the answers so many times in a step as was fastest on the validation puzzles. All steps
below are whole ones. Occupancy is the steps that the puzzles needed over the row-steps that were run; 1 is ideal.
`ideal` is what a policy would be against `fixed` if only steps took time: the fixed depth over its mean steps.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from subject import of_model

from innerloop import files, tasks
from innerloop.core import Question, think
from innerloop.data.opening import open_set
from innerloop.data.sets import PuzzleSet
from innerloop.halt import Halt, certain, confident, confident_and_unchanged
from innerloop.learn.precision import prepare
from innerloop.pretrained import open as open_model
from innerloop.runs.certificate import birth_certificate
from innerloop.solve.engine import Engine, Job
from innerloop.solve.nfe import compile_step, compiled_batch_sizes

RULES: dict[str, Callable[[float], Halt]] = {
    "certain": certain,
    "confident": confident,
    "sure": confident_and_unchanged,
}
LEVELS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.92, 0.95, 0.97, 0.98, 0.99, 0.995)
LOOKS = (1, 2, 3, 6)  # at the answers, in a step
SEEDS = 16_000_003, 17_000_003  # of validation and test puzzles; 6_000_003 and 7_000_003 were seen as RULES was chosen


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
            answers[done.job.owner] = done.result.answer  # type: ignore[union-attr]
    return answers, (made.counters.steps, made.counters.rows, made.counters.ticks)


class Record(NamedTuple):
    """What puzzles say after every step."""

    answers: np.ndarray  # (steps, N, S)
    valid: np.ndarray  # (steps, N)
    least: np.ndarray  # (steps, N) smallest probability of a cell's token
    belief: np.ndarray  # (steps, N) of the halting head; 0 without one

    def margin(self, rule: str) -> np.ndarray:
        """(steps, N) the p below which a rule of RULES stops."""
        if rule == "certain":
            return self.least
        same = np.zeros_like(self.valid)
        same[1:] = (self.answers[1:] == self.answers[:-1]).all(2)
        return self.belief * (same if rule == "sure" else 1)


@torch.no_grad()
def recorded(loop: Any, task: Any, inputs: np.ndarray, steps: int, rows: int) -> Record:
    parts = []
    for part, question in batches(inputs, rows):
        state, found = loop.init(question), []
        for _ in range(steps):
            state = loop.step(state, question)
            answer = loop.read(state)
            said = answer.logits.argmax(-1).numpy().astype(np.uint8)
            least = answer.logits.float().softmax(-1).amax(-1).flatten(1).amin(1)
            belief = torch.zeros(len(said)) if answer.q_halt is None else answer.q_halt.sigmoid()
            found.append((said, task.valid_batch(inputs[part], said), least.numpy(), belief.numpy()))
        parts.append([np.stack(column) for column in zip(*found, strict=True)])
    return Record(*(np.concatenate(column, 1) for column in zip(*parts, strict=True)))


def first(holds: np.ndarray) -> np.ndarray:
    """(N,) the step, from 0, after which it first holds (steps, N); the last where it never does."""
    return np.where(holds.any(0), holds.argmax(0), len(holds) - 1)


def best_rule(record: Record, looks: int, enough: float) -> dict[str, Any] | None:
    """The rule of fewest steps at this accuracy or more, of a record with so many looks a step."""
    best: dict[str, Any] | None = None
    for rule in RULES:
        margin = record.margin(rule)
        for p in LEVELS:
            at = first(margin > p)
            accuracy, steps = record.valid[at, np.arange(len(at))].mean(), (at + 1).mean() / looks
            if accuracy >= enough and (best is None or steps < best["steps"]):
                best = {"looks": looks, "rule": rule, "level": p, "steps": float(steps), "accuracy": float(accuracy)}
    return best


def tuned(loop: Any, task: Any, validation: Any, depth: int, slack: float, rows: int) -> dict[str, Any]:
    """The best fixed depth, and the best rule and number of looks a step, all chosen on validation puzzles."""
    whole = cuts(loop)
    record = recorded(finer(loop, whole), task, validation.inputs, depth * whole, rows)
    right = record.valid.mean(1)
    enough, steps = right[-1] - slack, right[whole - 1 :: whole]
    fixed_depth, rounds = (1 + int((share >= enough).argmax()) for share in (steps, right))
    found = {"full": right[-1], "fixed_depth": fixed_depth, "fixed": steps[fixed_depth - 1]}
    found |= {"rounds": rounds, "rounds_accuracy": right[rounds - 1], "rounds_of_a_step": whole}
    found = {k: v if isinstance(v, int) else float(v) for k, v in found.items()}
    trials = []
    for looks in [n for n in LOOKS if whole % n == 0]:
        every = slice(whole // looks - 1, None, whole // looks)
        seen = Record(*(column[every] for column in record))
        trial = best_rule(seen, looks, found["fixed"]) or {
            "looks": looks,
            "rule": "sure",
            "level": LEVELS[-1],
            "reached": False,
        }
        trial["steps_verified"] = float((first(seen.valid) + 1).mean() / looks)
        for name, halt, judge in (
            ("seconds", RULES[trial["rule"]](trial["level"]), None),
            ("seconds_verified", None, task.valid_batch),
        ):
            trial[name] = np.inf
            for _ in range(2):
                began = time.perf_counter()
                engine(finer(loop, looks), validation.inputs, rows, depth * looks, halt, judge)
                trial[name] = min(trial[name], time.perf_counter() - began)
        trials.append(trial)
    found["continuous"] = min(trials, key=lambda t: (not t.get("reached", True), t["seconds"]))
    return found | {"verified": min(trials, key=lambda t: t["seconds_verified"]), "trials": trials}


def cuts(loop: Any) -> int:
    """Parts that a step can be cut into."""
    return int(loop.c.rounds) if hasattr(loop, "finer") else 1


def finer(loop: Any, looks: int) -> Any:
    return loop.split_steps(looks) if looks > 1 else loop


def of_rounds(loop: Any, rounds: int) -> Any:
    """The same loop with a step of so many rounds: a fixed depth that may end within a step, at no cost beside it."""
    twin = copy(loop)
    twin.c = replace(loop.c, rounds=rounds)
    return twin


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
        validation = mixed(task, min(1000, args.limit), SEEDS[0], args.mix)
        test = mixed(task, args.limit, SEEDS[1], args.mix)
    chosen = tuned(loop, task, validation, args.depth, args.slack, args.rows)
    print(chosen, flush=True)
    x, rows, depth, valid = test.inputs, args.rows, args.depth, task.valid_batch
    whole, cut, checked = chosen["rounds_of_a_step"], chosen["continuous"], chosen["verified"]["looks"]
    halt, steps = RULES[cut["rule"]](cut["level"]), chosen["fixed_depth"]
    fine, seen = finer(loop, cut["looks"]), finer(loop, checked)  # what continuous and verified run
    deep, far = depth * cut["looks"], depth * checked
    policies = {
        "full": lambda: fixed(loop, x, rows, depth),
        "fixed": lambda: fixed(loop, x, rows, steps),
        "rounds": lambda: fixed(of_rounds(loop, chosen["rounds"]), x, rows, 1),
        "wait": lambda: fixed(fine, x, rows, deep, halt),
        "compaction": lambda: engine(fine, x, rows, deep, halt, None, refill=False),
        "continuous": lambda: engine(fine, x, rows, deep, halt, None),
        "verified": lambda: engine(seen, x, rows, far, None, valid),
        "compiled": lambda: engine(graph, x, rows, depth, None, valid, sizes=compiled_batch_sizes(rows)),
    }
    looks = {"wait": cut["looks"], "compaction": cut["looks"], "continuous": cut["looks"], "verified": checked}
    looks["rounds"] = whole / chosen["rounds"]
    if whole == 1:
        del policies["rounds"]
    if (graph := compile_step(loop)) is None:
        print("no compiled policy: the blocks of this loop run as one compiled region already", flush=True)
        del policies["compiled"]
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
        mean_steps = needed / len(test) / looks.get(name, 1)
        row = {"policy": name, "accuracy": accuracy, "mean_steps": mean_steps, "ideal": steps / mean_steps}
        row |= {"puzzles_per_s": np.median(speed), "low": speed.min(), "high": speed.max()}
        row |= {"occupancy": needed / (ticks[0] * rows if ticks else run)}
        for rival in [rival for rival in ("fixed", "rounds", "full") if rival in seconds]:
            row[f"against_{rival}"] = np.median(np.array(seconds[rival]) / np.array(seconds[name]))
        table.append(row)
        print({k: round(float(v), 3) if not isinstance(v, str) else v for k, v in table[-1].items()}, flush=True)
    best = next(r for r in table if r["policy"] == "continuous")["puzzles_per_s"]
    load = []
    for share in args.loads:
        for name, kind, most, rule, judge in (
            ("continuous", fine, deep, halt, None),
            ("verified", seen, far, None, valid),
            ("fixed", loop, steps, None, None),
        ):
            took = arrivals(kind, x, rows, most, rule, judge, share * best)
            p50, p99 = np.quantile(took, [0.5, 0.99])
            load.append({"policy": name, "load": share, "rate": share * best, "p50_ms": 1e3 * p50, "p99_ms": 1e3 * p99})
            print({k: round(float(v), 2) if not isinstance(v, str) else v for k, v in load[-1].items()}, flush=True)
    plain = lambda rows_: [{k: v if isinstance(v, str) else float(v) for k, v in r.items()} for r in rows_]  # noqa: E731
    value = {
        "subject": of_model(opened), "run": Path(args.run).name, "data": Path(test.source).name,
        "mix": args.mix, "test_puzzles": len(test), "batch": rows,
        "validation_puzzles": len(validation), "depth": depth, "slack": args.slack, "chosen": chosen,
        "rows": plain(table), "arrivals": plain(load), "born": birth_certificate(SEEDS),
    }  # fmt: skip
    files.write_json(args.out, value)


if __name__ == "__main__":
    main()
