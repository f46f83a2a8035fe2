"""What depth, width and selection buy: accuracy over depth 1 .. 256 and width 1 .. 64 with every rule, by block calls.

    python benchmarks/solve.py RUN --data DATA/sudoku9_medium_test.csv --out results/solve_medium.json
    python benchmarks/solve.py RUN --noise 0.3,0.3 --no-views --out OUT.json     # width by noise, not by symmetry views

Every puzzle gets all trajectories to the deepest depth once; each (depth, width) is read from the first trajectories at
that depth. `verified` stops at the first valid answer, wave by wave of trajectories, and pays only for what it ran;
`first` lets all run until one halts by itself; the other rules pay for depth x width. `oracle` is pass@N: some
trajectory is right at that depth, whoever could tell which.
Puzzles are done in parts, each kept beside --out as soon as it is done; the same command goes on where it was cut off.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from subject import of_model

from innerloop import files
from innerloop.core import Question
from innerloop.data.opening import open_set
from innerloop.halt import halting_margin, residual
from innerloop.interval import wilson
from innerloop.learn.evaluate import default_halt
from innerloop.learn.precision import prepare
from innerloop.noise import salted
from innerloop.pretrained import open as open_model
from innerloop.runs.certificate import birth_certificate
from innerloop.runs.fit import load_data
from innerloop.solve.choose import RULES, Trajectories, choose
from innerloop.solve.job import next_wave
from innerloop.solve.nfe import CompiledLoop, in_float32, nfe_per_step
from innerloop.width import Noisy

NEVER = 10**9  # a step that did not come


@torch.no_grad()
def thought(loop: Any, task: Any, questions: np.ndarray, depths: list[int], views: Any, width: int, verify: Any) -> Any:
    """Of N questions x `width` trajectories: what each says at `depths`, and its first valid and first halted step."""
    n = len(questions)
    asked = np.repeat(questions, width, 0)
    seen = views.take(np.tile(np.arange(width), n)) if views is not None else None
    tokens = torch.from_numpy((seen.apply(asked) if seen is not None else asked).astype(np.int64))
    x = Question(tokens, torch.zeros(len(tokens), dtype=torch.long))
    state = salted(loop.init(x), torch.arange(width).repeat(n))
    halt = default_halt(loop)
    valid, halted = np.full(len(asked), NEVER), np.full(len(asked), NEVER)
    last, found = np.zeros_like(asked), []
    for t in range(1, max(depths) + 1):
        old, state = state, loop.step(state, x)
        answer = loop.read(state)
        said = answer.logits.argmax(-1).numpy().astype(np.uint8)
        said = seen.undo(said) if seen is not None else said
        fresh = (said != last).any(1) & (valid == NEVER) if t > 1 else np.ones(len(said), bool)
        if fresh.any():
            valid[fresh] = np.where(verify(asked[fresh], said[fresh]), t, NEVER)
        last = said
        if (halted == NEVER).any():
            stop = torch.as_tensor(halt(loop, old, state, torch.full((len(asked),), t))).expand(len(asked)).numpy()
            halted[stop & (halted == NEVER)] = t
        if t in depths:
            sure = torch.log_softmax(answer.logits.float(), -1).amax(-1).mean(1).numpy()
            q = np.full(len(asked), np.nan) if answer.q_halt is None else halting_margin(answer).sigmoid().numpy()
            value = np.full(len(asked), np.nan) if answer.value is None else answer.value.numpy()
            found.append({"answers": said, "certainty": sure, "q": q, "value": value})
            found[-1]["residual"] = residual(old, state).numpy()
    shape = (len(depths), n, width)
    arrays = {k: np.stack([f[k] for f in found]).reshape(*shape, *found[0][k].shape[1:]) for k in found[0]}
    return arrays | {"valid": valid.reshape(n, width), "halted": halted.reshape(n, width)}


def table(data: dict[str, np.ndarray], right: np.ndarray, depths: list[int], widths: list[int], calls: int) -> Any:
    """Rows of accuracy: right (D, N, K) says whether each trajectory is right at each depth."""
    n = right.shape[1]
    rows = []

    def add(depth: int, width: int, rule: str, hits: Any, nfe: float) -> None:
        low, high = wilson(float(np.sum(hits)), n)
        said = {"depth": depth, "width": width, "rule": rule, "accuracy": float(np.mean(hits))}
        rows.append(said | {"low": low, "high": high, "nfe": nfe, "puzzles": n})

    for at, depth in enumerate(depths):
        for width in widths:
            add(depth, width, "oracle", right[at, :, :width].any(1), float(depth * width * calls))
            add(depth, width, "mean", right[at, :, :width].mean(1), float(depth * calls))
            first = np.minimum(data["valid"][:, :width], depth + 1)
            add(depth, width, "verified", (first <= depth).any(1), in_waves(first, depth) * calls)
            for rule in RULES:
                if rule == "verified" or (rule == "first" and (data["halted"] > depth).all()):
                    continue
                picked = [winner(data, at, i, width, depth, rule) for i in range(n)]
                if picked[0] is None:
                    continue
                ran = np.minimum(data["halted"][:, :width].min(1), depth).mean() if rule == "first" else depth
                add(depth, width, rule, right[at, np.arange(n), picked], float(ran * width * calls))
    return rows


def in_waves(first: np.ndarray, depth: int) -> float:
    """Mean steps that verification takes, as solve/job.py begins trajectories; first (N, K): of a valid answer."""
    spent, still, given = np.zeros(len(first)), np.ones(len(first), bool), 0
    while given < first.shape[1]:
        part = next_wave(given, first.shape[1])
        best = first[:, part.start : part.stop].min(1)
        spent += still * len(part) * np.minimum(best, depth)
        still &= best > depth
        given = part.stop
    return float(spent.mean())


def winner(data: dict[str, np.ndarray], at: int, i: int, width: int, depth: int, rule: str) -> int | None:
    """The trajectory of puzzle i that `rule` takes; None where the loop has no head for the rule."""
    columns = {k: data[k][at, i, :width] for k in ("answers", "certainty", "q", "value", "residual")}
    columns["mean_log_prob"] = columns.pop("certainty")
    halted = data["halted"][i, :width]
    steps = np.minimum(halted, depth)
    t = Trajectories(**columns, steps=steps, halted=halted <= depth, valid=np.zeros(width, bool))
    return None if np.isnan(RULES[rule](t)).all() else choose(t, rule).winner


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("--data", default="", help="labelled puzzles; none: generated ones that the run has not seen")
    parser.add_argument("--limit", type=int, default=200)
    parser.add_argument("--depths", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32, 64, 128, 256])
    parser.add_argument("--widths", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32, 64])
    parser.add_argument("--noise", default="0,0", help="standard deviations on the first state and on every step")
    parser.add_argument("--views", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--rows", type=int, default=512, help="trajectories run at once")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--compile", action="store_true", help="steps as one graph: a third faster on small nets")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    opened = open_model(args.run)
    prepare(opened.loop, "cpu")
    task, width = opened.task, max(args.widths)
    if args.data:
        examples = open_set(args.data, task, args.limit)[1]
    else:
        examples = task.make(args.limit, opened.run.data.seed + 5_000_003)
    loop: Any = in_float32(opened.loop) if max(args.depths) >= 256 else opened.loop
    calls = nfe_per_step(loop, task)
    noise = [float(v) for v in args.noise.split(",")]
    if any(noise):
        loop = Noisy(loop, *noise, seed=args.seed)
    loop = CompiledLoop(loop) if args.compile else loop
    views = task.views(width, np.random.default_rng(args.seed)) if args.views else None
    if views is not None:
        views.cells[0], views.tokens[0] = np.arange(views.cells.shape[1]), np.arange(views.tokens.shape[1])
    size = max(1, args.rows // width)
    parts = args.out.with_suffix(".parts")
    parts.mkdir(parents=True, exist_ok=True)
    for first in range(0, len(examples), size):
        path = parts / f"{first}.npz"
        if not path.exists():
            part = examples.inputs[first : first + size]
            made = thought(loop, task, part, args.depths, views, width, task.valid_batch)
            files.write(path, lambda p, made=made: np.savez(p.open("wb"), **made))
            print(f"{first + len(part)} of {len(examples)} puzzles", flush=True)
    every = [dict(np.load(parts / f"{first}.npz")) for first in range(0, len(examples), size)]
    whole = ("valid", "halted")
    data = {k: np.concatenate([e[k] for e in every], 0 if k in whole else 1) for k in every[0]}
    D, N, K, S = data["answers"].shape
    flat = data["answers"].reshape(D, N * K, S)
    asked = np.repeat(examples.inputs, K, 0)
    right = np.stack([task.valid_batch(asked, a) for a in flat]).reshape(D, N, K)
    rows = table(data, right, args.depths, args.widths, calls)
    trained = json.loads((opened.folder / "run.json").read_text())["born"] if opened.folder.is_dir() else {}
    value = {
        "subject": of_model(opened), "run": Path(args.run).name, "system": opened.run.system, "task": task.name,
        "data": Path(examples.source).name,
        "test_puzzles": len(examples), "train_puzzles": len(load_data(opened.run.data)[1]), "block_calls_a_step": calls,
        "trained_depth": opened.run.plan.trained_depth, "noise": noise, "views": views is not None, "seed": args.seed,
        "trained": trained, "born": birth_certificate([args.seed]), "rows": rows,
    }  # fmt: skip
    files.write_json(args.out, value)
    for path in parts.iterdir():
        path.unlink()
    parts.rmdir()
    for row in rows:
        if row["width"] in (1, max(args.widths)):
            print({k: round(v, 3) if isinstance(v, float) else v for k, v in row.items()})


if __name__ == "__main__":
    main()
