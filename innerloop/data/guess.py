"""Infer the task and notation of a text file from its rows, with the reason for people."""

from __future__ import annotations

from math import isqrt
from typing import NamedTuple

import numpy as np

from innerloop.data.notation import (
    EMPTY_SYMBOLS,
    FEW_ROWS,
    ROWS_INSPECTED,
    Notation,
    boxes_of,
    count_valid,
    notation_of,
    notation_of_questions,
)
from innerloop.data.stated import UNSTATED, Stated
from innerloop.data.table import Table
from innerloop.errors import InputError
from innerloop.tasks.arc import ARC
from innerloop.tasks.grid import Grid
from innerloop.tasks.maze import Maze
from innerloop.tasks.queens import Queens
from innerloop.tasks.sudoku import Sudoku
from innerloop.tasks.task import Task

__all__ = ["INFERRED", "Guess", "are_latin_squares", "check_shape", "guess_notation", "infer_task"]

INFERRED = ("sudoku", "maze", "queens", "arc", "grid")  # the tasks whose size and alphabet the rows of a file tell

SUDOKU_BLANKS = ("", *".0", *EMPTY_SYMBOLS)  # symbols of an empty cell that Sudokus are read with


class Guess(NamedTuple):
    """A task, the notation of its file, and a clause that says why."""

    task: Task
    reason: str
    notation: Notation = Notation("")


def guess_notation(table: Table, task: Task, where: str) -> Guess:
    """A known task, for a file that is read as it; only the notation is found out."""
    check_shape(task, table.shape, where)
    notation = None
    if isinstance(task, Sudoku) and len(table.questions[0]) == task.size**2:
        if table.answers:
            notation = notation_of(table.questions[:ROWS_INSPECTED], table.answers[:ROWS_INSPECTED], task.size)
        else:
            notation = notation_of_questions(table.questions[:ROWS_INSPECTED], task.size)
    return Guess(task, "the task is known", notation or Notation(""))


def check_shape(task: Task, stated: tuple[int, int] | None, where: str) -> None:
    """Raise InputError where a file states boards of another shape than the task's.

    A grid of the shape that is guessed from the number of cells may have been read from such a file once.
    """
    if stated in (None, task.shape):
        return
    cells = stated[0] * stated[1]
    if not isinstance(task, Grid) or task.shape != guess_shape(cells):
        one, other = ("x".join(map(str, s)) for s in (stated, task.shape))
        raise InputError(f"{where} states boards of {one} where the task {task.name} has {other}; give such boards.")


def guess_shape(cells: int) -> tuple[int, int]:
    """The shape of a board of so many cells where nothing states it: a square, or else one row."""
    side = isqrt(cells)
    return (side, side) if side * side == cells else (1, cells)


def infer_task(table: Table, task: str | None, where: str, stated: Stated = UNSTATED) -> Guess:
    """The task of a text table: by name where given, else by row length and alphabet, else a grid.

    A known task is taken when most of the first rows look like it, so that one bad row is reported, not believed. What
    is stated is believed: a task whose cells are written otherwise is not taken.
    """
    size, side = len(table.questions[0]), isqrt(len(table.questions[0]))
    if stated.blank and not stated.several and not any(stated.blank in question for question in table.questions):
        raise InputError(
            f"{where}: no question holds {stated.blank!r}, which was given as the empty cell; give another."
        )
    table = table._replace(shape=_stated_shape(table, stated, where))
    square = side * side == size and table.shape in (None, (side, side))
    if task is not None and task not in INFERRED:
        raise InputError(
            f"{where}: rows do not tell the size of a {task}; give the options of the task, such as data.options."
        )
    if task not in ("grid", None) and not square:
        told = "x".join(map(str, table.shape)) if table.shape else f"{size} cells"
        raise InputError(
            f"{where}: rows of {told} are no square, so they cannot be {task}; correct the file or the task."
        )
    if task == "arc":
        return Guess(ARC(), "the task was named")
    refused, symbols_stated = "", stated.blank != "" or bool(stated.alphabet)
    if square and task in ("sudoku", None) and not stated.several and stated.blank in SUDOKU_BLANKS:
        guess, refused = _sudoku(table, side, task)
        if guess is not None:
            return guess
    name = task or (_look(table, side) if square and not symbols_stated else "grid")
    because = "the task was named" if task else f"most of its rows look like {name}"
    if name == "maze":
        return Guess(Maze(side), because)
    if name == "queens":
        return Guess(Queens(side), because)
    shape = table.shape or guess_shape(size)
    found = Grid.infer(table.questions, table.answers, shape, stated.blank, stated.alphabet)
    because = "the task was named" if task else refused or "its rows look like no puzzle whose rules are known"
    because = "its alphabet or empty cell is stated" if symbols_stated and not refused and not task else because
    return Guess(found, f"{because}; {_why_shape(size, table.shape, stated)}{_why_blank(found, stated)}")


def _stated_shape(table: Table, stated: Stated, where: str) -> tuple[int, int] | None:
    """The shape that is stated beside the file, else by it. Raises InputError where it has other cells than a row."""
    size = len(table.questions[0])
    if stated.shape is None or stated.shape == table.shape:
        return table.shape
    rows, columns = stated.shape
    if rows * columns != size:
        raise InputError(
            f"{where}: boards of {rows}x{columns} have {rows * columns} cells where its rows have {size}; "
            "give a shape of that many cells."
        )
    if table.shape is not None:
        told = "x".join(map(str, table.shape))
        raise InputError(f"{where} states boards of {told} where {rows}x{columns} was given; leave out the shape.")
    return stated.shape


def _why_shape(size: int, shape: tuple[int, int] | None, stated: Stated) -> str:
    if shape is not None:
        return "its shape is stated" if stated.shape else "the file states its shape"
    if isqrt(size) ** 2 == size:
        return f"{size} cells are taken for a square"
    return f"{size} cells are no square and no shape is stated, so they are one row"


def _why_blank(found: Grid, stated: Stated) -> str:
    """What follows from its having an empty cell or none, where nothing was said about it."""
    if stated.blank != "":
        return ""
    if not found.blank:
        return "; no symbol is an empty cell, so that no cell of a question is given"
    symbol = found.charset[found.blank - 1]
    return f"; every other cell than {symbol!r} is given, and stays as it is in at least nine answers of ten"


def _sudoku(table: Table, side: int, task: str | None) -> tuple[Guess | None, str]:
    """(the Sudoku that most of the first rows look like, or None; why they are none)."""
    questions, answers = table.questions[:ROWS_INSPECTED], table.answers[:ROWS_INSPECTED]
    notation = notation_of(questions, answers, side)
    if (task or (notation and table.box)) and not boxes_of(side, table.box):
        Sudoku(side, table.box)  # says what is wrong with the size or the box
    if notation is None or not boxes_of(side, table.box):
        return (Guess(Sudoku(side, table.box), "the task was named"), "") if task else (None, "")
    written = [answer for answer in answers if set(answer) == set(notation.digits)]
    codes = {symbol: digit for digit, symbol in enumerate(notation.digits, 1)}
    boards = np.array([[codes[symbol] for symbol in answer] for answer in written]).reshape(-1, side, side)
    found = count_valid(boards, table.box)
    box = table.box or (found.box if found.kept else None)
    told = f"{found.kept:,} of its first {len(answers):,} answers keep the rules"
    if box is not None and [box] != boxes_of(side)[:1]:
        told += f" with boxes of {box[0]} rows and {box[1]} columns"
    if task is None:
        if are_latin_squares(found.kept, found.latin):
            return None, "its answers are Latin squares, whose boxes do not hold every symbol"
        usual = notation.standard and (found.kept or len(answers) < FEW_ROWS)
        if not usual and 2 * found.kept <= len(answers):
            return None, "its answers do not keep the rules of Sudoku"
    return Guess(Sudoku(side, box), told, notation), ""


def are_latin_squares(kept: int, squares: int) -> bool:
    """Are boards Latin squares, rather than Sudokus of which a few are wrong? Half of those of 4x4 keep boxes too."""
    return 10 * squares > kept + squares


def _look(table: Table, side: int) -> str:
    """Maze or queens, where most of the first rows of side * side symbols look like it, or "grid"."""
    votes = {"maze": 0, "queens": 0}
    rows = list(zip(table.questions[:ROWS_INSPECTED], table.answers[:ROWS_INSPECTED], strict=True))
    for question, answer in rows:
        asked, solved = set(question), set(answer)
        ends = question.count("S") == question.count("G") == 1
        votes["maze"] += side > 2 and ends and asked | solved <= set("# SGo")
        votes["queens"] += side > 3 and asked | solved <= set(".Q") and answer.count("Q") == side
    best = max(votes, key=lambda name: votes[name])
    return best if 2 * votes[best] > len(rows) else "grid"
