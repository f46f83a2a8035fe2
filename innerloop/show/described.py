"""A model as JSON for server and report: its task, example puzzles, and measured curves."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, get_type_hints

import numpy as np

from innerloop import schema
from innerloop.errors import InputError
from innerloop.plugins import name_of
from innerloop.show import records
from innerloop.show.replay import rounded_or_none
from innerloop.solve.solver import Solver
from innerloop.text import printable

__all__ = ["curves_json", "difficulty", "example_json", "halting_point", "model_json", "object_at", "read_objects"]

CURVE_FIELDS = ("depth", "width", "halting", "exact", "low", "high", "valid", "steps", "nfe")  # of a row of eval.json
LINE = get_type_hints(records.EvalRow, include_extras=True)


def model_json(name: str, opened: Any, solver: Solver) -> dict[str, Any]:
    """Name, task and how to draw its boards. opened: runs.folder.Opened."""
    task, run = opened.task, opened.run
    symbols = task.pad_symbol + task.charset
    units = None if task.units is None else [list(dict.fromkeys(unit)) for unit in np.asarray(task.units).tolist()]
    return {
        "name": name,
        "system": name_of(run.system),
        "task": task.name,
        "about": run.about or f"{name_of(run.system).upper()} on {task.name}",
        "rows": task.shape[0],
        "columns": task.shape[1],
        "charset": task.charset,
        "pad": task.pad_symbol,
        "blank": symbols[task.blank] if task.blank else "",
        "boxes": list(task.boxes()),
        "units": units,
        "glyphs": {s: task.glyph(t) for t, s in enumerate(symbols)},
        "colours": {s: task.colour(t) for t, s in enumerate(symbols)},
        "verifies": solver.verify is not None,
        "calibrated": bool(solver.calibrations),
        "parameters": sum(p.numel() for p in opened.loop.parameters()),
        "trained_depth": run.plan.trained_depth,
        "fixed": getattr(task, "fixed", None),
    }


def example_json(task: Any, puzzles: Any, i: int) -> dict[str, Any]:
    """Row i of a PuzzleSet; an unknown answer is empty."""
    label = puzzles.labels[i]
    return {
        "question": task.decode(puzzles.inputs[i]),
        "answer": task.decode(label) if (label != 0).any() else "",
        "rating": rounded_or_none(puzzles.rating[i], 4),
        "identifier": int(puzzles.puzzle[i]),
    }


def difficulty(task: Any, puzzles: Any) -> str:
    """What the ratings of a PuzzleSet count, in words; empty where it is not rated, or its source gave the ratings."""
    generated = puzzles is not None and puzzles.source.startswith(f"{task.name} generated")
    return task.rating_counts if generated else ""


def read_objects(read: Callable[[str], Any], names: Sequence[str]) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """({name: the object in NAME.json, empty where there is none}, why those that cannot be used are left out).

    read(name)  the JSON value, None where there is none; may raise InputError
    """
    found: dict[str, dict[str, Any]] = {}
    reasons = []
    for name in names:
        found[name] = {}
        try:
            value = read(name)
        except InputError as error:
            reasons.append(str(error))
            continue
        if isinstance(value, dict):
            found[name] = value
        elif value is not None:
            reasons.append(f"{name}.json is no JSON object")
    return found, reasons


def curves_json(
    judged: dict[str, Any], studied: dict[str, Any], solver: Solver, reasons: list[str] | None = None
) -> dict[str, list[dict[str, Any]]]:
    """Accuracy over depth of an eval.json, participation ratios of a study.json, scores of each calibrated rule.

    Either file may be empty. A row that lacks something is left out; so is one with values of the wrong kind,
    and `reasons` then gains a sentence.
    """
    odd = [] if reasons is None else reasons
    slots = object_at(object_at(studied, "dimension"), "trained")
    points = [row for row in valid_rows(judged, odd) if all(k in row for k in CURVE_FIELDS)]
    modules = []
    for slot, steps in slots.items():
        try:
            if steps:
                modules.append(slot_dimension(str(slot), steps[-1]))
        except (TypeError, ValueError, AttributeError, KeyError, OverflowError):
            odd.append(f"study.json says of {printable(str(slot), 40)} what is no dimension")
    return {
        "depth": points,
        "modules": modules,
        "trust": [
            {"rule": t.rule, "accuracy": t.accuracy, "auroc": rounded_or_none(t.auroc), "ece": rounded_or_none(t.ece)}
            for t in solver.calibrations.values()
        ],
    }


def valid_rows(judged: dict[str, Any], odd: list[str]) -> Iterator[dict[str, Any]]:
    """The rows of an eval.json, with the values of POINT that are there and not null; `valid` always."""
    rows = judged.get("rows", [])
    if not isinstance(rows, list):
        odd.append("eval.json has no list of rows")
        return
    wrong = 0
    for row in rows:
        if not isinstance(row, dict) or not all(is_valid_field(k, row.get(k)) for k in CURVE_FIELDS):
            wrong += 1
            continue
        yield {k: row.get(k) for k in CURVE_FIELDS if k == "valid" or row.get(k) is not None}
    if wrong:
        odd.append(f"{wrong} of {len(rows)} rows of eval.json hold values of the wrong kind")


def is_valid_field(key: str, value: Any) -> bool:
    """Whether this may be the value of a row of an eval.json at `key`; None always."""
    try:
        return value is None or schema.read(LINE[key], value, "eval.json") is not None
    except InputError:
        return False


def object_at(value: dict[str, Any], key: str) -> dict[str, Any]:
    """The object at `key`; an empty one where there is none."""
    found = value.get(key)
    return found if isinstance(found, dict) else {}


def slot_dimension(slot: str, found: dict[str, Any]) -> dict[str, Any]:
    """Participation ratio of one slot after the last step, corrected for its bias where possible."""
    values = {k: rounded_or_none(found.get(k), 4) for k in ("corrected", "plain", "low", "high", "effective_rank")}
    corrected, plain = values.pop("corrected"), values.pop("plain")
    return {"slot": slot, "participation_ratio": plain if corrected is None else corrected} | values


def halting_point(steps: Any, rating: Any, right: Any) -> dict[str, Any]:
    """Where one puzzle was stopped by the loop's own rule."""
    return {"steps": int(steps), "rating": rounded_or_none(rating, 4), "right": bool(right)}
