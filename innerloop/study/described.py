"""A model in plain JSON: its task as a page draws it, puzzles to try, and what was measured of its run."""

from __future__ import annotations

from typing import Any

import numpy as np

from innerloop.solve.solver import Solver
from innerloop.study.thought import finite

__all__ = ["curves", "example", "halted", "model"]

POINT = ("depth", "width", "halting", "exact", "low", "high", "valid", "steps", "nfe")  # of a row of eval.json


def model(name: str, opened: Any, solver: Solver) -> dict[str, Any]:
    """Who it is, and how to draw its boards. opened: recipes.run.Opened."""
    task, run = opened.task, opened.run
    symbols = task.pad_symbol + task.charset
    units = None if task.units is None else [list(dict.fromkeys(unit)) for unit in np.asarray(task.units).tolist()]
    return {
        "name": name,
        "system": run.system,
        "task": task.name,
        "about": run.about or f"{run.system.upper()} on {task.name}",
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
        "calibrated": bool(solver.trusts),
        "parameters": sum(p.numel() for p in opened.loop.parameters()),
        "trained_depth": run.plan.deepest,
        "fixed": getattr(task, "fixed", None),
    }


def example(task: Any, puzzles: Any, i: int) -> dict[str, Any]:
    """Row i of a PuzzleSet; an answer that nobody knows is empty."""
    label = puzzles.labels[i]
    return {
        "question": task.decode(puzzles.inputs[i]),
        "answer": task.decode(label) if (label != 0).any() else "",
        "rating": finite(puzzles.rating[i], 4),
        "identifier": int(puzzles.puzzle[i]),
    }


def curves(judged: dict[str, Any], studied: dict[str, Any], solver: Solver) -> dict[str, list[dict[str, Any]]]:
    """Accuracy over depth of an eval.json, directions in use of a study.json, worth of each rule that was calibrated.

    Of the files either may be empty; what is missing in a row leaves it out.
    """
    rows = [{k: row.get(k) for k in POINT} for row in judged.get("rows", [])]
    slots = studied.get("dimension", {}).get("trained", {})
    return {
        "depth": [row for row in rows if all(row[k] is not None for k in POINT if k != "valid")],
        "modules": [directions(slot, steps[-1]) for slot, steps in slots.items() if steps],
        "trust": [
            {"rule": t.rule, "accuracy": t.accuracy, "auroc": finite(t.auroc), "ece": finite(t.ece)}
            for t in solver.trusts.values()
        ],
    }


def directions(slot: str, found: dict[str, Any]) -> dict[str, Any]:
    """Participation ratio of one slot after the last step, free of its bias where that could be told."""
    told = {k: finite(found.get(k), 4) for k in ("corrected", "plain", "low", "high", "effective_rank")}
    corrected, plain = told.pop("corrected"), told.pop("plain")
    return {"slot": slot, "participation_ratio": plain if corrected is None else corrected} | told


def halted(steps: Any, rating: Any, right: Any) -> dict[str, Any]:
    """Where one puzzle was stopped by the loop's own rule."""
    return {"steps": int(steps), "rating": finite(rating, 4), "right": bool(right)}
