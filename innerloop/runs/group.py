"""Several runs at once: the runs in a folder, and which of them are the same run with other seeds.

    runs/sudoku6/seed0, seed1, seed2            `train --seeds`: one condition, three seeds
    runs/sweep-sudoku6/lr=0.001/seed0, ...      `sweep`: a condition for each variant

Runs are of one condition where their run.json differs in the seed alone; folder names only name it.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from innerloop import files
from innerloop.errors import InputError
from innerloop.runs.origin import read_data_block
from innerloop.runs.run import Run, read_run, to_json

__all__ = ["Condition", "conditions", "find_runs", "holds_runs", "seed_folder", "seed_runs"]

SEED_NAME = re.compile(r"seed\d+")
DEPTH = 3  # folders below the given one in which runs are looked for
MOST = 10_000  # runs in a folder


class Condition(NamedTuple):
    """One run with its seeds: folders[i] was trained with seeds[i], ascending."""

    name: str
    folders: tuple[Path, ...]
    seeds: tuple[int, ...]
    run: Run  # of the first, read without code of its own


def seed_folder(folder: Path, seed: int) -> Path:
    """Where `train --seeds` keeps the run of a seed."""
    return folder / f"seed{seed}"


def seed_runs(folder: Path) -> list[Path]:
    """The runs that `train --seeds` has begun in `folder`."""
    if (folder / "run.json").exists() or not folder.is_dir():
        return []
    return [path for path in search(folder, 1) if SEED_NAME.fullmatch(path.name)]


def holds_runs(folder: Path) -> bool:
    """Whether `folder` is a folder of runs, and no run itself."""
    return not (folder / "run.json").exists() and folder.is_dir() and bool(search(folder, DEPTH))


def find_runs(folder: Path) -> list[Path]:
    """`folder` if it is a run; else all runs in it, by name. Raises InputError if there are none."""
    if not folder.is_dir():
        raise InputError(f"there is no folder {files.shown(folder)}: give the folder of a run, such as runs/demo")
    found = [folder] if (folder / "run.json").exists() else search(folder, DEPTH)
    if not found:
        raise InputError(
            f"{files.shown(folder)} holds no run (no run.json): give the folder of a run, such as runs/demo, or of some"
        )
    if len(found) > MOST:
        raise InputError(f"{files.shown(folder)} holds more than {MOST:,} runs: give some of them")
    return found


def search(folder: Path, depth: int) -> list[Path]:
    """The runs below `folder`, numbers in their names in order; links are not followed."""
    found: list[Path] = []
    try:
        inner = [Path(entry.path) for entry in os.scandir(folder) if entry.is_dir(follow_symlinks=False)]
    except OSError as error:
        raise files.unreadable(folder, error) from None
    for path in sorted(inner, key=natural):
        if (path / "run.json").exists():
            found.append(path)
        elif depth > 1 and len(found) <= MOST:
            found += search(path, depth - 1)
    return found


def natural(path: Path) -> list[tuple[bool, int, str]]:
    """A sort key by which seed10 follows seed9."""
    parts = re.split(r"(\d+)", path.name)
    return [(part.isdecimal(), int(part[:18]) if part.isdecimal() else 0, part) for part in parts]


def conditions(folders: Sequence[Path]) -> list[Condition]:
    """The conditions of all runs in `folders`, in the order in which they are first met. No code of theirs is run.

    Raises InputError where a folder holds no run, or where one run was given twice: seeds must be independent.
    """
    groups: dict[str, dict[int, tuple[Path, Run]]] = {}
    for folder in folders:
        for path in find_runs(folder):
            where = files.shown(path / "run.json")
            run = read_run(files.read_json(path / "run.json"), where, with_code=False)
            seeds = groups.setdefault(condition_key(path, run), {})
            if run.seed in seeds:
                raise InputError(
                    f"{files.shown(seeds[run.seed][0])} and {files.shown(path)} are the same run with the same seed "
                    f"{run.seed}: leave one of them out"
                )
            seeds[run.seed] = path, run
    grouped = [sorted(seeds.items()) for seeds in groups.values()]
    labels = [label([path for _, (path, _) in found]) for found in grouped]
    firsts = [found[0][1][0].absolute() for found in grouped]
    names = distinct([first if labels.count(one) > 1 else one for one, first in zip(labels, firsts, strict=True)])
    return [
        Condition(name, tuple(path for _, (path, _) in found), tuple(seed for seed, _ in found), found[0][1][1])
        for name, found in zip(names, grouped, strict=True)
    ]


def condition_key(folder: Path, run: Run) -> str:
    """Equal for runs that differ in the seed alone; the puzzles count by their fingerprint, not by their path."""
    block = read_data_block(folder)
    data = replace(run.data, train="", test="") if block.get("train") else run.data
    same = to_json(replace(run, seed=0, name="", about="", data=data))
    return json.dumps([same, block.get("train"), block.get("validation")], sort_keys=True)


def label(folders: Sequence[Path]) -> Path:
    """What names a condition: its only folder, the one around its seed folders, or the first of several."""
    parents = {path.parent for path in folders}
    if len(parents) == 1 and all(SEED_NAME.fullmatch(path.name) for path in folders):
        return next(iter(parents)).absolute()
    return folders[0].absolute()


def distinct(paths: Sequence[Path]) -> list[str]:
    """The shortest ends of paths by which they differ."""
    names = []
    for path in paths:
        others = [other.parts for other in paths if other != path]
        count = next(
            (n for n in range(1, len(path.parts)) if all(o[-n:] != path.parts[-n:] for o in others)), len(path.parts)
        )
        names.append("/".join(path.parts[-count:]))
    return names
