"""Inspection of a puzzle file: what it is taken for, every faulty row, repeats, twins; and the file put right.

    found = inspect("mine.csv")
    found.task, found.examples.reading, found.faults, found.repeats, found.twins
    train, test = found.split()           # rows without faults and repeats; twins on one side

The rows are read as `data.opening.open_set` reads them, but a faulty one is noted and left out instead of ending it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from innerloop.data.formats import read_table
from innerloop.data.guess import guess_shape, infer_task
from innerloop.data.notation import ranges
from innerloop.data.opening import fault_of, open_set, valid_labels
from innerloop.data.sets import PuzzleSet, count_held_out
from innerloop.data.sheet import Sheet, sheet_of
from innerloop.data.stated import UNSTATED, Stated
from innerloop.data.table import Fault, ReadOptions, Table, no_row
from innerloop.data.texts import cells_of, foreign_symbol, is_text, known_symbols, set_of_table
from innerloop.errors import InputError
from innerloop.tasks.grid import Grid
from innerloop.tasks.task import Task
from innerloop.text import printable

__all__ = ["Inspection", "Judge", "Judged", "Pair", "inspect"]

MAX_TWINS = 100_000  # rows up to which twins are looked for
RARE = 200  # a symbol is rare where at most one row in so many holds it


class Pair(NamedTuple):
    """Two rows of a file, by their numbers from 1: `row` repeats `earlier`, or is a twin of it."""

    row: int
    earlier: int
    same_answer: bool = True


class Judge(NamedTuple):
    """Rules of a person's own, which the answers of a file are to keep."""

    name: str  # what messages call them
    ruled: Callable[[Task], Task]  # the task with these rules added


class Judged(NamedTuple):
    """What such rules said."""

    name: str
    checked: int  # answers
    broken: list[int]  # those that break them


class Inspection(NamedTuple):
    """What was found. Rows of `examples` and `sheet` are those without faults; `rows` are their numbers in the file."""

    task: Task
    examples: PuzzleSet
    answered: bool  # False: the file holds questions alone
    rows: Sequence[int]
    faults: list[Fault]  # in the order of the rows
    repeats: list[Pair]  # rows whose question stood before
    twins: list[Pair] | None  # rows that are others turned, mirrored or renamed; None: too many rows to look
    classes: np.ndarray  # int64 (N,): twins and repeats share a number
    sheet: Sheet | None  # the rows as they stand in a file of text
    judged: Judged | None = None  # what rules of one's own said of the answers

    @property
    def total(self) -> int:
        """Rows of the file."""
        return len({*self.rows, *(fault.row for fault in self.faults)})

    def split(self, held: int = 0, seed: int = 0) -> tuple[list[int], list[int]]:
        """(rows to learn from, rows to test on), as indices of `examples`: each question once, twins on one side.

        held: about how many to test on; 0: a tenth, of few puzzles up to a quarter. Raises InputError where one side
        would be empty.
        """
        repeated = {pair.row for pair in self.repeats}
        kept = np.array([i for i, row in enumerate(self.rows) if row not in repeated], np.int64)
        names, of_class = np.unique(self.classes[kept], return_inverse=True)
        if len(names) < 2:
            raise InputError(f"{self.examples.source}: two puzzles that are no twins are needed to split; give more.")
        wanted = min(held or count_held_out(len(kept)), len(kept) - 1)
        sizes, chosen, count = np.bincount(of_class), np.zeros(len(names), bool), 0
        for name in np.random.default_rng(seed).permutation(len(names)):
            if count and count + sizes[name] > wanted:
                continue
            chosen[name], count = True, count + int(sizes[name])
            if count >= wanted or chosen.sum() == len(names) - 1:
                break
        test = chosen[of_class]
        return kept[~test].tolist(), kept[test].tolist()

    def rare_symbols(self) -> list[tuple[str, Fault]]:
        """Symbols of a grid that hardly any row holds, each with the first row and how many do."""
        if not isinstance(self.task, Grid) or len(self.rows) < RARE:
            return []
        found = []
        for token in range(1, self.task.vocab):
            held = ((self.examples.inputs == token) | (self.examples.labels == token)).any(1)
            count = int(held.sum())
            if 0 < count <= len(held) // RARE:
                symbol = self.task.spell(np.array([token]))
                found.append((symbol, Fault(self.rows[int(np.argmax(held))], f"{count:,} of {len(held):,} rows")))
        return found


def inspect(
    path: Path | str, stated: Stated = UNSTATED, symmetries: Sequence[str] = (), judge: Judge | None = None
) -> Inspection:
    """Read a whole file and say what is in it. symmetries: of a grid, where they are told; twins are found by them.

    Raises InputError where the file cannot be read, or no row of it can.
    """
    path, faults = Path(path), list[Fault]()
    sheet: Sheet | None = None
    if is_text(path):
        answers = None if not path.name.lower().removesuffix(".gz").endswith(".txt") else False
        how = ReadOptions(True, answers, words=cells_of(None, stated), keep=True, faults=faults)
        table = _readable(read_table(path, None, how), str(path), stated, faults)
        answered, rows, sheet = bool(table.answers), table.rows, sheet_of(table)
        task, s = set_of_table(table, None if answered else _questions_alone(table, stated), str(path), stated)
        good = valid_labels(task, s.inputs, s.labels)
    else:
        task, s = open_set(path, allow_duplicates=True, stated=stated)
        answered, rows, good = True, [*range(1, len(s) + 1)], np.ones(len(s), bool)
    if judge and not answered:
        raise InputError(f"{path} holds no answers, which the rules are to judge; leave out the rules.")
    for i in np.flatnonzero(~good):
        faults.append(Fault(rows[i], fault_of(task, s.inputs[i], s.labels[i])))
    if not good.any():
        raise InputError(no_row(str(path), faults))
    judged = _judged(judge, task, s, good) if judge else None
    if judged:
        broken = [Fault(rows[i], f"the answer breaks the rules of {judged.name}") for i in judged.broken]
        good[judged.broken] = False
        if not good.any():
            raise InputError(f"{path}, row {broken[0].row}: {broken[0].what}, and so do all others: correct the rules.")
        faults += broken
    kept = np.flatnonzero(good)
    s = s if good.all() else s.take(kept)
    s = replace(s, reading=s.reading._replace(puzzles=len(s)) if s.reading else None)
    rows, sheet = [rows[i] for i in kept], sheet.take(kept.tolist()) if sheet else None
    found = _inspected(with_symmetries(task, symmetries), s, answered, rows, sorted(faults), sheet)
    return found._replace(judged=judged)


def with_symmetries(task: Task, symmetries: Sequence[str]) -> Task:
    """The grid with these symmetries, as training takes them. Raises InputError for a task that brings its own."""
    if not symmetries:
        return task
    if not isinstance(task, Grid):
        raise InputError(f"the symmetries of {task.name} are known: leave out those that were told.")
    return Grid(**task.options | {"symmetries": tuple(symmetries)})


def _judged(judge: Judge, task: Task, s: PuzzleSet, good: np.ndarray) -> Judged:
    """What the rules say of the answers that are whole and keep what is known of the task."""
    whole = np.flatnonzero(good & (s.labels != 0).all(1))
    valid = judge.ruled(task).valid_batch(s.inputs[whole], s.labels[whole])
    return Judged(judge.name, len(whole), whole[~valid].tolist())


def _readable(table: Table, where: str, stated: Stated, faults: list[Fault]) -> Table:
    """The rows whose symbols the file's task has; the others are noted as faults."""
    if not table.answers:
        return table
    guess = infer_task(table, None, where, stated)
    known, kept = known_symbols(guess), []
    for i, texts in enumerate(zip(table.questions, table.answers, strict=True)):
        if told := foreign_symbol(known, *texts):
            faults.append(Fault(table.rows[i], f"{told}, where {guess.task.name} is written with {_written(known)}"))
        else:
            kept.append(i)
    if len(kept) == len(table.questions):
        return table
    if not kept:
        raise InputError(no_row(where, faults))
    take: Any = lambda column: [column[i] for i in kept]  # noqa: E731
    columns = {name: take(getattr(table, name)) for name in ("questions", "answers", "rows", "records")}
    return table._replace(ratings=table.ratings[kept], **columns)


def _written(symbols: set[str]) -> str:
    return printable(ranges("".join(sorted(symbols))), 60)


def _questions_alone(table: Table, stated: Stated) -> Grid:
    """The grid of questions without answers: the first usual symbol of an empty cell that they hold is one."""
    shape = stated.shape or table.shape or guess_shape(len(table.questions[0]))
    asked = stated.blank
    if asked == "":
        asked = next((blank for blank in ".0" if any(blank in question for question in table.questions)), None)
    return Grid.infer(table.questions, [], shape, asked, stated.alphabet)


def _inspected(
    task: Task, s: PuzzleSet, answered: bool, rows: Sequence[int], faults: list[Fault], sheet: Sheet | None
) -> Inspection:
    first: dict[bytes, int] = {}
    repeats, keys = [], [row.tobytes() for row in np.ascontiguousarray(s.inputs)]
    classes = np.array([first.setdefault(key, i) for i, key in enumerate(keys)], np.int64)
    for i in np.flatnonzero(classes != np.arange(len(s))):
        same = np.array_equal(s.labels[i], s.labels[classes[i]])
        repeats.append(Pair(rows[int(i)], rows[int(classes[i])], same))
    twins = _twins(task, s, classes) if len(s) <= MAX_TWINS else None
    pairs = None if twins is None else [Pair(rows[i], rows[j]) for i, j in twins]
    return Inspection(task, s, answered, rows, faults, repeats, pairs, classes, sheet)


def _twins(task: Task, s: PuzzleSet, classes: np.ndarray) -> list[tuple[int, int]]:
    """(row, earlier row) that are symmetric variants, and `classes` joined accordingly; equal rows are no twins."""
    found, known = [], dict[bytes, list[int]]()
    alone = np.flatnonzero(classes == np.arange(len(s)))
    for i, key in zip(alone.tolist(), task.canonical_batch(s.inputs[alone]), strict=True):
        twin = next((t for t in known.get(key, ()) if task.same(s.inputs[t], s.inputs[i])), None)
        if twin is None:
            known.setdefault(key, []).append(i)
        else:
            found.append((i, twin))
            classes[classes == i] = twin
    return found
