"""Table: the rows of a file of text, checked one by one as they are read.

With `faults` a faulty row is noted and left out, for a report on the whole file; else the first one raises.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from innerloop.data.cells import Shape, read_cells, read_lines, read_words
from innerloop.errors import InputError
from innerloop.text import command, printable

__all__ = ["STRICT", "Fault", "ReadOptions", "Rows", "Table", "no_row"]

MAX_DUPLICATES = 1000  # rows that repeat others, after which no more are counted


class Fault(NamedTuple):
    """What is wrong with a row of a file."""

    row: int  # from 1, without the header and empty lines
    what: str  # a clause


def no_row(where: str, faults: list[Fault]) -> str:
    """What to say of a file all of whose rows are at fault."""
    return f"{where}, row {faults[0].row}: {faults[0].what}; no other row can be read either, so mend that first."


@dataclass(frozen=True)
class ReadOptions:
    """How a file of text is read."""

    allow_duplicates: bool = False
    answers: bool | None = True  # False: questions alone, whatever else is there; None: as the file has them
    breaks: bool = True  # False: line breaks are symbols, as in files that had them in an alphabet of their own
    words: dict[str, str] = field(default_factory=dict)  # symbol of each word, where cells have several characters
    keep: bool = False  # keep the rows as they stand in the file, for `Table.records`
    faults: list[Fault] | None = None  # where faulty rows are noted and left out; None: the first one raises


STRICT = ReadOptions()


class Table(NamedTuple):
    """Rows of a text file. box: (rows, columns) of a Sudoku box where the file states it; shape: likewise of a board.

    Without answers, as for a file of questions, `answers` is empty.
    """

    questions: list[str]
    answers: list[str]
    ratings: np.ndarray  # float32 (N,), nan = unknown
    box: tuple[int, int] | None = None
    shape: Shape = None
    rows: list[int] = []  # the number of each row in the file, from 1  # noqa: RUF012
    header: list[str] = []  # names of the columns of a CSV file  # noqa: RUF012
    records: list[Any] = []  # with ReadOptions.keep: fields of a CSV file in order, or objects  # noqa: RUF012


class Rows:
    """Collects checked rows of one file. Without answers, questions may repeat: nothing is learned from them."""

    def __init__(self, path: Path, how: ReadOptions):
        self.path, self.how, self.answered = path, how, how.answers
        self.row = 0  # the row that is being read, from 1
        self.questions: list[str] = []
        self.answers: list[str] = []
        self.ratings: list[float] = []
        self.rows: list[int] = []
        self.header: list[str] = []
        self.records: list[Any] = []
        self.first: dict[str, int] = {}
        self.repeated: list[tuple[int, int]] = []  # a row, and the one whose question it repeats
        self.shape: Shape = None

    def where(self) -> str:
        """The row that is being read, for a message."""
        return f"{self.path}, row {self.row}"

    @contextmanager
    def one(self) -> Iterator[None]:
        """Context: the next row is read. Where faults are noted, an error in it is one."""
        self.row += 1
        try:
            yield
        except InputError as error:
            if self.how.faults is None:
                raise
            what = str(error).removeprefix(self.where()).lstrip(":, ").rstrip(".")
            self.how.faults.append(Fault(self.row, what.partition(";")[0]))

    def add(self, question: Any, answer: Any, rating: Any, record: Any = None) -> None:
        asked = self.cells(question, "question")
        size = len(self.questions[0]) if self.questions and self.how.faults is None else len(asked)
        solved = self.cells(answer, "answer") if self.answered else ""
        if len(asked) != size or (self.answered and len(solved) != size):
            told = f"the question has {len(asked)} cells" + (f" and the answer {len(solved)}" if self.answered else "")
            raise InputError(
                f"{self.where()}: {told} where {size} are expected; give every question and answer the same length."
            )
        if not self.how.allow_duplicates and self.answered:
            earlier = self.first.setdefault(asked, self.row)
            if earlier != self.row:
                self.repeated.append((self.row, earlier))
                if len(self.repeated) > MAX_DUPLICATES:
                    self.table()
        if self.answered:
            self.ratings.append(_rating(rating, self.where()))
            self.answers.append(solved)
        self.questions.append(asked)
        self.rows.append(self.row)
        if self.how.keep:
            self.records.append(record)

    def cells(self, value: Any, what: str) -> str:
        """The symbols of a question or answer; its shape is compared with what the file stated so far."""
        if self.how.words:
            text, shape = read_words(value, self.how.words, self.where())
        elif not isinstance(value, str):
            text, shape = read_cells(value, self.where(), len(self.questions[0]) if self.questions else 0)
        else:
            text, shape = read_lines(value, self.where()) if self.how.breaks else (value, None)
        if not text:
            raise InputError(f"{self.where()}: the {what} is empty; fill it in or remove the row.")
        if shape is not None and self.shape not in (None, shape):
            one, other = ("x".join(map(str, s)) for s in (shape, self.shape or shape))
            raise InputError(
                f"{self.where()}: the {what} is a board of {one} where {other} came before; split the file."
            )
        self.shape = shape or self.shape
        if not text.isascii() and any("\ud800" <= c <= "\udfff" for c in text):
            raise InputError(f"{self.where()}: the {what} holds half a character (a surrogate); write the file again.")
        return text

    def table(self, box: tuple[int, int] | None = None) -> Table:
        self.leave_out_other_lengths()
        if not self.questions:
            raise InputError(self.nothing())
        if self.repeated:
            row, earlier = self.repeated[0]
            more = len(self.repeated) - 1
            rest = f", and {more:,} more rows repeat others; remove all but one of each"
            told = rest if more else "; remove one of them"
            mend = command("data", self.path, "--fix")
            raise InputError(f"{self.path}, row {row}: the question repeats row {earlier}{told}, or run {mend}.")
        ratings = np.array(self.ratings, np.float32)
        kept = (self.rows, self.header, self.records)
        return Table(self.questions, self.answers, ratings, box, self.shape, *kept)

    def nothing(self) -> str:
        """What to say of a file of which no row is left."""
        if self.how.faults:
            return no_row(str(self.path), self.how.faults)
        return f"{self.path} holds no puzzle; give at least one row."

    def leave_out_other_lengths(self) -> None:
        """Where faults are noted: the rows whose length is not that of most."""
        if self.how.faults is None or not self.questions:
            return
        size = Counter(map(len, self.questions)).most_common(1)[0][0]
        kept = [i for i, question in enumerate(self.questions) if len(question) == size]
        for i, question in enumerate(self.questions) if len(kept) < len(self.questions) else ():
            if len(question) != size:
                told = f"the question has {len(question)} cells where most have {size}"
                self.how.faults.append(Fault(self.rows[i], told))
        columns: tuple[list[Any], ...] = (self.questions, self.answers, self.ratings, self.rows, self.records)
        for column in columns if len(kept) < len(self.questions) else ():
            column[:] = [column[i] for i in kept if column]


def _rating(value: Any, where: str) -> float:
    if value is None or value == "":
        return math.nan
    try:
        rating = float(value)
    except (TypeError, ValueError):
        told = printable(repr(value), 40)
        raise InputError(f"{where}: the rating {told} is no number; give a number or leave it empty.") from None
    except OverflowError:  # a whole number of hundreds of digits
        rating = math.inf
    if not math.isfinite(rating):
        told = printable(repr(value), 40)
        raise InputError(f"{where}: the rating {told} is not finite; give a number or leave it empty.")
    return rating
