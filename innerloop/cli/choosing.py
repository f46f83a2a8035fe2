"""Which Run a command line means: a recipe, a config file or the folder of a run, with its changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import tyro

from innerloop import files, recipes
from innerloop.cli.inputs import read_run
from innerloop.data.opening import INFERRED
from innerloop.data.stated import UNSTATED, Stated
from innerloop.errors import InputError
from innerloop.plugins import is_file
from innerloop.runs import run as runs
from innerloop.runs.code import Code, given, permitted
from innerloop.text import printable

__all__ = ["Recipe", "Seeds", "Source", "TrustCode", "Workers", "choose_run"]

Recipe = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RECIPE|RUN")]
Seeds = Annotated[
    str, tyro.conf.arg(help="Train once with each of these seeds, such as 0,1,2, in seed0, seed1, ... of --out.")
]
Workers = Annotated[
    str, tyro.conf.arg(help="Of several runs, how many at once: auto (one a core, or one a GPU), a number, or ray.")
]

TrustCode = Annotated[bool, tyro.conf.arg(help="Run the code that a run's folder keeps of its own task or system.")]


class Source(NamedTuple):
    """Where a Run takes its puzzles, system and task, as the options of `train` of these names say."""

    data: str = ""
    test: str = ""
    system: str = ""
    task: str = ""
    shape: str = ""
    blank: str = ""
    alphabet: str = ""
    trust_code: bool = False

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Source:
        """Those of the options of `train`, by name."""
        return cls(**{name: options[name] for name in cls._fields if name in options})

    @property
    def code(self) -> Code:
        return Code(self.trust_code, self.task, self.system)

    @property
    def named(self) -> bool:
        """Whether anything is named that a run has already; a file of its own code may stand in for the kept one."""
        own = {name: "" for name in ("system", "task") if is_file(getattr(self, name))}
        return self._replace(trust_code=False, **own) != Source()


def choose_run(recipe: str, source: Source, out: str, changes: Sequence[str]) -> tuple[runs.Run, Path, str]:
    """(the Run that was asked for, its folder, a sentence about what else was changed or "")."""
    folder, data, test = Path(recipe), source.data, source.test
    stated = Stated.parse(source.shape, source.blank, source.alphabet)
    if (folder / "run.json").exists():
        if source.named or out:
            raise InputError(
                f"{folder} is a run and has all that: leave out --data, --test, --out, --system, --task, --shape, "
                "--blank and --alphabet"
            )
        return runs.override(read_run(folder, source.code), changes), folder, ""
    run, note = start_of(recipe, source, changes)
    if test and not data:
        raise InputError("--test is given without --data: give both, or neither")
    if stated != UNSTATED and (not data or run.data.task not in ("", *INFERRED)):
        raise InputError("--shape, --blank and --alphabet speak of a file whose rows tell its task: give it by --data")
    if data:
        # 0 rows to take means all: the recipe's count was for the puzzles it generates. What the file tells, it tells.
        file = replace(run.data, train=data, test=test, count=0)
        if not test and file.holdout == runs.Data().holdout:
            file = replace(file, holdout=0)  # of few puzzles few are held out
        told = file.task in ("", *INFERRED)
        run = replace(run, data=replace(file, task="", options=stated.options()) if told else file)
    by_run = source.system or is_file(recipe) or recipe == "family"
    name = run.name if by_run else Path(recipe).stem
    return runs.override(run, changes), Path(out or f"runs/{name}"), note


def start_of(recipe: str, source: Source, changes: Sequence[str]) -> tuple[runs.Run, str]:
    """The Run of a recipe, or of a config file, and a sentence about what was matched anew, or ""."""
    parameters = {k: v for k, v in (("system", source.system), ("task", source.task)) if v}
    if recipe.endswith(".json"):
        if not all(map(is_file, parameters.values())):
            raise InputError(f"{printable(recipe)} names its system and task: leave out --system and --task")
        value = files.read_json(recipe)
        whole = value if isinstance(value, dict) and "run" in value else {"run": value}
        shown = files.shown(recipe)
        return runs.read_config(permitted(whole, Path(recipe), source.code, shown), shown), ""
    if Path(recipe).is_dir() or ("/" in recipe and not is_file(recipe)):
        raise InputError(
            f"{recipe} is neither a recipe nor the folder of a run (it has no run.json): see innerloop list"
        )
    return recipes.matched(recipe, changes, **{k: given(v) for k, v in parameters.items()})
