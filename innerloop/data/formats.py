"""Puzzle files of text: CSV, JSON lines and plain lines, gzipped or not, read with one clear sentence for a bad row.

CSV has the header `source,question,answer,rating` (the layout of sapientinc/sudoku-extreme); JSONL has one object a
line with `question` and `answer` as texts or lists (see `innerloop.data.cells`). `givens`, `puzzle`, `quizzes`, `quiz`,
`clues` or `grid` may stand for question; `solution` or `solutions` for answer (of a list of solutions, the first).
Other columns mean nothing here, and are kept where a file is written again (`innerloop.data.sheet`). A .txt file holds
one question a line.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from innerloop import files
from innerloop.data.table import STRICT, ReadOptions, Rows, Table
from innerloop.errors import InputError
from innerloop.text import printable

if TYPE_CHECKING:
    from innerloop.data.sets import PuzzleSet
    from innerloop.tasks.task import Task

__all__ = [
    "ANSWER_NAMES",
    "QUESTION_NAMES",
    "TEXT_SUFFIXES",
    "first_answer",
    "named_in",
    "read_csv",
    "read_jsonl",
    "read_table",
    "read_text",
    "read_texts",
    "write_csv",
    "write_jsonl",
    "write_plain_or_zipped",
]

QUESTION_NAMES = ("question", "givens", "puzzle", "quizzes", "quiz", "clues", "grid")  # the first that is there
ANSWER_NAMES = ("answer", "solution", "solutions")
MAX_LINE_BREAKS = 10_000  # line breaks in one quoted text
TEXT_SUFFIXES = (".csv", ".jsonl", ".txt")  # each also with .gz


def read_table(path: Path, limit: int | None = None, how: ReadOptions = STRICT) -> Table:
    """Rows of a file of text, at most `limit`. Raises InputError naming the row and what it lacks."""
    ending = path.name.lower().removesuffix(".gz").rsplit(".", 1)[-1]
    rows = Rows(path, how)
    if ending == "txt":
        if rows.answered:
            raise InputError(
                f"{path}: a .txt file holds questions alone; give questions and answers as .csv or .jsonl."
            )
        return _lines(rows, limit)
    return (_csv if ending == "csv" else _jsonl)(rows, limit)


def read_csv(path: Path | str, limit: int | None = None, allow_duplicates: bool = False) -> Table:
    """Rows of a .csv or .csv.gz file, at most `limit`. Raises InputError naming the row or the missing column."""
    return _csv(Rows(Path(path), ReadOptions(allow_duplicates)), limit)


def read_jsonl(path: Path | str, limit: int | None = None, allow_duplicates: bool = False) -> Table:
    """Rows of a .jsonl or .jsonl.gz file, at most `limit`. Raises InputError naming the row and the missing field."""
    return _jsonl(Rows(Path(path), ReadOptions(allow_duplicates)), limit)


def read_texts(texts: Iterable[str], where: str, how: ReadOptions) -> Table:
    """Questions that are no file, such as those of standard input."""
    rows = Rows(Path(where), how)
    for text in texts:
        with rows.one():
            rows.add(text, None, None)
    return rows.table()


def _csv(rows: Rows, limit: int | None) -> Table:
    records = _records(rows.path)
    rows.header = next(records, [])
    header = [name.strip().lower() for name in rows.header]
    if not header:
        raise InputError(f"{rows.path} is empty; give the header source,question,answer,rating and at least one row.")
    question = named_in(header, QUESTION_NAMES, rows.path)
    if rows.answered is None:
        rows.answered = any(name in header for name in ANSWER_NAMES)
    answer = named_in(header, ANSWER_NAMES, rows.path) if rows.answered else question
    rating = header.index("rating") if "rating" in header else None
    for values in records:
        with rows.one():
            if len(values) != len(header):
                raise InputError(
                    f"{rows.where()}: {len(values)} columns where the header has {len(header)}; "
                    "complete the row, or quote a text that holds a comma."
                )
            rows.add(values[question], values[answer], values[rating] if rating is not None else None, values)
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


def _jsonl(rows: Rows, limit: int | None) -> Table:
    box = None
    for line in files.lines(rows.path):
        if not line.strip():
            continue
        with rows.one():
            box = _object(rows, line) or box
        if limit is not None and len(rows.questions) >= limit:
            break
    return rows.table(box)


def _object(rows: Rows, line: str) -> tuple[int, int] | None:
    """Add the row that a line of JSON holds; the box it states, if any."""
    where = rows.where()
    written = files.parse_json(line, where)
    if not isinstance(written, dict):
        raise InputError(f"{where}: the line is no JSON object; give {{'question': ..., 'answer': ...}}.")
    record = {name.strip().lower(): value for name, value in written.items()}
    fields = list(record)
    question = record[fields[named_in(fields, QUESTION_NAMES, where)]]
    if rows.answered is None:
        rows.answered = any(name in record for name in ANSWER_NAMES)
    answer = None
    if rows.answered:
        name = fields[named_in(fields, ANSWER_NAMES, where)]
        answer = first_answer(name, record[name])
    rows.add(question, answer, record.get("rating"), written)
    stated = all(type(record.get(side)) is int for side in ("box_w", "box_h"))
    return (record["box_h"], record["box_w"]) if stated else None


def first_answer(name: str, value: Any) -> Any:
    """The answer that stands in the column `name`: of a list of solutions the first."""
    return (value[0] if value else "") if name == "solutions" and isinstance(value, list) else value


def _lines(rows: Rows, limit: int | None) -> Table:
    rows.header = ["question"]
    for line in files.lines(rows.path):
        if line.strip():
            with rows.one():
                rows.add(line.strip("\r\n"), None, None, [line.strip("\r\n")])
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
    write_plain_or_zipped(Path(path), out.getvalue())


def write_jsonl(path: Path | str, s: PuzzleSet, task: Task) -> None:
    """The set as one object a line with question, answer and, where known, rating; gzipped if the name ends in .gz."""
    lines = []
    for i in range(len(s)):
        record: dict[str, Any] = {"question": task.decode(s.inputs[i]), "answer": task.decode(s.labels[i])}
        if not math.isnan(s.rating[i]):
            record["rating"] = float(s.rating[i])
        lines.append(json.dumps(record, ensure_ascii=False) + "\n")
    write_plain_or_zipped(Path(path), "".join(lines))


def read_text(path: Path) -> str:
    """The whole text of a plain or .gz file of at most files.LIMIT bytes; InputError where it cannot be read."""
    with files.open_text(path, files.LIMIT) as handle:
        return handle.read()


def write_plain_or_zipped(path: Path, text: str) -> None:
    """In UTF-8, gzipped if the name ends in .gz."""
    data = text.encode("utf-8", "surrogateescape")
    # No time stamp in the gzip header: the same set always gives the same bytes.
    files.write_bytes(path, gzip.compress(data, mtime=0) if path.name.endswith(".gz") else data)


def named_in(found: Iterable[str], names: tuple[str, ...], where: object) -> int:
    """The place of the first of `names` that is among `found`. Raises InputError where none is."""
    found = list(found)
    for name in names:
        if name in found:
            return found.index(name)
    told = printable(", ".join(found), 100)
    raise InputError(f"{where}: there is no {names[0]!r} among {told}; add or rename it.")
