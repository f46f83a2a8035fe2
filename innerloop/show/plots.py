"""Figures of `innerloop study`: residuals, outcomes over steps, nearly solved boards, dimension, linear probes.

Each takes a part of what study.survey found, as read back from study.json, and returns a Figure of one column's width.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

# By way of figures, which says how to install matplotlib where it is missing.
from innerloop.show import figures
from innerloop.show.figures import COLOURS, SIZE, STYLE, Axes, Figure, matplotlib

__all__ = ["blanks", "cells", "dimension", "residuals", "save", "stages"]

SOFT = "#888888"
STAGE_COLOURS = {"right": "#009E73", "right for now": "#56B4E9", "changing": "#D0D0D0", "stuck": "#D55E00"}
LEGEND: Any = {"loc": "lower left", "bbox_to_anchor": (-0.02, 1.0), "borderaxespad": 0, "columnspacing": 1.2}


def save(found: dict[str, Any], folder: Path) -> list[Path]:
    """All figures there are measurements for, as PNG, SVG and PDF."""
    drawn: dict[str, tuple[Callable[..., Figure], str, Any]] = {
        "residuals": (residuals, "residuals", found["residuals"]["slots"]),
        "ends": (stages, "stages", found["stages"]),
        "blanks": (blanks, "filled", found["filled"]),
        "dimension": (dimension, "dimension", found["dimension"].get("trained")),
        "cells": (cells, "cells", found["cells"].get("slots")),
    }
    return figures.save({name: draw(found[part]) for name, (draw, part, there) in drawn.items() if there}, folder)


def _axes() -> tuple[Figure, Axes]:
    figure = Figure(figsize=SIZE, layout="constrained")
    axes = figure.subplots()
    axes.grid(axis="y", color=SOFT, alpha=0.25, linewidth=0.5)
    axes.set_axisbelow(True)
    return figure, axes


def _percent(axes: Axes, low: float = 0) -> None:
    axes.set_ylim(low, 1.02)
    axes.yaxis.set_major_formatter(lambda v, _: f"{100 * v:.0f} %")


def _by_step(axes: Axes, depth: int) -> None:
    """Steps of thought along x, doubling where they are many."""
    axes.set_xlabel("steps of thought")
    if depth > 16:
        axes.set_xscale("log", base=2)
        ticks = [2**i for i in range(depth.bit_length())]
        axes.set_xticks(ticks, [str(t) for t in ticks])
    else:
        axes.set_xticks(sorted({1, *range(4, depth + 1, 4), depth} if depth > 6 else range(1, depth + 1)))


def residuals(found: dict[str, Any]) -> Figure:
    """Relative change of each slot at each of its updates: median over puzzles, quartiles as a band."""
    with matplotlib.rc_context(STYLE):
        figure, axes = _axes()
        at, steps = [], found["steps"]
        for i, step in enumerate(steps):  # updates spread evenly over their step
            first, count = steps.index(step), steps.count(step)
            at.append(step - 1 + (i - first + 1) / count)
        for colour, (slot, values) in zip(COLOURS, found["slots"].items(), strict=False):
            own = [i for i, v in enumerate(values["median"]) if v is not None]
            x = [at[i] for i in own]
            low, middle, high = ([max(values[k][i], 1e-6) for i in own] for k in ("low", "median", "high"))
            often = len(own) > len(set(steps))
            axes.plot(x, middle, color=colour, label=slot, linewidth=1, marker="" if often else "o", markersize=2.5)
            axes.fill_between(x, low, high, color=colour, alpha=0.18, linewidth=0)
        axes.set_yscale("log")
        axes.set_xlim(0, max(steps))
        axes.set_xlabel("steps of thought, update by update")
        axes.set_ylabel("residual  |new - old| / |new|")
        axes.legend(ncols=3, **LEGEND)
    return figure


def stages(found: dict[str, Any]) -> Figure:
    """Share of puzzles that are right, stuck on a wrong answer, or still changing, over steps."""
    with matplotlib.rc_context(STYLE):
        figure, axes = _axes()
        names = [n for n in STAGE_COLOURS if n in found]
        depth = len(found[names[0]])
        x = list(range(1, depth + 1))
        axes.stackplot(
            x, [found[n] for n in names], labels=names, colors=[STAGE_COLOURS[n] for n in names], linewidth=0
        )
        axes.set_xlim(1, depth)
        _percent(axes)
        axes.set_ylim(0, 1)
        axes.set_ylabel("share of puzzles")
        _by_step(axes, depth)
        axes.set_xlim(1, depth)
        axes.legend(ncols=2, **LEGEND)
    return figure


def blanks(found: list[dict[str, Any]]) -> Figure:
    """Boards that are solved but for a few places: solved at the end, and right at every step."""
    with matplotlib.rc_context(STYLE):
        figure, axes = _axes()
        x = list(range(len(found)))
        rows = (
            ("solved", "after all steps", COLOURS[0], "o", -0.06),
            ("always", "at every step", COLOURS[1], "s", 0.06),
        )
        for key, label, colour, marker, shift in rows:
            y = [r[key]["value"] for r in found]
            off = [[max(v - r[key]["low"], 0) for v, r in zip(y, found, strict=True)]]
            off.append([max(r[key]["high"] - v, 0) for v, r in zip(y, found, strict=True)])
            axes.errorbar(
                [i + shift for i in x], y, yerr=off, color=colour, marker=marker, label=label, linewidth=1, capsize=2
            )
        axes.set_xticks(x, [str(r["blanks"]) for r in found])
        axes.set_xlabel("empty places of an otherwise solved board")
        axes.set_ylabel(f"share of {found[0]['solved']['n']:,} boards")
        _percent(axes, min(0.0, *(r["always"]["low"] for r in found)))
        axes.legend(ncols=2, **LEGEND)
    return figure


def dimension(found: dict[str, Any]) -> Figure:
    """Participation ratio of each slot over steps, free of its sample-size bias; controls dashed."""
    with matplotlib.rc_context(STYLE):
        figure, axes = _axes()
        for i, (name, by_slot) in enumerate(found.items()):
            style = ("-", (0, (3, 2)), (0, (1, 1)), (0, (5, 1, 1, 1)))[min(i, 3)]
            for colour, (slot, values) in zip(COLOURS, by_slot.items(), strict=False):
                x, y = range(1, len(values) + 1), [v["corrected"] for v in values]
                axes.plot(x, y, color=colour, linestyle=style, linewidth=1.2, label=f"{slot}, {name}")
                if i == 0 and all(v["high"] is not None for v in values):
                    low, high = ([v[k] for v in values] for k in ("low", "high"))
                    axes.fill_between(x, low, high, color=colour, alpha=0.18, linewidth=0)
        first = next(iter(next(iter(found.values())).values()))
        axes.set_ylim(bottom=0)
        axes.set_ylabel(f"participation ratio (n = {first[0]['n']}, d = {first[0]['d']})")
        _by_step(axes, len(first))
        axes.legend(ncols=2, **LEGEND)
    return figure


def cells(found: dict[str, Any]) -> Figure:
    """How well a cell's own state says its value, over steps, beside the model's own answer and the control."""
    with matplotlib.rc_context(STYLE):
        figure, axes = _axes()
        x = found["steps"]
        for colour, (slot, values) in zip(COLOURS, found["slots"].items(), strict=False):
            axes.plot(
                x, [v["accuracy"] for v in values], color=colour, marker="o", markersize=2.5, label=f"probe of {slot}"
            )
            low, high = ([v[k] for v in values] for k in ("low", "high"))
            axes.fill_between(x, low, high, color=colour, alpha=0.18, linewidth=0)
        axes.plot(x, found["answer"], color="#222222", linestyle=(0, (3, 2)), linewidth=1, label="model's answer")
        idle = [sum(v[i]["control"] for v in found["slots"].values()) / len(found["slots"]) for i in range(len(x))]
        axes.plot(x, idle, color=SOFT, linewidth=1, linestyle=":", label="shuffled labels")
        _percent(axes)
        axes.set_ylabel(f"{found['cells']:,} open cells read right")
        _by_step(axes, max(x))
        axes.legend(ncols=2, **LEGEND)
    return figure
