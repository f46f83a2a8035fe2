"""`solve`: one puzzle step by step, or a file of puzzles."""

from __future__ import annotations

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
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from innerloop import files
from innerloop.cli.answers import in_notation, solve_file
from innerloop.cli.inputs import NO_CODE, CodeFlags, RulesFile, choose_device, open_run, print_reading, with_rules
from innerloop.cli.judging import parse_noise
from innerloop.data import picture
from innerloop.data.arc_files import has_tests, is_arc, read_arc
from innerloop.data.official import is_official
from innerloop.data.opening import open_questions, open_sheet, read_questions
from innerloop.data.protocols import Tokens
from innerloop.data.sets import PuzzleSet
from innerloop.data.sheet import Sheet
from innerloop.data.texts import is_text
from innerloop.errors import InputError
from innerloop.runs.single import match_identifiers
from innerloop.runs.solving import solver_of
from innerloop.schema import Amount, Count, Range, Seed
from innerloop.solve.count import can_count, count_answers
from innerloop.solve.engine import StepOutput
from innerloop.solve.options import Budget, Solution, SolveOptions
from innerloop.solve.solver import Solver
from innerloop.tasks.arc import ARC
from innerloop.tasks.task import Task
from innerloop.text import markup

VERIFIED_WIDTH = 16  # trajectories where a verifier decides, unless --width says otherwise
ONE_THREAD_BELOW = 1_000_000  # parameters below which one thread is used
FRAME_SECONDS, PLAY_SECONDS = 0.5, 5.0  # seconds a changed board is shown in a terminal, and all of them at most
CHECK_SECONDS = 2.0  # seconds that the check for a solution may take
Words = Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="[RUN] PUZZLE|FILE|-")]


def solve(
    words: Words,
    model: str = "",
    depth: Count = 32,
    width: Annotated[int, Range(0, 65_536)] = 0,
    pick: str = "auto",
    noise: str = "0,0",
    guess: bool = True,
    nfe: Amount = 0,
    seconds: Amount = 0,
    exact: Amount = 0,
    label: str = "",
    quiet: bool = False,
    out: str = "",
    seed: Seed = 0,
    device: str = "auto",
    rules: RulesFile = "",
    code: CodeFlags = NO_CODE,
) -> int:
    """Solve one puzzle step by step in the terminal, or a file of puzzles; or say "I don't know".

    Example:  innerloop solve demo-sudoku4 "1.3.34.2.1.34.2."

    Example:  innerloop solve runs/mine examples/sudoku4_test.csv --depth 64 --width 20 --out answers.csv

    Args:
        words: A trained run (its folder, a single file, or the name of a model that comes along), and the text of a
            puzzle, a file of puzzles (.csv, .txt or any that train reads), or - for standard input.
        model: The run, if it is not given before the puzzle.
        depth: Steps of thought at most.
        width: Trajectories a puzzle gets at most; those after the first differ by a guess, a symmetry or noise. 0: 16
            where the rules are known, since more are then begun only if one has failed; else 1.
        pick: Which of them is the answer: verified, vote, q (halting head), value, residual, certainty, first; auto
            takes the verifier where the rules are known, else what `calibrate` found best.
        noise: Standard deviations of the noise on the first state and on every step.
        guess: Further trajectories try a guessed cell each where the rules are known, instead of a symmetry.
        nfe: Block calls a puzzle may cost on average; 0: no limit.
        seconds: Time for all of them; 0: no limit.
        exact: Seconds that an exact solver may take for each puzzle the model does not know.
        label: The right answer, where known: wrong cells are shown in red.
        quiet: Print only the answer and the verdict.
        out: File for the answers to a file of puzzles, .csv or .jsonl, beside its own columns; by default printed.
        seed: Of noise and symmetries.
        device: auto, cpu or cuda.
    """
    if len(words) + bool(model) != 2:
        raise InputError("give a run and a puzzle, such as: innerloop solve RUN PUZZLE")
    opened = with_rules(open_run(model or words[0], choose_device(device)[0], code), rules)
    questions, file, own = read_input(opened.task, words[-1])
    questions = with_identifiers(opened, questions)
    solver, scales = solver_of(opened), parse_noise(noise)
    solve_kwargs: dict[str, Any] = {"depth": depth, "noise": scales, "guess": None if guess else False, "seed": seed}
    solve_kwargs |= {"exact": exact, "budget": Budget(nfe or None, seconds or None), "pick": choose_rule(solver, pick)}
    solve_kwargs["width"] = width or default_width(solver, pick, solve_kwargs["noise"])
    if file or len(questions) > 1:
        return solve_file(solver, questions, out, solve_kwargs, Path(words[-1]) if file else None, own)
    solve_kwargs["budget"] = budget_after_check(opened.task, questions.inputs[0], solve_kwargs["budget"])
    use_one_thread(opened.loop)
    solve_one(solver, questions, solve_kwargs, label_tokens(opened.task, questions, label) if label else None, quiet)
    return 0


def default_width(solver: Solver, pick: str, noise: tuple[float, float]) -> int:
    """VERIFIED_WIDTH where a verifier decides and trajectories differ, as most puzzles need only the first; else 1."""
    free = solver.verify is not None and pick in ("auto", "verified")
    return VERIFIED_WIDTH if free and solver.trajectories_differ(SolveOptions(noise=noise)) else 1


def use_one_thread(loop: Any) -> None:
    """A small net gains little from more than one thread, and beside a busy neighbour two are many times slower."""
    if sum(p.numel() for p in loop.parameters()) < ONE_THREAD_BELOW and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(1)


def with_identifiers(opened: Any, questions: PuzzleSet) -> PuzzleSet:
    """The set with the identifiers that this model gave its puzzles' names."""
    config = getattr(opened.run.config, "net", None)
    if config is None or not config.puzzle_emb_size or len(questions.identifiers) > 1:
        return match_identifiers(opened, questions)  # type: ignore[no-any-return]
    if config.puzzles > 1:
        print("these puzzles are not named, but the model tells its puzzles apart by name", file=sys.stderr)
    return questions


def read_input(task: Any, puzzle: str) -> tuple[PuzzleSet, bool, Sheet | None]:
    """The questions of a text, a file or standard input; whether it is a file; the columns of a file of text.

    Of ARC puzzles they are the test inputs, if there are any. Says how a file was read.
    """
    if puzzle != "-" and is_file(puzzle):
        path, own = Path(puzzle), None
        if isinstance(task, ARC) and is_arc(path) and not is_official(path):
            questions = read_arc(path, "test" if has_tests(path) else "train", hidden=True)
        elif is_text(path):
            questions, own = open_sheet(path, task)
        else:
            questions = open_questions(path, task)
        print_reading(questions)
        return questions, True, own
    if puzzle != "-":
        questions = read_questions([puzzle.replace("\r", "").replace("\n", "")], task)
    else:
        questions = read_questions(read_stdin(), task, "standard input")
    if questions.reading is not None and not questions.reading.notation.standard:
        print_reading(questions)
    return questions, False, None


def read_stdin() -> list[str]:
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


def label_tokens(task: Any, questions: PuzzleSet, label: str) -> Tokens:
    """(S,) tokens of --label, written as the question is."""
    assert questions.reading is not None
    text = questions.reading.notation.read([label.replace("\r", "").replace("\n", "")], "--label", "answer")
    return np.asarray(task.encode_many(list(text), "--label", "answer")[0])


def choose_rule(solver: Solver, pick: str) -> str:
    """`auto` where nothing tells which rule is best: the halting head if there is one, else a vote, and it is said."""
    if pick != "auto" or solver.verify is not None or solver.calibrations:
        return pick
    rule = "q" if solver.has_halting_head else "vote"
    print(
        f"these rules are not known and nothing is calibrated: answers are picked by {rule}, without a probability; "
        "innerloop calibrate finds the best rule",
        file=sys.stderr,
    )
    return rule


def budget_after_check(task: Any, question: Tokens, budget: Budget) -> Budget:
    """Check a puzzle in at most a quarter of the budget's seconds; what is left of it."""
    budget.limits(1)
    began = time.monotonic()
    check_solvable(task, question, min(CHECK_SECONDS, (budget.seconds or 4 * CHECK_SECONDS) / 4))
    if budget.seconds is None:
        return budget
    return replace(budget, seconds=max(1e-3, budget.seconds - (time.monotonic() - began)))


def check_solvable(task: Any, question: Tokens, seconds: float = CHECK_SECONDS) -> None:
    """Say what is wrong with a puzzle whose answers the task can count, and of which it should have one.

    Whether it has one may take for ever to find out: what `seconds` do not decide is said to be undecided.
    """
    if not can_count(task):
        return
    ways = count_answers(task, question, seconds)
    if ways is None:
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


def solve_one(
    solver: Solver, questions: PuzzleSet, solve_kwargs: dict[str, Any], label: Any, quiet: bool = False
) -> Solution:
    """Solve one puzzle, then show how the trajectory that answers got there, and what came of it."""
    question = questions.inputs[0]
    console, paths = Console(emoji=False, highlight=False), {}  # type: ignore[var-annotated]

    def see(_i: int, k: int, output: StepOutput) -> None:
        path = paths.setdefault(k, [])
        if not path or not np.array_equal(output.answer, path[-1].answer):
            path.append(output._replace(state=None))  # states are large, and one would be kept per board

    if quiet:
        found = solver.solve(question, **solve_kwargs)[0]
    else:
        with console.status("solving"):
            found = solver.solve(question, watch=see, **solve_kwargs)[0]
        shown = play_boards(console, solver, question, paths.get(found.trajectory, []), label)
        if not np.array_equal(shown, found.answer):
            console.print(drawn_for(console, solver.task, question, found.answer, shown, label), "")
        if draws_as_most(solver.task):
            console.print(legend(console, label is not None), "")
    print(in_notation(questions, found.text))
    console.print(verdict_line(solver, found))
    return found


def play_boards(console: Console, solver: Solver, question: Any, path: Sequence[StepOutput], label: Any) -> Tokens:
    """Show the boards of a path, in a terminal one over the other; returns the last."""
    before = question
    with Live(console=console, refresh_per_second=30) if console.is_terminal else nullcontext() as live:
        if live is not None:
            live.update(drawn_for(console, solver.task, question, question, None, None), refresh=True)
            time.sleep(FRAME_SECONDS)
        for output in path:
            board = draw_board(console, solver, question, output, before, label)
            before = output.answer
            if live is None:
                console.print(board, "")
            else:
                live.update(board, refresh=True)
                time.sleep(min(FRAME_SECONDS, PLAY_SECONDS / len(path)))
    return before


def verdict_line(solver: Solver, found: Solution) -> str:
    """One line: valid or confidence, cost, and the reason for the choice."""
    style = "bold red" if not found.known else "bold green" if found.valid else "bold"
    guess = "" if found.known else " (the line above is the best guess)"
    rules = "" if solver.verify else " (this puzzle's rules are not known)"
    return f"[{style}]{found.outcome}[/]{guess} after {found.cost}: {markup(found.why)}{rules}"


def draws_as_most(task: Any) -> bool:
    """Whether the task has no drawing of its own, as rosters and timetables do."""
    return type(task).terminal is Task.terminal


def is_plain(console: Console) -> bool:
    """Whether there are no colours to tell cells apart."""
    return console.color_system is None or console.no_color


def legend(console: Console, labelled: bool) -> Text:
    """What the colours, or the marks, of a board mean."""
    filled, wrong = ("x", "x") if not is_plain(console) else (f"x{picture.FILLED}", f"x{picture.WRONG}")
    said = "not as in the right answer" if labelled else "breaks a rule"
    return Text.assemble(("x", "bold"), " given   ", (filled, "cyan"), " filled in   ", (wrong, "bold red"), f" {said}")


def drawn_for(console: Console, task: Any, question: Any, answer: Any, before: Any, label: Any) -> Text:
    """A board in what this terminal or file can show."""
    if is_plain(console) and draws_as_most(task):
        drawn = picture.terminal(task, question, answer, before, label, marks=True)
    else:
        drawn = task.terminal(question, answer, before, label)
    if console.options.ascii_only:
        return Text(drawn.plain.translate(str.maketrans("─│┼·█", "-|+.#")), spans=drawn.spans)
    return drawn


def draw_board(console: Console, solver: Solver, question: Any, output: StepOutput, before: Any, label: Any) -> Group:
    """The board, and one line: step, confidence, whether the rules hold."""
    sure = "" if np.isnan(output.q) else f"   confidence {output.q:.1%}"
    line = Text(f"step {output.step}{sure}   ", style="dim")
    if solver.verify:
        holds = bool(solver.verify(question[None], output.answer[None])[0])
        line.append("rules hold" if holds else "rules do not hold", style="bold green" if holds else "bold red")
    return Group(drawn_for(console, solver.task, question, output.answer, before, label), line)
