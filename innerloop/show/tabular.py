"""Rows as text that other programs take: CSV, LaTeX (booktabs), JSON."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from typing import Any

from innerloop.text import printable

__all__ = ["finite", "to_csv", "to_latex"]

SPECIAL = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "<": r"$<$", ">": r"$>$",
}  # fmt: skip


def to_csv(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Comma-separated values with a header; an unknown number is an empty cell."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([["" if finite(cell) is None else cell for cell in row] for row in rows])
    return text.getvalue()


def to_latex(columns: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1, notes: Sequence[str] = ()) -> str:
    """A tabular of the package booktabs, its first `left` columns flush left; `notes` as comments above it."""
    lines = [f"% {printable(note, 2000)}" for note in notes]
    lines += [r"\begin{tabular}{" + "l" * left + "r" * (len(columns) - left) + "}", r"\toprule"]
    lines += [" & ".join(map(escaped, columns)) + r" \\", r"\midrule"]
    lines += [" & ".join(map(escaped, row)) + r" \\" for row in rows]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def escaped(cell: str) -> str:
    return "".join(SPECIAL.get(c, c) for c in printable(cell, 2000))


def finite(value: Any) -> Any:
    """The value, None in place of a number that is not finite: JSON has none."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {str(key): finite(inner) for key, inner in value.items()}
    return [finite(inner) for inner in value] if isinstance(value, list | tuple) else value
