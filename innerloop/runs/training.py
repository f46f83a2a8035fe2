"""Train in a folder that open_run opens: `fit` a run, as `innerloop train` does, or `train` a model on examples.

run = recipes.get("sudoku4")
fit(run, "runs/mine")
opened = open_run("runs/mine")
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from innerloop import files, tasks, weights
from innerloop.data import protocols
from innerloop.data.leakage import leakage
from innerloop.learn import checkpoint
from innerloop.learn.lock import lock_folder
from innerloop.learn.plan import Plan
from innerloop.learn.train import Result, Trainer
from innerloop.learn.train import train as train_loop
from innerloop.runs.certificate import birth_certificate
from innerloop.runs.fit import BuiltRun, build, fit_config
from innerloop.runs.folder import check_run, commits, write_run
from innerloop.runs.origin import IDENTIFIERS
from innerloop.runs.run import GIVEN, Data, Run, read_run, to_json
from innerloop.runs.solving import CALIBRATION
from innerloop.show import records

__all__ = ["RESULT", "delete_run_files", "fit", "is_finished", "train"]

RESULT = "result.json"
FINISHED_FILES = (RESULT, "config.json", "run.json")  # of a run that is done
MEASURED = ("eval.json", "study.json", CALIBRATION)  # what is known of the weights as they were
RUN_FILES = (checkpoint.MODEL, "metrics.jsonl", *MEASURED, IDENTIFIERS, *FINISHED_FILES)
MAX_LEAKAGE_CHECK = 100_000  # training puzzles up to which leakage is looked for without being asked

OnStart = Callable[[int, str], None]


def fit(
    run: Run | BuiltRun,
    folder: Path | str,
    *,
    fresh: bool = False,
    until: int = 0,
    on_start: OnStart | None = None,
    live: bool = False,
    **how: Any,
) -> Result:
    """Train a run in `folder`, where it goes on if it was interrupted; the folder then opens by innerloop.open_run.

    fresh     forget what an earlier run left there
    until     stop at this step, a multiple of plan.check_every; 0: at the end. The same call goes on from there
    on_start  called with the step at which training begins and a sentence about leakage, before the first step
    how       device, minutes, sinks and on_check of learn.train.Trainer
    Raises InputError where the folder holds another run, is in use, or where the puzzles have changed.
    """
    folder, main = Path(folder), os.environ.get("RANK", "0") == "0"
    built = run if isinstance(run, BuiltRun) else build(run)
    devices = [torch.device(how["device"])] if torch.device(how.get("device", "cpu")).type == "cuda" else []
    with lock_folder(folder) if main else nullcontext(""), torch.random.fork_rng(devices=devices):
        if main and not fresh:
            check_run(folder, built.run, built)
        leak, note = leak_sentence(built), ""
        torch.manual_seed(built.run.seed)  # for loops that draw from it while they learn
        how |= {"validation": built.validation, "seed": built.run.seed, "resume": not fresh, "live": live}
        trainer = Trainer(built.loop, built.task, built.train, built.run.plan, folder, **how)
        try:
            done = is_done(folder, built.run, trainer.step)
            if main and fresh:
                delete_run_files(folder)
            if main and not done:
                write_run(folder, built.run, built)
                note = set_aside(folder)
            if on_start:
                on_start(trainer.step, leak + note)
            result = trainer.run(until)
            if main and not done:  # else an earlier process wrote its result
                write_result(folder, built, result, leak)
            return result
        finally:
            trainer.distributed.close()


def train(
    loop: nn.Module,
    task: protocols.Task,
    examples: protocols.Examples,
    plan: Plan,
    folder: Path | str,
    *,
    validation: protocols.Examples | None = None,
    seed: int = 0,
    **how: Any,
) -> Result:
    """Train `loop` on `examples` as `plan` says. Resumes from `folder` if an earlier run there has not ended.

    loop        a Loop that is a torch.nn.Module, such as `create` makes
    validation  examples on which the best weights are chosen; None: the last weights are kept
    seed        of the order of examples, augmentation and exploration
    how         other arguments of learn.train.Trainer. `minutes` ends this call before the plan is done; the same call
                goes on, and the result is bit-equal
    The weights are folder/model.safetensors. If the loop is a system of the library and the task one of its tasks, the
    folder opens by open_run; what evaluates it must be given puzzles, since it does not say where these are from.
    Raises InputError where the folder holds another run or is in use.
    """
    folder, main = Path(folder), os.environ.get("RANK", "0") == "0"
    run = described(loop, task, examples, plan, folder.resolve().name, seed)
    built = run and BuiltRun(run, loop, task, examples, validation)  # type: ignore[arg-type]
    if main and built:
        check_run(folder, built.run, built)
    result = train_loop(loop, task, examples, plan, folder, validation=validation, seed=seed, **how)
    if main and built:
        write_run(folder, built.run, built)
    return result


def described(loop: Any, task: Any, examples: Any, plan: Plan, name: str, seed: int) -> Run | None:
    """The Run of a loop and a task that can be made again by their names; None for any other."""
    home, _, system = type(loop).__module__.rpartition(".")
    if home != weights.__name__ or weights.get(system)[0] is not type(loop):
        return None
    if task.name not in tasks.own_names() or tasks.find(task.name) is not type(task):
        return None
    return Run(name, system, loop.c, Data(task.name, task.options, GIVEN, count=len(examples)), plan, seed)


def set_aside(folder: Path) -> str:
    """Rename what was measured of weights that training is about to change; returns a sentence, or ""."""
    found = [name for name in MEASURED if (folder / name).exists()]
    for name in found:
        (folder / name).replace(folder / name.replace(".json", ".earlier.json"))
    told = ", ".join(found)
    return f" What was measured before ({told}) is of earlier weights, and is kept as *.earlier.json." if found else ""


def is_done(folder: Path, run: Run, step: int) -> bool:
    """Whether nothing is left to do for a run that has reached `step`."""
    ready = all((folder / name).exists() for name in FINISHED_FILES)
    return ready and (step >= run.plan.steps or ended_flat(folder, step))


def ended_flat(folder: Path, step: int) -> bool:
    """Whether the run in `folder` ended at `step`, before plan.steps, because its accuracy no longer rose."""
    result = records.read(folder, RESULT) or {}
    return bool(result.get("flat")) and result.get("steps") == step


def is_finished(folder: Path, run: Run) -> bool:
    """Whether `folder` holds exactly this run, trained to its end. Cheap, and False where only building it can tell:
    puzzles from a file may have changed.
    """
    if run.data.train or not all((folder / name).exists() for name in (*FINISHED_FILES, checkpoint.MODEL)):
        return False
    kept = read_run(files.read_json(folder / "run.json"), files.shown(folder / "run.json"))
    steps = records.read(folder, RESULT).get("steps", 0)
    if kept.system != run.system or (steps < kept.plan.steps and not ended_flat(folder, steps)):
        return False
    task = tasks.get(run.data.task, **run.data.options)
    net = fit_config(run.config.net, task, kept.config.net.puzzles)
    data = replace(run.data, task=task.name, options=task.options)
    return to_json(replace(run, data=data, config=replace(run.config, net=net))) == to_json(kept)


def delete_run_files(folder: Path) -> None:
    """Remove what a run wrote in `folder`, and nothing else; its run.json last, without which it could not begin."""
    state = [folder / checkpoint.STATE, *checkpoint.pieces(folder)]  # the list before what it lists
    for path in [*state, *(folder / name for name in RUN_FILES)]:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise files.unwritable(path, error) from None


def leak_sentence(built: BuiltRun) -> str:
    if len(built.train) > MAX_LEAKAGE_CHECK:
        return f"leakage is not looked for in more than {MAX_LEAKAGE_CHECK:,} puzzles: see innerloop.data.leakage"
    return str(leakage(built.train, built.validation, built.task)).replace("test puzzle", "validation puzzle")


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
