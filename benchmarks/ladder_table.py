"""What results/ladder.jsonl says of each factor: errors and training FLOPs as multiples of Orbit's, with intervals.

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


def pairs(rows: Sequence[Row], factor: str, rungs: Sequence[str] = ()) -> list[tuple[Row, Row]]:
    """(its row, Orbit's of the same rung and seed) for trainings of the whole FLOPs."""
    whole = [r for r in rows if r["share"] == 1 and (not rungs or r["rung"] in rungs)]
    base = {(r["rung"], r["seed"]): r for r in whole if r["factor"] == BASE}
    mine = [r for r in whole if r["factor"] == factor]
    return [(r, base[r["rung"], r["seed"]]) for r in mine if (r["rung"], r["seed"]) in base]


def error_ratio(rows: Sequence[Row], factor: str, rungs: Sequence[str] = ()) -> Ratio | None:
    return Ratio.of([errors(a) / errors(b) for a, b in pairs(rows, factor, rungs)])


def level(rows: Sequence[Row], rung: str) -> str:
    """The highest accuracy that Orbit reached with every seed, as a key of `to`."""
    mine = [r for r in rows if r["factor"] == BASE and r["rung"] == rung and r["share"] == 1]
    return max((k for k in mine[0]["to"] if all(r["to"][k] for r in mine)), key=float) if mine else ""


def flop_ratio(rows: Sequence[Row], factor: str, rungs: Sequence[str] = ()) -> tuple[Ratio | None, int]:
    """FLOPs to that accuracy as a multiple of Orbit's, and how many trainings never reached it."""
    found = [(a["to"][level(rows, a["rung"])], b["to"][level(rows, a["rung"])]) for a, b in pairs(rows, factor, rungs)]
    return Ratio.of([a / b for a, b in found if a]), sum(not a for a, _ in found)


def at(rows: Sequence[Row], factor: str, rung: str, times: str) -> str:
    """Mean accuracy over seeds, in per cent."""
    mine = [r for r in rows if r["factor"] == factor and r["rung"] == rung and r["share"] == 1]
    known = [100 * r["accuracy"][times] for r in mine if times in r["accuracy"]]
    return f"{statistics.mean(known):.1f}" if known else "–"


def lines(rows: Sequence[Row], factors: Sequence[str], rungs: Sequence[str]) -> list[list[str]]:
    """A row of text for each factor, best first: errors, FLOPs, accuracy at 1x and 32x on each rung."""
    known = [f for f in factors if pairs(rows, f, rungs)]
    order = sorted(known, key=lambda f: error_ratio(rows, f, rungs).mean)  # type: ignore[union-attr]
    made = []
    for factor in order:
        ratio, (flops, never) = error_ratio(rows, factor, rungs), flop_ratio(rows, factor, rungs)
        reached = (flops.told() if flops else "") + (f" ({never} never)" if never else "")
        cells = [f"{at(rows, factor, rung, '1')}, {at(rows, factor, rung, '32')}" for rung in rungs]
        made.append([factor, ratio.told(), reached.strip(), *cells])  # type: ignore[union-attr]
    return made


def main() -> None:
    rows = read(Path(sys.argv[1]))
    rungs = list(dict.fromkeys(r["rung"] for r in rows))
    for line in lines(rows, sorted({r["factor"] for r in rows}), rungs):
        print(" | ".join([f"{line[0]:32}", f"{line[1]:22}", f"{line[2]:28}", *(f"{c:14}" for c in line[3:])]))


if __name__ == "__main__":
    main()
