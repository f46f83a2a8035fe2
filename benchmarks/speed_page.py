"""The tables of docs/speed.md, from results/speed_cpu.json and results/cost_cpu.json."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from marked import between, born, table

NAMES = {"trm": "TRM", "trm_mlp": "TRM, mixing tokens", "hrm": "HRM"}


Row = dict[str, Any]
FASTER: dict[str, Callable[[Row], str]] = {"times as fast": lambda r: f"{r['ratio']:.2f}"}
SHARE: dict[str, Callable[[Row], str]] = {"share of the ceiling": lambda r: f"{100 * r['share_of_ceiling']:.0f} %"}
# The columns of each table, by the mark that it stands between.
SPEED: dict[str, dict[str, Callable[[Row], Any]]] = {
    "block": {
        "block": lambda r: NAMES[r["of"]],
        "eager, ms": lambda r: ms(r["eager_ms"]),
        "compiled, ms": lambda r: ms(r["ours_ms"]),
        **FASTER,
        **SHARE,
    },
    "step": {
        "step of": lambda r: NAMES[r["of"]],
        "batch": lambda r: r["batch"],
        "the official maths, s": lambda r: f"{r['eager_ms'] / 1e3:.2f}",
        "here, s": lambda r: f"{r['ours_ms'] / 1e3:.2f}",
        **FASTER,
        **SHARE,
    },
    "small": {
        "recipe": lambda r: f"`{r['of']}`",
        "width of a node": lambda r: r["width"] // r["nodes of a place"],
        "batch": lambda r: r["batch"],
        "torch's operations, ms": lambda r: ms(r["eager_ms"]),
        "one region, ms": lambda r: ms(r["ours_ms"]),
        **FASTER,
    },
}
COST: dict[str, dict[str, Callable[[Row], Any]]] = {
    "curve": {
        "what grows": lambda r: r["curve"],
        "from": lambda r: r["points"][0],
        "to": lambda r: r["points"][-1],
        "seconds, first to last": lambda r: f"{r['seconds'][0]:.3g} to {r['seconds'][-1]:.3g}",
        "exponent at the end": lambda r: f"{r['exponent']:.2f}",
    },
    "untaped calls": {
        "calls off the tape": lambda r: r["untaped calls"],
        "on the tape": lambda r: r["taped calls"],
        "MiB kept for the gradient": lambda r: f"{r['MiB']:.2f}",
    },
    "processes": {
        "processes of one thread": lambda r: r["processes"],
        "seconds of 50 steps": lambda r: f"{r['seconds of 50 steps']:.2f}",
    },
}


def page(text: str, speed: Row, cost: Row) -> str:
    """docs/speed.md with its tables renewed."""
    rows = {name: [r for r in speed["rows"] if r["what"] == name] for name in SPEED}
    rows |= {name: [r for r in cost["rows"] if name in r] for name in COST}
    for name, columns in (SPEED | COST).items():
        cells = [[told(r) for told in columns.values()] for r in rows[name]]
        text = between(text, name, table(list(columns), cells)[:-1])
    return between(text, "born", [f"- {born(value)}" for value in (speed, cost)])


def ms(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else f"{value:.1f}"
