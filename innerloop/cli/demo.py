"""`demo`: train a small model, turn its two dials (depth, trajectories), show one solve, write a report."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.rule import Rule
from rich.table import Table

from innerloop import files
from innerloop.cli.choosing import Source, choose_run
from innerloop.cli.drawing import instructive_row, plot, report
from innerloop.cli.inputs import choose_device, next_command, open_run, read_run
from innerloop.cli.judging import eval_record, print_rows
from innerloop.cli.solving import choose_rule, solve_one
from innerloop.cli.training import train_in_folder
from innerloop.data.opening import open_set
from innerloop.learn.evaluate import evaluate
from innerloop.learn.lock import lock_folder
from innerloop.learn.log import TELL_SECONDS
from innerloop.pretrained import HARD_SUDOKUS
from innerloop.rules.sudoku_techniques import LEVELS, level
from innerloop.runs.fit import build, load_data, unseen_puzzles
from innerloop.runs.solving import solver_of
from innerloop.runs.training import RESULT, delete_run_files
from innerloop.solve.solver import Solver
from innerloop.text import markup

DEPTHS = (1, 2, 3, 4, 8, 16, 32)
TEST_PUZZLES = 500  # puzzles to judge
WIDTHS, HARD_DEPTH = (1, 4, 16, 64), 16  # trajectories of a hard puzzle, and the steps of each


def demo(recipe: str = "demo", out: str = "runs/demo", set: tuple[str, ...] = (), device: str = "auto") -> int:
    """Train a small model on Sudoku, turn the depth dial, watch it solve a puzzle, write a report.

    Example:  innerloop demo

    Example:  innerloop demo --recipe sudoku4 --out runs/quick

    Args:
        recipe: Recipe to train.
        out: Folder of the run. A finished demo there is replaced; an interrupted one goes on.
        set: Fields to change, such as plan.steps=500.
        device: auto, cpu or cuda.
    """
    console, folder = Console(emoji=False, highlight=False, soft_wrap=True), Path(out)
    with lock_folder(folder):
        if (folder / RESULT).exists() and read_run(folder).name == recipe:
            delete_run_files(folder)
        run, _, note = choose_run(recipe, Source(), out, set)
        with working(console, "making puzzles"):
            built = build(run)
        parts = 5 if has_hard(built.task) else 4
        minutes = "; a minute or two on a quiet laptop" if recipe == "demo" and not set else ""
        console.print(Rule(f"1 of {parts}  learn: {run.plan.steps:,} steps{minutes}", align="left"))
        if note:
            console.print(note, markup=False)
        where, why = choose_device(device)
        code = train_in_folder(console, built, folder, why, {"device": where}, brief=True)
    if code:
        return code
    console.print(Rule(f"2 of {parts}  turn the depth dial, on new puzzles", align="left"))
    opened = open_run(out, where)
    loop: Any = opened.loop
    with working(console, "evaluating"):
        examples = unseen_puzzles(opened.task, load_data(opened.run.data, folder)[1], opened.run.data, TEST_PUZZLES)
        rows = evaluate(loop, opened.task, examples, DEPTHS, device=where)
        rows += evaluate(loop, opened.task, examples, DEPTHS[-1:], halting=(True,), device=where)
    files.write_json(folder / "eval.json", eval_record(opened, examples, rows, 0, (0.0, 0.0)))
    print_rows(Console(emoji=False, highlight=False), rows)
    print_levels(console, opened.task, examples)
    solver = solver_of(opened)
    hard = print_hard(console, solver, folder) if has_hard(opened.task) else None
    console.print(Rule(f"{parts - 1} of {parts}  watch one being solved", align="left"))
    row = instructive_row(opened, examples)
    solve_one(solver, examples.take([row]), {"depth": 16, "pick": choose_rule(solver, "auto")}, examples.labels[row])
    console.print(Rule(f"{parts} of {parts}  keep it", align="left"))
    with working(console, "drawing"):
        plot((out,))
        report(out)
    question = opened.task.decode(examples.inputs[row])
    console.print(f"\nopen [bold]{markup((folder / 'report.html').resolve())}[/] in a browser. Then try:")
    answers = ("--depth", HARD_DEPTH, "--width", WIDTHS[-1], "--out", folder / "answers.csv")
    for verb, *words in (
        ("solve", out, question),
        *([("solve", out, hard, *answers)] if hard else []),
        ("serve", out),
    ):
        console.print("  " + markup(next_command(str(verb), *words), 4096))
    return 0


def print_levels(console: Console, task: Any, examples: Any) -> None:
    """Say how hard these puzzles are for a person, if they are Sudokus."""
    if task.name != "sudoku":
        return
    digits = examples.inputs.astype(int) - 1  # token 1 is an empty cell
    share = np.mean([level(grid, task.board) == LEVELS[0] for grid in digits.tolist()])
    console.print(f"{share:.1%} of them are solved by a person who only looks for cells and digits with one place left")


@contextmanager
def working(console: Console, what: str) -> Iterator[None]:
    """A spinner on a terminal; elsewhere a plain line every TELL_SECONDS, so that a log shows that work goes on."""
    if console.is_terminal:
        with console.status(what):
            yield
        return
    done, began = threading.Event(), time.monotonic()

    def tell() -> None:
        while not done.wait(TELL_SECONDS):
            console.print(f"{what}: {time.monotonic() - began:.0f} s so far")

    thread = threading.Thread(target=tell, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def has_hard(task: Any) -> bool:
    """Whether the hard puzzles that come along are of this task."""
    return task.name == "sudoku" and task.shape == (9, 9)


def print_hard(console: Console, solver: Solver, folder: Path) -> Path:
    """Solve the hard puzzles that come along by more and more trajectories; returns their copy in the run's folder."""
    console.print(Rule("3 of 5  turn the other dial: puzzles that nobody solves without a guess", align="left"))
    puzzles = open_set(str(HARD_SUDOKUS), solver.task)[1]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for column in ("trajectories", "solved, verified", "block calls a puzzle", "seconds"):
        table.add_column(column, justify="right", no_wrap=True)
    for width in WIDTHS:
        began = time.perf_counter()
        with working(console, f"solving by {width} trajectories"):
            found = solver.solve(puzzles, HARD_DEPTH, width, "verified")
        solved, calls = (sum(getattr(s, name) for s in found) for name in ("known", "nfe"))
        cells = f"{solved} of {len(found)}", f"{calls / len(found):.0f}", f"{time.perf_counter() - began:.1f}"
        table.add_row(str(width), *cells)
    console.print(table)
    console.print(
        "each trajectory after the first tries a cell that the first was least certain of; a verifier decides"
    )
    copy = folder / HARD_SUDOKUS.name
    files.write_text(copy, files.read_text(HARD_SUDOKUS))
    return copy
