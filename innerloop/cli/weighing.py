"""`worth`: is a model worth having before an exact solver, measured on puzzles of one's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console
from rich.table import Table

from innerloop import files
from innerloop.cli.inputs import (
    NO_CODE,
    CodeFlags,
    RulesFile,
    RunFolder,
    choose_device,
    open_run,
    print_reading,
    refuse_overwrite,
    with_rules,
)
from innerloop.data.opening import open_questions, open_set
from innerloop.data.sets import PuzzleSet
from innerloop.errors import InputError
from innerloop.runs.certificate import birth_certificate
from innerloop.runs.single import match_identifiers
from innerloop.runs.solving import solver_of
from innerloop.schema import Positive, Range
from innerloop.solve.hybrid import tune_fallback
from innerloop.solve.solver import Solver
from innerloop.solve.worth import advice, compare, methods_for
from innerloop.text import printable

__all__ = ["worth"]

PuzzleFile = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")]
Depth = Annotated[int, Range(0, 1_000_000)]
TUNED_ON = 20  # rows of the file that depth and width are chosen on, and that are not measured then
DEPTHS, WIDTHS = (1, 4, 16), (1, 8)  # that are tried


def worth(
    run: RunFolder,
    file: PuzzleFile,
    limit: Annotated[int, Range(1, 1_000_000)] = 200,
    depth: Depth = 0,
    width: Annotated[int, Range(1, 65_536)] = 1,
    seconds: Positive = 30.0,
    out: str = "",
    device: str = "auto",
    rules: RulesFile = "",
    code: CodeFlags = NO_CODE,
) -> int:
    """Measure model, verifier, both before CP-SAT, and CP-SAT alone on your puzzles, and say which to use.

    Example:  innerloop worth runs/mine examples/sudoku4_test.csv

    Args:
        run: A trained run: its folder, a single file, or the name of a model that comes along.
        file: Puzzles that the run did not learn from. Answers are needed only where the rules are not known.
        limit: Puzzles to measure on.
        depth: Steps of thought before CP-SAT is asked; 0: depth and width are chosen on other rows of the file.
        width: Trajectories, with --depth.
        seconds: Time of CP-SAT for one puzzle.
        out: File for the measurements, as JSON.
        device: auto, cpu or cuda.
    """
    where, why = choose_device(device)
    opened = with_rules(open_run(run, where, code), rules)
    solver = solver_of(opened)
    methods = methods_for(solver)
    if out:
        refuse_overwrite(Path(out), read_measurements)
    examples = puzzles_of(opened, solver, file)
    console = Console(emoji=False, highlight=False, soft_wrap=True)
    held = min(TUNED_ON, len(examples) // 3) if "hybrid" in methods and not depth else 0
    measured = examples.inputs[held : held + limit]
    labels = None if solver.verify else examples.labels[held : held + limit]
    trained = opened.run.plan.trained_depth
    with console.status("measuring"):
        chosen = [
            settings(solver, examples.inputs[:held], depth or (0 if held else trained), width, b) for b in (False, True)
        ]
        trusted = {"depth": trained, "pick": "certainty", "views": False}
        single, batch = ({m: trusted if m == "model" else c for m in methods} for c in chosen)
        rows = compare(solver, measured, single, batch, seconds, labels)
    console.print(f"{len(measured):,} puzzles of {printable(file)} on {printable(why)}", markup=False)
    for told, c in zip(("one at a time", "together"), chosen, strict=True):
        several = f", {c['width']} trajectories" if c["width"] > 1 else ""
        before = " before CP-SAT is asked" if "hybrid" in methods else ""
        steps = f"{c['depth']} step{'s' * (c['depth'] != 1)}"
        console.print(f"{told}: up to {steps}{several}{before}", markup=False)
    print_rows(console, rows, solver.verify is not None)
    console.print(advice(rows), markup=False)
    if out:
        files.write_json(
            out, {"data": file, "rows": rows, "settings": chosen, "born": birth_certificate([opened.run.seed])}
        )
    return 0


def puzzles_of(opened: Any, solver: Solver, file: str) -> PuzzleSet:
    """The puzzles of a file; with answers where nothing else tells what is right."""
    examples = open_questions(file, opened.task) if solver.verify else open_set(file, opened.task)[1]
    print_reading(examples)
    found: PuzzleSet = match_identifiers(opened, examples)
    return found


def settings(solver: Solver, others: Any, depth: int, width: int, batched: bool) -> dict[str, Any]:
    """Options of the model: as given, or those of least mean time on other puzzles."""
    pick = "verified" if solver.verify else "certainty"
    if depth:
        return {"depth": depth, "width": width, "pick": pick}
    found = tune_fallback(solver, others, depths=DEPTHS, widths=WIDTHS, batched=batched)
    return {"depth": max(1, found.depth), "width": found.width, "pick": pick}


def print_rows(console: Console, rows: Sequence[Mapping[str, Any]], verified: bool) -> None:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in (
        "method",
        "% valid" if verified else "% right",
        "95 % interval",
        "p50 ms",
        "p99 ms",
        "a second",
        "CP-SAT",
    ):
        table.add_column(name, justify="left" if name == "method" else "right", no_wrap=True)
    for r in rows:
        shares = f"{100 * r['valid']:.1f}", f"{100 * r['low']:.1f} to {100 * r['high']:.1f}"
        speeds = f"{r['p50_ms']:.1f}", f"{r['p99_ms']:.1f}", f"{r['per_second']:,.0f}"
        table.add_row(r["method"], *shares, *speeds, f"{r['solver_calls']:,} calls")
    console.print(table)


def read_measurements(path: Any) -> None:
    """Raise InputError unless this is a file of measurements, as `worth` writes it."""
    value = files.read_json(path)
    if not isinstance(value, dict) or not {"rows", "settings", "born"} <= set(value):
        raise InputError(f"{files.shown(path)} holds no measurements")
