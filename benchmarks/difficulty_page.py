"""What the pages say of results/difficulty.json and results/trajectories.json: by difficulty, and of many trajectories.

Without a file its place holds the command that measures it.
"""

from __future__ import annotations

from typing import Any

from marked import born, table

LEVELS = {"singles": "singles", "subsets": "pairs, triples", "beyond": "neither"}
ARMS = {
    "views": "seen turned and renamed",
    "start": "the model's own noise on the first state, {scale:g} times as large",
    "path": "noise of {scale:g} on every step",
    "guess": "one guessed cell each",
}
DIFFICULTY = [
    "Not measured yet:",
    "",
    "```sh",
    "python benchmarks/difficulty.py DATA/sudoku9_*_test.csv DATA/sudoku9_17clue.csv --threads 1 "
    "--out results/difficulty.json",
    "python benchmarks/difficulty.py --own --threads 1 --out results/difficulty.json",
    "```",
]
TRAJECTORIES = [
    "Not measured yet:",
    "",
    "```sh",
    "python benchmarks/trajectories.py --tune DATA/sudoku9_medium_train.csv DATA/sudoku9_medium_test.csv "
    "DATA/sudoku9_17clue.csv --threads 1 --out results/trajectories.json",
    "```",
]


def solved(row: dict[str, Any], key: str = "exact") -> str:
    return f"{100 * row[key]:.1f} ({100 * row['low']:.0f} to {100 * row['high']:.0f})"


def short(value: dict[str, Any] | None) -> list[str]:
    """README: a row a set, and whether anything falls with depth."""
    if value is None:
        return DIFFICULTY
    rows, depths = [], sorted({r["depth"] for s in value["rows"] for r in s["rows"]})
    for s in value["rows"]:
        at = {r["depth"]: r for r in s["rows"] if r["level"] == "all"}
        shares = [f"{s['levels'][k]:.0%}" for k in LEVELS]
        rows.append([f"`{s['set'].removesuffix(', its own')}`" + ", its own puzzles" * s["set"].endswith("its own")])
        rows[-1] += [f"{s['puzzles']:,}", *shares, *(solved(at[d]) for d in depths)]
    head = ["set", "puzzles", *(f"by {name}" for name in LEVELS.values()), *(f"% at {d}" for d in depths)]
    return [*table(head, rows), fallen(value, depths)]


def fallen(value: dict[str, Any], depths: list[int]) -> str:
    """What happens to accuracy between the least and the greatest depth."""
    first, last = depths[0], depths[-1]
    ends = [
        [r["exact"] for r in s["rows"] if r["level"] == "all" and r["depth"] in (first, last)] for s in value["rows"]
    ]
    falls = [s["set"] for s, (a, b) in zip(value["rows"], ends, strict=True) if b < a]
    lost, won = (sum(s["lost_and_won"][i] for s in value["rows"]) for i in (0, 1))
    said = f"Accuracy falls from depth {first} to {last} on {', '.join(falls)}" if falls else (
        f"No set falls from depth {first} to {last}"
    )  # fmt: skip
    total = sum(s["puzzles"] for s in value["rows"])
    return f"{said}: of {total:,} puzzles {won} are solved only at {last}, and {lost} only at {first}."


def section(value: dict[str, Any]) -> list[str]:
    """docs/results.md: every set by level and depth, with its certificate."""
    lines = ["## By difficulty", ""]
    lines += [
        "The simplest techniques that solve a puzzle without a guess (innerloop/rules/sudoku_techniques.py), and what"
    ]
    lines += ["the bundled models solve at exactly that depth: one trajectory, no halting, no verifier. Files go to"]
    lines += ["`demo-sudoku9`. % solved, 95 % interval of the puzzles.", ""]
    for s in value["rows"]:
        lines += [f"### {s['set']}", "", f"`{s['subject']['model']}` on {s['source']}.", "", f"- {born(s)}", ""]
        depths = sorted({r["depth"] for r in s["rows"]})
        rows = []
        for kind in dict.fromkeys(r["level"] for r in s["rows"]):
            at = {r["depth"]: r for r in s["rows"] if r["level"] == kind}
            rows.append([kind, at[depths[0]]["puzzles"], *(solved(at[d]) for d in depths)])
        lines += table(["level", "puzzles", *(f"depth {d}" for d in depths)], rows)
    return lines


def named(row: dict[str, Any]) -> str:
    return ARMS[row["arm"]].format(scale=row["scale"])


def width(value: dict[str, Any] | None) -> list[str]:
    """README: the same number of steps as one trajectory, or as many."""
    if value is None:
        return ["What many trajectories of a bundled model buy is not measured yet: see `benchmarks/trajectories.py`."]
    lines = []
    for s in value["sets"]:
        alone = next(r for r in s["rows"] if r["arm"] == "one trajectory" and r["depth"] == value["steps"])
        best = {a: max((r for r in s["rows"] if r["arm"] == a), key=lambda r: r["accuracy"]) for a in ARMS}
        told = "; ".join(f"{named(r)} {solved(r, 'accuracy')} as {r['width']} x {r['depth']}" for r in best.values())
        lines.append(
            f"On {alone['puzzles']} puzzles of `{s['set']}`, verified, one trajectory of `{value['subject']['model']}` "
            f"solves {solved(alone, 'accuracy')} % within {value['steps']} steps.\nThe best that as many steps buy as "
            f"several trajectories: {told}."
        )
    more = (
        "A guess is what a search would try next; the solver makes it by itself wherever a verifier decides "
        "(`--no-guess` turns it off)."
    )
    return [*lines, more, "[All widths](docs/results.md#trajectories)."]


def trajectories(value: dict[str, Any]) -> list[str]:
    """docs/results.md: every arm and width, and the scales of noise that were tried."""
    steps, calls = value["steps"], value["block_calls_a_step"]
    lines = ["## Trajectories", ""]
    lines += [
        f"At most {steps} steps a puzzle ({calls} block calls each), as one trajectory or as many; a verifier ends a"
    ]
    lines += [
        "puzzle at its first valid answer, and `calls` is what was spent on average. % solved, 95 % interval of the"
    ]
    lines += [f"puzzles. `{value['subject']['model']}`; scales of noise chosen on `{value['tuned_on']}`.", ""]
    for s in value["sets"]:
        lines += [f"### {s['set']}, by trajectories", "", f"- {born(s)}", ""]
        alone = sorted((r for r in s["rows"] if r["arm"] == "one trajectory"), key=lambda r: r["depth"])
        others = [r for r in s["rows"] if r["arm"] != "one trajectory"]
        rows = [["one trajectory", f"1 x {r['depth']}", solved(r, "accuracy"), f"{r['nfe']:.0f}"] for r in alone]
        rows += [[named(r), f"{r['width']} x {r['depth']}", solved(r, "accuracy"), f"{r['nfe']:.0f}"] for r in others]
        lines += table(["trajectories", "width x depth", "% solved", "calls"], rows)
    tried = [
        [named(r), f"{r['width']} x {r['depth']}", solved(r, "accuracy"), f"{r['nfe']:.0f}"] for r in value["trials"]
    ]
    lines += [f"Scales tried on {value['trials'][0]['puzzles']} validation puzzles:", ""]
    return lines + table(["noise", "width x depth", "% solved", "calls"], tried)
