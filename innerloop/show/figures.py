"""Figures for a paper, readable at half a page's width: accuracy over depth with its interval, and learning."""

from __future__ import annotations

from collections.abc import Sequence
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
    "savefig.dpi": 200,
}
SIZE = (3.4, 2.3)  # inches: one column of two


def draw(folders: Sequence[Path], out: Path) -> list[Path]:
    """All figures the runs have records for, PNG and SVG, into `out`. Raises InputError where there are none."""
    figures = {}
    judged = {f.name: records.read(f, "eval.json") for f in folders if (f / "eval.json").exists()}
    if judged:
        figures["depth"] = depth_curve(judged)
    logged = {f.name: records.read_metrics(f / "metrics.jsonl") for f in folders if (f / "metrics.jsonl").exists()}
    if any(logged.values()):
        figures["learning"] = learning_curve(logged)
    if not figures:
        raise InputError(f"{folders[0]} has neither eval.json nor metrics.jsonl yet: train it, or innerloop eval it")
    return save(figures, out)


def save(figures: dict[str, Figure], folder: Path) -> list[Path]:
    """Write each figure as NAME.png and NAME.svg; returns the paths."""
    written = []
    for name, figure in figures.items():
        for kind in ("png", "svg"):
            path = folder / f"{name}.{kind}"
            with matplotlib.rc_context(STYLE):
                # The kind is said, because the file is written under another name first.
                files.write(path, lambda p, f=figure, k=kind: f.savefig(p, format=k))  # type: ignore[misc]
            written.append(path)
    return written


def depth_curve(judged: dict[str, Any]) -> Figure:
    """Exact accuracy over steps of thought with its 95 % interval, and valid answers dashed; a mark at training depth.

    judged: name of a run -> what its eval.json holds.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=SIZE, layout="constrained")
        axes = figure.subplots()
        for i, (name, value) in enumerate(judged.items()):
            _one_depth_curve(axes, name if len(judged) > 1 else "", value, COLOURS[i % len(COLOURS)])
        depths = sorted({r["depth"] for v in judged.values() for r in v["rows"]})
        axes.set_xscale("log", base=2)
        axes.set_xticks(depths, [str(d) for d in depths])
        axes.set_xlabel("steps of thought")
        _percent(axes)
        sizes = " / ".join(dict.fromkeys(f"{v['test_puzzles']:,}" for v in judged.values()))
        axes.set_ylabel(f"share of {sizes} held-out puzzles")
        _legend(axes)
    return figure


def _one_depth_curve(axes: Axes, name: str, value: dict[str, Any], colour: str) -> None:
    lead = f"{name} " if name else ""
    widths = sorted({r["width"] for r in value["rows"]})
    for j, width in enumerate(widths):
        rows = sorted((r for r in value["rows"] if r["width"] == width and not r["halting"]), key=lambda r: r["depth"])
        if not rows:
            continue
        x, note = [r["depth"] for r in rows], f", width {width}" if len(widths) > 1 else ""
        marker = "os^Dv"[j % 5]
        axes.plot(x, [100 * r["exact"] for r in rows], color=colour, marker=marker, label=f"{lead}exact{note}")
        low, high = ([100 * r[k] for r in rows] for k in ("low", "high"))
        axes.fill_between(x, low, high, color=colour, alpha=0.18, linewidth=0)
        known = [r for r in rows if r.get("valid") is not None]
        if any(abs(r["valid"] - r["exact"]) > 5e-4 for r in known):
            at, y = [r["depth"] for r in known], [100 * r["valid"] for r in known]
            axes.plot(at, y, color=colour, linestyle=(0, (3, 2)), linewidth=1, label=f"{lead}valid{note}")
    for i, r in enumerate(r for r in value["rows"] if r["halting"]):
        axes.plot(
            [r["steps"]],
            [100 * r["exact"]],
            color=HALTED,
            marker="*",
            markersize=9,
            linestyle="",
            markeredgewidth=0,
            zorder=5,
            label=f"{lead}its own halting" if i == 0 else None,
        )
    if value.get("trained_depth"):
        axes.axvline(value["trained_depth"], color="#888888", linewidth=0.8, linestyle=":")
        place = axes.get_xaxis_transform()
        axes.text(value["trained_depth"] * 1.06, 0.02, "trained", color="#888888", fontsize=6.5, transform=place)


def learning_curve(logged: dict[str, list[dict[str, Any]]]) -> Figure:
    """Validated exact accuracy, and the exact accuracy in training behind it, over optimizer steps."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=SIZE, layout="constrained")
        axes = figure.subplots()
        for i, (name, records) in enumerate(logged.items()):
            colour, lead = COLOURS[i % len(COLOURS)], f"{name} " if len(logged) > 1 else ""
            seen = [(r["step"], 100 * r["train/exact_accuracy"]) for r in records if "train/exact_accuracy" in r]
            if seen:
                x, y = zip(*seen, strict=True)
                axes.plot(x, y, color=colour, alpha=0.35, linewidth=0.8, label=f"{lead}training")
            keys = [k for r in records for k in r if k.startswith("valid/exact@")]
            for key in list(dict.fromkeys(keys))[-1:]:
                x, y = zip(*[(r["step"], 100 * r[key]) for r in records if key in r], strict=True)
                depth = key.partition("@")[2]
                axes.plot(x, y, color=colour, marker="o", label=f"{lead}validation, {depth} steps")
        axes.set_xlabel("optimizer steps")
        axes.set_ylabel("puzzles solved exactly")
        _percent(axes)
        _legend(axes)
    return figure


def _legend(axes: Axes) -> None:
    """Above the axes, where no curve can run through it."""
    axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=2, borderaxespad=0, columnspacing=1.2)


def _percent(axes: Axes) -> None:
    axes.set_ylim(-2, 102)
    axes.set_yticks([0, 25, 50, 75, 100], ["0 %", "25 %", "50 %", "75 %", "100 %"])
    axes.grid(axis="y", color="#888888", alpha=0.25, linewidth=0.5)
    axes.set_axisbelow(True)
