"""Puzzle files of text: CSV, JSON lines and plain lines, gzipped or not, read with one clear sentence for a bad row.

CSV has the header `source,question,answer,rating` (the layout of sapientinc/sudoku-extreme); JSONL has one object a
line with `question` and `answer` as texts or lists (see `innerloop.data.cells`). `givens`, `puzzle` or `quizzes` may
stand for question; `solution` or `solutions` for answer (of a list of solutions, the first). Other columns are ignored.
A .txt file holds one question a line.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from innerloop import files
from innerloop.data.cells import Shape, read_cells, read_lines
from innerloop.errors import InputError
from innerloop.text import printable

if TYPE_CHECKING:
    from innerloop.data.sets import PuzzleSet
    from innerloop.tasks.task import Task

__all__ = [
    "TEXT_SUFFIXES",
    "Table",
    "read_csv",
    "read_jsonl",
    "read_table",
    "read_text",
    "read_texts",
    "write_csv",
    "write_jsonl",
]

QUESTION_NAMES = ("question", "givens", "puzzle", "quizzes")
ANSWER_NAMES = ("answer", "solution", "solutions")
MAX_DUPLICATES = 1000  # rows that repeat others, after which no more are counted
MAX_LINE_BREAKS = 10_000  # line breaks in one quoted text
TEXT_SUFFIXES = (".csv", ".jsonl", ".txt")  # each also with .gz


class Table(NamedTuple):
    """Rows of a text file. box: (rows, columns) of a Sudoku box where the file states it; shape: likewise of a board.

    Without answers, as for a file of questions, `answers` is empty.
    """

    questions: list[str]
    answers: list[str]
    ratings: np.ndarray  # float32 (N,), nan = unknown
    box: tuple[int, int] | None = None
    shape: Shape = None


class _Rows:
    """Collects checked rows of one file. Without answers, questions may repeat: nothing is learned from them."""

    def __init__(self, path: Path, allow_duplicates: bool = False, answers: bool = True, breaks: bool = True):
        self.path, self.answered, self.breaks = path, answers, breaks
        self.allow_duplicates = allow_duplicates or not answers
        self.questions: list[str] = []
        self.answers: list[str] = []
        self.ratings: list[float] = []
        self.first: dict[str, int] = {}
        self.repeated: list[tuple[int, int]] = []  # a row, and the one whose question it repeats
        self.shape: Shape = None

    def where(self) -> str:
        """The row that comes next, for a message."""
        return f"{self.path}, row {len(self.questions) + 1}"

    def add(self, question: Any, answer: Any, rating: Any) -> None:
        asked = self.cells(question, "question")
        size = len(self.questions[0]) if self.questions else len(asked)
        solved = self.cells(answer, "answer") if self.answered else ""
        if len(asked) != size or (self.answered and len(solved) != size):
            told = f"the question has {len(asked)} cells" + (f" and the answer {len(solved)}" if self.answered else "")
            raise InputError(
                f"{self.where()}: {told} where {size} are expected; give every question and answer the same length."
            )
        if not self.allow_duplicates:
            row = len(self.questions) + 1
            earlier = self.first.setdefault(asked, row)
            if earlier != row:
                self.repeated.append((row, earlier))
                if len(self.repeated) > MAX_DUPLICATES:
                    self.table()
        if self.answered:
            self.ratings.append(_rating(rating, self.where()))
            self.answers.append(solved)
        self.questions.append(asked)

    def cells(self, value: Any, what: str) -> str:
        """The symbols of a question or answer; its shape is compared with what the file stated so far."""
        if not isinstance(value, str):
            text, shape = read_cells(value, self.where(), len(self.questions[0]) if self.questions else 0)
        else:
            text, shape = read_lines(value, self.where()) if self.breaks else (value, None)
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
        if not self.questions:
            raise InputError(f"{self.path} holds no puzzle; give at least one row.")
        if self.repeated:
            row, earlier = self.repeated[0]
            more = len(self.repeated) - 1
            rest = f", and {more:,} more rows repeat others; remove all but one of each"
            told = rest if more else "; remove one of them"
            raise InputError(f"{self.path}, row {row}: the question repeats row {earlier}{told}.")
        return Table(self.questions, self.answers, np.array(self.ratings, np.float32), box, self.shape)


def read_table(
    path: Path, limit: int | None = None, allow_duplicates: bool = False, answers: bool = True, breaks: bool = True
) -> Table:
    """Rows of a file of TEXT, at most `limit`. Raises InputError naming the row and what it lacks.

    answers: False reads questions alone, whatever else is there. breaks: False keeps line breaks as symbols, as files
    were read that had them in an alphabet of their own.
    """
    ending = path.name.lower().removesuffix(".gz").rsplit(".", 1)[-1]
    rows = _Rows(path, allow_duplicates, answers, breaks)
    if ending == "txt":
        if answers:
            raise InputError(
                f"{path}: a .txt file holds questions alone; give questions and answers as .csv or .jsonl."
            )
        return _lines(rows, limit)
    return (_csv if ending == "csv" else _jsonl)(rows, limit)


def read_csv(path: Path | str, limit: int | None = None, allow_duplicates: bool = False) -> Table:
    """Rows of a .csv or .csv.gz file, at most `limit`. Raises InputError naming the row or the missing column."""
    return _csv(_Rows(Path(path), allow_duplicates), limit)


def read_jsonl(path: Path | str, limit: int | None = None, allow_duplicates: bool = False) -> Table:
    """Rows of a .jsonl or .jsonl.gz file, at most `limit`. Raises InputError naming the row and the missing field."""
    return _jsonl(_Rows(Path(path), allow_duplicates), limit)


def read_texts(texts: Iterable[str], where: str, breaks: bool = True) -> Table:
    """Questions that are no file, such as those of standard input."""
    rows = _Rows(Path(where), answers=False, breaks=breaks)
    for text in texts:
        rows.add(text, None, None)
    return rows.table()


def _csv(rows: _Rows, limit: int | None) -> Table:
    records = _records(rows.path)
    header = [name.strip().lower() for name in next(records, [])]
    if not header:
        raise InputError(f"{rows.path} is empty; give the header source,question,answer,rating and at least one row.")
    question = _named(header, QUESTION_NAMES, rows.path)
    answer = _named(header, ANSWER_NAMES, rows.path) if rows.answered else question
    rating = header.index("rating") if "rating" in header else None
    for values in records:
        if len(values) != len(header):
            raise InputError(
                f"{rows.where()}: {len(values)} columns where the header has {len(header)}; "
                "complete the row, or quote a text that holds a comma."
            )
        rows.add(values[question], values[answer], values[rating] if rating is not None else None)
        if limit is not None and len(rows.questions) >= limit:
            break
    return rows.table()


def _records(path: Path) -> Iterator[list[str]]:
    """Fields of each line of a CSV file that is not empty; a quoted field may hold commas, quotes and line breaks.

    The standard library's reader refuses fields above a length that only the whole process can change.
    """
    source = files.lines(path)
    for line in source:
        if '"' not in line:
            if bare := line.rstrip("\r\n"):
                yield bare.split(",")
            continue
        fields, at, begun, size = [], 0, line, 0
        while True:
            pieces = []
            if line.startswith('"', at):
                at += 1
                while True:
                    end = line.find('"', at)
                    if end < 0:  # the field goes on in the next line
                        pieces.append(line[at:])
                        size += len(line)
                        if len(pieces) > MAX_LINE_BREAKS or size > files.MAX_LINE:
                            told = printable(begun.strip(), 40)
                            raise InputError(
                                f"{path}: the quote that begins in the line {told} is not closed in time; close it."
                            )
                        line, at = next(source, ""), 0
                        if not line:
                            break
                    elif line.startswith('"', end + 1):  # two quotes stand for one
                        pieces.append(line[at : end + 1])
                        at = end + 2
                    else:
                        pieces.append(line[at:end])
                        at = end + 1
                        break
            end = line.find(",", at)
            pieces.append(line[at : end if end >= 0 else len(line)].rstrip("\r\n" if end < 0 else ""))
            fields.append("".join(pieces))
            if end < 0:
                break
            at = end + 1
        yield fields


def _jsonl(rows: _Rows, limit: int | None) -> Table:
    box = None
    for line in files.lines(rows.path):
        if not line.strip():
            continue
        where = rows.where()
        record = files.parse_json(line, where)
        if not isinstance(record, dict):
            raise InputError(f"{where}: the line is no JSON object; give {{'question': ..., 'answer': ...}}.")
        record = {name.strip().lower(): value for name, value in record.items()}
        fields = list(record)
        question = record[fields[_named(fields, QUESTION_NAMES, where)]]
        answer = None
        if rows.answered:
            name = fields[_named(fields, ANSWER_NAMES, where)]
            answer = record[name]
            if name == "solutions" and isinstance(answer, list):
                answer = answer[0] if answer else ""
        if all(type(record.get(side)) is int for side in ("box_w", "box_h")):
            box = (record["box_h"], record["box_w"])
        rows.add(question, answer, record.get("rating"))
        if limit is not None and len(rows.questions) >= limit:
            break
    return rows.table(box)


def _lines(rows: _Rows, limit: int | None) -> Table:
    for line in files.lines(rows.path):
        if line.strip():
            rows.add(line.strip("\r\n"), None, None)
        if limit is not None and len(rows.questions) >= limit:
            break
    return rows.table()


def write_csv(path: Path | str, s: PuzzleSet, task: Task) -> None:
    """The set as source,question,answer,rating (an unknown rating is left empty); gzipped if the name ends in .gz."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["source", "question", "answer", "rating"])
    for i in range(len(s)):
        rating = "" if math.isnan(s.rating[i]) else f"{float(s.rating[i]):.9g}"
        writer.writerow([s.source, task.decode(s.inputs[i]), task.decode(s.labels[i]), rating])
    _write_text(Path(path), out.getvalue())


def write_jsonl(path: Path | str, s: PuzzleSet, task: Task) -> None:
    """The set as one object a line with question, answer and, where known, rating; gzipped if the name ends in .gz."""
    lines = []
    for i in range(len(s)):
        record: dict[str, Any] = {"question": task.decode(s.inputs[i]), "answer": task.decode(s.labels[i])}
        if not math.isnan(s.rating[i]):
            record["rating"] = float(s.rating[i])
        lines.append(json.dumps(record, ensure_ascii=False) + "\n")
    _write_text(Path(path), "".join(lines))


def read_text(path: Path) -> str:
    """The whole text of a plain or .gz file of at most files.LIMIT bytes; InputError where it cannot be read."""
    with files.open_text(path, files.LIMIT) as handle:
        return handle.read()


def _write_text(path: Path, text: str) -> None:
    data = text.encode()
    # No time stamp in the gzip header: the same set always gives the same bytes.
    files.write_bytes(path, gzip.compress(data, mtime=0) if path.name.endswith(".gz") else data)


def _named(found: Iterable[str], names: tuple[str, ...], where: object) -> int:
    found = list(found)
    for name in names:
        if name in found:
            return found.index(name)
    told = printable(", ".join(found), 100)
    raise InputError(f"{where}: there is no {names[0]!r} among {told}; add or rename it.")


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
