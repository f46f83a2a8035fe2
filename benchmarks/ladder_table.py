"""What results/ladder.jsonl says of each factor: errors and training FLOPs as multiples of a base's, with intervals.

python benchmarks/ladder_table.py results/ladder.jsonl        the tables of docs/recipe.md, as text
"""

from __future__ import annotations

import json
import math
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Row = dict[str, Any]
BASE = "orbit"
LEAST = 0.0025  # errors below half a puzzle of the test are not told apart
# Student's t for 95 % of a mean over 2, 3 ... numbers
T95 = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23, 2.20)


def read(path: Path) -> list[Row]:
    return [json.loads(line) for line in path.read_text().splitlines() if line]


def of(rows: Sequence[Row], share: float = 1, rungs: Sequence[str] = ()) -> list[Row]:
    """The rows of trainings that spent this share of their rung's FLOPs; no rungs: all."""
    return [r for r in rows if r["share"] == share and (not rungs or r["rung"] in rungs)]


@dataclass(frozen=True)
class Ratio:
    """A geometric mean over pairs of the same rung and seed, and its 95 % interval."""

    mean: float
    low: float
    high: float
    pairs: int

    @classmethod
    def of(cls, ratios: Sequence[float]) -> Ratio | None:
        if not ratios:
            return None
        logs = [math.log(r) for r in ratios]
        mean, n = statistics.mean(logs), len(logs)
        half = T95[min(n, len(T95) + 1) - 2] * statistics.stdev(logs) / math.sqrt(n) if n > 1 else math.inf
        return cls(math.exp(mean), math.exp(mean - half), math.exp(mean + half) if mean + half < 700 else math.inf, n)

    def told(self) -> str:
        return f"{self.mean:.2f}" + (f" [{self.low:.2f}, {self.high:.2f}]" if self.pairs > 1 else "")


def errors(row: Row) -> float:
    return max(1 - row["accuracy"]["1"], LEAST)


def pairs(rows: Sequence[Row], factor: str, base: str = BASE) -> list[tuple[Row, Row]]:
    """(its row, the base's of the same rung and seed)."""
    known = {(r["rung"], r["seed"]): r for r in rows if r["factor"] == base}
    mine = [r for r in rows if r["factor"] == factor]
    return [(r, known[r["rung"], r["seed"]]) for r in mine if (r["rung"], r["seed"]) in known]


def error_ratio(rows: Sequence[Row], factor: str, base: str = BASE) -> Ratio | None:
    return Ratio.of([errors(a) / errors(b) for a, b in pairs(rows, factor, base)])


def level(rows: Sequence[Row], rung: str, base: str = BASE) -> str:
    """The highest accuracy that the base reached with every seed, as a key of `to`; "" if it reached none."""
    mine = [r for r in rows if r["factor"] == base and r["rung"] == rung]
    return max((k for k in mine[0]["to"] if all(r["to"][k] for r in mine)), key=float, default="") if mine else ""


def flop_ratio(rows: Sequence[Row], factor: str, base: str = BASE) -> tuple[Ratio | None, int]:
    """FLOPs to that accuracy as a multiple of the base's, and how many trainings never reached it."""
    both = [
        (a["to"].get(to), b["to"].get(to)) for a, b in pairs(rows, factor, base) if (to := level(rows, a["rung"], base))
    ]
    return Ratio.of([a / b for a, b in both if a]), sum(not a for a, _ in both)


def at(rows: Sequence[Row], factor: str, rung: str, times: str) -> str:
    """Mean accuracy over seeds, in per cent."""
    mine = [r for r in rows if r["factor"] == factor and r["rung"] == rung]
    known = [100 * r["accuracy"][times] for r in mine if times in r["accuracy"]]
    return f"{statistics.mean(known):.1f}" if known else "–"


def lines(rows: Sequence[Row], factors: Sequence[str], base: str = BASE) -> list[list[str]]:
    """A row of text for each factor, best first: errors, FLOPs, seeds, accuracy at 1x and 32x on each rung."""
    known = [f for f in factors if pairs(rows, f, base)]
    made = []
    for factor in sorted(known, key=lambda f: error_ratio(rows, f, base).mean):  # type: ignore[union-attr]
        ratio, (flops, never) = error_ratio(rows, factor, base), flop_ratio(rows, factor, base)
        reached = (flops.told() if flops else "") + (f" ({never} never)" if never else "")
        rungs = list(dict.fromkeys(r["rung"] for r in rows))
        cells = [f"{at(rows, factor, rung, '1')}, {at(rows, factor, rung, '32')}" for rung in rungs]
        seeds = str(len({r["seed"] for r in rows if r["factor"] == factor}))
        made.append([factor, ratio.told(), reached.strip(), seeds, *cells])  # type: ignore[union-attr]
    return made


def head(rows: Sequence[Row], first: str) -> list[str]:
    """Above `lines`."""
    return [first, "errors", "FLOPs", "seeds", *(f"`{r}`, %" for r in dict.fromkeys(r["rung"] for r in rows))]


def ranks(values: Sequence[float]) -> list[float]:
    """Places in rising order from 0, the mean place for what is alike."""
    return [sum(v < x for v in values) + (sum(v == x for v in values) - 1) / 2 for x in values]


def foretold(small: Sequence[Row], large: Sequence[Row]) -> tuple[list[str], float]:
    """The factors measured on both, and the rank correlation (Spearman's) of their errors there."""
    named = dict.fromkeys(r["factor"] for r in large)
    factors = [f for f in named if pairs(large, f) and pairs(small, f)]
    both = [[error_ratio(rows, f).mean for f in factors] for rows in (small, large)]  # type: ignore[union-attr]
    return factors, statistics.correlation(*map(ranks, both)) if len(factors) > 2 else math.nan


def main() -> None:
    rows = of(read(Path(sys.argv[1])))
    for line in [head(rows, "factor"), *lines(rows, sorted({r["factor"] for r in rows}))]:
        print(" | ".join(f"{cell:{width}}" for cell, width in zip(line, (28, 20, 24, 5, *[14] * 9), strict=False)))


if __name__ == "__main__":
    main()
