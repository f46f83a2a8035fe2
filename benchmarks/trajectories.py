"""What makes the trajectories of a bundled model differ, and whether many short ones beat one long one.

    python benchmarks/trajectories.py --tune DATA/sudoku9_medium_train.csv DATA/sudoku9_medium_test.csv --out OUT.json

Every puzzle may cost so many steps (--steps), as one trajectory of them all, two of half as many, and so on; a verifier
ends a puzzle at its first valid answer, wave by wave of trajectories as in solve/job.py. The first trajectory is always
the plain one. The others, by arm:
  views         see the puzzle turned and renamed, without noise
  start S       start with the model's own noise, S times what it was trained with
  path S        have noise of standard deviation S on their state after every step
  guess         are given one cell more, as the solver does (solve/guess.py): of the cells that the first trajectory is
                least certain of after its first steps
The scales of noise are tried on --tune, puzzles of another file, at a width of 8; the best of each kind is then judged.
Only puzzles that the first trajectory has not solved in the fewest steps are given others. Resumable by set.
"""

from __future__ import annotations

import argparse
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from solve import NEVER, in_waves
from subject import of_model

from innerloop import files
from innerloop.core import Question, think
from innerloop.data.opening import open_set
from innerloop.interval import wilson
from innerloop.learn.precision import prepare
from innerloop.pretrained import open as open_model
from innerloop.runs.certificate import birth_certificate, commit
from innerloop.solve.engine import Engine, Job
from innerloop.solve.guess import with_guess
from innerloop.solve.nfe import nfe_per_step
from innerloop.width import Noisy

STARTS, PATHS = (0.5, 1.0, 2.0, 4.0), (0.1, 0.3, 1.0)
EMPTY = 1  # token of an empty cell
TUNED = 8  # trajectories at which the scales are compared


def shaken(loop: Any, start: float = 0.0, path: float = 0.0) -> Any:
    """The loop with its own noise `start` times as large, and with noise on every step."""
    twin = copy(loop)
    twin.c = replace(loop.c, sigma=loop.c.sigma * start)
    return Noisy(twin, 0.0, path, ("h",)) if path else twin


def first_valid(loop: Any, task: Any, jobs: list[Job], shape: tuple[int, int]) -> np.ndarray:
    """(N, K) the step after which each trajectory's answer is valid; NEVER for one that has none, or was not run."""
    engine = Engine(loop, min(64, max(1, len(jobs))), verify=task.valid_batch)
    found = np.full(shape, NEVER)
    for job in jobs:
        engine.submit(job)
    for done in engine.run():
        if done.end == "verified":
            found[done.job.owner] = done.result.step
    return found


def given_more(loop: Any, inputs: np.ndarray, depth: int, width: int) -> np.ndarray:
    """(N, width - 1, S) the questions of trajectories 1 .. width - 1: with what the first would fill in."""
    with torch.no_grad():
        x = Question(torch.from_numpy(inputs.astype(np.int64)), torch.zeros(len(inputs), dtype=torch.long))
        certainty, answer = (t.numpy() for t in torch.softmax(think(loop, x, depth).answer.logits.float(), -1).max(-1))
    first = zip(inputs, answer.astype(inputs.dtype), certainty, strict=True)
    return np.array([[with_guess(q, a, c, EMPTY, k) for k in range(1, width)] for q, a, c in first])


def arm(kind: str, scale: float, loop: Any, task: Any, inputs: np.ndarray, plan: list[int], seed: int) -> np.ndarray:
    """(N, K) first valid steps of trajectories 1 .. K - 1 to plan[k] steps; column 0 is left to the caller."""
    n, width = len(inputs), len(plan)
    if not n:
        return np.full((n, width), NEVER)
    asked = np.repeat(inputs[:, None], width, 1)
    moved = {"start": shaken(loop, start=scale), "path": shaken(loop, path=scale)}.get(kind, loop)
    if kind == "guess":
        asked[:, 1:] = given_more(loop, inputs, min(plan), width)
    if kind == "views":
        views = task.views(width, np.random.default_rng(seed))
        seen = views.take(np.tile(np.arange(width), n))
        asked = seen.apply(asked.reshape(n * width, asked.shape[-1])).reshape(asked.shape)
    salt = (lambda k: k) if kind in ("start", "path") else (lambda k: 0)
    jobs = [
        Job(asked[i, k], plan[k], verify=True, salt=salt(k), owner=(i, k)) for i in range(n) for k in range(1, width)
    ]
    return first_valid(moved, task, jobs, (n, width))


def plans(steps: int, most: int) -> list[int]:
    """How far trajectory k may have to go: as far as the narrowest width that has it."""
    return [steps >> (k.bit_length()) for k in range(most)]


def whole(alone: np.ndarray, hard: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(N, K) first valid steps of all puzzles: of the first trajectory everywhere, of the others where it is hard."""
    found = np.full((len(alone), others.shape[1]), NEVER)
    found[:, 0] = alone
    found[hard, 1:] = others[:, 1:]
    return found


def row(found: np.ndarray, depth: int, width: int, calls: int) -> dict[str, Any]:
    first = found[:, :width]
    hits = (first <= depth).any(1)
    low, high = wilson(float(hits.sum()), len(hits))
    nfe = in_waves(np.minimum(first, depth + 1), depth) * calls
    said = {"depth": depth, "width": width, "accuracy": float(hits.mean()), "low": low, "high": high}
    return said | {"nfe": nfe, "puzzles": len(hits)}


def alone(loop: Any, task: Any, inputs: np.ndarray, steps: int) -> np.ndarray:
    """(N,) first valid step of the plain trajectory."""
    jobs = [Job(q, steps, verify=True, owner=(i, 0)) for i, q in enumerate(inputs)]
    return first_valid(loop, task, jobs, (len(inputs), 1))[:, 0]


def tuned(loop: Any, task: Any, inputs: np.ndarray, args: argparse.Namespace, calls: int) -> list[dict[str, Any]]:
    """Every scale of noise on validation puzzles, TUNED trajectories of a TUNED-th of the steps each."""
    depth = args.steps // TUNED
    first = alone(loop, task, inputs, depth)
    hard, rows = np.flatnonzero(first > depth), []
    for kind, scales in (("start", STARTS), ("path", PATHS)):
        for scale in scales:
            others = arm(kind, scale, loop, task, inputs[hard], [depth] * TUNED, args.seed)
            rows.append({"arm": kind, "scale": scale} | row(whole(first, hard, others), depth, TUNED, calls))
            print({k: round(v, 3) if isinstance(v, float) else v for k, v in rows[-1].items()}, flush=True)
    return rows


def judged(source: str, opened: Any, chosen: dict[str, float], args: argparse.Namespace, calls: int) -> dict[str, Any]:
    """One set: depth alone, and every arm at every width, for the same steps."""
    loop, task = opened.loop, opened.task
    every = open_set(source, task)[1]
    inputs = every.inputs[np.sort(np.random.default_rng(args.seed).permutation(len(every))[: args.limit])]
    widths = [1 << k for k in range(args.widest.bit_length())]
    plan = plans(args.steps, args.widest)
    first = alone(loop, task, inputs, args.steps)
    hard, rows = np.flatnonzero(first > min(plan)), []
    for kind, scale in {"views": 0.0, "start": chosen["start"], "path": chosen["path"], "guess": 0.0}.items():
        mine = plan[:4] if kind == "views" else plan  # the same thought again: four of it show that
        found = whole(first, hard, arm(kind, scale, loop, task, inputs[hard], mine, args.seed))
        said = {"arm": kind, "scale": scale}
        rows += [said | row(found, args.steps // w, w, calls) for w in widths[1:] if w <= len(mine)]
        print({f"{r['arm']} {r['depth']}x{r['width']}": round(r["accuracy"], 3) for r in rows}, flush=True)
    rows += [{"arm": "one trajectory", "scale": 0.0} | row(first[:, None], args.steps // w, 1, calls) for w in widths]
    return {"set": Path(source).name.partition(".")[0], "rows": rows, "born": birth_certificate([args.seed])}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="+", help="labelled files, on which the scales chosen are judged")
    parser.add_argument("--model", default="demo-sudoku9")
    parser.add_argument("--tune", required=True, help="a file of other puzzles, on which the scales are chosen")
    parser.add_argument("--tune-limit", type=int, default=200)
    parser.add_argument("--limit", type=int, default=400)
    parser.add_argument("--steps", type=int, default=256, help="of a puzzle at most, over all its trajectories")
    parser.add_argument("--widest", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    commit()
    opened = open_model(args.model)
    prepare(opened.loop, "cpu")
    calls = nfe_per_step(opened.loop, opened.task)
    value = files.read_json(args.out) if args.out.exists() else {}
    if not value:
        every = open_set(args.tune, opened.task)[1]
        inputs = every.inputs[np.sort(np.random.default_rng(args.seed).permutation(len(every))[: args.tune_limit])]
        trials = tuned(opened.loop, opened.task, inputs, args, calls)
        chosen = {}
        for kind in ("start", "path"):
            best = max((t for t in trials if t["arm"] == kind), key=lambda t: (t["accuracy"], -t["nfe"]))
            chosen[kind] = best["scale"]
        value = {"subject": of_model(opened), "tuned_on": Path(args.tune).name.partition(".")[0], "chosen": chosen}
        value |= {"block_calls_a_step": calls, "steps": args.steps, "trials": trials, "sets": []}
    for source in args.sets:
        if any(s["set"] == Path(source).name.partition(".")[0] for s in value["sets"]):
            continue
        value["sets"].append(judged(source, opened, value["chosen"], args, calls))
        value["born"] = birth_certificate([args.seed])
        files.write_json(args.out, value)


if __name__ == "__main__":
    main()
