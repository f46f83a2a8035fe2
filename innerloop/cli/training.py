"""`train`: train a recipe on its own or the user's data, in a run folder; resume one."""

from __future__ import annotations

import os
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from rich.console import Console

from innerloop import files, recipes
from innerloop.cli.inputs import choose_device, next_command, read_run
from innerloop.data.leakage import leakage
from innerloop.data.opening import INFERRED
from innerloop.data.stated import UNSTATED, Stated
from innerloop.errors import InputError
from innerloop.learn import checkpoint
from innerloop.learn.lock import lock_folder
from innerloop.learn.precision import prepare
from innerloop.learn.train import Result, Trainer
from innerloop.runs import run as runs
from innerloop.runs.certificate import birth_certificate
from innerloop.runs.fit import BuiltRun, build
from innerloop.runs.folder import check_run, commits, write_run
from innerloop.runs.origin import IDENTIFIERS
from innerloop.runs.run import Data
from innerloop.runs.solving import CALIBRATION
from innerloop.schema import Amount
from innerloop.text import markup, printable

RESULT = "result.json"
FINISHED_FILES = (RESULT, "config.json", "run.json")  # of a run that is done
RUN_FILES = (checkpoint.MODEL, "metrics.jsonl", "eval.json", "study.json", CALIBRATION, IDENTIFIERS, *FINISHED_FILES)
MAX_LEAKAGE_CHECK = 100_000  # training puzzles up to which leakage is looked for without being asked


def train(
    recipe: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RECIPE|RUN")],
    data: str = "",
    test: str = "",
    system: str = "",
    task: str = "",
    shape: str = "",
    blank: str = "",
    alphabet: str = "",
    out: str = "",
    set: tuple[str, ...] = (),
    device: str = "auto",
    log: tuple[str, ...] = (),
    minutes: Amount = 0.0,
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
        shape: Rows and columns of a board of --data, such as 5x7, where its rows do not tell.
        blank: The symbol of an empty cell of --data; none: no cell is given. Likewise.
        alphabet: What a cell of --data may hold, as .123 or, where cells have several characters, 1,2,10,__.
        out: Folder of the run; by default runs/NAME.
        set: Fields to change, such as plan.steps=500 config.net.hidden_size=96 seed=1.
        device: auto, cpu or cuda.
        log: Also log to tensorboard, wandb or trackio.
        minutes: Train at most so long; the same command goes on where this one ended.
        fresh: Forget what an earlier run left in the folder.
    """
    rank = int(os.environ.get("RANK", "0"))
    console = Console(emoji=False, highlight=False, quiet=rank > 0, soft_wrap=True)
    stated = Stated.parse(shape, blank, alphabet)
    run, folder = choose_run(recipe, data, test, out, set, {"system": system, "task": task}, stated)
    where, why = choose_device(device)
    built = build(run, folder if folder == Path(recipe) else "")
    trainer_kwargs = {"device": where, "sinks": log, "minutes": minutes, "resume": not fresh}
    with lock_folder(folder) if rank == 0 else nullcontext("") as note:
        if note:
            console.print(note, markup=False)
        return train_in_folder(console, built, folder, why, trainer_kwargs)


def train_in_folder(console: Console, built: BuiltRun, folder: Path, why: str, trainer_kwargs: dict[str, Any]) -> int:
    """Train in a locked folder; returns the exit code. The folder is written only once the run has been checked."""
    first, fresh = int(os.environ.get("RANK", "0")) == 0, not trainer_kwargs["resume"]
    if first and not fresh:
        check_run(folder, built.run, built)
    leak = leak_sentence(built)
    torch.manual_seed(built.run.seed)  # for loops that draw from it while they learn
    said = prepare(built.loop, trainer_kwargs["device"])
    if said:
        console.print(said, markup=False)
    trainer_kwargs |= {"validation": built.validation, "seed": built.run.seed, "live": first}
    trainer_kwargs["on_check"] = print_validation if first else None
    trainer = None
    try:
        trainer = Trainer(built.loop, built.task, built.train, built.run.plan, folder, **trainer_kwargs)
        began = trainer.step
        done = began >= built.run.plan.steps and all((folder / name).exists() for name in FINISHED_FILES)
        if first and fresh:
            delete_run_files(folder)
        if first and not done:
            write_run(folder, built.run, built)
        print_start(console, built, folder, leak, why, began)
        result = trainer.run()
    except KeyboardInterrupt:
        console.print(f"interrupted; go on with: [bold]{markup(next_command('train', folder), 4096)}[/]")
        return 130
    except torch.OutOfMemoryError:
        raise InputError("the GPU's memory is full: raise plan.accumulate (same result, less memory)") from None
    finally:
        if trainer:
            trainer.distributed.close()
    if first:
        if not done:  # an earlier process wrote its result
            write_result(folder, built, result, leak)
        print_result(console, folder, result, built)
    return 1 if result.stopped else 0


def choose_run(
    recipe: str,
    data: str,
    test: str,
    out: str,
    changes: tuple[str, ...],
    parameters: dict[str, str],
    stated: Stated = UNSTATED,
) -> tuple[runs.Run, Path]:
    """The Run that was asked for, and its folder."""
    folder = Path(recipe)
    if (folder / "run.json").exists():
        if data or test or out or any(parameters.values()) or stated != UNSTATED:
            raise InputError(
                f"{folder} is a run and has all that: leave out --data, --test, --out, --system, --task, --shape, "
                "--blank and --alphabet"
            )
        return runs.override(read_run(folder), changes), folder
    if folder.is_dir() or "/" in recipe:
        raise InputError(
            f"{recipe} is neither a recipe nor the folder of a run (it has no run.json): see innerloop list"
        )
    run = recipes.get(recipe, **{k: v for k, v in parameters.items() if v})
    if test and not data:
        raise InputError("--test is given without --data: give both, or neither")
    if stated != UNSTATED and (not data or run.data.task not in ("", *INFERRED)):
        raise InputError("--shape, --blank and --alphabet speak of a file whose rows tell its task: give it by --data")
    if data:
        # 0 rows to take means all: the recipe's count was for the puzzles it generates. What the file tells, it tells.
        file = replace(run.data, train=data, test=test, count=0)
        if not test and file.holdout == Data().holdout:
            file = replace(file, holdout=0)  # of few puzzles few are held out
        told = file.task in ("", *INFERRED)
        run = replace(run, data=replace(file, task="", options=stated.options()) if told else file)
    name = run.name if any(parameters.values()) else recipe
    return runs.override(run, changes), Path(out or f"runs/{name}")


def delete_run_files(folder: Path) -> None:
    """Remove what a run wrote in `folder`, and nothing else; its run.json last, without which it could not begin."""
    state = [folder / checkpoint.STATE, *checkpoint.pieces(folder)]  # the list before what it lists
    for path in [*state, *(folder / name for name in RUN_FILES)]:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise files.unwritable(path, error) from None


def print_start(console: Console, built: BuiltRun, folder: Path, leak: str, why: str, step: int) -> None:
    """Print what is about to be trained, on which data and device, and from which step."""
    run, count = built.run, sum(p.numel() for p in built.loop.parameters())
    size = "x".join(map(str, built.task.shape))
    console.print(f"[bold]{markup(run.name)}[/]: {run.system} with {count:,} parameters on {built.task.name} {size}")
    console.print(f"{len(built.train):,} puzzles to learn from, {len(built.validation):,} others to validate on")
    for name, examples in (("learn from", built.train), ("validate on", built.validation)):
        if examples.reading is not None and (run.data.test or examples is built.train):
            console.print(f"to {name}: {printable(examples.source)} is {examples.reading}", markup=False)
    console.print(markup(leak))
    dtype = getattr(run.config, "dtype", "float32")
    console.print(f"device {markup(why)}; states in {dtype}, weights in float32")
    if (folder / checkpoint.STATE).exists():
        done = "is finished at" if step >= run.plan.steps else "goes on from"
        console.print(f"the run in {markup(folder)} {done} step {step} of {run.plan.steps} (--fresh begins anew)")
    else:
        console.print(f"the run is kept in {markup(folder)}")


def leak_sentence(built: BuiltRun) -> str:
    if len(built.train) > MAX_LEAKAGE_CHECK:
        return f"leakage is not looked for in more than {MAX_LEAKAGE_CHECK:,} puzzles: see innerloop.data.leakage"
    return str(leakage(built.train, built.validation, built.task)).replace("test puzzle", "validation puzzle")


def print_validation(step: int, rows: list[Any]) -> None:
    """One line a validation. Uses print, which the live progress display redirects above itself."""
    parts = [
        f"depth {r.depth}: exact {r.exact:.1%}" + ("" if r.valid is None else f" valid {r.valid:.1%}") for r in rows
    ]
    print(f"step {step}: " + ", ".join(parts), flush=True)


def write_result(folder: Path, built: BuiltRun, result: Result, leak: str) -> None:
    sizes: dict[str, Any] = {
        "leakage": leak,
        "train_puzzles": len(built.train),
        "validation_puzzles": len(built.validation),
    }
    sizes["parameters"] = sum(p.numel() for p in built.loop.parameters())
    born = birth_certificate([built.run.seed])
    known = commits(folder)
    born |= {"commits": known} if len(known) > 1 else {}
    files.write_json(folder / RESULT, result._asdict() | sizes | {"born": born})


def print_result(console: Console, folder: Path, result: Result, built: BuiltRun) -> None:
    task, steps = built.task, built.run.plan.steps
    if result.stopped:
        console.print(f"[bold red]stopped[/]: {markup(result.stopped)}")
        return
    if result.steps < steps:
        next_ = markup(next_command("train", folder), 4096)
        console.print(f"step {result.steps} of {steps}; go on with: [bold]{next_}[/]")
        return
    if result.best:
        best = f"exact {result.best['exact']:.1%}"
        best += f", valid {result.best['valid']:.1%}" if task.verifies else ""
        console.print(f"[bold]best validation[/]: {best} at step {result.best['step']:.0f}")
    where = markup(folder / checkpoint.MODEL)
    console.print(f"{result.steps} steps in {result.seconds:.1f} s of training; weights in {where}")
    console.print(f"next: [bold]{markup(next_command('eval', folder, '--depth', '1,4,16,64'), 4096)}[/]")
