"""`train`: train a recipe on its own or the user's data, in a run folder; resume one; several seeds of it at once."""

from __future__ import annotations

import os
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from rich.console import Console

from innerloop import files
from innerloop.cli.choosing import Recipe, Seeds, Source, TrustCode, Workers, choose_run
from innerloop.cli.inputs import choose_device, next_command
from innerloop.errors import InputError
from innerloop.learn import checkpoint
from innerloop.learn.lock import lock_folder
from innerloop.learn.plan import Plan
from innerloop.learn.precision import prepare
from innerloop.learn.train import Result
from innerloop.plugins import name_of
from innerloop.runs.fit import BuiltRun, build, views_note
from innerloop.runs.group import seed_runs
from innerloop.runs.training import fit, is_done
from innerloop.schema import Amount, Whole
from innerloop.text import markup, printable

Minutes = Annotated[Amount, tyro.conf.arg(help="Train at most so long; the same command goes on where this one ended.")]
Until = Annotated[Whole, tyro.conf.arg(help="Train up to this step; the same command without it goes on.")]
Shape = Annotated[str, tyro.conf.arg(help="Rows and columns of a board of --data, such as 5x7, where no row tells.")]
Blank = Annotated[str, tyro.conf.arg(help="The symbol of an empty cell of --data; none: no cell is given.")]
Alphabet = Annotated[
    str, tyro.conf.arg(help="What a cell of --data may hold, as .123 or, if cells have several characters, 1,2,10,__.")
]
Fresh = Annotated[bool, tyro.conf.arg(help="Forget what an earlier run left in the folder.")]
DryRun = Annotated[
    bool, tyro.conf.arg(help="Train nothing: say sizes, FLOPs, memory and the time to expect, from a few timed steps.")
]


def train(
    recipe: Recipe,
    data: str = "",
    test: str = "",
    system: str = "",
    task: str = "",
    shape: Shape = "",
    blank: Blank = "",
    alphabet: Alphabet = "",
    out: str = "",
    set: tuple[str, ...] = (),
    seeds: Seeds = "",
    workers: Workers = "auto",
    device: str = "auto",
    log: tuple[str, ...] = (),
    minutes: Minutes = 0.0,
    until: Until = 0,
    fresh: Fresh = False,
    dry_run: DryRun = False,
    trust_code: TrustCode = False,
) -> int:
    """Train a recipe, on its own puzzles or on yours; go on with a run that was interrupted.

    Example:  innerloop train sudoku4 --data examples/sudoku4.csv --out runs/mine

    Example:  innerloop train runs/mine

    Example:  innerloop train sudoku6 --seeds 0,1,2

    Example:  torchrun --nproc-per-node 8 -m innerloop.cli train demo

    Args:
        recipe: Name of a recipe (innerloop list), a config file (innerloop show), or the folder of a run to go on with.
        data: Puzzles to learn from: .csv, .jsonl, .npz, an official folder, or a Hugging Face name.
        test: Puzzles to validate on; without it a part of --data is held out.
        system: Of the recipe family: the system to train, by name (innerloop list) or as a Python file, FILE.py.
        task: A task of your own as a Python file, FILE.py; of the recipe family also the name of one of its tasks.
        out: Folder of the run; by default runs/NAME.
        set: Fields to change, such as plan.steps=500 config.net.hidden_size=96 seed=1 (innerloop show RECIPE).
        device: auto, cpu or cuda.
        log: Also log to tensorboard, wandb or trackio.
    """
    source = Source(data, test, system, task, shape, blank, alphabet, trust_code)
    if (seeds or seed_runs(Path(recipe))) and not dry_run:
        from innerloop.cli.seeding import train_seeds

        options = source._asdict() | {"device": device, "minutes": minutes, "until": until, "log": log, "fresh": fresh}
        return train_seeds(recipe, options, set, seeds, out, workers)
    run, folder, note = choose_run(recipe, source, out, set)
    where, why = choose_device(device)
    console = Console(emoji=False, highlight=False, quiet=not is_first(), soft_wrap=True)
    built = build(run, folder if folder == Path(recipe) else "")
    for said in filter(None, (note, views_note(built.run.config.net))):
        console.print(said, markup=False)
    if dry_run:
        from innerloop.cli.forecasting import forecast

        return forecast(console, built, where, why)
    how = {"device": where, "sinks": log, "minutes": minutes, "until": until, "fresh": fresh}
    return train_in_folder(console, built, folder, why, how)


def is_first() -> bool:
    """Whether this is the process that writes and prints: rank 0 under torchrun."""
    return os.environ.get("RANK", "0") == "0"


def train_in_folder(
    console: Console, built: BuiltRun, folder: Path, why: str, how: dict[str, Any], brief: bool = False
) -> int:
    """Train in a folder, saying what happens; returns the exit code. Nothing is written before the run is checked.

    brief: without what concerns the machine, and without the next command.
    """
    first = is_first()
    if seed_runs(folder):
        raise InputError(f"{files.shown(folder)} holds several runs: choose another folder (--out), or give --seeds")
    said = prepare(built.loop, how["device"])
    if said and not brief:
        console.print(said, markup=False)

    def start(step: int, leak: str) -> None:
        print_start(console, built, folder, leak, why, step)

    how |= {"on_start": start, "live": first, "on_check": print_validation if first else None}
    try:
        with lock_folder(folder) if first else nullcontext("") as note:
            if note:
                console.print(note, markup=False)
            result = fit(built, folder, **how)
    except KeyboardInterrupt:
        again = f"go on with: [bold]{markup(next_command('train', folder), 4096)}[/]"
        console.print(f"interrupted; {again if (folder / 'run.json').exists() else 'the same command begins again'}")
        return 130
    except torch.OutOfMemoryError:
        raise InputError("the GPU's memory is full: raise plan.accumulate (same result, less memory)") from None
    if first:
        print_result(console, folder, result, built, brief)
    return 1 if result.stopped else 0


def print_start(console: Console, built: BuiltRun, folder: Path, leak: str, why: str, step: int) -> None:
    """Print what is about to be trained, on which data and device, and from which step."""
    run, count = built.run, sum(p.numel() for p in built.loop.parameters())
    size = "x".join(map(str, built.task.shape))
    system = markup(name_of(run.system))
    console.print(f"[bold]{markup(run.name)}[/]: {system} with {count:,} parameters on {built.task.name} {size}")
    console.print(f"{len(built.train):,} puzzles to learn from, {len(built.validation):,} others to validate on")
    for name, examples in (("learn from", built.train), ("validate on", built.validation)):
        if examples.reading is not None and (run.data.test or examples is built.train):
            console.print(f"to {name}: {printable(examples.source)} is {examples.reading}", markup=False)
    console.print(markup(leak))
    dtype = getattr(run.config, "dtype", "float32")
    console.print(f"device {markup(why)}; states in {dtype}, weights in float32")
    if (folder / checkpoint.STATE).exists():
        done = "is finished at" if is_done(folder, run, step) else "goes on from"
        console.print(f"the run in {markup(folder)} {done} step {step} of {run.plan.steps} (--fresh begins anew)")
    else:
        console.print(f"the run is kept in {markup(folder)}")


def print_validation(step: int, rows: list[Any]) -> None:
    """One line a validation. Uses print, which the live progress display redirects above itself."""
    parts = [
        f"depth {r.depth}: exact {r.exact:.1%}" + ("" if r.valid is None else f" valid {r.valid:.1%}") for r in rows
    ]
    print(f"step {step}: " + ", ".join(parts), flush=True)


def what_more_would_bring(result: Result, plan: Plan) -> str:
    """A sentence on whether a longer training is likely to help, from where on the curve it ended."""
    best = result.best
    if result.flat:
        return (
            f"{result.flat}, so training ended at step {result.steps} of {plan.steps} (plan.patience={plan.patience})"
        )
    if best["exact"] == 1:
        return "every validation puzzle is solved: fewer steps may do (--set plan.patience=3 ends training sooner)"
    if best["step"] < 0.9 * result.steps:
        return "the accuracy was no longer rising: more steps of the same are unlikely to help"
    return f"the accuracy was still rising: more steps may help (--set plan.steps={2 * plan.steps} --fresh)"


def print_result(console: Console, folder: Path, result: Result, built: BuiltRun, brief: bool = False) -> None:
    task, steps = built.task, built.run.plan.steps
    if result.stopped:
        console.print(f"[bold red]stopped[/]: {markup(result.stopped)}")
        return
    cut = result.steps < steps and not result.flat
    if result.best:
        best = f"exact {result.best['exact']:.1%}"
        best += f", valid {result.best['valid']:.1%}" if task.verifies else ""
        console.print(f"[bold]best validation[/]: {best} at step {result.best['step']:.0f}")
        if not cut:
            console.print(what_more_would_bring(result, built.run.plan))
    if cut:
        again = next_command("train", folder)
        console.print(f"step {result.steps} of {steps}; go on with: [bold]{markup(again, 4096)}[/]")
        return
    where = markup(folder / checkpoint.MODEL)
    console.print(f"{result.steps} steps in {result.seconds:.1f} s of training; weights in {where}")
    following = next_command("eval", folder, "--depth", "1,4,16,64")
    if not brief:
        console.print(f"next: [bold]{markup(following, 4096)}[/]")
