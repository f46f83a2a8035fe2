"""Write generated Markdown tables and birth certificates between the markers of a page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def table(head: list[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    """A Markdown table, and an empty line."""
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    return [*lines, *("| " + " | ".join(map(str, row)) + " |" for row in rows), ""]


def born(value: dict[str, Any]) -> str:
    """The command, commit, seeds and machine that a result comes from."""
    b = value["born"]
    seeds = ", ".join(map(str, b["seeds"]))
    machine = f"{b['device']}, {b['threads']} threads"
    return f"`{b['command']}`, commit {b['commit']}, seeds {seeds}, torch {b['torch']}, {machine}"


def between(text: str, name: str, lines: list[str]) -> str:
    """The text with what stands between <!-- name --> and <!-- /name --> renewed."""
    opens, closes = f"<!-- {name} -->", f"<!-- /{name} -->"
    head, _, rest = text.partition(opens)
    return head + opens + "\n" + "\n".join(lines) + "\n" + closes + rest.partition(closes)[2]
