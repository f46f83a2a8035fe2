"""Sheet: the rows of a person's own file as they stand, to be written again in parts or with more columns.

sheet = sheet_of(table)                           # every column, whatever it means
sheet.extended(("known",), [["yes"], ...]).write("answers.csv")
sheet.take([0, 2]).write("part.jsonl.gz")
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from innerloop.data.formats import ANSWER_NAMES, QUESTION_NAMES, first_answer, named_in, write_plain_or_zipped
from innerloop.data.table import ReadOptions, Rows, Table
from innerloop.errors import InputError
from innerloop.text import printable

__all__ = ["Sheet", "ending_of", "sheet_of", "table_of"]

ABSENT = object()  # the value of a column that an object of JSON lines lacks
ENDINGS = (".csv", ".jsonl")  # that a sheet is written as, each also with .gz


class Sheet(NamedTuple):
    """header: names of the columns as written. rows: their values; texts of a CSV file, JSON values of JSON lines."""

    header: list[str]
    rows: list[list[Any]]

    def take(self, index: Iterable[int]) -> Sheet:
        """The rows of `index`, in that order."""
        return Sheet(self.header, [self.rows[i] for i in index])

    def extended(self, names: Sequence[str], columns: Sequence[Sequence[Any]]) -> Sheet:
        """With more columns. One that has a name of the file already is called found_NAME: none is replaced."""
        taken = {name.strip().lower() for name in self.header}
        new = []
        for name in names:
            while name in taken:
                name = f"found_{name}"
            taken.add(name)
            new.append(name)
        rows = [[*row, *(column[i] for column in columns)] for i, row in enumerate(self.rows)]
        return Sheet([*self.header, *new], rows)

    def text(self, ending: str = ".csv") -> str:
        """As CSV or JSON lines."""
        if ending == ".jsonl":
            return "".join(
                json.dumps({k: v for k, v in zip(self.header, row, strict=True) if v is not ABSENT}, ensure_ascii=False)
                + "\n"
                for row in self.rows
            )
        out = io.StringIO(newline="")
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(self.header)
        writer.writerows([[_field(value) for value in row] for row in self.rows])
        return out.getvalue()

    def write(self, path: Path | str) -> None:
        """As the ending of `path` says. Raises InputError for one that is neither CSV nor JSON lines."""
        write_plain_or_zipped(Path(path), self.text(ending_of(path)))


def ending_of(path: Path | str) -> str:
    """.csv or .jsonl, of the name of a file. Raises InputError for another."""
    name = Path(path).name.lower().removesuffix(".gz")
    for ending in ENDINGS:
        if name.endswith(ending):
            return ending
    raise InputError(f"{printable(str(path))}: give a name that ends in {' or '.join(ENDINGS)}, also with .gz")


def sheet_of(table: Table) -> Sheet:
    """The sheet of a table that was read with ReadOptions.keep."""
    if table.header:
        return Sheet(table.header, table.records)
    header = list(dict.fromkeys(name for record in table.records for name in record))
    return Sheet(header, [[record.get(name, ABSENT) for name in header] for record in table.records])


def table_of(sheet: Sheet, path: Path, how: ReadOptions) -> Table:
    """Question and answer of every row, read as from the file `path` that the sheet is of, but not from the disk."""
    header = [name.strip().lower() for name in sheet.header]
    question, answer = (named_in(header, names, path) for names in (QUESTION_NAMES, ANSWER_NAMES))
    rows = Rows(path, how)
    for values in sheet.rows:
        with rows.one():
            asked, solved = ("" if values[i] is ABSENT else values[i] for i in (question, answer))
            rows.add(asked, first_answer(header[answer], solved), None)
    return rows.table()


def _field(value: Any) -> str:
    """A value as a field of CSV; what is no text as JSON."""
    if value is None or value is ABSENT:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
