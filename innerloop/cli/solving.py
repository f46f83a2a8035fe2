"""`solve`: one puzzle, refined before your eyes, or a file of them."""

from __future__ import annotations

import csv
import gzip
import io
import sys
import time
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import torch
import tyro
from numpy.typing import NDArray
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from innerloop import tasks
from innerloop.cli.inputs import RunFolder, device_named, open_run, save_text
from innerloop.core import Question, think
from innerloop.errors import InputError
from innerloop.halt import confident, never
from innerloop.recipes import run as runs

PAUSE = 0.12  # seconds a changed board is shown in a terminal
FIELDS = ("question", "answer", "valid", "steps", "confidence")


class Frame(NamedTuple):
    """What the model says after one step."""

    step: int
    answer: NDArray[np.uint8]  # (S,)
    confidence: float | None  # sigmoid of its halting head
    valid: bool  # the task's own rules hold


def solve(
    run: RunFolder,
    puzzle: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="PUZZLE|FILE|-")],
    depth: int = 32,
    label: str = "",
    quiet: bool = False,
    out: str = "",
    device: str = "auto",
) -> int:
    """Solve one puzzle step by step in the terminal, or a file of puzzles.

    Example:  innerloop solve runs/sudoku4 "1.3.34.2.1.34.2."

    Example:  innerloop solve runs/demo puzzles.csv --out answers.csv

    Example:  head -1 puzzles.txt | innerloop solve runs/demo -

    Args:
        run: Folder of a trained run.
        puzzle: The text of a puzzle, a file of puzzles (.csv, .txt or any that train reads), or - for standard input.
        depth: Steps of thought.
        label: The right answer, where known: wrong cells are then shown in red.
        quiet: Print only the answer and the verdict.
        out: File for the answers to a file of puzzles; by default they are printed.
        device: auto, cpu or cuda.
    """
    where, _ = device_named(device)
    opened = open_run(run, where)
    if puzzle == "-":
        lines = [line.strip("\r\n") for line in sys.stdin if line.strip()]
        if not lines:
            raise InputError("standard input holds no puzzle: give one on a line")
        if len(lines) > 1:
            return many(opened, opened.task.encode_many(lines, "standard input"), depth, out)
        puzzle = lines[0]
    elif is_file(puzzle):
        return many(opened, questions(opened.task, Path(puzzle)), depth, out)
    question = opened.task.encode(puzzle)
    target = opened.task.encode(label) if label else None
    ways = opened.task.solutions(question) if hasattr(opened.task, "solutions") else 1
    if ways == 0:
        raise InputError("this puzzle has no solution: some of its givens contradict each other, correct them")
    if ways > 1:
        print("this puzzle has more than one solution", file=sys.stderr)
    one(opened, question, depth, target, quiet)
    return 0


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


def frames_of(opened: runs.Opened, question: NDArray[np.uint8], depth: int, see: Any = None) -> list[Frame]:
    """The model's answer after each of `depth` steps; `see(frame)` is called as soon as each is known."""
    found: list[Frame] = []

    def record(loop: Any, state: Any) -> None:
        answer = loop.read(state)
        tokens = answer.logits.argmax(-1)[0].cpu().numpy().astype(np.uint8)
        sure = None if answer.q_halt is None else float(answer.q_halt[0].sigmoid())
        valid = bool(opened.task.valid_batch(question[None], tokens[None])[0])
        found.append(Frame(len(found) + 1, tokens, sure, valid))
        if see is not None:
            see(found[-1])

    loop: Any = opened.loop
    with torch.no_grad():
        think(loop, ask(opened, question[None]), depth, record=record)
    return found


def ask(opened: runs.Opened, questions_BS: NDArray[np.uint8]) -> Question:
    device = next(opened.loop.parameters()).device
    inputs = torch.from_numpy(questions_BS.astype(np.int64)).to(device)
    return Question(inputs, torch.zeros(len(inputs), dtype=torch.long, device=device))


def one(opened: runs.Opened, question: NDArray[np.uint8], depth: int, label: Any, quiet: bool = False) -> bool:
    """Show one puzzle being solved; returns whether the rules hold in the end."""
    console, task = Console(highlight=False), opened.task
    before = question
    if quiet:
        frames = frames_of(opened, question, depth)
    elif console.is_terminal:
        with Live(console=console, refresh_per_second=30) as live:

            def see(frame: Frame) -> None:
                nonlocal before
                live.update(picture(task, question, frame, before, label), refresh=True)
                if not np.array_equal(frame.answer, before):
                    time.sleep(PAUSE)
                before = frame.answer

            frames = frames_of(opened, question, depth, see)
    else:
        frames = frames_of(opened, question, depth)
        for frame in frames:
            if not np.array_equal(frame.answer, before):
                console.print(picture(task, question, frame, before, label), "")
            before = frame.answer
    last = frames[-1]
    print(task.decode(last.answer))
    if opened.task.verifies:
        verdict = "[bold green]valid[/]" if last.valid else "[bold red]not valid[/]"
    else:
        verdict = "[bold]complete[/]" if last.valid else "[bold red]not complete[/]"
    console.print(
        verdict, f"after {depth} steps", "" if opened.task.verifies else "(this puzzle's rules are not known)"
    )
    return last.valid


def picture(task: Any, question: Any, frame: Frame, before: Any, label: Any) -> Group:
    """The board, and one line: step, confidence, whether the rules hold."""
    sure = "" if frame.confidence is None else f"   confidence {frame.confidence:.1%}"
    line = Text(f"step {frame.step}{sure}   ", style="dim")
    if task.verifies:
        verdict = "rules hold" if frame.valid else "rules do not hold"
        line.append(verdict, style="bold green" if frame.valid else "bold red")
    return Group(task.terminal(question, frame.answer, before, label), line)


# -- a file of puzzles ------------------------------------------------------------------------------------------------


def questions(task: Any, path: Path) -> NDArray[np.uint8]:
    """(N, S) questions of a file; answers beside them are not needed and not looked at."""
    name = path.name.lower()
    if not name.endswith((".csv", ".csv.gz", ".txt")):
        return np.asarray(tasks.open_set(path, task)[1].inputs)
    try:
        raw = path.read_bytes()
        text = (gzip.decompress(raw) if name.endswith(".gz") else raw).decode("utf-8-sig")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read ({error}): give a text file of puzzles") from None
    lines = [line for line in text.splitlines() if line.strip()]
    if not name.endswith(".txt"):
        rows = list(csv.DictReader(lines))
        if rows and "question" not in rows[0]:
            raise InputError(f"{path} has no column question among {', '.join(map(str, rows[0]))}: add or rename it")
        lines = [row["question"] or "" for row in rows]
    if not lines:
        raise InputError(f"{path} holds no puzzle: give at least one row")
    return np.asarray(task.encode_many(lines, str(path)))


@torch.no_grad()
def many(opened: runs.Opened, inputs: NDArray[np.uint8], depth: int, out: str, batch: int = 256) -> int:
    """Answers to all puzzles as CSV; each stops when the model is confident, or after `depth` steps."""
    text, right = io.StringIO(), 0
    loop: Any = opened.loop
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(FIELDS)
    for first in range(0, len(inputs), batch):
        part = inputs[first : first + batch]
        question = ask(opened, part)
        has_head = loop.read(loop.init(question)).q_halt is not None
        thought = think(loop, question, depth, halt=confident() if has_head else never)
        answers = thought.answer.logits.argmax(-1).cpu().numpy().astype(np.uint8)
        valid = opened.task.valid_batch(part, answers)
        steps = torch.as_tensor(thought.steps).expand(len(part)).tolist()
        sure = thought.answer.q_halt.sigmoid().tolist() if has_head else [float("nan")] * len(part)
        right += int(valid.sum())
        for q, a, v, s, p in zip(part, answers, valid, steps, sure, strict=True):
            writer.writerow([opened.task.decode(q), opened.task.decode(a), "yes" if v else "no", s, f"{p:.4f}"])
    if out:
        save_text(Path(out), text.getvalue())
    else:
        sys.stdout.write(text.getvalue())
    print(f"{right} of {len(inputs)} answers are valid" + (f"; written to {out}" if out else ""), file=sys.stderr)
    return 0
