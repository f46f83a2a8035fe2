"""The result about pencil puzzles of which no rule is told: a section of docs/results.md."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from marked import born, table

HEAD = ["set", "seeds", "% right", "surest of 8", "CPU minutes", "with a verifier, % valid", "and the solver behind it",
        "test puzzles known from training"]  # fmt: skip


def shares(rows: Sequence[dict[str, Any]]) -> str:
    """Per cent right: with its interval for one seed, with the least and the most for several."""
    values = [100 * r["exact"] for r in rows]
    low, high = (100 * rows[0]["low"], 100 * rows[0]["high"]) if len(rows) == 1 else (min(values), max(values))
    return f"{statistics.mean(values):.1f} ({low:.1f} to {high:.1f})"


def known(leakage: str) -> str:
    """The share of test puzzles that occur in the training set, from its sentence."""
    return leakage.partition("(")[2].partition(")")[0] if "occur in" in leakage and "(" in leakage else "none"


def section(value: dict[str, Any]) -> list[str]:
    """Every set, over its seeds."""
    lines = []
    for name in sorted({r["set"] for r in value["rows"]}):
        rows = [r for r in value["rows"] if r["set"] == name]
        worth = {w["method"]: f"{100 * w['valid']:.0f}" for w in rows[0]["worth"]}
        minutes = statistics.mean(r["cpu_minutes"] for r in rows)
        surest = shares([r["surest"] for r in rows])
        cells = [worth.get(method, "") for method in ("verified", "hybrid")]
        lines.append([name, len(rows), shares(rows), surest, f"{minutes:.1f}", *cells, known(rows[0]["leakage"])])
    first = value["rows"][0]
    return [
        "### grids",
        "",
        *table(HEAD, lines),
        f"Recipe `grid`, {first['learned_from']:,} puzzles to learn from, no rule told; {first['puzzles']} test "
        f"puzzles at depth {first['depth']}, with the interval of one seed, or least and most of several. "
        "With rules and the exact solver: of a hundred, the first seed. Listed is what was run so far.",
        "",
        f"- {born(value)}",
        "",
    ]
