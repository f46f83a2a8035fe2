"""`train`: a recipe, your data, a folder."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from rich.console import Console

from innerloop import recipes, tasks
from innerloop.cli.inputs import device_named, read_run
from innerloop.errors import InputError
from innerloop.learn import checkpoint
from innerloop.learn.train import Result
from innerloop.learn.train import train as learn
from innerloop.recipes import run as runs
from innerloop.text import printable

RESULTS = ("result.json", "eval.json", "study.json")
RUN_FILES = ("run.json", "config.json", "metrics.jsonl", checkpoint.MODEL, checkpoint.STATE, *RESULTS)
MOST = 100_000  # training puzzles up to which leakage is looked for without being asked


def train(
    recipe: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RECIPE|RUN")],
    data: str = "",
    test: str = "",
    system: str = "",
    task: str = "",
    out: str = "",
    set: tuple[str, ...] = (),
    device: str = "auto",
    log: tuple[str, ...] = (),
    minutes: float = 0.0,
    fresh: bool = False,
) -> int:
    """Train a recipe, on its own puzzles or on yours; go on with a run that was interrupted.

    Example:  innerloop train sudoku4 --set plan.steps=500 data.count=400

    Example:  innerloop train demo --data my_puzzles.csv --out runs/mine

    Example:  innerloop train runs/mine            (goes on where it was interrupted)

    Example:  innerloop train family --system hrm --task maze11

    Example:  torchrun --nproc-per-node 8 -m innerloop.cli train demo

    Args:
        recipe: Name of a recipe (innerloop list), or the folder of a run to go on with.
        data: Puzzles to learn from: .csv, .jsonl, .npz, an official folder, or a Hugging Face name.
        test: Puzzles to validate on; without it a part of --data is held out.
        system: Of the recipe family: the system to train (innerloop list).
        task: Of the recipe family: what to train it on.
        out: Folder of the run; by default runs/NAME.
        set: Fields to change, such as plan.steps=500 config.size.width=96 seed=1.
        device: auto, cpu or cuda.
        log: Also log to tensorboard, wandb or trackio.
        minutes: Train at most so long; the same command goes on where this one ended.
        fresh: Forget what an earlier run left in the folder.
    """
    rank = int(os.environ.get("RANK", "0"))
    console = Console(highlight=False, quiet=rank > 0, soft_wrap=True)
    run, folder = choose(recipe, data, test, out, set, {"system": system, "task": task})
    where, why = device_named(device)
    built = runs.build(run)
    if fresh and rank == 0:
        forget(folder)
    if rank == 0:
        runs.write_run(folder, built.run)
    leak = leak_sentence(built)
    introduce(console, built, folder, leak, why)
    if not 0 <= minutes < float("inf"):
        raise InputError(f"--minutes {minutes:g} is no time to train: give a number above 0, or leave it out")
    result = learned(built, folder, where, rank, log, minutes)
    if result is None:
        console.print(f"interrupted; go on with: [bold]innerloop train {folder}[/]")
        return 130
    if rank == 0:
        keep(folder, built, result, leak)
        conclude(console, folder, result, built)
    return 1 if result.stopped else 0


def learned(
    built: runs.Built, folder: Path, where: torch.device, rank: int, log: tuple[str, ...], minutes: float
) -> Result | None:
    """What training came to; None where the user interrupted it."""
    how: dict[str, Any] = {"validation": built.validation, "seed": built.run.seed, "device": where, "sinks": log}
    how |= {"live": rank == 0, "on_check": None if rank else say_check, "minutes": minutes}
    try:
        return learn(built.loop, built.task, built.train, built.run.plan, folder, **how)
    except KeyboardInterrupt:
        return None
    except torch.OutOfMemoryError:
        raise InputError("the GPU's memory is full: raise plan.accumulate (same result, less memory)") from None


def choose(
    recipe: str, data: str, test: str, out: str, changes: tuple[str, ...], parameters: dict[str, str]
) -> tuple[runs.Run, Path]:
    """The Run that was asked for, and its folder."""
    folder = Path(recipe)
    if (folder / "run.json").exists():
        if data or test or out or any(parameters.values()):
            raise InputError(
                f"{folder} is a run and has all that: leave out --data, --test, --out, --system and --task"
            )
        return runs.override(read_run(folder), changes), folder
    if folder.is_dir() or "/" in recipe:
        raise InputError(
            f"{recipe} is neither a recipe nor the folder of a run (it has no run.json): see innerloop list"
        )
    run = recipes.get(recipe, **{k: v for k, v in parameters.items() if v})
    if test and not data:
        raise InputError("--test is given without --data: give both, or neither")
    if data:
        # 0 rows to take means all: the recipe's count was for the puzzles it generates. What the file tells, it tells.
        file = replace(run.data, train=data, test=test, count=0)
        run = replace(run, data=replace(file, task="", options={}) if file.task in tasks.INFERRED else file)
    name = run.name if any(parameters.values()) else recipe
    return runs.override(run, changes), Path(out or f"runs/{name}")


def forget(folder: Path) -> None:
    """Remove what a run wrote in `folder`, and nothing else."""
    for path in [*(folder / name for name in RUN_FILES), *checkpoint.pieces(folder)]:
        path.unlink(missing_ok=True)


def introduce(console: Console, built: runs.Built, folder: Path, leak: str, why: str) -> None:
    """What is about to be trained, on what, where."""
    run, count = built.run, sum(p.numel() for p in built.loop.parameters())
    size = "x".join(map(str, built.task.shape))
    console.print(f"[bold]{run.name}[/]: {run.system} with {count:,} parameters on {built.task.name} {size}")
    console.print(f"{len(built.train):,} puzzles to learn from, {len(built.validation):,} others to validate on")
    for name, examples in (("learn from", built.train), ("validate on", built.validation)):
        if examples.reading is not None and (run.data.test or examples is built.train):
            console.print(f"to {name}: {printable(examples.source)} is {examples.reading}", markup=False)
    console.print(leak)
    dtype = getattr(run.config, "dtype", "float32")
    console.print(f"device {why}; states in {dtype}, weights in float32")
    if (folder / checkpoint.STATE).exists():
        state = checkpoint.load_state(folder)
        step = state["step"] if state else 0
        done = "is finished at" if step >= run.plan.steps else "goes on from"
        console.print(f"the run in {folder} {done} step {step} of {run.plan.steps} (--fresh begins anew)")
    else:
        console.print(f"the run is kept in {folder}")


def leak_sentence(built: runs.Built) -> str:
    if len(built.train) > MOST:
        return f"leakage is not looked for in more than {MOST:,} puzzles: see innerloop.tasks.leakage"
    return str(tasks.leakage(built.train, built.validation, built.task)).replace("test puzzle", "validation puzzle")


def say_check(step: int, rows: list[Any]) -> None:
    """One line a validation. print, not rich: the live progress line lifts it above itself."""
    parts = [
        f"depth {r.depth}: exact {r.exact:.1%}" + ("" if r.valid is None else f" valid {r.valid:.1%}") for r in rows
    ]
    print(f"step {step}: " + ", ".join(parts), flush=True)


def keep(folder: Path, built: runs.Built, result: Result, leak: str) -> None:
    sizes: dict[str, Any] = {
        "leakage": leak,
        "train_puzzles": len(built.train),
        "validation_puzzles": len(built.validation),
    }
    sizes["parameters"] = sum(p.numel() for p in built.loop.parameters())
    born = runs.birth_certificate([built.run.seed])
    checkpoint.write_json(folder / "result.json", result._asdict() | sizes | {"born": born})


def conclude(console: Console, folder: Path, result: Result, built: runs.Built) -> None:
    task, steps = built.task, built.run.plan.steps
    if result.stopped:
        console.print(f"[bold red]stopped[/]: {result.stopped}")
        return
    if result.steps < steps:
        console.print(f"step {result.steps} of {steps}; go on with: [bold]innerloop train {folder}[/]")
        return
    if result.best:
        best = f"exact {result.best['exact']:.1%}"
        best += f", valid {result.best['valid']:.1%}" if task.verifies else ""
        console.print(f"[bold]best validation[/]: {best} at step {result.best['step']:.0f}")
    console.print(f"{result.steps} steps in {result.seconds:.1f} s of training; weights in {folder / checkpoint.MODEL}")
    console.print(f"next: [bold]innerloop eval {folder} --depth 1,4,16,64[/]")
