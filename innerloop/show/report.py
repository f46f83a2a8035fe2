"""The self-contained HTML report of a run: some solves step by step, its results, and how it was trained.

It is the page of `innerloop serve` (innerloop.web) with its data embedded: from the run folder, and from solving a few
held-out puzzles, in the form in which the server sends them.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from innerloop import files, web
from innerloop.errors import InputError
from innerloop.learn.evaluate import score_set
from innerloop.plugins import name_of, trust_flag
from innerloop.show import described, records
from innerloop.show.replay import Replay, rounded_or_none
from innerloop.solve.calibrate import from_file
from innerloop.solve.options import SolveOptions
from innerloop.solve.solver import Solver
from innerloop.text import command

__all__ = ["page", "replay_json"]

REPORT_WIDTH = 4  # trajectories of each puzzle, where they can differ
MAX_CURVE_POINTS = 400  # of a learning curve, at most


def page(opened: Any, examples: Any, row: int, depth: int = 16) -> str:
    """The page as text. opened: runs.run.Opened; examples: held-out puzzles, of which `row` is shown first.

    It also holds the solves of the easiest and the hardest puzzle, where they are rated.
    """
    folder = Path(opened.folder)
    solver = Solver(opened.loop, opened.task, calibrations=from_file(records.read(folder, "calibration.json") or None))
    options = best_options(solver, depth)
    rows = [row]
    if not np.isnan(examples.rating).any():
        rated = {row, int(examples.rating.argmin()), int(examples.rating.argmax())}
        rows = sorted(rated, key=examples.rating.__getitem__)
    thoughts = [replay_json(solver, examples, i, options) for i in rows]
    examples_json = {
        "examples": [described.example_json(opened.task, examples, i) for i in rows],
        "start": rows.index(row),
        "difficulty": described.difficulty(opened.task, examples),
    }
    model = (
        described.model_json(folder.resolve().name, opened, solver)
        | examples_json
        | measured_json(opened, solver, examples)
    )
    return web.standalone({"model": model, "thoughts": thoughts})


def best_options(solver: Solver, depth: int) -> SolveOptions:
    """WIDTH where trajectories can differ, else 1, and the best selection rule."""
    differ = solver.trajectories_differ(SolveOptions(depth, REPORT_WIDTH))
    try:
        rule = solver.best_rule()
    except InputError:  # rules not known, and not calibrated
        rule = "vote" if differ else "certainty"
    return SolveOptions(depth, REPORT_WIDTH if differ else 1, rule)


# -- the model ---------------------------------------------------------------------------------------------------------


def measured_json(opened: Any, solver: Solver, examples: Any) -> dict[str, Any]:
    """Curves, certificates and commands, from the files that other verbs have left in the run's folder."""
    folder, run = Path(opened.folder), opened.run
    found, reasons = described.read_objects(lambda name: read_record(folder, name), ("eval", "study", "result"))
    judged, result = found["eval"], found["result"]
    curves = described.curves_json(judged, found["study"], solver, reasons)
    curves["halting"] = halting_points(opened.loop, opened.task, examples, run.plan.trained_depth)
    metrics = folder / "metrics.jsonl"
    known = {"curves": curves, "born": certificate_fields(result, judged, reasons), "trained": run_fields(run)}
    known["commands"] = next_commands(opened)
    return known | ({"learning": learning_curve(metrics)} if metrics.exists() else {})


def halting_points(loop: Any, task: Any, examples: Any, depth: int) -> list[dict[str, Any]]:
    """Where each puzzle stops by the loop's own rule, at most at the trained depth; none if it has no such rule."""
    try:
        judged = score_set(loop, task, examples, depth, halting=True)
    except InputError:  # it has no halting head
        return []
    return [described.halting_point(*row) for row in zip(judged.steps, examples.rating, judged.exact, strict=True)]


def learning_curve(metrics: Path) -> list[dict[str, Any]]:
    """(step, seen, held): exact accuracy in training and on validation puzzles, thinned to a few hundred points."""
    points = []
    for record in records.read_metrics(metrics):
        step, seen = record.get("step"), record.get("train/exact_accuracy")
        held = [v for k, v in record.items() if k.startswith("valid/exact@")]
        if isinstance(step, int) and (held or seen is not None) and all(map(is_plottable, (seen, *held))):
            points.append((step, rounded_or_none(seen), held[-1] if held else None))
    every = math.ceil(len(points) / MAX_CURVE_POINTS)
    return [{"step": s, "seen": t, "held": v} for i, (s, t, v) in enumerate(points) if i % every == 0 or v is not None]


def run_fields(run: Any) -> dict[str, Any]:
    """Every field of the run in one flat table; long ones are counted, not shown."""
    flat: dict[str, Any] = {}

    def walk(name: str, value: Any) -> None:
        if isinstance(value, dict) and value:
            for key, inner in value.items():
                walk(f"{name}.{key}" if name else key, inner)
        elif isinstance(value, list | tuple) and len(value) > 8:
            flat[name] = f"{len(value)} of them"
        elif value not in ("", {}, (), []):
            flat[name] = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)

    walk("", {k: v for k, v in dataclasses.asdict(run).items() if k != "about"})
    return flat


def is_plottable(value: Any) -> bool:
    """Whether this can be drawn, or is none."""
    return value is None or (isinstance(value, int | float) and abs(value) < 1e15)


def certificate_fields(result: dict[str, Any], judged: dict[str, Any], reasons: Sequence[str] = ()) -> dict[str, Any]:
    """Provenance of the numbers; `reasons`: why files were left out."""
    trained_by, judged_by = described.object_at(result, "born"), described.object_at(judged, "born")
    own = {"trained by": trained_by.get("command"), "evaluated by": judged_by.get("command")}
    own |= {k: v for k, v in (judged_by or trained_by).items() if k != "command"}
    own |= {k.replace("_", " "): judged[k] for k in ("data", "test_puzzles", "train_puzzles") if k in judged}
    seconds, steps, best = result.get("seconds"), result.get("steps"), described.object_at(result, "best").get("step")
    if seconds is not None and isinstance(steps, int) and is_plottable(seconds):
        own["training"] = f"{seconds:.0f} s, {steps:,} optimizer steps"
    own["leakage"] = result.get("leakage")
    if best is not None and is_plottable(best):
        own["weights kept"] = f"best validation, step {best:.0f}"
    if isinstance(result.get("warnings"), list):
        own["warnings"] = "; ".join(map(str, result["warnings"]))
    own["left out"] = "; ".join(reasons)
    shown = {k: ", ".join(map(str, v)) if isinstance(v, list) else str(v) for k, v in own.items()}
    return {k: v for k, v in shown.items() if own[k] not in (None, "")}


def next_commands(opened: Any) -> dict[str, str]:
    """Commands to go on with. A model in one file has no folder for results, and holds no code of its own."""
    folder, run = Path(opened.folder), opened.run
    kept = folder.is_dir()
    names = (("--system", run.system), ("--task", run.data.task))
    files_of = [word for option, name in names if name_of(name) != name for word in (option, name_of(name))]
    own = trust_flag(run) if kept else tuple(files_of)
    judged, studied = ((), ()) if kept else (("--out", "eval.json"), ("--out", "study"))
    depths = ("--depth", "1,2,4,8,16,32,64", "--halt", "both")
    return {
        "ask it your own puzzles": command("serve", folder, *own),
        "measure what depth buys": command("eval", folder, *depths, *judged, *own),
        "look inside": command("study", folder, *studied, *own),
    }


# -- a thought ---------------------------------------------------------------------------------------------------------


def replay_json(solver: Solver, examples: Any, i: int, options: SolveOptions) -> dict[str, Any]:
    """The trace of one solve, as the server streams it: {request, begin, steps, done, said}."""
    task, question, number = solver.task, examples.inputs[i], int(examples.puzzle[i])
    replay, steps = Replay(solver, question, options, number), []
    puzzle_job = replay.puzzle_job(lambda k, output: steps.append(replay.step_json(replay.record(k, output))))
    for _ in solver.run_jobs(solver.engine(options), [puzzle_job], math.inf, math.inf):
        pass  # it is the only one
    found = replay.solution()
    explain = getattr(task, "explain", None)
    return {
        "request": {"puzzle": task.decode(question), "identifier": number, **dataclasses.asdict(options)},
        "begin": {"width": options.width, "depth": options.depth, "rule": options.pick},
        "steps": steps,
        "done": replay.end_json(found),
        "explanation": list(explain(question, found.answer)) if explain is not None and found.valid is False else [],
    }


def read_record(folder: Path, name: str) -> Any:
    """The JSON value of the file of that name, None if absent. `described` leaves out what is of the wrong kind."""
    path = folder / f"{name}.json"
    return files.read_json(path) if path.exists() else None
