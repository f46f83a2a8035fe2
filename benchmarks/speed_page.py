"""The tables of docs/speed.md, from results/speed_cpu.json and results/cost_cpu.json."""

from __future__ import annotations

from typing import Any

from marked import between, born, table

NAMES = {"trm": "TRM", "trm_mlp": "TRM, mixing tokens", "hrm": "HRM"}


def page(text: str, speed: dict[str, Any], cost: dict[str, Any]) -> str:
    """docs/speed.md with its tables renewed."""
    for name, made in (("block", share), ("step", steps), ("small", small)):
        text = between(text, name, made([r for r in speed["rows"] if r["what"] == name])[:-1])
    for name, made in (("curve", curves), ("untaped calls", memory), ("processes", processes)):
        text = between(text, name.split()[0], made([r for r in cost["rows"] if name in r])[:-1])
    return between(text, "born", [f"- {born(value)}" for value in (speed, cost)])


def share(rows: list[dict[str, Any]]) -> list[str]:
    head = ["block", "eager, ms", "compiled, ms", "times as fast", "share of the ceiling"]
    return table(
        head,
        [
            [NAMES[r["of"]], ms(r["eager_ms"]), ms(r["ours_ms"]), f"{r['ratio']:.2f}", part(r["share_of_ceiling"])]
            for r in rows
        ],
    )


def steps(rows: list[dict[str, Any]]) -> list[str]:
    head = ["step of", "batch", "the official maths, s", "here, s", "times as fast", "share of the ceiling"]
    return table(
        head,
        [
            [
                NAMES[r["of"]],
                r["batch"],
                f"{r['eager_ms'] / 1e3:.2f}",
                f"{r['ours_ms'] / 1e3:.2f}",
                f"{r['ratio']:.2f}",
                part(r["share_of_ceiling"]),
            ]
            for r in rows
        ],
    )


def small(rows: list[dict[str, Any]]) -> list[str]:
    head = ["recipe", "width of a node", "batch", "torch's operations, ms", "one region, ms", "times as fast"]
    return table(
        head,
        [
            [
                f"`{r['of']}`",
                r["width"] // r["nodes of a place"],
                r["batch"],
                ms(r["eager_ms"]),
                ms(r["ours_ms"]),
                f"{r['ratio']:.2f}",
            ]
            for r in rows
        ],
    )


def curves(rows: list[dict[str, Any]]) -> list[str]:
    head = ["what grows", "from", "to", "seconds, first to last", "exponent at the end"]
    return table(
        head,
        [
            [
                r["curve"],
                r["points"][0],
                r["points"][-1],
                f"{r['seconds'][0]:.3g} to {r['seconds'][-1]:.3g}",
                f"{r['exponent']:.2f}",
            ]
            for r in rows
        ],
    )


def memory(rows: list[dict[str, Any]]) -> list[str]:
    head = ["calls off the tape", "on the tape", "MiB kept for the gradient"]
    return table(head, [[r["untaped calls"], r["taped calls"], f"{r['MiB']:.2f}"] for r in rows])


def processes(rows: list[dict[str, Any]]) -> list[str]:
    return table(
        ["processes of one thread", "seconds of 50 steps"],
        [[r["processes"], f"{r['seconds of 50 steps']:.2f}"] for r in rows],
    )


def ms(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else f"{value:.1f}"


def part(share: float) -> str:
    return f"{100 * share:.0f} %"
