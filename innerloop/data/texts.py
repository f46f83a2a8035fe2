"""Rows of text as tokens of a task; of questions to be solved all faulty rows are named in one message."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from innerloop.data.cells import word_symbols
from innerloop.data.formats import TEXT_SUFFIXES, read_table
from innerloop.data.guess import Guess, guess_notation, infer_task
from innerloop.data.sets import PuzzleSet, Reading
from innerloop.data.stated import UNSTATED, Stated
from innerloop.data.table import Fault, ReadOptions, Table
from innerloop.errors import InputError
from innerloop.tasks.task import Task

__all__ = [
    "asked", "cells_of", "foreign_symbol", "is_text", "known_symbols", "line_breaks_end_rows", "reader_of",
    "set_of_table",
]  # fmt: skip

NAMED, MOST_ROWS = 5, 30  # faulty rows whose fault is said, and more of which the number is

Reader = Callable[[list[Fault] | None], Table]  # takes where faulty rows are noted; None: the first one raises


def is_text(path: Path) -> bool:
    """Whether this is the name of a file of text, and no folder."""
    return not path.is_dir() and path.name.lower().removesuffix(".gz").endswith(TEXT_SUFFIXES)


def cells_of(task: Task | str | None, stated: Stated = UNSTATED) -> dict[str, str]:
    """Symbol of every word, where cells have several characters; else empty."""
    words: tuple[str, ...] = getattr(task, "words", ()) or (stated.alphabet if stated.several else ())
    return dict(zip(words, word_symbols(words), strict=True))


def line_breaks_end_rows(task: Task | str | None) -> bool:
    """Do line breaks end rows? Not for a task whose alphabet has them, as grids were once read."""
    return not isinstance(task, Task) or "\n" not in task.charset


def set_of_table(
    table: Table, task: Task | str | None, where: str, stated: Stated = UNSTATED
) -> tuple[Task, PuzzleSet]:
    """The rows of a file of text as tokens, of the task that is given or that they look like."""
    try:
        guess = guess_notation(table, task, where) if isinstance(task, Task) else infer_task(table, task, where, stated)
    except InputError as error:
        raise error if where in str(error) else InputError(f"{where}: {error}") from None
    found, notation = guess.task, guess.notation
    inputs = found.encode_many(list(notation.read(table.questions, where, "question")), where, "question")
    columns: dict[str, Any] = {}
    labels = np.zeros_like(inputs)
    if table.answers:
        labels = found.encode_many(list(notation.read(table.answers, where, "answer")), where, "answer")
        columns = {"rating": table.ratings}
    blank = found.charset[found.blank - 1] if found.blank else ""
    symbols = "".join(symbol for symbol in found.charset if symbol != blank)
    reading = Reading(
        found.name,
        found.shape,
        len(inputs),
        guess.reason,
        notation.digits or symbols,
        notation.blanks if notation.digits else blank,
        notation,
        getattr(found, "words", ()),
    )
    return found, found.as_set(inputs, labels, source=where, reading=reading, **columns)


# -- questions to be solved -------------------------------------------------------------------------------------------


def reader_of(path: Path, task: Task, limit: int | None, keep: bool = False) -> Reader:
    """What reads the questions of a file, at most `limit`; keep: with its own columns."""
    how = ReadOptions(False, False, line_breaks_end_rows(task), cells_of(task), keep)
    return lambda faults: read_table(path, limit, replace(how, faults=faults))


def asked(read: Reader, task: Task, where: str) -> tuple[Table, PuzzleSet]:
    """Rows of questions and their tokens. Where one is at fault, all are looked for, and named in one message."""
    try:
        table = read(None)
        return table, set_of_table(table, task, where)[1]
    except InputError as error:
        faults = faults_of(read, task, where)
        if not faults or (len(faults) == 1 and f", row {faults[0].row}:" in str(error)):
            raise
    count = f"{len(faults):,} row{'s' * (len(faults) > 1)}"
    named = "; ".join(f"row {fault.row}: {fault.what}" for fault in faults[:NAMED])
    others = ", ".join(str(fault.row) for fault in faults[NAMED : NAMED + MOST_ROWS])
    more = f"; likewise row{'s' * (len(faults) > NAMED + 1)} {others}" if others else ""
    more += f" and {len(faults) - NAMED - MOST_ROWS:,} others" if len(faults) > NAMED + MOST_ROWS else ""
    raise InputError(f"{where}: {count} cannot be read: {named}{more}; correct or leave out what is named")


def faults_of(read: Reader, task: Task, where: str) -> list[Fault]:
    """What is wrong with each faulty row; none where no row can be read."""
    faults: list[Fault] = []
    try:
        table = read(faults)
        known = known_symbols(guess_notation(table, task, where))
    except InputError:
        return []
    if len(table.questions[0]) != task.shape[0] * task.shape[1]:
        return []
    for row, question in zip(table.rows, table.questions, strict=True):
        if what := foreign_symbol(known, question):
            faults.append(Fault(row, what))
    return sorted(faults)


def known_symbols(guess: Guess) -> set[str]:
    """What a cell of the file may hold."""
    digits, task = guess.notation.digits, guess.task
    if digits and not guess.notation.standard:
        return set(digits + guess.notation.blanks)
    return {*task.charset, *task.aliases, task.pad_symbol}


def foreign_symbol(known: set[str], question: str, answer: str = "") -> str:
    """The first symbol of a row that is none of the file's, in a clause; "" where there is none."""
    for what, text in (("question", question), ("answer", answer)):
        if not known.issuperset(text):
            cell = next(i for i, symbol in enumerate(text) if symbol not in known)
            return f"the {what} has {text[cell]!r} in cell {cell + 1}"
    return ""
