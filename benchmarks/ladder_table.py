"""What results/ladder.jsonl says of each factor: errors and training FLOPs as multiples of a base's, with intervals.

python benchmarks/ladder_table.py results/ladder.jsonl        # the tables of docs/recipe.md, as text

Intervals are of 95 %. Seeds are few and factors many, so the spread over seeds is pooled: on one rung the logarithm of
a measure is taken to vary over seeds as much for one factor as for another, of all that learn with every seed.
"""

from __future__ import annotations

import json
import math
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Row = dict[str, Any]
BASE = "orbit"
LEVEL = "0.8"  # the accuracy whose training FLOPs are compared
LEARNT = 0.5  # validated by what is taken to have learned
SHOWN = {  # names in tables, of factors that results/ladder.jsonl holds under an older name
    "long lives": "more steps per puzzle",
    "short lives": "fewer steps per puzzle",
    "lives as they come": "short_fraction 0",
    "mostly brief": "short_fraction 0.8",
    "whole thoughts, growing": "full unrolls, growing",
}
DEEP = "8"  # times the trained depth, where every factor's first seed is judged too
LEAST = 0.005  # errors: no error in a hundred validation puzzles counts as half a one


def read(path: Path) -> list[Row]:
    return [json.loads(line) for line in path.read_text().splitlines() if line]


def of(rows: Sequence[Row], rung: str, share: float = 1) -> list[Row]:
    """The rows of trainings on a rung that spent this share of its FLOPs."""
    return [r for r in rows if r["share"] == share and r["rung"] == rung]


def by(rows: Sequence[Row], factor: str) -> list[Row]:
    return [r for r in rows if r["factor"] == factor]


def errors(row: Row) -> float | None:
    """Share of validation puzzles that are wrong at the trained depth; None for what did not learn.

    Factors are compared and chosen by it, so that the test puzzles stay unused by any choice.
    """
    return max(1 - row["best"], LEAST) if row["best"] >= LEARNT else None


def flops(row: Row) -> float | None:
    """10^12 FLOPs to LEVEL; None where it was not reached."""
    return row["to"][LEVEL]


@dataclass(frozen=True)
class Ratio:
    """A geometric mean as a multiple of the base's, its 95 % interval, and how many seeds have no value."""

    mean: float
    low: float
    high: float
    seeds: int
    without: int

    def told(self) -> str:
        if self.without == self.seeds:
            return "never"
        if math.isnan(self.mean):
            return "–"  # the base never did
        lacking = f", {self.without} of {self.seeds} never" if self.without else ""
        between = f" [{self.low:.2f}, {self.high:.2f}]" if self.low < self.high < math.inf else ""
        return f"{self.mean:.2f}{between}{lacking}"


def spread(rows: Sequence[Row], measure: Callable[[Row], float | None]) -> float:
    """Standard deviation over seeds of the logarithm of a measure on a rung, pooled over factors."""
    squares, freedom = 0.0, 0
    for factor in {r["factor"] for r in rows}:
        values = [measure(r) for r in by(rows, factor)]
        logs = [math.log(v) for v in values if v]
        if len(logs) > 1 and len(logs) == len(values):
            squares += statistics.variance(logs) * (len(logs) - 1)
            freedom += len(logs) - 1
    return math.sqrt(squares / freedom) if freedom else math.inf


def ratio(rows: Sequence[Row], factor: str, measure: Callable[[Row], float | None], base: str = BASE) -> Ratio:
    """Of a factor to the base, on the rung that the rows are of."""
    mine, known = ([measure(r) for r in by(rows, f)] for f in (factor, base))
    a, b = ([math.log(v) for v in values if v] for values in (mine, known))
    without = len(mine) - len(a)
    if not a or not b:
        return Ratio(math.nan, math.nan, math.nan, len(mine), without)
    mean = statistics.mean(a) - statistics.mean(b)
    half = 0.0 if factor == base else 2 * spread(rows, measure) * math.sqrt(1 / len(a) + 1 / len(b))
    high = math.exp(mean + half) if half < math.inf else math.inf
    return Ratio(math.exp(mean), math.exp(mean - half), high, len(mine), without)


def solved(rows: Sequence[Row], factor: str, times: str = "1") -> str:
    """Mean over seeds of what is solved at so many times the trained depth, in per cent."""
    known = [100 * r["accuracy"][times] for r in by(rows, factor) if times in r["accuracy"]]
    return f"{statistics.mean(known):.1f}" if known else "–"


def shown(factor: str) -> str:
    """The name of a factor in tables and figures."""
    return SHOWN.get(factor, factor)


def measures(rung: str) -> dict[str, Callable[[Row], float | None]]:
    """What is compared on a rung: not errors on mazes, where a training solves nearly all or nothing."""
    return {"FLOPs": flops} if rung.startswith("maze") else {"errors": errors, "FLOPs": flops}


def lines(rows: Sequence[Row], factors: Sequence[str], rungs: Sequence[str], base: str = BASE) -> list[list[str]]:
    """A row of text for each factor, fewest errors first; for each rung its measures, and solved at 1x and DEEP."""
    parts = [of(rows, rung) for rung in rungs]

    def order(factor: str) -> float:
        """Errors over all rungs, and what did not learn last."""
        found = [max(1 - r["best"], LEAST) for part in parts for r in by(part, factor)]
        return statistics.geometric_mean(found)

    made = []
    for factor in sorted((f for f in factors if all(by(part, f) for part in parts)), key=order):
        cells = [factor, ", ".join(dict.fromkeys(str(len(by(part, factor))) for part in parts))]
        for rung, part in zip(rungs, parts, strict=True):
            cells += [ratio(part, factor, measure, base).told() for measure in measures(rung).values()]
            cells.append(f"{solved(part, factor)}, {solved(part, factor, DEEP)}")
        made.append(cells)
    return made


def head(rungs: Sequence[str]) -> list[str]:
    """Above `lines`."""
    return ["factor", "seeds", *(f"`{r}`: {what}" for r in rungs for what in (*measures(r), f"% at 1x, {DEEP}x"))]


def ranks(values: Sequence[float]) -> list[float]:
    """Places in rising order from 0, the mean place for what is alike."""
    return [sum(v < x for v in values) + (sum(v == x for v in values) - 1) / 2 for x in values]


def foretold(small: Sequence[Row], large: Sequence[Row]) -> tuple[list[str], float]:
    """The factors measured on both rungs, and the rank correlation (Spearman's) of what they solve there."""
    factors = [f for f in dict.fromkeys(r["factor"] for r in large) if by(small, f)]
    both = [[statistics.mean(r["accuracy"]["1"] for r in by(rows, f)) for f in factors] for rows in (small, large)]
    return factors, statistics.correlation(*map(ranks, both)) if len(factors) > 2 else math.nan


def main() -> None:
    rows = read(Path(sys.argv[1]))
    for rung in dict.fromkeys(r["rung"] for r in rows):
        named = sorted({r["factor"] for r in of(rows, rung)})
        for line in [head([rung]), *lines(rows, named, [rung])]:
            print(" | ".join(f"{cell:{width}}" for cell, width in zip(line, (28, 5, 34, 34, 24), strict=False)))


if __name__ == "__main__":
    main()
