"""Several runs in one command, for `train --seeds` and `sweep`: each in a process of its own."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from innerloop import files
from innerloop.cli.choosing import Source, choose_run
from innerloop.cli.inputs import choose_device, next_command, parse_numbers, read_run
from innerloop.cli.tabulating import print_summary
from innerloop.errors import InputError
from innerloop.learn.log import step_of
from innerloop.runs import run as runs
from innerloop.runs.group import conditions, seed_folder, seed_runs
from innerloop.runs.jobs import Job, failure, run_jobs, workers_of
from innerloop.runs.summary import summarise
from innerloop.runs.training import RESULT, is_finished
from innerloop.schema import Seed
from innerloop.show import records
from innerloop.text import markup, printable

__all__ = ["Member", "members_of", "parse_seeds", "train_members", "train_seeds"]

LOG = "train.log"  # what the process of a run printed
TAIL = 2000  # bytes at the end of metrics.jsonl in which its last step is looked for
MOST = 1000  # runs of one command


class Member(NamedTuple):
    """One of several runs: the words of the command line that trains it, or goes on with it."""

    name: str
    folder: Path
    words: tuple[str, ...]
    run: runs.Run


def train_seeds(
    recipe: str, options: Mapping[str, Any], changes: Sequence[str], seeds: str, out: str, workers: str
) -> int:
    """Train a recipe with each of `seeds`, or go on with the runs that an earlier call began; returns the exit code.

    options: of `train`, by name, for each of the runs.
    """
    console = Console(emoji=False, highlight=False, soft_wrap=True)
    if "RANK" in os.environ:
        raise InputError("several seeds train in processes of their own: leave out torchrun, or --seeds")
    choose_device(str(options["device"]))
    source = Source.of(options)
    if known := seed_runs(Path(recipe)):
        if seeds or out or source.named:
            raise InputError(
                f"{files.shown(recipe)} holds runs that have all that: leave out --seeds, --data, --test, --out, "
                "--system, --task, --shape, --blank and --alphabet"
            )
        folder = Path(recipe)
        members = [Member(p.name, p, (*words(str(p), options, changes),), read_run(p, source.code)) for p in known]
    else:
        numbers = parse_seeds(seeds, changes)
        run, folder, note = choose_run(recipe, source, out, changes)
        if note:
            console.print(note, markup=False)
        members = members_of(recipe, folder, run, options, changes, numbers)
    failed = train_members(console, members, workers, bool(options["fresh"]), str(options["device"]))
    results = [records.read(member.folder, RESULT) for member in members]
    for leak in dict.fromkeys(
        r["leakage"] for r in results if "leakage" in r
    ):  # one sentence: all have the same puzzles
        console.print(markup(leak))
    if failed:
        console.print(f"{len(failed)} of {len(members)} runs failed; the same command tries them again")
        return 1
    print_means(console, folder)
    return 0


def parse_seeds(seeds: str, changes: Sequence[str]) -> tuple[int, ...]:
    """The seeds of --seeds. Raises InputError for none, for one given twice, and where --set gives another."""
    numbers = parse_numbers(seeds, "--seeds", Seed)
    if not numbers or len(set(numbers)) < len(numbers):
        raise InputError(f'--seeds is "{printable(seeds, 60)}": give whole numbers, each once, such as 0,1,2')
    if any(change.partition("=")[0].strip() == "seed" for change in changes):
        raise InputError("--set gives a seed and --seeds gives others: leave one of them out")
    return numbers


def members_of(
    recipe: str, folder: Path, run: runs.Run, options: Mapping[str, Any], changes: Sequence[str], seeds: Sequence[int],
    name: str = "",
) -> list[Member]:  # fmt: skip
    """The runs of a recipe with each of `seeds` in `folder`."""
    if (folder / "run.json").exists():
        raise InputError(f"{files.shown(folder)} is a run itself: choose another folder for several (--out)")
    if len(seeds) > MOST:
        raise InputError(f"that makes {len(seeds):,} runs: {MOST:,} at most in one command")
    made = []
    for seed in seeds:
        path = seed_folder(folder, seed)
        own = words(recipe, dict(options) | {"out": str(path)}, [*changes, f"seed={seed}"])
        label = f"{name}/{path.name}" if name else path.name
        made.append(Member(label, path, own, runs.override(run, [f"seed={seed}"])))
    return made


def words(recipe: str, options: Mapping[str, Any], changes: Sequence[str]) -> tuple[str, ...]:
    """The words of `innerloop train` with these options; those that are empty are left out."""
    found = ["train", recipe]
    for name, value in ((name.replace("_", "-"), value) for name, value in options.items()):
        if value is True:
            found.append(f"--{name}")
        elif value == "auto":
            continue
        elif value and isinstance(value, tuple):
            found += [f"--{name}", *value]
        elif value:
            found += [f"--{name}", str(value)]
    return (*found, "--set", *changes) if changes else tuple(found)


def train_members(console: Console, members: Sequence[Member], workers: str, fresh: bool, device: str) -> list[Member]:
    """Train those that are not finished; returns those that failed.

    Raises InputError where all fail at the door with the same sentence.
    """
    left = [m for m in members if fresh or not is_finished(m.folder, m.run)]
    for member in members:
        if member not in left:
            console.print(f"{markup(member.name)} is finished: {best_of(member)}")
    if not left:
        return []
    by_name = {m.name: m for m in left}
    jobs = [Job(m.name, m.words, m.folder / LOG) for m in left]
    crew = workers_of(workers, len(jobs), device)
    where = f"the Ray cluster at {crew.ray}" if crew.ray else f"{crew.processes} at once, {crew.threads} thread(s) each"
    console.print(f"{len(jobs)} runs, {markup(where)}; what each prints is kept in its {LOG}")
    created = {parent for job in jobs for parent in job.log.parents if not parent.exists()}
    running: list[Member] = []

    def report(job: Job, code: int | None) -> None:
        member = by_name[job.name]
        if code is None:
            running.append(member)
            return
        running.remove(member)
        said = best_of(member) if code == 0 else f"failed with {code}, the others go on: {markup(failure(job))}"
        console.print(f"{markup(member.name)}: {said}")

    with console.status("starting") as status:
        try:
            codes = run_jobs(jobs, crew, report, lambda: status.update(", ".join(map(progress, running)) or "done"))
        except KeyboardInterrupt:
            console.print("interrupted; the same command goes on")
            raise
    refuse_together(jobs, codes, created)
    return [m for m, code in zip(left, codes, strict=True) if code]


def refuse_together(jobs: Sequence[Job], codes: Sequence[int], created: Iterable[Path]) -> None:
    """Raise InputError where every job was refused for the same reason; logs and `created` folders are removed then."""
    reasons = {failure(job) for job in jobs}
    if set(codes) != {2} or len(reasons) > 1:
        return
    for job in jobs:
        with contextlib.suppress(OSError):
            job.log.unlink()
    for folder in sorted(created, key=lambda p: len(p.parts), reverse=True):
        with contextlib.suppress(OSError):
            folder.rmdir()  # fails unless it is empty, as intended
    raise InputError(reasons.pop())


def best_of(member: Member) -> str:
    """What a run has reached, as part of a sentence with markup."""
    result = records.read(member.folder, RESULT)
    best = result.get("best") or {}
    reached = f"exact {best['exact']:.1%} on validation, " if "exact" in best else ""
    return f"{reached}{result.get('steps', 0):,} steps in {result.get('seconds', 0.0):.1f} s"


def progress(member: Member) -> str:
    """How far a run is, by the last line of its log, with markup."""
    step = 0.0
    with contextlib.suppress(OSError), (member.folder / "metrics.jsonl").open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL))
        steps = [step_of(line) for line in file.read().decode("utf-8", "replace").splitlines()]
        step = max([0.0, *steps])
    return f"{markup(member.name)} {step:.0f}/{member.run.plan.steps}"


def print_means(console: Console, folder: Path) -> None:
    """The means over what was trained, and what to do next."""
    print_summary(summarise(conditions([folder]), validation=True))
    for verb in ("table", "plot"):
        console.print(f"next: [bold]{markup(next_command(verb, folder), 4096)}[/]")
