"""Draw docs/cost.svg from results/cost_cpu.json: seconds over depth, batch, width, length and trajectories.

python docs/cost_picture.py results/cost_cpu.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import matplotlib
from drawn_from import mark

from innerloop.show.figures import COLOURS, STYLE

TITLES = {
    "depth": "steps",
    "batch": "boards at once",
    "node width": "channels of a symbol",
    "cells": "cells of a board",
    "trajectories": "trajectories of a board",
}


def main() -> None:
    import matplotlib.pyplot as plt

    rows = [r for r in json.loads(Path(sys.argv[1]).read_text())["rows"] if "curve" in r]
    with matplotlib.rc_context(STYLE | {"svg.hashsalt": "innerloop"}):
        figure, axes = plt.subplots(1, len(rows), figsize=(2.1 * len(rows), 2.4), sharey=True)
        for axis, row in zip(axes, rows, strict=True):
            x, y = row["points"], row["seconds"]
            line = [y[-1] * v / x[-1] for v in x]
            axis.plot(x, line, color="0.6", linewidth=0.8, linestyle=(0, (4, 3)))
            axis.plot(x, y, color=COLOURS[0], marker="o", markersize=3.5, linewidth=1.2)
            axis.set_xscale("log", base=2)
            axis.set_yscale("log")
            ticks = x[:: 2 if len(x) > 5 else 1]
            axis.set_xticks(ticks, [str(v) for v in ticks])
            axis.minorticks_off()
            axis.set_xlabel(TITLES[row["curve"]])
        axes[0].set_ylabel("seconds, one thread")
        axes[0].text(1, axes[0].get_ylim()[1], "dashed: linear", color="0.4", fontsize=7, va="top")
        figure.tight_layout()
        target = Path(__file__).with_name("cost.svg")
        figure.savefig(target, metadata={"Date": None})
    mark(target, sys.argv[1])
    print(target)


if __name__ == "__main__":
    main()
