"""Write generated Markdown tables and birth certificates between the markers of a page."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from typing import Any


def table(head: list[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    """A Markdown table, and an empty line."""
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    return [*lines, *("| " + " | ".join(map(str, row)) + " |" for row in rows), ""]


def typed(command: str) -> str:
    """A command of a certificate, which cuts paths to file names, as it is typed in a clone; DATA: the puzzle sets."""
    lines = []
    for line in command.split("; "):
        words = shlex.split(line)
        start = words[:2] if words[0] == "python" else ["python", f"benchmarks/{words[0]}"]
        words = [*start, *words[2 if words[0] == "python" else 1 :]]
        for i, word in enumerate(words):
            name, sign, file = word.rpartition("=")
            if "/" in file or not re.fullmatch(r"[\w.-]+\.(json|jsonl|csv|csv\.gz|jsonl\.gz)", file):
                continue
            words[i] = f"{name}{sign}{'results' if words[i - 1] == '--out' else 'DATA'}/{file}"
        lines.append(shlex.join(words))
    return "; ".join(lines)


def born(value: dict[str, Any], command: str = "") -> str:
    """The command, commit, seeds and machine that a result comes from.

    command: in place of that of the certificate, where another says more.
    """
    b = value["born"]
    seeds = ", ".join(map(str, b["seeds"]))
    machine = f"{b['device']}, {b['threads']} threads"
    told = typed(command or b["command"]).replace("; ", "`, `")
    return f"`{told}`, commit {b['commit']}, seeds {seeds}, torch {b['torch']}, {machine}"


def between(text: str, name: str, lines: list[str]) -> str:
    """The text with what stands between <!-- name --> and <!-- /name --> renewed."""
    opens, closes = f"<!-- {name} -->", f"<!-- /{name} -->"
    head, _, rest = text.partition(opens)
    return head + opens + "\n" + "\n".join(lines) + "\n" + closes + rest.partition(closes)[2]
