"""Draw a puzzle: coloured text (rich) for a terminal, self-contained SVG for a page."""

from __future__ import annotations

from html import escape
from typing import Protocol

import numpy as np
from rich.text import Text

__all__ = ["FILLED", "WRONG", "svg", "terminal"]

FILLED, WRONG = "'", "!"  # behind a cell of the answer, where there are no colours; nothing behind a given

CELL = 32  # px
# Class names are prefixed because a page may hold many of these SVGs inline next to its own styles.
STYLE = """
.il-bg{fill:#ffffff}.il-line{stroke:#c4c9d1;stroke-width:1}.il-thick{stroke:#3a4150;stroke-width:2}
.il-t{font:18px ui-sans-serif,system-ui,sans-serif;text-anchor:middle;dominant-baseline:central}
.il-given{fill:#1b1f27;font-weight:700}.il-new{fill:#1a63c9}.il-wrong{fill:#c4202b;font-weight:700}
.il-gcell{fill:#eef1f5}.il-wcell{fill:#fbdfe1}
@media (prefers-color-scheme:dark){
.il-bg{fill:#15181e}.il-line{stroke:#3b424e}.il-thick{stroke:#aab3c2}
.il-given{fill:#eef1f6}.il-new{fill:#79b2ff}.il-wrong{fill:#ff8087}
.il-gcell{fill:#232933}.il-wcell{fill:#4a2329}}
"""


class DrawnTask(Protocol):
    """What a picture asks of a task (innerloop.tasks.task)."""

    name: str
    shape: tuple[int, int]
    blank: int
    void: str

    def boxes(self) -> tuple[int, int]: ...
    def colour(self, token: int) -> str: ...
    def glyph(self, token: int) -> str: ...
    def wrong_cells(self, question: np.ndarray, answer: np.ndarray, label: np.ndarray | None = None) -> np.ndarray: ...


def _kinds(
    task: DrawnTask, question: np.ndarray, answer: np.ndarray, label: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """(given, wrong) bool (S,); without a blank token, a cell is a given where the answer left the question as it
    was.
    """
    given = (question != 0) & (question != task.blank)
    if not task.blank:
        given &= question == answer
    return given, task.wrong_cells(question, answer, label)


def terminal(
    task: DrawnTask,
    question: np.ndarray,
    answer: np.ndarray,
    previous: np.ndarray | None,
    label: np.ndarray | None,
    marks: bool = False,
) -> Text:
    """See Task.terminal. marks: FILLED and WRONG stand behind the cells that are, for where there are no colours."""
    rows, columns = task.shape
    box_rows, box_columns = task.boxes()
    given, wrong = _kinds(task, question, answer, label)
    text = Text()
    widest = max(len(task.glyph(int(token))) for token in np.unique(answer))  # cells may hold words
    for r in range(rows):
        if box_rows and r and r % box_rows == 0:
            ruled = ["─" * (2 * box_columns)] * (columns // box_columns)
            text.append("┼─".join(ruled) + "\n", style="dim")
        for c in range(columns):
            if box_columns and c and c % box_columns == 0:
                text.append("│ ", style="dim")
            cell = r * columns + c
            token, fill = int(answer[cell]), task.colour(int(answer[cell]))
            glyph = task.glyph(token) or task.void
            mark = mark_of(bool(given[cell]), bool(wrong[cell]), not task.glyph(token)) if marks else ""
            if glyph == "█":
                text.append("█" + (mark.replace(FILLED, "") or "█"), style="red" if wrong[cell] else fill)
                continue
            style = "bold red" if wrong[cell] else "bold" if given[cell] else "cyan"
            if previous is not None and previous[cell] != answer[cell]:
                style += " underline"
            text.append((glyph + mark).ljust(widest + 1), style=f"{style} on {fill}" if fill else style)
        text.append("\n")
    text.right_crop(1)
    return text


def mark_of(given: bool, wrong: bool, empty: bool) -> str:
    """What stands behind a cell where there are no colours. empty: nothing is shown in it."""
    return WRONG if wrong else "" if given or empty else FILLED


def svg(task: DrawnTask, question: np.ndarray, answer: np.ndarray, label: np.ndarray | None) -> str:
    """See Task.svg."""
    rows, columns = task.shape
    given, wrong = _kinds(task, question, answer, label)
    width, height = columns * CELL, rows * CELL
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="-2 -2 {width + 4} {height + 4}" role="img">',
        f"<title>{escape(task.name)} {rows}x{columns}</title><style>{STYLE}</style>",
        f'<rect class="il-bg" x="0" y="0" width="{width}" height="{height}"/>',
    ]
    for cell in range(rows * columns):
        token, (y, x) = int(answer[cell]), divmod(cell, columns)
        fill, glyph = task.colour(token), task.glyph(token)
        place = f'x="{x * CELL}" y="{y * CELL}" width="{CELL}" height="{CELL}"'
        if fill:
            parts.append(f'<rect {place} fill="{fill}"/>')
        if wrong[cell]:
            parts.append(f'<rect class="il-wcell" {place} opacity="{0.7 if fill else 1}"/>')
        elif given[cell] and not fill and glyph:
            parts.append(f'<rect class="il-gcell" {place}/>')
        if glyph and glyph != "█":
            kind = "wrong" if wrong[cell] else "given" if given[cell] else "new"
            middle = f'x="{x * CELL + CELL // 2}" y="{y * CELL + CELL // 2}"'
            parts.append(f'<text class="il-t il-{kind}" {middle}>{escape(glyph)}</text>')
    parts += _lines(task, width, height)
    return "".join(parts) + "</svg>"


def _lines(task: DrawnTask, width: int, height: int) -> list[str]:
    """Thin lines first, so that the thick ones of boxes and frame lie on top."""
    (rows, columns), (box_rows, box_columns) = task.shape, task.boxes()
    thin: list[str] = []
    thick: list[str] = []
    for r in range(rows + 1):
        bold = r in (0, rows) or (box_rows > 0 and r % box_rows == 0)
        (thick if bold else thin).append(f'x1="0" y1="{r * CELL}" x2="{width}" y2="{r * CELL}"')
    for c in range(columns + 1):
        bold = c in (0, columns) or (box_columns > 0 and c % box_columns == 0)
        (thick if bold else thin).append(f'x1="{c * CELL}" y1="0" x2="{c * CELL}" y2="{height}"')
    return [f'<line class="il-line" {p}/>' for p in thin] + [f'<line class="il-thick" {p}/>' for p in thick]
