"""`show`: every field of a recipe with its meaning and the values it may take; a config file to edit and train."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from innerloop import files, plugins, tasks
from innerloop.cli.choosing import Recipe, Source, TrustCode, choose_run
from innerloop.cli.inputs import next_command, refuse_overwrite
from innerloop.errors import InputError
from innerloop.runs.code import FOLDER as CODE_FOLDER
from innerloop.runs.fields import Field, config_json, fields_of
from innerloop.runs.run import Run, read_config
from innerloop.text import markup, nearest, printable

LONGEST = 48  # characters of a value
WIDTH = 120  # columns of a table that goes to no terminal


def show(
    recipe: Recipe,
    part: str = "",
    system: str = "",
    task: str = "",
    set: tuple[str, ...] = (),
    out: str = "",
    trust_code: TrustCode = False,
) -> int:
    """Show every field of a recipe or a run: value, meaning, and the values it may take; save it as a config file.

    Example:  innerloop show sudoku4

    Example:  innerloop show sudoku4 --part plan

    Example:  innerloop show sudoku4 --set plan.lr=1e-3 --out my.json      # edit it, then: innerloop train my.json

    Args:
        recipe: Name of a recipe (innerloop list), a config file, or the folder of a run.
        part: Only the fields that begin with this, such as plan or config.net.
        system: Of the recipe family: the system.
        task: Of the recipe family: the task.
        set: Fields to change.
        out: Config file to write instead, a .json that train, sweep and show take like a recipe.
    """
    run, _, note = choose_run(recipe, Source(system=system, task=task, trust_code=trust_code), "", set)
    console = Console(emoji=False, highlight=False, soft_wrap=True)
    if note:
        console.print(note, markup=False)
    if out:
        if Path(out).suffix != ".json":
            raise InputError(f"--out is {printable(out)}: a config file is called NAME.json")
        refuse_overwrite(Path(out), lambda path: read_config(files.read_json(path), files.shown(path)))
        files.write_text(out, json.dumps(config_json(run), indent=2) + "\n")
        own = own_files(run, recipe, {"--system": system, "--task": task})
        following = next_command("train", out, *own, *file_of_puzzles(run))
        console.print(f"written to {markup(out)}; next: [bold]{markup(following, 4096)}[/]")
        return 0
    fields = fields_of(run)
    chosen = [f for f in fields if f.path == part or f.path.startswith(f"{part}.")] if part else fields
    if not chosen:
        parts = sorted({f.path.rpartition(".")[0] for f in fields} - {""})
        near = nearest(part, [*parts, *(f.path for f in fields)])
        told = f'did you mean "{near}"?' if near else f"there are {', '.join(parts)}"
        raise InputError(f"no field begins with {printable(part, 60)}: {told}")
    print_fields(chosen)
    example = next((f for f in chosen if f.path == "plan.lr"), chosen[-1])
    whose = [word for name, value in (("--system", system), ("--task", task)) if value for word in (name, value)]
    changed = next_command(
        "train", recipe, *whose, *file_of_puzzles(run), "--set", f"{example.path}={as_text(example.value)}"
    )
    console.print(f"to change a field: [bold]{markup(changed, 4096)}[/]")
    return 0


def own_files(run: Run, recipe: str, given: dict[str, str]) -> list[str]:
    """The options that give the files of a run's own system and task, which a config file does not hold."""
    folder, words = Path(recipe), []
    for option, name in (("--system", run.system), ("--task", run.data.task)):
        known = plugins.parse(name)
        if known is not None:
            kept = [place / known.file for place in (folder / CODE_FOLDER, folder.parent)]
            file = next((str(path) for path in kept if path.is_file()), known.file)
            words += [option, given[option] or (f"{file}:{known.member}" if known.member else file)]
    return words


def file_of_puzzles(run: Run) -> list[str]:
    """The option that gives the puzzles to train on, where the run names none and its task makes none."""
    if run.data.train:
        return []
    try:
        tasks.get(run.data.task, **run.data.options).sample(0, 0)
    except InputError:
        return ["--data", "FILE"]
    return []


def print_fields(fields: list[Field]) -> None:
    """A table on a terminal of any width: what does not fit is wrapped."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("field", style="cyan", no_wrap=True)
    table.add_column("value", style="bold", overflow="fold", max_width=24)
    table.add_column("meaning, and what it takes", overflow="fold")
    for f in fields:
        value = "from the puzzles" if f.fitted else cut(as_text(f.value))
        table.add_row(f.path, markup(value), explained(f))
    Console(emoji=False, highlight=False, width=None if sys.stdout.isatty() else WIDTH).print(table)


def explained(f: Field) -> str:
    """Meaning and values, with markup; names that stand in the meaning already are not repeated."""
    told = all(f'"{name}"' in f.meaning for name in f.takes.split(", "))
    takes = "" if told else f"({markup(f.takes)})" if f.meaning else markup(f.takes)
    return f"{markup(f.meaning)} [dim]{takes}[/]" if takes else markup(f.meaning)


def as_text(value: Any) -> str:
    """A value as --set takes it."""
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return f"{value:g}"
    return json.dumps(value)


def cut(text: str) -> str:
    return text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."
