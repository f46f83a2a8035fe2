"""The family compared: every system on the same tasks, at matched parameters and training FLOPs, over seeds.

    python benchmarks/family.py --threads 1                     # all systems, three tasks, three seeds
    python benchmarks/family.py --systems trm deq --tasks sudoku6 --seeds 0
    make family-smoke                                           # a small version, one seed, a few minutes

Every finished (system, task, seed) is kept at once in --out; the same command goes on where it was cut off.
Rows trained beside other work have no honest `seconds`: `--pace` measures those again, on a quiet machine.
`--part 0/2` and `--part 1/2` share the work between two processes with two --out files; `--join` puts them together.
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
from subject import of_recipe
from torch import Tensor

from innerloop import files, tasks, weights
from innerloop.learn import checkpoint
from innerloop.learn.evaluate import batches, evaluate
from innerloop.learn.precision import prepare
from innerloop.learn.stream import ExampleStream
from innerloop.learn.train import Trainer, train
from innerloop.parts.mixers import Net
from innerloop.recipes import family
from innerloop.runs import cost
from innerloop.runs.certificate import birth_certificate, commit
from innerloop.runs.fit import BuiltRun, build, unseen_puzzles

TASKS = ("sudoku6", "maze11", "prefix")


def tape(built: BuiltRun, rows: int = 8) -> dict[str, float]:
    """Taped and untaped calls of nets in one optimizer step, and the bytes autograd keeps for one example."""
    loop, plan = built.loop.train(), built.run.plan
    batch = ExampleStream(built.train, None, 0).fill(torch.ones(rows, dtype=torch.bool), 0)
    calls, kept = {True: 0, False: 0}, {}

    def count(*_: Any) -> None:
        calls[torch.is_grad_enabled()] += 1

    def keep(t: Tensor) -> Tensor:
        kept[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        return t

    own = {p.untyped_storage().data_ptr() for p in loop.parameters()}
    hooks = [m.register_forward_hook(count) for m in loop.modules() if isinstance(m, Net)]
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        out = cost.training_step(loop, batch, plan, plan.unroll.mean_depth)
    for hook in hooks:
        hook.remove()
    total = sum(n for pointer, n in kept.items() if pointer not in own)
    del out
    return {"taped_calls": calls[True], "untaped_calls": calls[False], "taped_kB_per_example": total / rows / 1024}


def curve(built: BuiltRun, examples: Any, depths: list[int]) -> list[float]:
    """Accuracy at each of `depths`, in their order."""
    rows = evaluate(built.loop, built.task, examples, depths, batch=256)
    at = {r.depth: r.exact if r.valid is None else r.valid for r in rows}
    return [at[d] for d in depths]


@torch.no_grad()
def loop_halts(built: BuiltRun, examples: Any) -> bool:
    """Whether the system has a halting head or a rule of its own."""
    if hasattr(built.loop, "stop"):
        return True
    question = next(batches(examples, 2, "cpu"))[1]
    return built.loop.read(built.loop.init(question)).q_halt is not None


def one(system: str, task: str, seed: int, limit: int, scale: float) -> dict[str, Any]:
    """Train and test one system. Accuracies are shares of unseen puzzles whose answer obeys the rules."""
    world = family.FAMILY_TASKS[task]
    run = replace(family.family(system, task), seed=seed)
    if scale != 1:
        run = replace(run, plan=replace(run.plan, **family.schedule_fields(max(1, round(run.plan.steps * scale)))))
    built = build(run)
    row: dict[str, Any] = {"task": task, "system": system, "seed": seed, "commit": commit()}
    row["width"] = run.config.net.hidden_size
    row |= {"parameters": sum(p.numel() for p in built.loop.parameters())}
    row |= {"MFLOP_per_example": family.flops_per_step(system, task) / 1e6, "optimizer_steps": run.plan.steps} | tape(
        built
    )
    built.loop.train()
    with tempfile.TemporaryDirectory() as folder:
        how = {"validation": built.validation, "seed": seed, "live": False}
        prepare(built.loop, "cpu")
        result = train(built.loop, built.task, built.train, built.run.plan, folder, **how)
        if result.best:
            checkpoint.load_weights(Path(folder) / checkpoint.MODEL, built.loop)
    built.loop.eval()
    deepest = run.plan.depths[-1]
    test = unseen_puzzles(built.task, built.train, run.data, limit)
    row |= {"seconds": result.seconds, "stopped": result.stopped, "trained_depth": deepest, "test_puzzles": len(test)}
    row["depths"] = [max(1, deepest // 4), deepest, 2 * deepest, 4 * deepest, 8 * deepest]
    row["accuracy"] = curve(built, test, row["depths"])
    if loop_halts(built, test):
        own = evaluate(built.loop, built.task, test, (deepest,), halting=(True,), batch=256)[0]
        row |= {"own_halting": own.exact if own.valid is None else own.valid, "own_steps": own.steps}
    if world.harder:
        harder = tasks.get(world.data.task, **world.harder)
        built = built._replace(task=harder)
        row["harder_accuracy"] = curve(built, harder.make(limit, 3_000_003), [deepest, 4 * deepest, 8 * deepest])
    return row


def pace(system: str, task: str, steps: int = 4) -> float:
    """Seconds of an optimizer step, as a mean over training: a schedule may deepen as it goes."""
    run = family.family(system, task)
    built = build(replace(run, data=replace(run.data, count=64, holdout=32)))
    means = []
    with tempfile.TemporaryDirectory() as folder:
        prepare(built.loop, "cpu")
        trainer = Trainer(built.loop.train(), built.task, built.train, built.run.plan, Path(folder), live=False)
        for moment in (0.125, 0.375, 0.625, 0.875):
            trainer.step = round(moment * run.plan.steps)
            trainer.train_step()
            took = []
            for _ in range(steps):
                began = time.perf_counter()
                trainer.train_step()
                took.append(time.perf_counter() - began)
            means.append(float(np.median(took)))
    return float(np.mean(means))


def repaced(path: Path) -> None:
    """Measure every pair of a file again, alone and in turn, and set the seconds that its training takes."""
    value = json.loads(path.read_text())
    for system, task in dict.fromkeys((r["system"], r["task"]) for r in value["rows"]):
        seconds = pace(system, task)
        print(f"{task} {system}: {1000 * seconds:.1f} ms a step", flush=True)
        for row in value["rows"]:
            if (row["system"], row["task"]) == (system, task):
                row["seconds"] = seconds * row["optimizer_steps"]
    value["paced"] = birth_certificate()
    files.write_json(path, value)


def subjects(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the rows are about: the recipe at each system and task."""
    sizes = {(r["system"], r["task"]): r["parameters"] for r in rows}
    return [of_recipe("family", size, system=s, task=t) for (s, t), size in sizes.items()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--systems", nargs="+", default=weights.names())
    parser.add_argument("--tasks", nargs="+", default=list(TASKS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--limit", type=int, default=300, help="test puzzles")
    parser.add_argument("--scale", type=float, default=1.0, help="share of every system's optimizer steps")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--part", default="0/1", help="which share of the work this process does, such as 0/2")
    parser.add_argument("--out", type=Path, default=Path("results/family.json"))
    parser.add_argument("--join", type=Path, nargs="*", default=[], help="put these files' rows into --out, and stop")
    parser.add_argument("--pace", action="store_true", help="only measure the seconds of --out's rows, quietly, again")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.pace:
        return repaced(args.out)
    value = (
        json.loads(args.out.read_text()) if args.out.exists() else {"born": birth_certificate(args.seeds), "rows": []}
    )
    if args.join:
        read = [json.loads(path.read_text()) for path in args.join]
        born = read[0]["born"] | {"command": "; ".join(part["born"]["command"] for part in read)}
        value = {"born": born | {"seeds": sorted({s for part in read for s in part["born"]["seeds"]})}, "rows": []}
        every = [row for part in read for row in part["rows"]]
        value["rows"] = list({(r["task"], r["system"], r["seed"]): r for r in every}.values())
        value["subjects"] = subjects(value["rows"])
        files.write_json(args.out, value)
        return
    mine, shares = (int(n) for n in args.part.split("/"))
    todo = [(s, t, seed) for seed in args.seeds for t in args.tasks for s in args.systems]
    done = {(r["system"], r["task"], r["seed"]) for r in value["rows"]}
    for system, task, seed in np.array(todo, dtype=object)[mine::shares].tolist():
        if (system, task, seed) in done:
            continue
        if refusal := family.refusal_reason(system, task):
            print(refusal, flush=True)
            continue
        row = one(system, task, seed, args.limit, args.scale)
        value["rows"].append(row)
        value["subjects"] = subjects(value["rows"])
        files.write_json(args.out, value)
        said = ", ".join(f"{d}: {v:.3f}" for d, v in zip(row["depths"], row["accuracy"], strict=True))
        harder = row.get("harder_accuracy", "")
        print(f"{task} {system} seed {seed} {row['seconds']:.0f} s | {said} | {harder}", flush=True)


if __name__ == "__main__":
    main()
