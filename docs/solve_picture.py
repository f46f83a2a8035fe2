"""Draw docs/solve.svg from a result of benchmarks/solve.py: what depth, width and a verifier buy, by block calls.

python docs/solve_picture.py results/solve_sudoku_medium.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib

from innerloop.show.figures import STYLE

RULES = {  # name and colour (Okabe and Ito's, which the colour-blind can tell apart)
    "verified": ("verified", "#0072B2"),
    "vote": ("vote", "#D55E00"),
    "q": ("halting head", "#009E73"),
    "value": ("value head", "#F0E442"),
    "residual": ("residual", "#CC79A7"),
    "certainty": ("certainty", "#56B4E9"),
    "first": ("first to halt", "#E69F00"),
    "oracle": ("oracle (pass@N)", "#777777"),
}


def frontier(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows by their cost, without those that cost more than a better one."""
    best: list[dict[str, Any]] = []
    for row in sorted(rows, key=lambda r: (r["nfe"], -r["accuracy"])):
        if not best or row["accuracy"] > best[-1]["accuracy"]:
            best.append(row)
    return best


def line(axis: Any, rows: Any, key: str, label: str, colour: str, band: bool = False, **how: Any) -> None:
    at = [r[key] for r in rows]
    axis.plot(
        at, [100 * r["accuracy"] for r in rows], label=label, color=colour, **{"marker": "o", "markersize": 3} | how
    )
    low, high = ([100 * r[k] for r in rows] for k in ("low", "high"))  # 95 % intervals
    if band:
        axis.fill_between(at, low, high, color=colour, alpha=0.12, linewidth=0)


def main() -> None:
    import matplotlib.pyplot as plt

    value = json.loads(Path(sys.argv[1]).read_text())
    rows = value["rows"]
    alone = sorted((r for r in rows if r["width"] == 1 and r["rule"] == "q"), key=lambda r: r["depth"])
    widest, trained = max(r["width"] for r in rows), value["trained_depth"]
    rules = [r for r in RULES if any(row["rule"] == r for row in rows)]
    with matplotlib.rc_context(STYLE):
        figure, (left, right) = plt.subplots(1, 2, figsize=(7.4, 3.0), sharey=True)
        line(left, alone, "depth", "one trajectory", "#333333", True)
        for rule in rules:
            wide = sorted((r for r in rows if r["width"] == widest and r["rule"] == rule), key=lambda r: r["depth"])
            style = {"linestyle": "--", "marker": ""} if rule == "oracle" else {}
            line(left, wide, "depth", *RULES[rule], rule == "verified", **style)
        left.axvline(trained, color="#999999", linewidth=0.7)
        left.text(trained, left.get_ylim()[0], " trained depth", fontsize=7, color="#777777", va="bottom")
        left.set_xlabel("depth (steps)")
        left.set_ylabel("unseen puzzles right, %")
        left.set_title(f"{widest} trajectories, by selection rule", loc="left")
        line(right, frontier(alone), "nfe", "depth alone", "#333333", True)
        for rule in rules:
            if rule in ("oracle", "first"):
                continue
            best = frontier([r for r in rows if r["rule"] == rule])
            line(right, best, "nfe", *RULES[rule], rule == "verified")
        right.set_xlabel("block calls a puzzle (NFE)")
        right.set_title("the best of depth and width, for what it costs", loc="left")
        for axis in (left, right):
            axis.set_xscale("log", base=2)
            axis.xaxis.set_major_formatter(lambda v, _: f"{v:,.0f}")
            axis.grid(linewidth=0.3, alpha=0.4)
        handles, labels = left.get_legend_handles_labels()
        figure.legend(handles, labels, loc="lower center", ncols=4, bbox_to_anchor=(0.5, -0.14))
        figure.tight_layout()
        target = Path(__file__).with_name("solve.svg")
        figure.savefig(target, bbox_inches="tight", metadata={"Date": None})
    print(target)


if __name__ == "__main__":
    main()
