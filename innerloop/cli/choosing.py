"""Which Run a command line means: a recipe, a config file or the folder of a run, with its changes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import tyro

from innerloop import files, recipes
from innerloop.cli.inputs import read_run
from innerloop.data.opening import INFERRED
from innerloop.errors import InputError
from innerloop.runs import run as runs
from innerloop.text import printable

__all__ = ["Recipe", "Seeds", "Workers", "choose_run"]

Recipe = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RECIPE|RUN")]
Seeds = Annotated[
    str, tyro.conf.arg(help="Train once with each of these seeds, such as 0,1,2, in seed0, seed1, ... of --out.")
]
Workers = Annotated[
    str, tyro.conf.arg(help="Of several runs, how many at once: auto (one a core, or one a GPU), a number, or ray.")
]


def choose_run(
    recipe: str, data: str, test: str, out: str, changes: tuple[str, ...], parameters: dict[str, str]
) -> tuple[runs.Run, Path, str]:
    """(the Run that was asked for, its folder, a sentence about what else was changed or "")."""
    folder, parameters = Path(recipe), {k: v for k, v in parameters.items() if v}
    if (folder / "run.json").exists():
        if data or test or out or parameters:
            raise InputError(
                f"{folder} is a run and has all that: leave out --data, --test, --out, --system and --task"
            )
        return runs.override(read_run(folder), changes), folder, ""
    run, note = start_of(recipe, parameters, changes)
    if test and not data:
        raise InputError("--test is given without --data: give both, or neither")
    if data:
        # 0 rows to take means all: the recipe's count was for the puzzles it generates. What the file tells, it tells.
        file = replace(run.data, train=data, test=test, count=0)
        run = replace(run, data=replace(file, task="", options={}) if file.task in INFERRED else file)
    name = run.name if parameters else Path(recipe).stem
    return runs.override(run, changes), Path(out or f"runs/{name}"), note


def start_of(recipe: str, parameters: dict[str, str], changes: tuple[str, ...]) -> tuple[runs.Run, str]:
    """The Run of a recipe, or of a config file, and a sentence about what was matched anew, or ""."""
    if recipe.endswith(".json"):
        if parameters:
            raise InputError(f"{printable(recipe)} names its system and task: leave out --system and --task")
        return runs.read_config(files.read_json(recipe), files.shown(recipe)), ""
    if Path(recipe).is_dir() or "/" in recipe:
        raise InputError(
            f"{recipe} is neither a recipe nor the folder of a run (it has no run.json): see innerloop list"
        )
    return recipes.matched(recipe, changes, **parameters)
