"""Draw docs/family.svg from results/family.json: every system's accuracy, at its trained depth and beyond.

python docs/family_picture.py results/family.json
"""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path
from typing import Any

import matplotlib
from drawn_from import mark

from innerloop.show.figures import COLOURS, STYLE

TITLES = {
    "sudoku6": "6x6 Sudoku",
    "maze11": "11x11 mazes",
    "prefix": "prefix sums, 4 to 16 bits",
    "longer": "prefix sums, 48 bits: three times as long",
    "sudoku4": "4x4 Sudoku",
}


def panels(rows: list[dict[str, Any]]) -> dict[str, dict[str, list[list[float]]]]:
    """{panel: {system: [accuracies over seeds, at 1x and 8x the trained depth]}}."""
    found: dict[str, dict[str, list[list[float]]]] = {}
    for row in rows:
        curve = row["accuracy"]
        found.setdefault(row["task"], {}).setdefault(row["system"], []).append([curve[1], curve[4]])
        if "harder_accuracy" in row:
            found.setdefault("longer", {}).setdefault(row["system"], []).append(row["harder_accuracy"][::2])
    return found


def main() -> None:
    import matplotlib.pyplot as plt

    rows = json.loads(Path(sys.argv[1]).read_text())["rows"]
    found = panels(rows)
    names = sorted({r["system"] for r in rows})
    with matplotlib.rc_context(STYLE | {"svg.hashsalt": "innerloop"}):
        figure, axes = plt.subplots(1, len(found), figsize=(2.5 * len(found), 0.17 * len(names) + 0.9), squeeze=False)
        for axis, (panel, systems) in zip(axes[0], found.items(), strict=True):
            means = {s: [100 * statistics.mean(c) for c in zip(*seeds, strict=True)] for s, seeds in systems.items()}
            order = sorted(means, key=lambda s: means[s][0])
            for y, system in enumerate(order):
                at, eight = means[system]
                seeds = [100 * s[0] for s in systems[system]]
                axis.plot([min(seeds), max(seeds)], [y, y], color=COLOURS[0], linewidth=3, alpha=0.25)
                axis.plot([at, eight], [y, y], color="#999999", linewidth=0.8, zorder=1)
                axis.plot(eight, y, "o", markerfacecolor="white", markeredgecolor=COLOURS[1], markersize=4)
                axis.plot(at, y, "o", color=COLOURS[0], markersize=3.5)
            axis.set_yticks(range(len(order)), order)
            axis.set_xlim(-4, 104)
            axis.set_xlabel("unseen puzzles right, %")
            axis.set_title(TITLES.get(panel, panel), loc="left")
            axis.grid(axis="y", linewidth=0.3, alpha=0.4)
            axis.set_axisbelow(True)
        keys = [plt.Line2D([], [], color=COLOURS[0], marker="o", linewidth=0, label="at the trained depth")]
        keys += [plt.Line2D([], [], color=COLOURS[0], alpha=0.25, linewidth=3, label="its seeds")]
        hollow = {"marker": "o", "markerfacecolor": "white", "markeredgecolor": COLOURS[1], "linewidth": 0}
        keys += [plt.Line2D([], [], label="at 8 times that depth", **hollow)]
        figure.legend(handles=keys, loc="lower center", ncols=3, bbox_to_anchor=(0.5, -0.06))
        figure.tight_layout()
        target = Path(__file__).with_name("family.svg")
        figure.savefig(target, bbox_inches="tight", metadata={"Date": None})
    mark(target, sys.argv[1])
    print(target)


if __name__ == "__main__":
    main()
