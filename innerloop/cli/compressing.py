"""`macros`: sequences of steps that recur in right answers, found by description length, and named."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import tyro
from rich.console import Console

from innerloop import files
from innerloop.cli.comparing import RESULT
from innerloop.cli.inputs import next_command, refuse_overwrite
from innerloop.data.questions import questions_of, rows_of
from innerloop.errors import InputError
from innerloop.registry import open_model, open_run, with_depth
from innerloop.runs.certificate import birth_certificate
from innerloop.schema import Range
from innerloop.tasks.compressed import MACRO_NAMES
from innerloop.text import printable
from innerloop.tokens.macros import Mined, mine
from innerloop.tokens.shorthand import read_macros
from innerloop.tokens.way import Asked, answer_many
from innerloop.tokens.ways import way_of

__all__ = ["macros"]

STEPS = re.compile(r"\n+|(?<=[.;!?])\s+")  # between the steps of a text
TRAINING_SEED = 0  # of questions that training lists hold


class Traces(NamedTuple):
    """Steps of right answers."""

    rows: list[tuple[str, ...]]
    asked: int  # questions that they are of, right or wrong
    task: tuple[str, dict[str, Any]] | None = None  # of a model trained here, whose steps are characters; its options


def macros(
    source: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN|FOLDER|FILE")],
    out: str = "runs/macros.json",
    most: Annotated[int, Range(1, len(MACRO_NAMES))] = 8,
    longest: Annotated[int, Range(2, 64)] = 8,
    questions: Annotated[int, Range(1, 100_000)] = 300,
) -> int:
    """Find sequences of steps that recur in right answers, and name them, so that chains of thought get shorter.

    Example:  innerloop macros RUN --out runs/macros.json

    Args:
        source: A run that learned to write, whose chains are asked for and checked; the folder of `innerloop compare`,
            whose right texts are taken; or a file of rows with `steps` (a list) or `text`.
        out: File of the macros.
        most: Macros at most.
        longest: Symbols of a macro at most, of which some may be macros.
        questions: Of a run: training questions that it is asked.
    """
    path = Path(out)
    refuse_overwrite(path, read_macros)
    traces = traces_of(source, questions)
    if not traces.rows:
        raise InputError(f"{printable(source, 60)} holds no right answer with steps, so there is nothing to name")
    names = MACRO_NAMES if traces.task else [f"[{letter}]" for letter in MACRO_NAMES]
    found = mine(traces.rows, names[:most], longest)
    files.write_json(path, as_json(found, source, traces) | {"born": birth_certificate([TRAINING_SEED])})
    show(found, traces, path)
    return 0


def traces_of(source: str, questions: int) -> Traces:
    """The right answers of a run, of a comparison, or of a file."""
    folder, _ = with_depth(source)
    if (Path(source) / RESULT).exists():
        found = files.read_json(Path(source) / RESULT)
        items = [item for arm in found["arms"] for item in arm["items"]]
        rows = [steps_of(item["text"]) for item in items if item["mark"] == "right"]
        return Traces([row for row in rows if row], len(items))
    if Path(folder).is_dir():
        return traces_of_run(source, folder, questions)
    rows = []
    for where, row in rows_of(Path(source)):
        steps, text = row.get("steps"), row.get("text")
        if not (isinstance(steps, list) and all(isinstance(s, str) for s in steps)) and not isinstance(text, str):
            raise InputError(f"{where}: give each row `steps`, a list of texts, or `text`")
        rows.append(tuple(steps) if isinstance(steps, list) else steps_of(text))  # type: ignore[arg-type]
    return Traces([row for row in rows if row], len(rows))


def steps_of(text: str) -> tuple[str, ...]:
    """The lines of a text, and the sentences of these."""
    return tuple(step.strip() for step in STEPS.split(text) if step.strip())


def traces_of_run(source: str, folder: str, questions: int) -> Traces:
    """The chains of a run's right answers to training questions of its task, character by character."""
    task: Any = open_run(folder).task
    model: Any = open_model(source)
    if "chain" not in getattr(model, "forms", {}):
        raise InputError(f"{printable(source, 60)} was not trained to write a chain")
    items = questions_of(task, questions, TRAINING_SEED)
    said = answer_many(way_of("chain", model), [Asked(item) for item in items], workers=model.rows)
    rows = [
        tuple(s.text.rpartition(model.cue)[0])
        for item, s in zip(items, said, strict=True)
        if s.answer is not None and task.is_right(item.question, s.answer)
    ]
    name, options = task.name, dict(task.options)
    if name == "compressed":
        name, options = options["task"], dict(options["options"])
    return Traces([row for row in rows if row], len(items), (name, options))


def as_json(found: Mined, source: str, traces: Traces) -> dict[str, Any]:
    counts = {"source": source, "right": len(traces.rows), "asked": traces.asked}
    return asdict(found) | counts


def show(found: Mined, traces: Traces, path: Path) -> None:
    """The macros, and what they are worth."""
    console = Console(emoji=False, highlight=False, soft_wrap=True)
    between = "" if traces.task else " | "
    for macro in found.macros:
        console.print(f"{macro.name:4} {macro.times:6} times  {printable(between.join(macro.steps), 90)}", markup=False)
    if not found.macros:
        console.print("no sequence of steps recurs often enough to be worth a name")
    console.print(
        f"{len(traces.rows)} right of {traces.asked}: {found.symbols_before:,} steps are {found.symbols_after:,} with "
        f"macros; {found.bits_before:,.0f} bits are {found.bits_after:,.0f}, macros included",
        markup=False,
    )
    console.print(f"written to {files.shown(path)}", markup=False, style="dim")
    if not found.macros:
        return
    if traces.task:
        named = {m.name: "".join(m.steps) for m in found.macros}
        options = json.dumps({"task": traces.task[0], "options": traces.task[1], "macros": named})
        changes = ("data.task=compressed", f"data.options={options}")
        console.print(f"next: {next_command('train', 'chain', '--set', *changes)}", markup=False)
    else:
        console.print(f"next: --think 'shorthand(\"{path}\")' in innerloop ask and compare", markup=False)
