"""One self-contained page about a run: some of its thoughts step by step, what it reached, and how it was trained.

The page is the one `innerloop serve` shows (innerloop.web); here its data come from the run folder and from thinking
about a few held-out puzzles, in the form in which the server sends them.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from innerloop import web
from innerloop.errors import InputError
from innerloop.grad import floating
from innerloop.learn import checkpoint
from innerloop.learn.evaluate import judge_set
from innerloop.solve.calibrate import from_json
from innerloop.solve.case import Case
from innerloop.solve.choose import RULES, Trajectories
from innerloop.solve.dials import Dials, Solution
from innerloop.solve.engine import Moment
from innerloop.solve.solver import Solver
from innerloop.solve.verify import broken

__all__ = ["page", "thought"]

WIDTH = 4  # trajectories of each puzzle, where they can differ
POINTS = 400  # of a learning curve, at most


def page(opened: Any, examples: Any, row: int, depth: int = 16) -> str:
    """The page as text. opened: recipes.run.Opened; examples: held-out puzzles, of which `row` is shown first.

    Besides that puzzle it holds the thoughts about the easiest and the hardest of the set, where they are rated.
    """
    folder = Path(opened.folder)
    kept = read(folder / "calibration.json")
    solver = Solver(opened.loop, opened.task, trusts=from_json(kept) if kept else None)
    dials = best_dials(solver, depth)
    rows = [row]
    if not np.isnan(examples.rating).any():
        rated = {row, int(examples.rating.argmin()), int(examples.rating.argmax())}
        rows = sorted(rated, key=examples.rating.__getitem__)
    thoughts = [thought(solver, examples, i, dials) for i in rows]
    told = {"examples": [example(opened.task, examples, i) for i in rows], "start": rows.index(row)}
    model = described(opened, solver) | told | measured(opened, solver, examples)
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


def described(opened: Any, solver: Solver) -> dict[str, Any]:
    """What the server's /v1/models says of a model, as far as a page without a server needs it."""
    task, run = opened.task, opened.run
    symbols = task.pad_symbol + task.charset
    units = None if task.units is None else [list(dict.fromkeys(unit)) for unit in np.asarray(task.units).tolist()]
    return {
        "name": Path(opened.folder).resolve().name,
        "system": run.system,
        "task": task.name,
        "about": run.about,
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
        "fixed": None,
    }


def example(task: Any, examples: Any, i: int) -> dict[str, Any]:
    answer = task.decode(examples.labels[i])
    return {"question": task.decode(examples.inputs[i]), "answer": answer, "rating": finite(examples.rating[i])}


def measured(opened: Any, solver: Solver, examples: Any) -> dict[str, Any]:
    """Curves, certificates and commands, from the files that other verbs have left in the run's folder."""
    folder, run = Path(opened.folder), opened.run
    judged, studied, result = (read(folder / f"{name}.json") for name in ("eval", "study", "result"))
    kinds = ("depth", "width", "halting", "exact", "low", "high", "valid", "steps", "nfe", "seconds")
    slots = studied.get("dimension", {}).get("trained", {})
    curves = {
        "depth": [{k: r[k] for k in kinds} for r in judged.get("rows", [])],
        "halting": halting(opened.loop, opened.task, examples, run.plan.deepest),
        "modules": [direction(slot, each[-1]) for slot, each in slots.items()],
        "trust": [
            {"rule": t.rule, "accuracy": t.accuracy, "auroc": finite(t.auroc), "ece": finite(t.ece)}
            for t in solver.trusts.values()
        ],
    }
    metrics = folder / "metrics.jsonl"
    known = {"curves": curves, "born": born(result, judged), "trained": trained(run), "commands": commands(folder)}
    return known | ({"learning": learning(metrics)} if metrics.exists() else {})


def direction(slot: str, found: dict[str, Any]) -> dict[str, Any]:
    """Participation ratio of one slot after the last step, free of its bias where that could be told."""
    ratio = found["corrected"] if found["corrected"] is not None else found["plain"]
    rest = {k: found[k] for k in ("low", "high", "effective_rank")}
    return {"slot": slot, "participation_ratio": ratio} | rest


def halting(loop: Any, task: Any, examples: Any, depth: int) -> list[dict[str, Any]]:
    """Where each puzzle stops by the loop's own rule, at most at the trained depth; none if it has no such rule."""
    try:
        judged = judge_set(loop, task, examples, depth, halting=True)
    except InputError:  # it has no halting head
        return []
    rows = zip(judged.steps, examples.rating, judged.exact, strict=True)
    return [{"steps": int(s), "rating": finite(r), "right": bool(e)} for s, r, e in rows]


def learning(metrics: Path) -> list[dict[str, Any]]:
    """(step, seen, held): exact accuracy in training and on validation puzzles, thinned to a few hundred points."""
    points = []
    for record in read_metrics(metrics):
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
    """One puzzle thought about at these dials, as the server streams it: {request, begin, steps, done, said}.

    Every trajectory is shown to its full depth, though the solution may have been taken earlier.
    """
    task, question = solver.task, examples.inputs[i]
    moments: list[list[Moment]] = [[] for _ in range(dials.width)]
    found = solver.solve(
        examples.take(np.array([i])), dials.depth, dials.width, dials.pick, views=dials.views, seed=dials.seed
    )[0]
    run(solver, examples, i, replace(dials, pick="residual"), lambda k, moment: moments[k].append(moment))
    halts = halted(solver, examples, i, dials)
    steps = [
        step for k, path in enumerate(moments) for step in as_steps(task, solver.verify, question, k, path, halts[k])
    ]
    views, places = solver.views(dials), len(question)
    turned = [None] * dials.width if views is None else list(views.cells)
    rows = [[numbers(m.state, places, turned[k]) for m in path] for k, path in enumerate(moments)]
    paths, explained = components(rows)
    done = {
        "solution": as_json(task, question, found),
        "paths": paths,
        "explained": explained,
        "scores": scores(solver, question, moments, halts, dials.pick),
        "halts": halts,
    }
    request = {"puzzle": task.decode(question), **dataclasses.asdict(dials)}
    begin = {"width": dials.width, "depth": dials.depth, "rule": dials.pick}
    explain = getattr(task, "explain", None)
    said = explain(question, found.answer) if explain is not None and found.valid is False else []
    return {"request": request, "begin": begin, "steps": steps, "done": done, "said": said}


def run(solver: Solver, examples: Any, i: int, dials: Dials, watch: Any = None) -> Case:
    """All trajectories of one puzzle to their end, `watch(trajectory, moment)` after every step."""
    engine, views = solver.engine(dials), solver.views(dials)
    case = Case(solver, examples.inputs[i], dials, int(examples.puzzle[i]), views, watch=watch)
    for k in range(dials.width):
        engine.submit(case.job(k))
    for ended in engine.run():
        case.took(ended)
    return case


def halted(solver: Solver, examples: Any, i: int, dials: Dials) -> list[int | None]:
    """The step at which the loop's own rule stops each trajectory; None where it does not."""
    try:
        case = run(solver, examples, i, replace(dials, pick="residual", halting=True))
    except InputError:  # it has no halting head
        return [None] * dials.width
    return [case.done[k].steps if case.done[k].end == "halted" else None for k in range(dials.width)]


def as_steps(
    task: Any, verify: Any, question: NDArray[np.uint8], k: int, path: Sequence[Moment], halt: int | None
) -> list[dict[str, Any]]:
    """The steps of one trajectory."""
    answers = np.stack([m.answer for m in path])
    asked = np.repeat(question[None], len(answers), 0)
    valid = None if verify is None else verify(asked, answers)
    wrong, before = broken(task, asked, answers), np.vstack([question[None], answers[:-1]])
    return [
        {
            "trajectory": k,
            "step": m.step,
            "answer": task.decode(m.answer),
            "certainty": shares(m.certainty),
            "changed": cells(answers[t] != before[t]),
            "wrong": cells(wrong[t]),
            "valid": None if valid is None else bool(valid[t]),
            "confidence": finite(m.q),
            "residual": finite(m.residual, 8),
            "would_halt": m.step == halt,
        }
        for t, m in enumerate(path)
    ]


def scores(
    solver: Solver, question: NDArray[np.uint8], moments: Sequence[Sequence[Moment]], halts: Sequence[Any], rule: str
) -> list[dict[str, Any]]:
    """What each trajectory came to at its last step, and what the rule makes of it."""
    last = [path[-1] for path in moments]
    answers = np.stack([m.answer for m in last])
    asked = np.repeat(question[None], len(answers), 0)
    valid = solver.verify(asked, answers) if solver.verify is not None else np.zeros(len(last), bool)
    sure = np.array([np.log(np.maximum(m.certainty, 1e-12)).mean() for m in last])
    q, value, residual = (np.array([getattr(m, name) for m in last], float) for name in ("q", "value", "residual"))
    steps, stopped = np.array([m.step for m in last]), np.array([h is not None for h in halts])
    found = RULES[rule](Trajectories(answers, sure, q, value, residual, steps, stopped, valid))
    known = valid.tolist() if solver.verify is not None else [None] * len(last)
    rows = zip(found, steps, known, strict=True)
    return [
        {"trajectory": k, "score": finite(s), "steps": int(n), "valid": v, "end": "depth"}
        for k, (s, n, v) in enumerate(rows)
    ]


def as_json(task: Any, question: NDArray[np.uint8], found: Solution) -> dict[str, Any]:
    """A Solution as the server sends it."""
    known = {k: getattr(found, k) for k in ("known", "valid", "pick", "why", "source", "trajectory", "width", "steps")}
    wrong = [] if found.valid else cells(broken(task, question[None], found.answer[None])[0])
    rest = {"nfe": found.nfe, "seconds": round(found.seconds, 6), "confidence": finite(found.confidence)}
    return known | rest | {"answer": found.text, "wrong": wrong, "certainty": shares(found.certainty)}


def numbers(state: Any, places: int, cells: NDArray[np.int64] | None) -> torch.Tensor:
    """(n,) all floating numbers of one row's state. Where it has one row a cell, the last `places` of a slot, these are
    turned back by the `cells` of the view in which the puzzle was seen.
    """
    parts = []
    for slot in floating(state):
        values = slot.float()
        if cells is not None and values.ndim > 1 and len(values) >= places:
            values, seen = values.clone(), values[len(values) - places :]
            values[len(values) - places + torch.from_numpy(cells)] = seen
        parts.append(values.reshape(-1))
    return torch.cat(parts)


def components(states: Sequence[Sequence[torch.Tensor]]) -> tuple[list[list[list[float]]], list[float]]:
    """(paths, explained): first two principal components of the states of all trajectories together.

    states: for each trajectory and step, the (n,) numbers of a state. By the Gram matrix, since a state has far more
    numbers than there are states; explained: the two components' shares of the variance.
    """
    rows = torch.stack([state for path in states for state in path])
    centred = (rows - rows.mean(0)).double()
    values, vectors = torch.linalg.eigh(centred @ centred.T)
    top = values.flip(0)[:2].clamp_min(0)
    places = vectors.flip(1)[:, :2] * top.sqrt()
    places = torch.nn.functional.pad(places, (0, 2 - places.shape[1]))
    whole = float(values.clamp_min(0).sum()) or 1.0
    rounded = [[round(v, 4) for v in row] for row in places.tolist()]
    lengths = np.cumsum([len(path) for path in states])[:-1]
    paths: list[list[list[float]]] = [part.tolist() for part in np.split(np.array(rounded), lengths)]
    return paths, [round(float(v) / whole, 4) for v in top]


def cells(mask: NDArray[np.bool_]) -> list[int]:
    return [int(i) for i in np.flatnonzero(mask)]


def shares(certainty: NDArray[np.float32]) -> list[float]:
    return [round(float(c), 3) for c in np.nan_to_num(certainty)]


def finite(value: Any, digits: int = 6) -> float | None:
    return None if value is None or not math.isfinite(value) else round(float(value), digits)


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl; a line that a kill cut short is left out."""
    records = []
    for line in path.read_text().splitlines():
        try:
            records.append(json.loads(line))
        except ValueError:
            continue
    return records


def read(path: Path) -> dict[str, Any]:
    return checkpoint.read_json(path) if path.exists() else {}
