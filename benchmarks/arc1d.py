"""1D-ARC in one pass: the rule is read off three examples, of puzzles never seen. One command, in slices if need be.

    python benchmarks/arc1d.py DATA --minutes 9 --out results/arc1d.json        # until it is done
    python benchmarks/arc1d.py DATA --smoke --out runs/smoke.json               # minutes on a CPU

DATA is arc1d_public.json.gz, half of each of the 18 families of 1D-ARC, or any file of id -> {train, test} pairs. A
puzzle is a grid of eight rows: three examples, each the question above its answer, then the question asked, and a blank
row. The network is Orbit: a colour is an interchangeable symbol, information moves cell by cell, nothing is told of the
puzzle's family. Of each family six puzzles are for the test and three choose the weights; the rest train, each also
mirrored and with any of its four pairs asked. Shorter rows are filled up with background; wider puzzles than 33 cells,
and pairs of unequal length, are left out and counted.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import records

from innerloop.data.opening import open_set
from innerloop.recipes import get
from innerloop.recipes.sudoku import sized
from innerloop.runs.run import Data, Run, override

WIDTH, TEST, VALIDATION = 33, 6, 3
ALPHABET, BLANK = "?0123456789", "?"
SMOKE = ["plan.steps=20", "plan.batch=4", "plan.check_every=10", "plan.save_every=10", "plan.depths=4"]
Pairs = list[tuple[str, str]]  # a question's row and its answer's, as text


def pairs(task: dict) -> Pairs | None:
    """All pairs of a puzzle, filled up to WIDTH; None where they do not fit."""
    rows = [(p["input"], p["output"]) for p in task["train"] + task["test"]]
    if any(len(q) != 1 or len(a) != 1 or len(q[0]) != len(a[0]) or len(q[0]) > WIDTH for q, a in rows):
        return None
    return [tuple("".join(map(str, row[0])).ljust(WIDTH, "0") for row in pair) for pair in rows]


def written(some: Pairs) -> dict[str, str]:
    """The last pair asked, after the others."""
    told = "".join(row for pair in some for row in pair)
    return {"question": told[:-WIDTH] + BLANK * WIDTH, "answer": told}


def varied(some: Pairs) -> Iterable[Pairs]:
    """Every order of the pairs, as it stands and mirrored."""
    for order in itertools.permutations(some):
        yield list(order)
        yield [(q[::-1], a[::-1]) for q, a in order]


def split(path: Path, folder: Path) -> tuple[Path, Path, Path]:
    """train, validation and test.jsonl in `folder`: whole puzzles in one of them."""
    text = path.read_bytes()
    told = json.loads(gzip.decompress(text) if path.suffix == ".gz" else text)
    known = {name: pairs(task) for name, task in sorted(told.items())}
    left = [name for name, some in known.items() if some is None]
    print(f"{len(known) - len(left)} puzzles, {len(left)} left out as too wide or of unequal length", flush=True)
    families: dict[str, list[Pairs]] = {}
    for name, some in known.items():
        if some is not None:
            families.setdefault(name.rpartition("_")[0], []).append(some)
    parts: dict[str, list[Pairs]] = {"train": [], "validation": [], "test": []}
    for family in families.values():
        order = np.random.default_rng(0).permutation(len(family))
        mixed = [family[i] for i in order]
        parts["test"] += mixed[:TEST]
        parts["validation"] += mixed[TEST : TEST + VALIDATION]
        parts["train"] += [v for some in mixed[TEST + VALIDATION :] for v in varied(some)]
    folder.mkdir(parents=True, exist_ok=True)
    for name, some in parts.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(written(s)) + "\n" for s in some))
    return tuple(folder / f"{name}.jsonl" for name in parts)  # type: ignore[return-value]


def recipe(train: Path, validation: Path) -> Run:
    options = {"alphabet": ALPHABET, "shape": [8, WIDTH], "blank": BLANK, "symmetries": ["names"]}
    data = Data("grid", options, train=str(train), test=str(validation), count=0, holdout=0)
    base = get("maze_hard")
    plan = replace(base.plan, steps=20_000, check_every=1000, save_every=250)
    return replace(base, name="arc1d", config=replace(sized(160), rounds=8), data=data, plan=plan)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="arc1d_public.json.gz, or the folder it lies in")
    parser.add_argument("--smoke", action="store_true", help="a few steps, to see that all of it works")
    records.arguments(parser)
    args = parser.parse_args()
    path = args.data / "arc1d_public.json.gz" if args.data.is_dir() else args.data
    train, validation, test = split(path, args.runs / f"{args.out.stem}-data")
    run = override(recipe(train, validation), SMOKE if args.smoke else [])
    find = lambda built: open_set(str(test), built.task, args.limit or None)[1]  # noqa: E731
    records.record(run, find, args, "python benchmarks/arc1d.py DATA")


if __name__ == "__main__":
    main()
