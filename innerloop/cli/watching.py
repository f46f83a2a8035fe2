"""What a language model writes, in the terminal, while it is written.

with shown(console):             # nothing, where the output is no terminal
    said = answer(way, item)
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.text import Text

from innerloop.lm.watch import Path, Piece, Watch, watching

__all__ = ["Written", "shown"]

REFRESHES = 8  # a second
LONGEST = 20_000  # characters of a text that are kept, its last ones


@contextmanager
def shown(console: Console) -> Iterator[None]:
    """Context in which texts are shown as they are written; they are gone from the terminal when it ends."""
    if not console.is_terminal or console.is_dumb_terminal:
        with console.status("thinking"):
            yield
        return
    written = Written()
    with (
        Live(written, console=console, transient=True, refresh_per_second=REFRESHES),
        watching(Watch(written.piece, written.result)),
    ):
        yield


class Written:
    """The texts of all samples so far: a line for each, or the last lines of the only text."""

    def __init__(self) -> None:
        self.texts: dict[Path, str] = {}
        self.answers: dict[Path, str] = {}

    def piece(self, piece: Piece) -> None:
        """More of a text."""
        self.texts[piece.path] = (self.texts.get(piece.path, "") + plain(piece.text))[-LONGEST:]

    def result(self, path: Path, said: Any) -> None:
        """A sample has its result."""
        self.texts.setdefault(path, "")
        self.answers[path] = "no answer" if said.answer is None else plain(said.answer)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        texts = dict(self.texts)  # another thread may add to it
        width, height = options.max_width, max(1, console.height - 2)
        if not texts:
            yield Text("thinking", style="dim")
        elif list(texts) == [()]:
            lines = Text(texts[()].strip("\n"), style="dim").wrap(console, width)
            yield Text("\n").join(lines[-height:])
        else:
            for path in sorted(texts, key=order)[:height]:
                yield self.line(path, texts[path], width)

    def line(self, path: Path, text: str, width: int) -> Text:
        """One line: the sample, and its answer or the end of what it has written."""
        name = ".".join(str(i + 1) if isinstance(i, int) else i for i in path) or "-"
        if path in self.answers:
            line = Text(f"{name:>5}  {' '.join(self.answers[path].split())}")
            line.truncate(width, overflow="ellipsis")
            return line
        last = Text(" ".join(text.split()), style="dim")
        while last.cell_len > max(1, width - 8):
            last = last[max(1, last.cell_len - width + 8) :]
        return Text(f"{name:>5}  ") + last


def order(path: Path) -> tuple[tuple[bool, int, str], ...]:
    """Samples in the order of their numbers, before what judges them."""
    return tuple((False, i, "") if isinstance(i, int) else (True, 0, i) for i in path)


def plain(text: str) -> str:
    """A text without what a terminal would obey."""
    return "".join(c if c == "\n" or unicodedata.category(c) not in ("Cc", "Cf", "Cs") else " " for c in text)
