"""`sweep`: train a recipe with every combination of some values, and choose by validation."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from rich.console import Console

from innerloop import files
from innerloop.cli.choosing import Recipe, Seeds, Source, Workers, choose_run
from innerloop.cli.inputs import choose_device, next_command
from innerloop.cli.seeding import Member, members_of, parse_seeds, train_members
from innerloop.cli.tabulating import print_summary
from innerloop.errors import InputError
from innerloop.runs import sweep as sweeps
from innerloop.runs.certificate import birth_certificate
from innerloop.runs.group import conditions
from innerloop.runs.summary import summarise
from innerloop.runs.sweep import Variant
from innerloop.schema import Range
from innerloop.text import markup

RECORD = "sweep.json"
Options = dict[str, Any]  # of `train`, by name


def sweep(
    recipe: Recipe,
    set: tuple[str, ...] = (),
    data: str = "",
    test: str = "",
    system: str = "",
    task: str = "",
    out: str = "",
    seeds: Seeds = "0",
    halving: Annotated[int, Range(0, 100)] = 0,
    workers: Workers = "auto",
    device: str = "auto",
    fresh: bool = False,
) -> int:
    """Train a recipe with every combination of some values, and choose by validation; the same command goes on.

    Example:  innerloop sweep sudoku4 --set plan.lr=1e-3,3e-3,1e-2

    Example:  innerloop sweep sudoku6 --set plan.lr=1e-3,3e-3 plan.batch=16,32 --seeds 0,1 --halving 2

    Args:
        recipe: Name of a recipe (innerloop list), or a config file (innerloop show).
        set: Fields and their values, separated by commas; a list is one value in brackets, as plan.depths=[4],[4,8].
        data: Puzzles to learn from.
        test: Puzzles to validate on, which choose; without it a part of --data is held out.
        system: Of the recipe family: the system.
        task: Of the recipe family: the task.
        out: Folder of the sweep, with one for each variant; by default runs/sweep-NAME.
        halving: Successive halving: go on with one of so many variants at a time; 0: train all of them to the end.
        device: auto, cpu or cuda.
        fresh: Forget what an earlier sweep left in the folders of its variants.
    """
    if halving == 1:
        raise InputError("--halving is 1, which keeps every variant: give 2 or more, or 0 to train all to the end")
    if "RANK" in os.environ:
        raise InputError("a sweep trains in processes of its own: leave out torchrun")
    choose_device(device)
    folder = Path(out or f"runs/sweep-{Path(recipe).stem}")
    options = {"data": data, "test": test, "system": system, "task": task, "device": device, "fresh": fresh}
    return run_sweep(recipe, sweeps.variants(set), folder, options, parse_seeds(seeds, set), halving, workers)


def run_sweep(
    recipe: str, found: Sequence[Variant], folder: Path, options: Options, seeds: Sequence[int], halving: int, crew: str
) -> int:
    """Train the variants in their folders, keep what was found in sweep.json and tell it; returns the exit code."""
    console = Console(emoji=False, highlight=False, soft_wrap=True)
    if (folder / "run.json").exists():
        raise InputError(f"{files.shown(folder)} is a run itself: choose another folder for a sweep (--out)")
    entrants = {}
    for variant in found:
        run, _, note = choose_run(recipe, Source.of(options), "", variant.changes)
        if note:
            console.print(f"{variant.name}: {note}", markup=False)
        own = folder / variant.name
        entrants[variant.name] = members_of(recipe, own, run, options, variant.changes, seeds, variant.name)
    console.print(f"{len(found)} variants with {len(seeds)} seed(s) each, in {markup(folder)}")
    record = run_rungs(console, entrants, crew, options, halving)
    changes = {v.name: dict(change.split("=", 1) for change in v.changes) for v in found}
    record |= {"recipe": recipe, "changes": changes.get(record["chosen"], {}), "born": birth_certificate(seeds)}
    files.write_json(folder / RECORD, record)
    return tell(console, folder, record)


def run_rungs(
    console: Console, entrants: dict[str, list[Member]], workers: str, options: Options, factor: int
) -> dict[str, Any]:
    """Train rung by rung, one without halving; returns what each rung found and which variant was chosen."""
    counts = sweeps.rung_counts(len(entrants), factor) if factor else [len(entrants)]
    plans = {name: members[0].run.plan for name, members in entrants.items()}
    ends = [{n: sweeps.rung_steps(p, i, len(counts), factor) for n, p in plans.items()} for i in range(len(counts))]
    left, rungs, failed = list(entrants), [], []
    for i, count in enumerate(counts):
        left = left[:count]
        if len(counts) > 1:
            console.print(f"[bold]rung {i + 1} of {len(counts)}[/]: {markup(', '.join(left), 2000)}")
        fresh = bool(options["fresh"]) and i == 0  # later rungs go on from the one before
        members = [up_to(member, ends[i][name], fresh) for name in left for member in entrants[name]]
        failed += [m.name for m in train_members(console, members, workers, fresh, str(options["device"]))]
        scores = {n: sweeps.score([m.folder for m in entrants[n]], plans[n], ends[i][n]) for n in left}
        found = [{"variant": n, "steps": ends[i][n], **(s._asdict() if s else {})} for n, s in scores.items()]
        rungs.append(found)
        left = [name for name in sweeps.best_first(scores) if scores[name]]
    return {"chosen": left[0] if left else "", "rungs": rungs, "failed": failed}


def up_to(member: Member, step: int, fresh: bool) -> Member:
    """The same run up to a step, as its command line says it."""
    words = [word for word in member.words if word != "--fresh" or fresh]
    if step < member.run.plan.steps:
        words[2:2] = ["--until", str(step)]
    return member._replace(words=tuple(words))


def tell(console: Console, folder: Path, record: dict[str, Any]) -> int:
    """Print what was found; returns the exit code."""
    if record["failed"]:
        console.print(f"failed: {markup(', '.join(record['failed']), 2000)}; the same command tries them again")
    if not record["chosen"]:
        console.print("no variant was trained to a validation")
        return 1
    best = folder / record["chosen"]
    print_summary(summarise(conditions([folder]), validation=True))
    console.print(f"chosen by validation: [bold]{markup(record['chosen'])}[/], kept in {markup(best)}")
    console.print("the validation puzzles chose it, and flatter it: judge it on others, as by")
    console.print(f"  {markup(next_command('eval', best, '--data', 'FILE'), 4096)}")
    return 1 if record["failed"] else 0
