"""Answers to a file of puzzles: the file's own columns as they stand, and those of the answers beside them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from innerloop import files
from innerloop.cli.inputs import refuse_overwrite
from innerloop.data.cells import word_symbols
from innerloop.data.formats import ANSWER_NAMES, write_plain_or_zipped
from innerloop.data.opening import answers_in
from innerloop.data.sets import PuzzleSet
from innerloop.data.sheet import Sheet
from innerloop.errors import InputError
from innerloop.solve.count import SEVERAL, count_each
from innerloop.solve.options import Solution
from innerloop.solve.solver import Solver

__all__ = ["COLUMNS", "in_notation", "read_answers", "solve_file"]

COLUMNS = ("answer", "known", "valid", "confidence", "steps", "nfe", "source", "solutions")
SIGNS = COLUMNS[1:6]  # columns that follow each other in every file of answers
COUNT_SECONDS, COUNT_ALL_SECONDS = 0.25, 30.0  # at most, to count the solutions of one puzzle and of all
NAMED = 5  # rows that a message names


def solve_file(
    solver: Solver,
    questions: PuzzleSet,
    out: str,
    solve_kwargs: dict[str, Any],
    source: Path | None = None,
    own: Sheet | None = None,
) -> int:
    """Answers to all puzzles, in their order, written to `out` or printed.

    source: the file they are from; own: its columns, of a file of text.
    """
    target = Path(out)
    if out and source is not None and target.exists() and target.samefile(source):
        raise InputError(f"--out names {files.shown(source)}, which holds the questions: give another name")
    if out and target.is_file():
        refuse_overwrite(target, read_answers)
    found = solver.solve(questions, **solve_kwargs)
    seconds = solve_kwargs["budget"].seconds
    total = min(COUNT_ALL_SECONDS, (seconds or 4 * COUNT_ALL_SECONDS) / 4)
    counts = count_each(solver.task, questions.inputs, COUNT_SECONDS, total)
    columns = list(zip(*(values_of(questions, s, n) for s, n in zip(found, counts, strict=True)), strict=True))
    names: Sequence[str] = COLUMNS
    if questions.puzzle.any():
        names = (*COLUMNS, "puzzle")
        columns.append(tuple(questions.identifiers[i] for i in questions.puzzle))
    sheet = own or Sheet(["question"], [[in_notation(questions, solver.task.decode(q))] for q in questions.inputs])
    ending = ".jsonl" if out.lower().removesuffix(".gz").endswith(".jsonl") else ".csv"
    text = sheet.extended(names, columns).text(ending)
    if out:
        write_plain_or_zipped(target, text)
    else:
        sys.stdout.write(text)
    print_summary(solver, found, counts, out)
    if any(s.known for s in found) and any(name.strip().lower() in ANSWER_NAMES for name in sheet.header):
        print(beside_the_files_own(solver, found, sheet, questions.source), file=sys.stderr)
    return 0


def beside_the_files_own(solver: Solver, found: Sequence[Solution], sheet: Sheet, where: str) -> str:
    """How many of the answers are those that the file holds, or why that cannot be said."""
    try:
        labels = answers_in(sheet, solver.task, where)
    except InputError as error:
        return f"the file's own answers are not compared: {error}"
    known = [(s.answer, y) for s, y in zip(found, labels, strict=True) if s.known]
    equal = sum(bool(((answer == y) | (y == 0)).all()) for answer, y in known)
    return f"{equal} of these {len(known)} are the answers that the file holds"


def values_of(questions: PuzzleSet, s: Solution, count: int | None) -> tuple[str | int, ...]:
    """The values of COLUMNS for one puzzle."""
    valid = "" if s.valid is None else "yes" if s.valid else "no"
    sure = "" if s.confidence is None else f"{s.confidence:.4f}"
    ways = "" if count is None else "several" if count == SEVERAL else count
    known = "yes" if s.known else "no"
    return in_notation(questions, s.text), known, valid, sure, s.steps, s.nfe, s.source, ways


def in_notation(questions: PuzzleSet, text: str) -> str:
    """The text of a question or answer in the notation that the questions came in."""
    reading = questions.reading
    if reading is None:
        return text
    if reading.words:
        word = dict(zip(word_symbols(reading.words), reading.words, strict=True))
        return " ".join(word.get(symbol, symbol) for symbol in text)
    return reading.notation.write(text)


def print_summary(solver: Solver, found: Sequence[Solution], counts: Sequence[int | None], out: str) -> None:
    """How many are answered, and which rows have no solution or several, on standard error."""
    count, exact = sum(s.known for s in found), sum(s.source == "exact" for s in found)
    summary = f"{count} of {len(found)} answers are {'valid' if solver.verify else 'known'}"
    summary += f", {exact} of them by the exact solver" if exact else ""
    print(summary + (f"; written to {out}" if out else ""), file=sys.stderr)
    for ways, told in ((0, "no solution: givens contradict each other"), (SEVERAL, "several solutions")):
        rows = [str(i) for i, n in enumerate(counts, 1) if n == ways]
        if rows:
            more = f" and {len(rows) - NAMED:,} more" if len(rows) > NAMED else ""
            which = f"rows {', '.join(rows[:NAMED])}{more} have" if len(rows) > 1 else f"row {rows[0]} has"
            print(f"{which} {told}", file=sys.stderr)
    left = sum(n is None for n in counts)
    if 0 < left < len(counts):
        print(f"of {left:,} rows it was not decided in time how many solutions they have", file=sys.stderr)


def read_answers(path: Path) -> None:
    """Raise InputError unless this is a file of answers, as `solve_file` writes it."""
    first = next(files.lines(path), "").rstrip()
    if path.name.lower().removesuffix(".gz").endswith(".jsonl"):
        value = files.parse_json(first, files.shown(path))
        names = list(value) if isinstance(value, dict) else []
    else:
        names = first.split(",")
    plain = [name.removeprefix("found_") for name in names]
    if not any(tuple(plain[i : i + len(SIGNS)]) == SIGNS for i in range(len(plain))):
        raise InputError(f"{files.shown(path)} holds no answers")
