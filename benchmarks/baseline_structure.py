"""Orbit against TRM that is told the same structure: equal FLOPs, equal trials, unseen kinds of puzzles.

    python benchmarks/baseline_structure.py --out results/baseline_structure.jsonl
    python benchmarks/baseline_structure.py --rungs colouring8 --arms Orbit --out runs/some.jsonl  # some of it
    python benchmarks/baseline_structure.py --record                                       # and the whole as one .json

On every rung, for every arm and budget: one training of seed 0 for each of RATES, scored on validation puzzles only;
the rate that validates best (ties: the one that learned sooner) is then trained with fresh SEEDS, and these trainings
alone see the test puzzles. All arms get the same trials, puzzles, augmentation, optimizer and schedule. Cells are
appended as they are done, and what is in --out is not done again. Results come from committed code only.

What each arm is told is in TOLD. The rungs in NEW are tasks that neither side was designed or tuned on.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import ladder
import numpy as np
from ladder_table import Row, read
from marked import between, table

from innerloop.files import write_json
from innerloop.interval import cluster_bootstrap
from innerloop.learn.evaluate import score_set
from innerloop.runs.certificate import birth_certificate, commit
from innerloop.runs.run import Data

RATES, TUNED_BY, SEEDS = (1e-3, 3e-3, 5e-3, 1e-2), 0, (1, 2, 3)
TEST = 500  # test puzzles, less those that are symmetric twins of training puzzles
SELECTION = (
    "rate: by validation puzzles with a seed that is not reported; weights of a training: by the same validation "
    "puzzles; test puzzles took part in no choice"
)
# Neither side was designed or tuned on these. Both states are equally wide, as on sudoku6.
COLOURING = Data("colouring", count=4000, holdout=100)
LATIN = Data("sudoku", {"size": 7, "box": (1, 7), "givens": (14, 20)}, count=4000, holdout=100)
NEW = {
    "colouring8": ladder.Rung(COLOURING, 0.3, 48, 16, ladder.MIXER, {"block": "units", "hidden_size": 48}),
    "latin7": ladder.Rung(LATIN, 0.5, 112, 16, ladder.MIXER, {"block": "units", "hidden_size": 112}),
}
ladder.RUNGS |= NEW
ARMS = {"Orbit": "orbit", "TRM, units": "trm, given structure", "TRM, Orbit's block": "trm's two states"}
BUDGETS = {"Orbit": (1,), "TRM, units": (1, 4), "TRM, Orbit's block": (1,)}  # multiples of the rung's training FLOPs
TOLD = {
    "Orbit": "the sets of cells by kind, as found from the task's symmetries, and which symbols are interchangeable, "
    "which ties weights",
    "TRM, units": "the same task's sets of cells (its units), all of one kind; interchangeable symbols "
    "only by augmentation",
    "TRM, Orbit's block": "exactly what Orbit is told: TRM's two-state recursion on Orbit's own block",
}


@dataclass(frozen=True)
class Cell:
    rung: str
    arm: str
    share: float  # of the rung's training FLOPs
    rate: float
    seed: int


# -- choosing ---------------------------------------------------------------------------------------------------------


def key(row: Row) -> tuple[str, str, float, float, int]:
    return row["rung"], row["arm"], row["share"], row["rate"], row["seed"]


def trials(rows: Sequence[Row], rung: str, arm: str, share: float) -> list[Row]:
    """The trainings that a rate is chosen by."""
    return [r for r in rows if (r["rung"], r["arm"], r["share"], r["seed"]) == (rung, arm, share, TUNED_BY)]


def chosen(found: Sequence[Row]) -> float:
    """The rate that validated best; among equals the one with the higher mean over the training's validations."""
    return float(max(found, key=lambda r: (r["best"], statistics.mean(a for _, a in r["curve"])))["rate"])


def judged(rows: Sequence[Row], rung: str, arm: str, share: float) -> list[Row]:
    """The trainings at the chosen rate, of other seeds than it was chosen by; none before all rates were tried."""
    found = trials(rows, rung, arm, share)
    if {r["rate"] for r in found} != set(RATES):
        return []
    rate = chosen(found)
    mine = [r for r in rows if (r["rung"], r["arm"], r["share"], r["rate"]) == (rung, arm, share, rate)]
    return [r for r in mine if r["seed"] in SEEDS]


# -- spreads ----------------------------------------------------------------------------------------------------------


def hits(rows: Sequence[Row]) -> np.ndarray:
    """bool (trainings, test puzzles)."""
    return np.array([unpacked(r["right"], r["puzzles"]) for r in rows])


def packed(right: np.ndarray) -> str:
    """bool (N,) as hexadecimal digits, eight puzzles in two."""
    return np.packbits(right).tobytes().hex()


def unpacked(digits: str, count: int) -> np.ndarray:
    return np.unpackbits(np.frombuffer(bytes.fromhex(digits), np.uint8), count=count).astype(bool)


@dataclass(frozen=True)
class Summary:
    """Mean accuracy over trainings, and both spreads: over puzzles these trainings, over trainings these puzzles."""

    mean: float
    low: float  # 95 % interval over puzzles, drawn again whole: a puzzle's trainings stand together
    high: float
    each: list[float]  # one accuracy a training

    @property
    def deviation(self) -> float | None:
        return statistics.stdev(self.each) if len(self.each) > 1 else None


def summary(rows: Sequence[Row]) -> Summary:
    right = hits(rows)
    puzzles = np.tile(np.arange(right.shape[1]), len(right))
    found = cluster_bootstrap(right.ravel(), puzzles)
    return Summary(found.value, found.low, found.high, [float(a) for a in right.mean(1)])


def verdict(ours: Sequence[Row], theirs: Sequence[Row]) -> str:
    """Who is ahead: every training of one above every one of the other, and the 95 % interval over puzzles of the
    difference without zero. Else "undecided".
    """
    a, b = hits(ours), hits(theirs)
    if a.shape[1] != b.shape[1] or min(len(a), len(b)) < 2:
        return "undecided"
    by_puzzle = a.mean(0) - b.mean(0)
    drawn = np.random.default_rng(0).integers(len(by_puzzle), size=(1000, len(by_puzzle)))
    low, high = np.quantile(by_puzzle[drawn].mean(1), (0.025, 0.975))
    if a.mean(1).min() > b.mean(1).max() and low > 0:
        return "first"
    if b.mean(1).min() > a.mean(1).max() and high < 0:
        return "second"
    return "undecided"


# -- the table in docs/recipe.md --------------------------------------------------------------------------------------

HEAD = ["rung", "arm", "FLOPs", "steps", "validated at each rate, %", "solved, %", "over puzzles", "over trainings"]
HEAD += ["10^12 FLOPs to 90 %", "against Orbit at 1x"]
SAID = {"first": "Orbit ahead", "second": "TRM ahead", "undecided": "undecided"}


def entries(rows: Sequence[Row]) -> list[Row]:
    """Every rung, arm and budget whose chosen rate was trained with fresh seeds: mean, both spreads, verdict."""
    made = []
    for rung, arm, share in dict.fromkeys((r["rung"], r["arm"], r["share"]) for r in rows):
        mine, orbit = judged(rows, rung, arm, share), judged(rows, rung, "Orbit", 1)
        if not mine:
            continue
        s, tried = summary(mine), sorted(trials(rows, rung, arm, share), key=lambda r: float(r["rate"]))
        to = [r["to"]["0.9"] for r in mine]  # 10^12 FLOPs until 90 % of the validation puzzles were solved
        made.append({
            "rung": rung, "arm": arm, "budget": share, "steps": mine[0]["steps"], "seeds": [r["seed"] for r in mine],
            "rate": mine[0]["rate"], "validated": {f"{r['rate']:g}": r["best"] for r in tried},
            "test_puzzles": mine[0]["puzzles"], "accuracy": s.mean, "low": s.low, "high": s.high,
            "each": [round(a, 4) for a in sorted(s.each)], "deviation": s.deviation,
            "to_90": [t and round(t, 3) for t in to],
            "verdict": None if arm == "Orbit" or not orbit else SAID[verdict(orbit, mine)],
        })  # fmt: skip
    return made


def lines(rows: Sequence[Row]) -> list[list[str]]:
    """The entries as rows of text."""
    made = []
    for e in entries(rows):
        reached = [t for t in e["to_90"] if t]
        to = f"{statistics.mean(reached):.2f}" if reached else "never"
        to += f", {len(e['to_90']) - len(reached)} never" if 0 < len(reached) < len(e["to_90"]) else ""
        deviation = "" if e["deviation"] is None else f" (sd {100 * e['deviation']:.1f})"
        bold = {k: f"**{k}**" if float(k) == e["rate"] else k for k in e["validated"]}
        made.append([
            f"`{e['rung']}`", e["arm"], f"{e['budget']:g}x", f"{e['steps']:,}",
            ", ".join(f"{bold[k]}: {100 * best:.0f}" for k, best in e["validated"].items()),
            f"{100 * e['accuracy']:.1f}", f"{100 * e['low']:.1f} to {100 * e['high']:.1f}",
            ", ".join(f"{100 * a:.1f}" for a in e["each"]) + deviation, to, e["verdict"] or "",
        ])  # fmt: skip
    return made


def record(rows: Sequence[Row]) -> Row:
    """The whole comparison as one result; its certificate the first training's, with all seeds, commits, commands."""
    first, all_of = rows[0], lambda key: dict.fromkeys(r["born"][key] for r in rows)
    born = first["born"] | {"seeds": [TUNED_BY, *SEEDS], "commit": ", ".join(all_of("commit"))}
    born |= {"command": "; ".join(all_of("command"))}
    sizes = {f"{r['rung']}, {r['arm']}": {"parameters": r["parameters"], "MFLOP": r["MFLOP"]} for r in rows}
    known = {r["rung"]: {k: r[k] for k in ("training_puzzles", "validation_puzzles")} for r in rows}
    known = {k: v | {"tera_at_1x": ladder.RUNGS[k].tera} for k, v in known.items()}
    told = {"told": TOLD, "selection": first["selection"], "rungs": known, "an_example_and_step": sizes}
    return {"born": born, "rows": entries(rows), **told}


def page(text: str, rows: Sequence[Row]) -> str:
    """docs/recipe.md with the table of this comparison renewed."""
    made = lines(rows)
    return between(text, "structure", table(HEAD, made)[:-1] if made else ["Not measured yet."])


# -- running ----------------------------------------------------------------------------------------------------------


def run(cell: Cell, test: bool) -> Row:
    """Train one cell; a trial for choosing is not shown the test puzzles."""
    name = ARMS[cell.arm]
    began = time.process_time()
    change = f"plan.lr={cell.rate}"
    loop, row = ladder.trained(cell.rung, name, cell.seed, cell.share, TEST, ladder.CHECKS, change)
    task, puzzles, validation, unseen = ladder.data(cell.rung, TEST)
    row |= {"arm": cell.arm, "rate": cell.rate, "told": TOLD[cell.arm], "selection": SELECTION}
    row |= {"training_puzzles": len(puzzles), "validation_puzzles": len(validation)}
    row |= {"budget_tera": cell.share * ladder.RUNGS[cell.rung].tera}
    if test:
        valid = score_set(loop, task, unseen, row["trained_depth"]).valid
        row |= {"puzzles": len(valid), "right": packed(valid), "accuracy": float(valid.mean())}
    return row | {"cpu_seconds_in_all": time.process_time() - began}


def group(rung: str, arm: str, share: float, out: Path) -> None:
    """All trainings of one arm on one rung with one budget that are not in `out`."""
    for rate in RATES:
        done(Cell(rung, arm, share, rate, TUNED_BY), False, out)
    rate = chosen(trials(read(out), rung, arm, share))
    for seed in SEEDS:
        done(Cell(rung, arm, share, rate, seed), True, out)


def done(cell: Cell, test: bool, out: Path) -> None:
    """Run a cell and append its row, unless it is there."""
    if out.exists() and any(key(r) == (cell.rung, cell.arm, cell.share, cell.rate, cell.seed) for r in read(out)):
        return
    born = birth_certificate([cell.seed])
    row = run(cell, test) | {"born": born}
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("a") as file:
        file.write(json.dumps(row) + "\n")
    tested = f", tested {row['accuracy']:.3f}" if test else ""
    to = row["to"]["0.9"]
    print(f"{cell}: {row['steps']} steps, {row['cpu_seconds_in_all']:.0f} s, validated {row['best']:.3f}{tested}, "
          f"90 % at {to}", flush=True)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rungs", nargs="+", default=["sudoku6", *NEW], choices=["sudoku6", *NEW])
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=list(ARMS))
    parser.add_argument("--out", type=Path, default=Path("results/baseline_structure.jsonl"))
    parser.add_argument("--budgets", type=int, nargs="+", default=[1, 4], help="those of BUDGETS that are asked for")
    parser.add_argument("--record", action="store_true", help="write what --out holds as one .json beside it, and stop")
    args = parser.parse_args()
    if args.record:
        return write_json(args.out.with_suffix(".json"), record(read(args.out)))
    if commit().endswith("+"):
        sys.exit(
            "the checkout has changes that are not committed: commit them first, results name the code they are of"
        )
    for rung in args.rungs:
        for arm in args.arms:
            for share in sorted({*BUDGETS[arm]} & {*args.budgets}):
                group(rung, arm, share, args.out)


if __name__ == "__main__":
    main()
