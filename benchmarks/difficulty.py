"""How hard puzzles are for a person, and whether the bundled models solve them, deeper and deeper.

    python benchmarks/difficulty.py DATA/sudoku9_easy_test.csv DATA/sudoku9_17clue.csv --out results/difficulty.json
    python benchmarks/difficulty.py --own --out results/difficulty.json

Files of 9x9 Sudokus go to demo-sudoku9. --own asks every bundled model about puzzles of its own generator that
neither trained nor chose it. The level is that of innerloop/rules/sudoku_techniques.py: the simplest techniques that
solve a puzzle without a guess. One trajectory, no halting, no verifier: an answer counts at exactly that depth.
Resumable: a set that is done is kept in --out, with a birth certificate of its own.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from subject import of_model

from innerloop import files
from innerloop.core import think
from innerloop.data.opening import open_set
from innerloop.interval import wilson
from innerloop.learn.evaluate import batches
from innerloop.learn.precision import prepare
from innerloop.pretrained import names
from innerloop.pretrained import open as open_model
from innerloop.rules.sudoku_techniques import LEVELS, level
from innerloop.runs.certificate import birth_certificate, commit
from innerloop.runs.fit import load_data, unseen_puzzles

OWN = tuple(names())


@torch.no_grad()
def right(loop: Any, examples: Any, depths: list[int]) -> np.ndarray:
    """(depths, N) whether each puzzle's answer is as labelled at each of the depths, which rise."""
    found = []
    for part, question in batches(examples, 64, "cpu"):
        state, at, hits = None, 0, []
        for depth in depths:
            thought = think(loop, question, depth - at, state=state)
            state, at = thought.state, depth
            hits.append((thought.answer.logits.argmax(-1).numpy() == part.labels).all(1))
        found.append(np.stack(hits))
    return np.concatenate(found, 1)


def judged(name: str, source: str, opened: Any, examples: Any, args: argparse.Namespace) -> dict[str, Any]:
    """The share of each level, and accuracy at each depth, of all and by level."""
    hits = right(opened.loop, examples, args.depths)
    digits = examples.inputs.astype(int) - 1  # token 1 is an empty cell
    levels = np.array([level(grid, opened.task.board) for grid in digits.tolist()])
    rows = []
    for kind in ("all", *LEVELS):
        of = np.full(len(levels), True) if kind == "all" else levels == kind
        if not of.any():
            continue
        for depth, hit in zip(args.depths, hits[:, of], strict=True):
            low, high = wilson(float(hit.sum()), len(hit))
            exact = float(hit.mean())
            rows.append({"level": kind, "depth": depth, "puzzles": len(hit), "exact": exact, "low": low, "high": high})
    lost = int((hits[0] & ~hits[-1]).sum()), int((~hits[0] & hits[-1]).sum())
    return {
        "set": name, "source": source, "subject": of_model(opened), "puzzles": len(examples),
        "levels": {kind: float((levels == kind).mean()) for kind in LEVELS}, "rows": rows,
        "lost_and_won": lost, "born": birth_certificate([args.seed]),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="*", help="labelled files of 9x9 Sudokus")
    parser.add_argument("--own", action="store_true", help="each bundled model on puzzles of its own generator")
    parser.add_argument("--limit", type=int, default=300, help="puzzles of a set, drawn by --seed")
    parser.add_argument("--depths", type=int, nargs="+", default=[16, 64, 256])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    commit()  # the one that runs, whatever is committed meanwhile
    done = files.read_json(args.out)["rows"] if args.out.exists() else []
    for source in [*args.sets, *(OWN if args.own else ())]:
        file = source not in OWN
        opened = open_model("demo-sudoku9" if file else source)
        name = Path(source).name.partition(".")[0] if file else f"{source}, its own"
        if any(row["set"] == name and row["subject"] == of_model(opened) for row in done):
            continue
        prepare(opened.loop, "cpu")
        if file:
            every = open_set(source, opened.task)[1]
            picked = np.random.default_rng(args.seed).permutation(len(every))[: args.limit]
            examples, where = every.take(np.sort(picked)), Path(source).name
        else:
            data = opened.run.data
            train = load_data(replace(data, holdout=1))[1]
            examples = unseen_puzzles(opened.task, train, data, args.limit)
            where = f"generated as it learned from, seed {data.seed + 2_000_003}, without twins"
        done = [row for row in done if row["set"] != name] + [judged(name, where, opened, examples, args)]
        files.write_json(args.out, {"rows": done, "born": birth_certificate([args.seed])})
        shares = {kind: round(share, 3) for kind, share in done[-1]["levels"].items()}
        solved = {r["depth"]: round(r["exact"], 3) for r in done[-1]["rows"] if r["level"] == "all"}
        print(name, shares, solved, flush=True)


if __name__ == "__main__":
    main()
