"""One self-contained page about a run: some of its thoughts step by step, what it reached, and how it was trained.

The page is the one `innerloop serve` shows (innerloop.web); here its data come from the run folder and from thinking
about a few held-out puzzles, in the form in which the server sends them.
"""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np

from innerloop import web
from innerloop.errors import InputError
from innerloop.learn.evaluate import judge_set
from innerloop.solve.calibrate import from_json
from innerloop.solve.dials import Dials
from innerloop.solve.solver import Solver
from innerloop.study import described, records
from innerloop.study.thought import Thought, finite

__all__ = ["page", "thought"]

WIDTH = 4  # trajectories of each puzzle, where they can differ
POINTS = 400  # of a learning curve, at most


def page(opened: Any, examples: Any, row: int, depth: int = 16) -> str:
    """The page as text. opened: recipes.run.Opened; examples: held-out puzzles, of which `row` is shown first.

    Besides that puzzle it holds the thoughts about the easiest and the hardest of the set, where they are rated.
    """
    folder = Path(opened.folder)
    kept = records.read(folder, "calibration.json")
    solver = Solver(opened.loop, opened.task, trusts=from_json(kept["rules"]) if kept else None)
    dials = best_dials(solver, depth)
    rows = [row]
    if not np.isnan(examples.rating).any():
        rated = {row, int(examples.rating.argmin()), int(examples.rating.argmax())}
        rows = sorted(rated, key=examples.rating.__getitem__)
    thoughts = [thought(solver, examples, i, dials) for i in rows]
    told = {"examples": [described.example(opened.task, examples, i) for i in rows], "start": rows.index(row)}
    model = described.model(folder.resolve().name, opened, solver) | told | measured(opened, solver, examples)
    return web.standalone({"model": model, "thoughts": thoughts})


def best_dials(solver: Solver, depth: int) -> Dials:
    """Width where trajectories can differ, and the rule that is worth most."""
    differ = solver.differ(Dials(depth, WIDTH))
    try:
        rule = solver.best_rule()
    except InputError:  # rules not known, and not calibrated
        rule = "vote" if differ else "certainty"
    return Dials(depth, WIDTH if differ else 1, rule)


# -- the model ---------------------------------------------------------------------------------------------------------


def measured(opened: Any, solver: Solver, examples: Any) -> dict[str, Any]:
    """Curves, certificates and commands, from the files that other verbs have left in the run's folder."""
    folder, run = Path(opened.folder), opened.run
    judged, studied, result = (records.read(folder, f"{name}.json") for name in ("eval", "study", "result"))
    curves = described.curves(judged, studied, solver)
    curves["halting"] = halting(opened.loop, opened.task, examples, run.plan.deepest)
    metrics = folder / "metrics.jsonl"
    known = {"curves": curves, "born": born(result, judged), "trained": trained(run), "commands": commands(folder)}
    return known | ({"learning": learning(metrics)} if metrics.exists() else {})


def halting(loop: Any, task: Any, examples: Any, depth: int) -> list[dict[str, Any]]:
    """Where each puzzle stops by the loop's own rule, at most at the trained depth; none if it has no such rule."""
    try:
        judged = judge_set(loop, task, examples, depth, halting=True)
    except InputError:  # it has no halting head
        return []
    return [described.halted(*row) for row in zip(judged.steps, examples.rating, judged.exact, strict=True)]


def learning(metrics: Path) -> list[dict[str, Any]]:
    """(step, seen, held): exact accuracy in training and on validation puzzles, thinned to a few hundred points."""
    points = []
    for record in records.read_metrics(metrics):
        held = [v for k, v in record.items() if k.startswith("valid/exact@")]
        if held or "train/exact_accuracy" in record:
            points.append((record["step"], finite(record.get("train/exact_accuracy")), held[-1] if held else None))
    every = math.ceil(len(points) / POINTS)
    return [{"step": s, "seen": t, "held": v} for i, (s, t, v) in enumerate(points) if i % every == 0 or v is not None]


def trained(run: Any) -> dict[str, Any]:
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


def born(result: dict[str, Any], judged: dict[str, Any]) -> dict[str, Any]:
    """What the numbers need beside them to be believed."""
    own = {"trained by": result.get("born", {}).get("command"), "evaluated by": judged.get("born", {}).get("command")}
    own |= {k: v for k, v in (judged.get("born") or result.get("born") or {}).items() if k != "command"}
    own |= {k.replace("_", " "): judged[k] for k in ("data", "test_puzzles", "train_puzzles") if k in judged}
    if "seconds" in result:
        own["training"] = f"{result['seconds']:.0f} s, {result['steps']:,} optimizer steps"
    if result.get("leakage"):
        own["leakage"] = result["leakage"]
    if result.get("best"):
        own["weights kept"] = f"best validation, step {result['best']['step']:.0f}"
    if result.get("warnings"):
        own["warnings"] = "; ".join(result["warnings"])
    shown = {k: ", ".join(map(str, v)) if isinstance(v, list) else str(v) for k, v in own.items()}
    return {k: v for k, v in shown.items() if own[k] not in (None, "")}


def commands(folder: Path) -> dict[str, str]:
    """What to do next, and how."""
    return {
        "ask it your own puzzles": f"innerloop serve {folder}",
        "measure what depth buys": f"innerloop eval {folder} --depth 1,2,4,8,16,32,64 --halt both",
        "look inside": f"innerloop study {folder}",
    }


# -- a thought ---------------------------------------------------------------------------------------------------------


def thought(solver: Solver, examples: Any, i: int, dials: Dials) -> dict[str, Any]:
    """One puzzle thought about at these dials, as the server streams it: {request, begin, steps, done, said}."""
    task, question, number = solver.task, examples.inputs[i], int(examples.puzzle[i])
    told, steps = Thought(solver, question, dials, number), []
    case = told.case(lambda k, moment: steps.append(told.step(told.see(k, moment))))
    engine = solver.engine(dials)
    for k in case.wave():
        engine.submit(case.job(k))
    engine.run()
    found = told.solution()
    explain = getattr(task, "explain", None)
    return {
        "request": {"puzzle": task.decode(question), "identifier": number, **dataclasses.asdict(dials)},
        "begin": {"width": dials.width, "depth": dials.depth, "rule": dials.pick},
        "steps": steps,
        "done": told.ended(found),
        "said": list(explain(question, found.answer)) if explain is not None and found.valid is False else [],
    }
