"""The ladder's tables in docs/recipe.md."""

from __future__ import annotations

import statistics

import ladder
import ladder_table as tables
from ladder_table import Row
from marked import between, table

BOTH, LARGE = ["sudoku9", "maze15"], "sudoku9 large"  # rungs of the ablation, and the one that they are to predict
UNKNOWN = ["Not measured yet."]
LONGER = 20  # times a rung's FLOPs: what TRM needs to learn at all
TOLD = {"sudoku": "its units", "maze": "who is a neighbour"}
THEIRS = "trm, rate 3e-3"  # TRM at the best of the rates tried (the table "trm")


def page(text: str, rows: list[Row]) -> str:
    """docs/recipe.md with the ladder's tables renewed."""
    text = between(text, "main", against(rows))
    for group in ("step", "net", "plan"):
        text = between(text, group, compared(rows, group, tables.BASE, BOTH))
    longer = [r | {"share": 1} for r in rows if r["share"] == LONGER]
    text = between(text, "trm", compared(longer, "trm", "trm", ["sudoku6"]))
    small, large = tables.of(rows, "sudoku9"), tables.of(rows, LARGE)
    factors, rho = tables.foretold(small, large)
    made = [[tables.shown(f), tables.solved(small, f), tables.solved(large, f)] for f in factors]
    lines = table(["factor", "`sudoku9`, %", f"`{LARGE}`, %"], made)
    lines.append(f"Rank correlation (Spearman): {rho:.2f} over {len(made)} factors.")
    return between(text, "large", lines if len(made) > 2 else UNKNOWN)


def compared(rows: list[Row], group: str, base: str, rungs: list[str]) -> list[str]:
    """The base and a group's factors."""
    made = tables.lines(rows, [base, *ladder.FACTORS[group]], rungs, base)
    made = [[tables.shown(factor), *cells] for factor, *cells in made]
    return table(tables.head(rungs), made)[:-1] if made else UNKNOWN


def stepped(rows: list[Row], factor: str) -> str:
    """What a factor solves, and in how many optimizer steps: whoever makes a step dearer gets fewer."""
    mine = tables.by(rows, factor)
    return f"{tables.solved(rows, factor)} ({mine[0]['steps']:,} steps)" if mine else "–"


def against(rows: list[Row]) -> list[str]:
    """Orbit and TRM on every rung: what they solve at 1x, after how many steps, and 32x; FLOPs to where TRM ends."""
    made = []
    for rung in ladder.SMALL:
        whole, longer = tables.of(rows, rung), tables.of(rows, rung, LONGER)
        cells = [TOLD[rung.rstrip("0123456789")], stepped(whole, "orbit"), tables.solved(whole, "orbit", "32")]
        cells += [stepped(whole, f) for f in ("trm, given structure", THEIRS)]
        cells.append(stepped(longer, THEIRS))
        theirs, mine = tables.by(longer, THEIRS), tables.by(whole, "orbit")
        end = max((a for r in theirs for _, a in r["curve"]), default=0)
        at = [ladder.reached(r["curve"], end) for r in mine] if end else []
        spent = [ladder.reached(r["curve"], max(a for _, a in r["curve"])) for r in theirs]
        cells.append(f"{statistics.mean(spent) / max(at):.0f}" if at and all(at) else "–")
        made.append([f"`{rung}`", *cells])
    head = [
        "rung",
        "Orbit is told",
        "Orbit, %",
        "at 32x",
        "TRM given the structure",
        "TRM",
        f"TRM at {LONGER} x the FLOPs",
        "FLOPs, TRM to Orbit",
    ]
    return table(head, made)[:-1]
