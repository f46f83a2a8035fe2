"""`solve`: one puzzle, refined before your eyes, or a file of them. `calibrate`: how far to trust what it says."""

from __future__ import annotations

import csv
import io
import os
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import tyro
from numpy.typing import NDArray
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from innerloop import files, tasks
from innerloop.cli.inputs import RunFolder, device_named, examples_of, open_run, say_reading
from innerloop.cli.judging import two
from innerloop.data.arc_files import has_tests, is_arc, read_arc
from innerloop.data.official import is_official
from innerloop.data.opening import open_questions, read_questions
from innerloop.data.sets import PuzzleSet
from innerloop.errors import InputError
from innerloop.rules.bounds import Bound, Undecided
from innerloop.runs.certificate import birth_certificate
from innerloop.runs.single import by_name
from innerloop.runs.solving import CALIBRATION, solver_of
from innerloop.schema import Amount, Count, Range, Seed, Whole
from innerloop.solve.calibrate import Trust, to_json
from innerloop.solve.engine import Moment
from innerloop.solve.options import Budget, Solution, SolveOptions
from innerloop.solve.solver import Solver
from innerloop.tasks.arc import ARC
from innerloop.text import markup

WIDE = 16  # trajectories where a verifier decides, unless --width says otherwise
SMALL = 1_000_000  # parameters below which one thread thinks
PAUSE, SHOW = 0.12, 0.5  # seconds a changed board is shown in a terminal, and all of them together at most
CHECK = 2.0  # seconds that the check for a solution may take
FIELDS = ("question", "answer", "known", "valid", "confidence", "steps", "nfe", "source")
Words = Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="[RUN] PUZZLE|FILE|-")]


def solve(
    words: Words,
    model: str = "",
    depth: Count = 32,
    width: Annotated[int, Range(0, 65_536)] = 0,
    pick: str = "auto",
    noise: str = "0,0",
    nfe: Amount = 0,
    seconds: Amount = 0,
    exact: Amount = 0,
    label: str = "",
    quiet: bool = False,
    out: str = "",
    seed: Seed = 0,
    device: str = "auto",
) -> int:
    """Solve one puzzle step by step in the terminal, or a file of puzzles; or say "I don't know".

    Example:  innerloop solve runs/sudoku4 "1.3.34.2.1.34.2."

    Example:  innerloop solve runs/demo puzzles.csv --depth 64 --width 20 --out answers.csv

    Example:  head -1 puzzles.txt | innerloop solve runs/demo - --exact 10

    Args:
        words: A trained run (its folder, a single file, or the name of a model that comes along), and the text of a
            puzzle, a file of puzzles (.csv, .txt or any that train reads), or - for standard input.
        model: The run, if it is not given before the puzzle.
        depth: Steps of thought at most.
        width: Trajectories a puzzle gets at most; those after the first see it turned and renamed, or noisy. 0: 16
            where the rules are known, since more are then begun only if one has failed; else 1.
        pick: Which of them is the answer: verified, vote, q (halting head), value, residual, certainty, first; auto
            takes the verifier where the rules are known, else what `calibrate` found best.
        noise: Standard deviations of the noise on the first state and on every step.
        nfe: Block calls a puzzle may cost on average; 0: no limit.
        seconds: Time for all of them; 0: no limit.
        exact: Seconds that an exact solver may take for each puzzle the model does not know.
        label: The right answer, where known: wrong cells are then shown in red.
        quiet: Print only the answer and the verdict.
        out: File for the answers to a file of puzzles; by default they are printed.
        seed: Of noise and symmetries.
        device: auto, cpu or cuda.
    """
    if len(words) + bool(model) != 2:
        raise InputError("give a run and a puzzle, such as: innerloop solve runs/demo puzzles.csv")
    where, _ = device_named(device)
    opened, puzzle = open_run(model or words[0], where), words[-1]
    asked, file = given(opened.task, puzzle)
    asked = identified(opened, asked)
    how: dict[str, Any] = {"depth": depth, "width": width, "noise": two(noise), "seed": seed, "exact": exact}
    how["budget"] = Budget(nfe or None, seconds or None)
    solver = solver_of(opened)
    how["pick"] = rule_for(solver, pick)
    how["width"] = width or width_for(solver, pick, how["noise"])
    if file or len(asked) > 1:
        return many(solver, asked, out, how)
    how["budget"] = after_check(opened.task, asked.inputs[0], how["budget"])
    one_thread(opened.loop)
    one(solver, asked, how, labelled(opened.task, asked, label) if label else None, quiet)
    return 0


def width_for(solver: Solver, pick: str, noise: tuple[float, float]) -> int:
    """WIDE where a verifier decides and trajectories differ, since most puzzles then begin but one of them."""
    free = solver.verify is not None and pick in ("auto", "verified")
    return WIDE if free and solver.differ(SolveOptions(noise=noise)) else 1


def one_thread(loop: Any) -> None:
    """A small net gains little from more than one thread, and beside a busy neighbour two are many times slower."""
    if sum(p.numel() for p in loop.parameters()) < SMALL and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(1)


def identified(opened: Any, asked: PuzzleSet) -> PuzzleSet:
    """The set with the identifiers that this model gave its puzzles' names."""
    config = getattr(opened.run.config, "net", None)
    if config is None or not config.puzzle_emb_size or len(asked.identifiers) > 1:
        return by_name(opened, asked)  # type: ignore[no-any-return]
    if config.puzzles > 1:
        print("these puzzles are not named, but the model tells its puzzles apart by name", file=sys.stderr)
    return asked


def given(task: Any, puzzle: str) -> tuple[PuzzleSet, bool]:
    """The questions of a text, a file or standard input, and whether it is a file. Says how a file was read.

    Of ARC puzzles they are the test inputs, if there are any.
    """
    if puzzle != "-" and is_file(puzzle):
        path = Path(puzzle)
        if isinstance(task, ARC) and is_arc(path) and not is_official(path):
            asked = read_arc(path, "test" if has_tests(path) else "train", hidden=True)
        else:
            asked = open_questions(puzzle, task)
        say_reading(asked)
        return asked, True
    if puzzle != "-":
        asked = read_questions([puzzle.replace("\r", "").replace("\n", "")], task)
    else:
        asked = read_questions(standard_input(), task, "standard input")
    if asked.reading is not None and not asked.reading.notation.standard:
        say_reading(asked)
    return asked, False


def standard_input() -> list[str]:
    """The lines of standard input that are not empty, within the bounds of a file that is read whole."""
    try:
        text = sys.stdin.read(files.LIMIT + 1)
    except UnicodeDecodeError:
        raise InputError("standard input is not UTF-8 text: give text in UTF-8") from None
    if len(text) > files.LIMIT:
        raise InputError(f"standard input is longer than {files.LIMIT:,} characters: write it to a file and give that")
    lines = [line.strip("\r\n") for line in text.removeprefix("\ufeff").split("\n") if line.strip()]
    if not lines:
        raise InputError("standard input holds no puzzle: give one on a line")
    return lines


def labelled(task: Any, asked: PuzzleSet, label: str) -> NDArray[np.uint8]:
    """(S,) tokens of --label, written as the question is."""
    assert asked.reading is not None
    text = asked.reading.notation.read([label.replace("\r", "").replace("\n", "")], "--label", "answer")
    return np.asarray(task.encode_many(list(text), "--label", "answer")[0])


def rule_for(solver: Solver, pick: str) -> str:
    """`auto` where nothing tells which rule is best: the halting head if there is one, else a vote, and it is said."""
    if pick != "auto" or solver.verify is not None or solver.trusts:
        return pick
    rule = "q" if solver.has_head else "vote"
    print(
        f"these rules are not known and nothing is calibrated: answers are picked by {rule}, without a probability; "
        "innerloop calibrate finds the best rule",
        file=sys.stderr,
    )
    return rule


def after_check(task: Any, question: NDArray[np.uint8], budget: Budget) -> Budget:
    """Check a puzzle in at most a quarter of the budget's seconds; what is left of it."""
    budget.limits(1)
    began = time.monotonic()
    check_solvable(task, question, min(CHECK, (budget.seconds or 4 * CHECK) / 4))
    if budget.seconds is None:
        return budget
    return replace(budget, seconds=max(1e-3, budget.seconds - (time.monotonic() - began)))


def check_solvable(task: Any, question: NDArray[np.uint8], seconds: float = CHECK) -> None:
    """Say what is wrong with a puzzle whose answers the task can count, and of which it should have one.

    Whether it has one may take for ever to find out: what `seconds` do not decide is said to be undecided.
    """
    counts = type(task).every is not tasks.Task.every or type(task).solutions is not tasks.Task.solutions
    try:
        counted = counts and task.cost(question[None], question[None]) is None
        ways = task.solutions(question, bound=Bound(seconds=seconds)) if counted else 1
    except Undecided:
        print(f"whether this puzzle has a solution was not decided in {seconds:.2g} s", file=sys.stderr)
        return
    if ways == 0:
        raise InputError("this puzzle has no solution: some of its givens contradict each other, correct them")
    if ways > 1:
        print("this puzzle has more than one solution", file=sys.stderr)


def is_file(text: str) -> bool:
    """Is this the name of a file rather than a puzzle?"""
    path = Path(text)
    named = path.suffix.lower() in (".csv", ".txt", ".jsonl", ".npy", ".npz", ".json", ".gz")
    try:
        there = path.exists()
    except OSError:  # a puzzle may be longer than a file's name
        there = False
    if named and not there:
        raise InputError(f"{path} does not exist: check the path")
    return there


# -- one puzzle -------------------------------------------------------------------------------------------------------


def one(solver: Solver, asked: PuzzleSet, how: dict[str, Any], label: Any, quiet: bool = False) -> Solution:
    """Solve one puzzle, then show how the trajectory that answers got there, and what came of it."""
    question = asked.inputs[0]
    console, paths = Console(emoji=False, highlight=False), {}  # type: ignore[var-annotated]

    def see(_i: int, k: int, moment: Moment) -> None:
        path = paths.setdefault(k, [])
        if not path or not np.array_equal(moment.answer, path[-1].answer):
            path.append(moment._replace(state=None))  # which would be kept for every board

    if quiet:
        found = solver.solve(question, **how)[0]
    else:
        with console.status("thinking"):
            found = solver.solve(question, watch=see, **how)[0]
        shown = play(console, solver, question, paths.get(found.trajectory, []), label)
        if not np.array_equal(shown, found.answer):
            drawn = solver.task.terminal(question, found.answer, shown, label)
            console.print(in_ascii(drawn) if console.options.ascii_only else drawn, "")
    print(written(asked, found.text))
    console.print(verdict(solver, found))
    return found


def play(console: Console, solver: Solver, question: Any, path: Sequence[Moment], label: Any) -> NDArray[np.uint8]:
    """Show the boards of a path, in a terminal one over the other; returns the last."""
    before = question
    with Live(console=console, refresh_per_second=30) if console.is_terminal else nullcontext() as live:
        for moment in path:
            board = picture(solver, question, moment, before, label, console.options.ascii_only)
            before = moment.answer
            if live is None:
                console.print(board, "")
            else:
                live.update(board, refresh=True)
                time.sleep(min(PAUSE, SHOW / len(path)))
    return before


def verdict(solver: Solver, found: Solution) -> str:
    """One line: what the answer is worth, what it cost, and why it is this one."""
    if found.known and found.valid:
        said = "[bold green]valid[/]"
    elif found.known:
        said = "[bold]complete[/]" if found.confidence is None else f"[bold]{found.confidence:.0%} sure[/]"
    else:
        said = "[bold red]I don't know[/] (the line above is the best guess)"
    cost = f"{found.steps} step{'s' * (found.steps != 1)}, {found.nfe} block calls, {1000 * found.seconds:.0f} ms"
    return f"{said} after {cost}: {markup(found.why)}" + (
        "" if solver.verify else " (this puzzle's rules are not known)"
    )


def in_ascii(drawn: Text) -> Text:
    """A board for a stream that is not UTF-8."""
    return Text(drawn.plain.translate(str.maketrans("─│┼·█", "-|+.#")), spans=drawn.spans)


def picture(solver: Solver, question: Any, moment: Moment, before: Any, label: Any, ascii_only: bool = False) -> Group:
    """The board, and one line: step, confidence, whether the rules hold."""
    task = solver.task
    sure = "" if np.isnan(moment.q) else f"   confidence {moment.q:.1%}"
    line = Text(f"step {moment.step}{sure}   ", style="dim")
    if solver.verify:
        holds = bool(solver.verify(question[None], moment.answer[None])[0])
        line.append("rules hold" if holds else "rules do not hold", style="bold green" if holds else "bold red")
    drawn = task.terminal(question, moment.answer, before, label)
    return Group(in_ascii(drawn) if ascii_only else drawn, line)


# -- a file of puzzles ------------------------------------------------------------------------------------------------


def written(asked: PuzzleSet, text: str) -> str:
    """The text of a question or answer in the notation that the questions came in."""
    return asked.reading.notation.write(text) if asked.reading is not None else text


def many(solver: Solver, asked: PuzzleSet, out: str, how: dict[str, Any]) -> int:
    """Answers to all puzzles as CSV, in their order; with the names of the puzzles, where they have any."""
    found = solver.solve(asked, **how)
    names = [[asked.identifiers[i]] for i in asked.puzzle] if asked.puzzle.any() else [list[str]()] * len(found)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*FIELDS, *["puzzle" for _ in names[0]]])
    for q, s, named in zip(asked.inputs, found, names, strict=True):
        valid = "" if s.valid is None else "yes" if s.valid else "no"
        sure = "" if s.confidence is None else f"{s.confidence:.4f}"
        known = "yes" if s.known else "no"
        texts = [written(asked, text) for text in (solver.task.decode(q), s.text)]
        writer.writerow([*texts, known, valid, sure, s.steps, s.nfe, s.source, *named])
    if out:
        files.write_text(out, text.getvalue())
    else:
        sys.stdout.write(text.getvalue())
    count, exact = sum(s.known for s in found), sum(s.source == "exact" for s in found)
    told = f"{count} of {len(found)} answers are {'valid' if solver.verify else 'known'}"
    told += f", {exact} of them by the exact solver" if exact else ""
    print(told + (f"; written to {out}" if out else ""), file=sys.stderr)
    return 0


# -- how far to trust it ----------------------------------------------------------------------------------------------


def calibrate(
    run: RunFolder,
    data: str = "",
    depth: Count = 32,
    width: Annotated[int, Range(1, 65_536)] = 1,
    noise: str = "0,0",
    limit: Whole = 500,
    seed: Seed = 0,
    device: str = "auto",
) -> int:
    """Measure how far every selection rule and its confidence can be trusted, on puzzles the run did not learn from.

    Example:  innerloop calibrate runs/demo --depth 32 --width 8

    Args:
        run: Folder of a trained run.
        data: Labelled puzzles; without it those the run was validated on.
        depth: Steps of thought, as in the solving that will be done.
        width: Trajectories, likewise.
        noise: Standard deviations of the noise on the first state and on every step, likewise.
        limit: At most so many puzzles; 0: all. Half of them make the curves, the others test them.
        seed: Of noise and symmetries.
        device: auto, cpu or cuda.
    """
    where, _ = device_named(device)
    opened = open_run(run, where)
    if not opened.folder.is_dir():
        raise InputError(f"{run} is no folder: calibration.json is written into the folder of a run")
    examples, console = examples_of(opened, data, limit), Console(emoji=False, highlight=False, soft_wrap=True)
    solver = solver_of(opened)
    dials: dict[str, Any] = {"depth": depth, "width": width, "noise": two(noise), "seed": seed}
    with console.status("thinking"):
        found = solver.calibrate(examples, **dials)
    value = {"rules": to_json(found), "dials": dials, "data": examples.source, "puzzles": len(examples)}
    value["born"] = birth_certificate([opened.run.seed, seed])
    files.write_json(opened.folder / CALIBRATION, value)
    show(console, found)
    best = solver.best_rule()
    console.print(f"auto picks by [bold]{best}[/]; written to {markup(opened.folder / CALIBRATION)}")
    return 0


def show(console: Console, found: dict[str, Trust]) -> None:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("rule", "right", "AUROC", "ECE", "AURC", "wrong at 90 % coverage"):
        table.add_column(name, justify="left" if name == "rule" else "right", no_wrap=True)
    for t in found.values():
        numbers_ = ["" if np.isnan(v) else f"{v:.3f}" for v in (t.auroc, t.ece, t.aurc)]
        table.add_row(t.rule, f"{t.accuracy:.1%}", *numbers_, f"{t.risk_at(0.9):.1%}")
    console.print(table)
