"""Text for messages: control characters escaped, rich markup escaped, shell quoting, "did you mean"."""

from __future__ import annotations

import difflib
import shlex
import unicodedata
from collections.abc import Iterable

__all__ = ["command", "did_you_mean", "markup", "nearest", "printable"]

LONGEST = 400  # most characters of a user's text in a message
LIKE = 0.5  # share of equal characters from which a known name is offered for an unknown one
HIDDEN = ("Cc", "Cf", "Cs", "Zl", "Zp")  # control, format (bidirectional marks), surrogates, line separators


def printable(text: str, longest: int = LONGEST) -> str:
    """`text` on one line for a terminal or a message: control and invisible characters are escaped."""
    cut = text if len(text) <= longest else text[: longest - 3] + "..."
    return "".join(c if unicodedata.category(c) not in HIDDEN else escaped(c) for c in cut)


def markup(text: object, longest: int = LONGEST) -> str:
    """`text` for use inside rich markup: printable, its tags escaped."""
    from rich.markup import escape

    return escape(printable(str(text), longest))


def escaped(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")


def command(verb: str, *words: object) -> str:
    """An innerloop command line, its words quoted for a shell."""
    return shlex.join(["innerloop", verb, *map(str, words)])


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Advice about an unknown name: the nearest known one, or all known ones."""
    names = [str(k) for k in known]
    if near := nearest(name, names):
        return f'did you mean "{near}"?'
    return f"there are {', '.join(names)}" if names else "there are none"


def nearest(name: str, known: Iterable[str]) -> str:
    """The known name that is most like this one, "" for none. Of a path the last part is enough: plan.lr for lr."""

    def alike(k: str) -> tuple[float, float, str]:
        whole = difflib.SequenceMatcher(None, k, name).ratio()
        last = difflib.SequenceMatcher(None, k.rpartition(".")[2], name.rpartition(".")[2]).ratio()
        return (max(whole, last) if "." in name else last), whole, k

    best = max(map(alike, known), default=(0.0, 0.0, ""))
    return best[2] if best[0] >= LIKE else ""
