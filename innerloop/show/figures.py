"""Figures for a paper, readable at half a page's width: accuracy over depth, and learning; bands over seeds.

A run alone shows its 95 % interval over the puzzles, valid answers, and its accuracy in training. Several seeds of it
are one line, their mean, in a band from the lowest to the highest; several runs share the axes, one colour each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from innerloop import files
from innerloop.errors import InputError
from innerloop.show import records

try:
    import matplotlib
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
except ImportError:
    raise InputError("figures need matplotlib: pip install 'innerloop[study]'") from None

__all__ = ["depth_curve", "draw", "learning_curve"]

# Okabe and Ito's colours, told apart with every kind of colour vision; all are readable on white and on black.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9")
HALTED = "#E69F00"
STYLE: Any = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.minor.size": 0,
    "lines.linewidth": 1.6,
    "lines.markersize": 3.5,
    "legend.frameon": False,
    "legend.fontsize": 7,
    "legend.handlelength": 1.6,
    "svg.fonttype": "none",
    "pdf.fonttype": 42,  # TrueType: some journals refuse Type 3
    "savefig.dpi": 200,
}
SIZE = (3.4, 2.3)  # inches: one column of two
KINDS = ("png", "svg", "pdf")
LINES: Any = ("-", (0, (4, 1.5)), (0, (1, 1)), (0, (5, 1, 1, 1)))  # of every further round of colours
LEGEND_ROW = 0.15  # inches that a row of the legend takes above the axes
LONGEST = 48  # characters of a name that fit into the width
MOST_TICKS = 10  # depths that are written out; of more, the powers of two

Rows = list[dict[str, Any]]


def draw(groups: Mapping[str, Sequence[Path]], out: Path) -> list[Path]:
    """All figures the runs have records for, as PNG, SVG and PDF, into `out`. Raises InputError where there are none.

    groups: name -> the folders of one run's seeds. A run that has no record of a kind is left out of that figure.
    """
    figures = {}
    evals = {name: [records.read(f, "eval.json") for f in folders] for name, folders in groups.items()}
    judged = {name: found for name, values in evals.items() if (found := [v for v in values if v])}
    if judged:
        figures["depth"] = depth_curve(judged)
    paths = {name: [f / "metrics.jsonl" for f in folders] for name, folders in groups.items()}
    read = {name: [records.read_metrics(p) for p in found if p.exists()] for name, found in paths.items()}
    logged = {name: lists for name, values in read.items() if (lists := [v for v in values if v])}
    if logged:
        figures["learning"] = learning_curve(logged)
    if not figures:
        first = files.shown(next(iter(groups.values()))[0])
        raise InputError(f"{first} has neither eval.json nor metrics.jsonl yet: train it, or innerloop eval it")
    return save(figures, out)


def save(figures: Mapping[str, Figure], folder: Path) -> list[Path]:
    """Write each figure as NAME.png, NAME.svg and NAME.pdf; returns the paths."""
    written = []
    for name, figure in figures.items():
        for kind in KINDS:
            path = folder / f"{name}.{kind}"
            dated = {"CreationDate": None} if kind == "pdf" else {"Date": None} if kind == "svg" else {}
            with matplotlib.rc_context(STYLE):
                # The kind is said, because the file is written under another name first.
                files.write(path, lambda p, f=figure, k=kind, m=dated: f.savefig(p, format=k, metadata=m))  # type: ignore[misc]
            written.append(path)
    return written


# -- accuracy over depth ----------------------------------------------------------------------------------------------


def depth_curve(judged: Mapping[str, Sequence[dict[str, Any]]]) -> Figure:
    """Exact accuracy over steps of thought, with a mark at the training depth.

    judged: name of a run -> what the eval.json of each of its seeds holds.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=SIZE, layout="constrained")
        axes = figure.subplots()
        for i, (name, values) in enumerate(judged.items()):
            depth_lines(axes, name if len(judged) > 1 else "", values, i)
        every = [v for values in judged.values() for v in values]
        depths = sorted({r["depth"] for v in every for r in v["rows"]})
        axes.set_xscale("log", base=2)
        shown = depths if len(depths) <= MOST_TICKS else [d for d in depths if d & (d - 1) == 0]
        axes.set_xticks(shown, [str(d) for d in shown])
        axes.set_xlabel("steps of thought" + range_note(judged))
        percent(axes)
        sizes = sorted({v.get("test_puzzles", 0) for v in every})
        axes.set_ylabel(f"share of {sizes[0]:,} held-out puzzles" if len(sizes) == 1 else "share of held-out puzzles")
        mark_trained(axes, sorted({v["trained_depth"] for v in every if v.get("trained_depth")}))
        legend(axes)
    return figure


def depth_lines(axes: Axes, name: str, values: Sequence[dict[str, Any]], number: int) -> None:
    """The lines of one run, a line for each width."""
    colour, dashes = look(number)
    lead, seeds = f"{name} " if name else "", f" ({len(values)} seeds)" if len(values) > 1 else ""
    widths = sorted({r["width"] for v in values for r in v["rows"]})
    for j, width in enumerate(widths):
        curves = [[r for r in v["rows"] if r["width"] == width and not r["halting"]] for v in values]
        x = sorted(set.intersection(*({r["depth"] for r in rows} for rows in curves)))
        if not x:
            continue
        note = f", width {width}" if len(widths) > 1 else ""
        label = (name or "exact") + note + seeds
        exact = [[100 * {r["depth"]: r["exact"] for r in rows}[d] for d in x] for rows in curves]
        axes.plot(x, mean(exact), color=colour, linestyle=dashes, marker="os^Dv"[j % 5], label=label)
        if len(values) > 1:
            axes.fill_between(x, *band(exact), color=colour, alpha=0.18, linewidth=0)
            continue
        rows = sorted(curves[0], key=lambda r: r["depth"])
        low, high = ([100 * r[k] for r in rows] for k in ("low", "high"))
        axes.fill_between(x, low, high, color=colour, alpha=0.18, linewidth=0)
        known = [r for r in rows if r.get("valid") is not None]
        if not name and any(abs(r["valid"] - r["exact"]) > 5e-4 for r in known):
            at, y = [r["depth"] for r in known], [100 * r["valid"] for r in known]
            axes.plot(at, y, color=colour, linestyle=(0, (3, 2)), linewidth=1, label=f"valid{note}")
    halted = [r for v in values for r in v["rows"] if r["halting"]]
    if halted:
        steps, exact_there = [r["steps"] for r in halted], [100 * r["exact"] for r in halted]
        look_there: Any = {"marker": "*", "markersize": 9, "linestyle": "", "markeredgewidth": 0, "zorder": 5}
        axes.plot(steps, exact_there, color=colour if name else HALTED, label=f"{lead}its own halting", **look_there)


def mark_trained(axes: Axes, depths: Sequence[int]) -> None:
    """A line at each trained depth; the word once, at the first."""
    place = axes.get_xaxis_transform()
    for i, depth in enumerate(depths):
        axes.axvline(depth, color="#888888", linewidth=0.8, linestyle=":")
        if i == 0:
            last = depth >= axes.get_xlim()[1] * 0.7  # there is no room on its right
            at, side = (depth / 1.06, "right") if last else (depth * 1.06, "left")
            axes.text(at, 0.02, "trained", color="#888888", fontsize=6.5, transform=place, ha=side)


# -- learning ---------------------------------------------------------------------------------------------------------


def learning_curve(logged: Mapping[str, Sequence[Rows]]) -> Figure:
    """Validated exact accuracy over optimizer steps; of a run alone also the exact accuracy in training, behind it.

    logged: name of a run -> the lines of the metrics.jsonl of each of its seeds.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=SIZE, layout="constrained")
        axes = figure.subplots()
        depths = set()
        for i, (name, seeds) in enumerate(logged.items()):
            colour, dashes = look(i)
            if len(logged) == 1 and len(seeds) == 1:
                seen = [(r["step"], 100 * r["train/exact_accuracy"]) for r in seeds[0] if "train/exact_accuracy" in r]
                axes.plot(*columns(seen), color=colour, alpha=0.35, linewidth=0.8, label="training")
            curves, depth = validations(seeds)
            x = sorted(set.intersection(*map(set, curves))) if curves else []
            if not x:
                continue
            depths.add(depth)
            y = [[curve[step] for step in x] for curve in curves]
            count = f" ({len(curves)} seeds)" if len(curves) > 1 else ""
            label = (name if len(logged) > 1 else f"validation, {depth} steps") + count
            axes.plot(x, mean(y), color=colour, linestyle=dashes, marker="o" if len(x) <= 30 else "", label=label)
            if len(curves) > 1:
                axes.fill_between(x, *band(y), color=colour, alpha=0.18, linewidth=0)
        axes.set_xlabel("optimizer steps" + range_note(logged))
        at = f", depth {next(iter(depths))}" if len(logged) > 1 and len(depths) == 1 else ""
        axes.set_ylabel(f"puzzles solved exactly{at}")
        percent(axes)
        legend(axes)
    return figure


def validations(seeds: Sequence[Rows]) -> tuple[list[dict[int, float]], str]:
    """(step -> exact accuracy in % for each seed, the depth of the validation: the last one that is logged)."""
    keys = list(dict.fromkeys(k for rows in seeds for r in rows for k in r if k.startswith("valid/exact@")))
    if not keys:
        return [], ""
    return [{r["step"]: 100 * r[keys[-1]] for r in rows if keys[-1] in r} for rows in seeds], keys[-1].partition("@")[2]


# -- what they share --------------------------------------------------------------------------------------------------


def range_note(groups: Mapping[str, Sequence[Any]]) -> str:
    """What a band means, behind the label of an axis, where one is drawn over seeds."""
    return "  (band: range over seeds)" if any(len(seeds) > 1 for seeds in groups.values()) else ""


def look(number: int) -> tuple[str, Any]:
    """(colour, line style) of the run with this number."""
    return COLOURS[number % len(COLOURS)], LINES[number // len(COLOURS) % len(LINES)]


def mean(curves: Sequence[Sequence[float]]) -> list[float]:
    return [sum(column) / len(column) for column in zip(*curves, strict=True)]


def band(curves: Sequence[Sequence[float]]) -> tuple[list[float], list[float]]:
    """(lowest, highest) of all seeds at each point."""
    at_each = list(zip(*curves, strict=True))
    return [min(c) for c in at_each], [max(c) for c in at_each]


def columns(pairs: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [x for x, _ in pairs], [y for _, y in pairs]


def legend(axes: Axes) -> None:
    """Above the axes, where no curve can run through it; the figure grows by its rows, the axes keep their size."""
    handles, labels = axes.get_legend_handles_labels()
    if not handles:
        return
    longest = max(map(len, labels))
    across = 1 if longest > 20 else 2 if longest > 11 else 3
    figure: Any = axes.figure
    figure.set_size_inches(SIZE[0], SIZE[1] + LEGEND_ROW * max(0, -(-len(labels) // across) - 1))
    labels = [name if len(name) <= LONGEST else f"{name[: LONGEST // 2]} … {name[-LONGEST // 2 :]}" for name in labels]
    axes.legend(
        handles, labels, loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=across, borderaxespad=0, columnspacing=1.2
    )


def percent(axes: Axes) -> None:
    axes.set_ylim(-2, 102)
    axes.set_yticks([0, 25, 50, 75, 100], ["0 %", "25 %", "50 %", "75 %", "100 %"])
    axes.grid(axis="y", color="#888888", alpha=0.25, linewidth=0.5)
    axes.set_axisbelow(True)
