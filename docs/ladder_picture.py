"""Draw docs/ladder.svg from results/ladder.jsonl: accuracy over training FLOPs, and what each factor is worth.

python docs/ladder_picture.py results/ladder.jsonl
"""

from __future__ import annotations

import statistics
import sys
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes

from innerloop.study.figures import COLOURS, STYLE

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

import ladder
import ladder_table as tables

TITLES = {
    "sudoku6": "6x6 Sudoku, 8-12 givens",
    "sudoku9": "9x9 Sudoku, 23-28 givens",
    "maze11": "11x11 mazes",
    "maze15": "15x15 mazes",
}
LINES = {"orbit": "Orbit", "trm, given structure": "TRM, given the structure", "trm": "TRM"}
GROUPS = {"step": "what a step is", "net": "what the net is", "plan": "how it is taught"}
RUNGS = ("sudoku9", "maze15")


def learning(axis: Axes, rows: list[dict[str, Any]], rung: str) -> None:
    """Validated accuracy over training FLOPs, a line for each seed."""
    for colour, (factor, label) in zip(COLOURS, LINES.items(), strict=False):
        mine = [r for r in rows if r["rung"] == rung and r["factor"] == factor and r["share"] >= 1]
        for i, row in enumerate(mine):
            flops, accuracy = zip(*row["curve"], strict=True)
            axis.plot(
                flops, [100 * a for a in accuracy], color=colour, alpha=0.8, linewidth=1.1, label="" if i else label
            )
    axis.set_xlim(left=0)
    axis.set_ylim(-3, 103)
    axis.set_title(TITLES[rung], loc="left")
    axis.set_xlabel("training FLOPs, 10$^{12}$")


def forest(axis: Axes, rows: list[dict[str, Any]], group: str) -> None:
    """Errors as a multiple of Orbit's: the mean over rungs and seeds, its interval, and every pair."""
    known = [f for f in ladder.FACTORS[group] if tables.pairs(rows, f)]
    order = sorted(known, key=lambda f: tables.error_ratio(rows, f).mean, reverse=True)  # type: ignore[union-attr]
    for y, factor in enumerate(order):
        ratio = tables.error_ratio(rows, factor)
        each = [tables.errors(a) / tables.errors(b) for a, b in tables.pairs(rows, factor)]
        axis.plot(each, [y] * len(each), "|", color="#888888", markersize=4)
        if ratio is not None and ratio.pairs > 2:
            axis.plot([ratio.low, ratio.high], [y, y], color=COLOURS[0], linewidth=1.2)
        axis.plot(statistics.geometric_mean(each), y, "o", color=COLOURS[0])
    axis.axvline(1, color="#888888", linewidth=0.6)
    axis.set_xscale("log", base=2)
    axis.set_xlim(0.25, 40)
    axis.set_xticks([0.25, 0.5, 1, 2, 4, 8, 16, 32], ["1/4", "1/2", "1", "2", "4", "8", "16", "32"])
    axis.minorticks_off()
    axis.set_yticks(range(len(order)), order)
    axis.set_title(GROUPS[group], loc="left")
    axis.set_xlabel("errors, as a multiple of Orbit's")


def main() -> None:
    import matplotlib.pyplot as plt

    rows = tables.read(Path(sys.argv[1]))
    small = tables.of(rows, rungs=RUNGS)
    most = max(len([f for f in ladder.FACTORS[g] if tables.pairs(small, f)]) for g in GROUPS)
    with matplotlib.rc_context(STYLE):
        figure = plt.figure(figsize=(9.6, 2.6 + 0.17 * most))
        upper, lower = figure.subfigures(2, 1, height_ratios=(2.2, 0.6 + 0.17 * most))
        for axis, rung in zip(upper.subplots(1, 4, sharey=True), TITLES, strict=True):
            learning(axis, rows, rung)
            if rung == "sudoku6":
                axis.set_ylabel("unseen puzzles right, %")
                axis.legend(loc="center left")
        for axis, group in zip(lower.subplots(1, 3), GROUPS, strict=True):
            forest(axis, small, group)
        for part in (upper, lower):
            left, space = (0.175, 1.15) if part is lower else (0.06, 0.12)
            part.subplots_adjust(left=left, right=0.99, bottom=0.2, top=0.88, wspace=space)
        target = Path(__file__).with_name("ladder.svg")
        figure.savefig(target, metadata={"Date": None})
    print(target)


if __name__ == "__main__":
    main()
