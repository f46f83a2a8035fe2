"""Draw docs/ladder.svg from results/ladder.jsonl: accuracy over training FLOPs, and what each factor is worth.

python docs/ladder_picture.py results/ladder.jsonl
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import matplotlib
from drawn_from import mark
from matplotlib.axes import Axes

from innerloop.show.figures import COLOURS, STYLE

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

import ladder
import ladder_page
import ladder_table as tables

TITLES = {
    "sudoku6": "6x6 Sudoku, 8-12 givens",
    "sudoku9": "9x9 Sudoku, 23-28 givens",
    "maze11": "11x11 mazes",
    "maze15": "15x15 mazes",
}
LINES = {"orbit": "Orbit", "trm, given structure": "TRM, given the structure", ladder_page.THEIRS: "TRM"}
GROUPS = {"step": "what a step is", "net": "what the net is", "plan": "how it is taught"}
MEASURES = {
    "sudoku9": (tables.errors, "o", "errors on 9x9 Sudoku"),
    "maze15": (tables.flops, "s", "FLOPs to 80 % of 15x15 mazes"),
}
NEVER = 16


def learning(axis: Axes, rows: list[dict[str, Any]], rung: str) -> None:
    """Validated accuracy over training FLOPs, a line for each seed."""
    for colour, (factor, label) in zip(COLOURS, LINES.items(), strict=False):
        mine = [r for r in rows if r["rung"] == rung and r["factor"] == factor and r["share"] >= 1]
        for i, row in enumerate(mine):
            flops, accuracy = zip(*row["curve"], strict=True)
            axis.plot(
                flops, [100 * a for a in accuracy], color=colour, alpha=0.8, linewidth=1.1, label="" if i else label
            )
    axis.set_xscale("log")
    axis.set_xlim(0.04, 40)
    axis.set_xticks([0.1, 1, 10], ["0.1", "1", "10"])
    axis.minorticks_off()
    axis.set_ylim(-3, 103)
    axis.set_title(TITLES[rung], loc="left")
    axis.set_xlabel("training FLOPs, 10$^{12}$")


def forest(axis: Axes, rows: list[dict[str, Any]], group: str) -> None:
    """Errors on 9x9 Sudoku and FLOPs on 15x15 mazes as multiples of Orbit's, with their intervals."""
    known = [f for f in ladder.FACTORS[group] if all(tables.by(tables.of(rows, rung), f) for rung in MEASURES)]
    order = [line[0] for line in tables.lines(rows, known, list(MEASURES))][::-1]
    for (rung, (measure, marker, _)), colour, shift in zip(MEASURES.items(), COLOURS, (0.15, -0.15), strict=False):
        part = tables.of(rows, rung)
        for y, factor in enumerate(order):
            r = tables.ratio(part, factor, measure)
            if r.without:  # not with every seed
                axis.plot(NEVER, y + shift, "x", color=colour, markersize=4)
            if r.without < r.seeds:
                axis.plot(r.mean, y + shift, marker, color=colour, markersize=4)
                axis.plot([max(r.low, 0.1), min(r.high, NEVER)], [y + shift] * 2, color=colour, linewidth=1)
    axis.axvline(1, color="#888888", linewidth=0.6)
    axis.set_xscale("log", base=2)
    axis.set_xlim(0.3, 1.2 * NEVER)
    axis.set_xticks([0.5, 1, 2, 4, 8, NEVER], ["1/2", "1", "2", "4", "8", "never"])
    axis.minorticks_off()
    axis.set_yticks(range(len(order)), [tables.shown(factor) for factor in order])
    axis.set_title(GROUPS[group], loc="left")


def main() -> None:
    import matplotlib.pyplot as plt

    rows = tables.read(Path(sys.argv[1]))
    most = max(len(ladder.FACTORS[g]) for g in GROUPS)
    with matplotlib.rc_context(STYLE | {"svg.hashsalt": "innerloop"}):
        figure = plt.figure(figsize=(9.6, 2.9 + 0.17 * most))
        upper, lower = figure.subfigures(2, 1, height_ratios=(2.3, 0.6 + 0.17 * most))
        for axis, rung in zip(upper.subplots(1, 4, sharey=True), TITLES, strict=True):
            learning(axis, rows, rung)
            if rung == "sudoku6":
                axis.set_ylabel("unseen puzzles right, %")
                upper.legend(*axis.get_legend_handles_labels(), loc="lower center", ncols=len(LINES))
        for axis, group in zip(lower.subplots(1, 3), GROUPS, strict=True):
            forest(axis, rows, group)
        names = [
            plt.Line2D([], [], color=c, marker=m, linestyle="", markersize=4)
            for (_, m, _), c in zip(MEASURES.values(), COLOURS, strict=False)
        ]
        labels = [f"{text}, as a multiple of Orbit's" for *_, text in MEASURES.values()]
        lower.legend(names, labels, loc="lower center", ncols=2)
        for part in (upper, lower):
            left, space, below = (0.175, 1.15, 0.11) if part is lower else (0.06, 0.12, 0.3)
            part.subplots_adjust(left=left, right=0.99, bottom=below, top=0.9, wspace=space)
        target = Path(__file__).with_name("ladder.svg")
        figure.savefig(target, metadata={"Date": None})
    mark(target, sys.argv[1])
    print(target)


if __name__ == "__main__":
    main()
