"""Puzzle files of text: CSV and JSON lines, plain or gzipped, read with one clear sentence for every bad row.

CSV has the header `source,question,answer,rating` (the layout of sapientinc/sudoku-extreme); JSONL has one object a
line with `question` and `answer` as strings or lists of whole numbers (10 is written A, 11 B...). `givens`, `puzzle` or
`quizzes` may stand for question; `solution` or `solutions` for answer (of a list of solutions, the first). Other
columns are ignored.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
import os
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import numpy as np

from innerloop.errors import InputError

if TYPE_CHECKING:
    from innerloop.tasks.sets import PuzzleSet
    from innerloop.tasks.task import Task

__all__ = ["Table", "atomic", "read_csv", "read_jsonl", "read_text", "write_csv", "write_jsonl"]

QUESTION = ("question", "givens", "puzzle", "quizzes")
ANSWER = ("answer", "solution", "solutions")
LETTERS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"


class Table(NamedTuple):
    """Rows of a text file. box: (rows, columns) of a Sudoku box where the file states it."""

    questions: list[str]
    answers: list[str]
    ratings: np.ndarray  # float32 (N,), nan = unknown
    box: tuple[int, int] | None = None


class _Rows:
    """Collects checked rows of one file."""

    def __init__(self, path: Path, allow_duplicates: bool):
        self.path, self.allow_duplicates = path, allow_duplicates
        self.questions: list[str] = []
        self.answers: list[str] = []
        self.ratings: list[float] = []
        self.first: dict[str, int] = {}

    def add(self, question: str, answer: str, rating: Any) -> None:
        row = len(self.questions) + 1
        for what, text in (("question", question), ("answer", answer)):
            if not text:
                raise InputError(f"{self.path}, row {row}: the {what} is empty; fill it in or remove the row.")
        if len(question) != len(answer) or (self.questions and len(question) != len(self.questions[0])):
            expected = len(self.questions[0]) if self.questions else len(question)
            raise InputError(
                f"{self.path}, row {row}: the question has {len(question)} cells and the answer {len(answer)} where "
                f"{expected} are expected; give every question and answer the same length."
            )
        if not self.allow_duplicates:
            earlier = self.first.setdefault(question, row)
            if earlier != row:
                raise InputError(
                    f"{self.path}, row {row}: the question repeats row {earlier}; remove one of them, or pass "
                    "allow_duplicates=True."
                )
        self.questions.append(question)
        self.answers.append(answer)
        self.ratings.append(_rating(rating, f"{self.path}, row {row}"))

    def table(self, box: tuple[int, int] | None = None) -> Table:
        if not self.questions:
            raise InputError(f"{self.path} holds no puzzle; give at least one row.")
        return Table(self.questions, self.answers, np.array(self.ratings, np.float32), box)


def read_csv(path: Path | str, limit: int | None = None, allow_duplicates: bool = False) -> Table:
    """Rows of a .csv or .csv.gz file, at most `limit`. Raises InputError naming the row or the missing column."""
    path = Path(path)
    rows = _Rows(path, allow_duplicates)
    with _reading(path) as handle:
        reader = csv.reader(handle)
        header = [name.strip().lower() for name in next(reader, [])]
        if not header:
            raise InputError(f"{path} is empty; give the header source,question,answer,rating and at least one row.")
        question, answer = (_named(header, names, path) for names in (QUESTION, ANSWER))
        rating = header.index("rating") if "rating" in header else None
        for values in reader:
            if not values:
                continue
            row = len(rows.questions) + 1
            if len(values) != len(header):
                raise InputError(
                    f"{path}, row {row}: {len(values)} columns where the header has {len(header)}; "
                    "complete the row, or quote a text that holds a comma."
                )
            rows.add(values[question], values[answer], values[rating] if rating is not None else None)
            if limit is not None and row >= limit:
                break
    return rows.table()


def read_jsonl(path: Path | str, limit: int | None = None, allow_duplicates: bool = False) -> Table:
    """Rows of a .jsonl or .jsonl.gz file, at most `limit`. Raises InputError naming the row and the missing field."""
    path = Path(path)
    rows = _Rows(path, allow_duplicates)
    box = None
    with _reading(path) as handle:
        for line in handle:
            if not line.strip():
                continue
            where = f"{path}, row {len(rows.questions) + 1}"
            try:
                record = json.loads(line)
            except json.JSONDecodeError as error:
                raise InputError(f"{where}: not valid JSON ({error.msg}); give one object a line.") from None
            if not isinstance(record, dict):
                raise InputError(f"{where}: the line is no JSON object; give {{'question': ..., 'answer': ...}}.")
            fields = list(record)
            question, answer = (record[fields[_named(fields, names, where)]] for names in (QUESTION, ANSWER))
            if "answer" not in record and "solutions" in record:
                answer = answer[0] if isinstance(answer, list) and answer else ""
            if isinstance(record.get("box_w"), int) and isinstance(record.get("box_h"), int):
                box = (record["box_h"], record["box_w"])
            rows.add(_text(question, where), _text(answer, where), record.get("rating"))
            if limit is not None and len(rows.questions) >= limit:
                break
    return rows.table(box)


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
    """The whole text of a plain or .gz file; InputError where it cannot be read."""
    with _reading(path) as handle:
        return handle.read()


@contextmanager
def atomic(path: Path | str) -> Iterator[IO[bytes]]:
    """A binary file that appears under its name only when complete: written beside it, synced, then moved over."""
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False)  # noqa: SIM115
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error.strerror}); choose a folder you may write to.") from None
    try:
        with handle:
            yield handle  # type: ignore[misc]
            handle.flush()
            os.fsync(handle.fileno())
        # Temporary files are private; a data set should be as readable as any file its owner makes.
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(handle.name, 0o666 & ~mask)
        os.replace(handle.name, path)
    except BaseException:
        Path(handle.name).unlink(missing_ok=True)
        raise


@contextmanager
def _reading(path: Path) -> Iterator[IO[str]]:
    try:
        raw: Any = gzip.open(path, "rb") if path.name.endswith(".gz") else open(path, "rb")  # noqa: SIM115
        with raw, io.TextIOWrapper(raw, encoding="utf-8-sig", newline="") as handle:
            yield handle
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; check the path.") from None
    except (gzip.BadGzipFile, EOFError, zlib.error):
        raise InputError(f"{path} is not a complete gzip file; fetch or write it again.") from None
    except UnicodeDecodeError:
        raise InputError(f"{path} is not UTF-8 text; save it as UTF-8.") from None
    except csv.Error as error:
        raise InputError(f"{path} is no readable CSV ({error}); repair the file.") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); check that it is a file you may read.") from None


def _write_text(path: Path, text: str) -> None:
    data = text.encode()
    with atomic(path) as handle:
        # No time stamp in the gzip header: the same set always gives the same bytes.
        handle.write(gzip.compress(data, mtime=0) if path.name.endswith(".gz") else data)


def _named(found: Iterable[str], names: tuple[str, ...], where: object) -> int:
    found = list(found)
    for name in names:
        if name in found:
            return found.index(name)
    raise InputError(f"{where}: there is no {names[0]!r} among {', '.join(found)}; add or rename it.")


def _rating(value: Any, where: str) -> float:
    if value is None or value == "":
        return math.nan
    try:
        rating = float(value)
    except (TypeError, ValueError):
        raise InputError(f"{where}: the rating {value!r} is no number; give a number or leave it empty.") from None
    if not math.isfinite(rating):
        raise InputError(f"{where}: the rating {value!r} is not finite; give a number or leave it empty.")
    return rating


def _text(value: Any, where: str) -> str:
    """A question or answer as one string: as it stands, or from a (nested) list of symbols or numbers 0..35."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "".join(_text(v, where) for v in value)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(LETTERS):
        return LETTERS[value]
    raise InputError(f"{where}: a cell holds {value!r}; cells are single symbols or whole numbers 0..35.")
