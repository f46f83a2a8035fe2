"""What docs/solve_for_real.md says of the engine, from results/engine_*.json: first of all where it does not pay."""

from __future__ import annotations

from typing import Any

from marked import between, table

PAYS = 1.1  # times the puzzles a second of the best fixed depth, below which it is not worth having
SAID = {
    "rounds": "the best fixed number of rounds, which may end within a step",
    "continuous": "continuous batching by depth",
    "verified": "continuous, until a verifier agrees",
    "compiled": "the same, the step one compiled graph",
}
RULES = {"certain": "certain", "confident": "confident", "sure": "confident_and_unchanged"}  # of innerloop.halt
COMMANDS = [
    "```sh",
    "OMP_NUM_THREADS=1 python benchmarks/engine.py demo-sudoku6 --mix 8,24 --limit 2000 --threads 1 "
    "--out results/engine_sudoku6.json",
    "OMP_NUM_THREADS=1 python benchmarks/engine.py demo-sudoku9 --mix 22,45 --limit 2500 --threads 1 "
    "--out results/engine_sudoku9.json",
    "```",
]


def page(text: str, values: list[dict[str, Any]]) -> str:
    """The page with its paragraph about the engine renewed."""
    return between(text, "engine", paragraph(values))


def paragraph(values: list[dict[str, Any]]) -> list[str]:
    if not values:
        return ["What batching by depth gains on the models that come along is not measured yet:", "", *COMMANDS]
    paid: dict[bool, list[str]] = {False: [], True: []}
    rows = []
    for value in values:
        by = {r["policy"]: r for r in value["rows"]}
        for name, said in SAID.items():
            if name not in by:
                continue
            r = by[name]
            gains = [r["against_fixed"], r.get("against_rounds", r["against_fixed"])]
            if name != "rounds":
                paid[min(gains) >= PAYS].append(f"{said} on `{value['run']}` ({min(gains):.2f}x)")
            rows.append([f"`{value['run']}`", said, f"{100 * r['accuracy']:.1f}", *(f"{g:.2f}x" for g in gains)])
            rows[-1].append(f"{r['ideal']:.2f}x")
    no, yes = ("; ".join(paid[k]) for k in (False, True))
    rival = "the best fixed depth, or the best fixed number of rounds where that is the faster"
    lines = [f"Against {rival}, this does not pay: {no}."] if no else [f"All of it pays against {rival}."]
    lines += [f"This pays: {yes or 'nothing'}."]
    lines += ["*Ideal* is what a policy would gain if only steps took time.", ""]
    head = ["model", "policy", "% solved", "against the best fixed depth", "against fixed rounds", "ideal of the first"]
    lines += table(head, rows)
    return [*lines, *COMMANDS, "", "[All numbers](results.md#solving), with latencies under load."]


def rule(chosen: dict[str, Any]) -> str:
    """What halted the continuous rows, as it was chosen on the validation puzzles."""
    looks = f", looked at {chosen['looks']} times a step" if chosen["looks"] > 1 else ""
    return f"{RULES[chosen['rule']]}({chosen['level']}){looks}"
