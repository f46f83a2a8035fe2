"""Text as it is shown: control characters made visible, no markup, names quoted for a shell, the nearest known name."""

from __future__ import annotations

import difflib
import shlex
import unicodedata
from collections.abc import Iterable

__all__ = ["command", "markup", "nearest", "printable"]

LONGEST = 400  # characters of a foreign text in a message
HIDDEN = ("Cc", "Cf", "Cs", "Zl", "Zp")  # control, format (bidirectional marks), surrogates, line separators


def printable(text: str, longest: int = LONGEST) -> str:
    """`text` on one line, for a terminal or a message: what would move a cursor or hide is written as an escape."""
    cut = text if len(text) <= longest else text[: longest - 3] + "..."
    return "".join(c if unicodedata.category(c) not in HIDDEN else escaped(c) for c in cut)


def markup(text: object, longest: int = LONGEST) -> str:
    """`text` inside rich markup: printable, and nothing in it is taken for a tag."""
    from rich.markup import escape

    return escape(printable(str(text), longest))


def escaped(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")


def command(verb: str, *words: object) -> str:
    """A command of ours as a shell takes it: paths with spaces and signs are quoted."""
    return shlex.join(["innerloop", verb, *map(str, words)])


def nearest(name: str, known: Iterable[str]) -> str:
    """Advice about an unknown name: the nearest known one, or all that there are."""
    names = [str(k) for k in known]
    near = difflib.get_close_matches(name, names, 1, 0.5)
    if near:
        return f'did you mean "{near[0]}"?'
    return f"there are {', '.join(names)}" if names else "there are none"
