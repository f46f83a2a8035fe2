"""Do the verdicts of `innerloop compare` keep their word? Permuted labels, a planted effect, a tie.

    python benchmarks/verdicts.py --comparisons 200 --out results/verdicts.json

Permuted: four ways and a null arm answer the same questions, right with probabilities that differ from question to
question but not from arm to arm; every comparison that finds a winner is a mistake. Planted: a way is right 10 points
more often than another, with half of their answers shared; a pilot of a hundred questions says how many would decide,
and so many are then asked. Tie: both arms are right on the same questions.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from innerloop import files
from innerloop.interval import wilson
from innerloop.runs.certificate import birth_certificate
from innerloop.study.verdict import compare_paired, with_holm

ARMS, QUESTIONS, PILOT, EFFECT, SHARED = 4, 200, 100, 0.1, 0.5


def permuted(rng: np.random.Generator) -> bool:
    """Whether any of four equal ways is called better or worse than the null arm."""
    chance = rng.beta(1, 1, QUESTIONS)
    arms = rng.random((ARMS + 1, QUESTIONS)) < chance
    return any(c.verdict != "undecided" for c in with_holm([compare_paired(arm, arms[-1]) for arm in arms[:-1]]))


def pair(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Two arms of which the first is right 10 points more often: half of the answers are the same."""
    base = rng.random(n) < 0.5
    first = np.where(rng.random(n) < SHARED, base, rng.random(n) < 0.5 + EFFECT / (1 - SHARED))
    return first, base


def planted(rng: np.random.Generator) -> tuple[int, bool]:
    """(questions that the rule asks for at the true effect, whether so many find it)."""
    needed = 0
    for _ in range(1000):  # a pilot whose difference is the planted one, so that the number is that of the effect
        v = compare_paired(*pair(rng, PILOT))
        if abs(v.difference - EFFECT) < 0.005:
            needed = v.items_needed or 0
            break
    return needed, compare_paired(*pair(rng, needed)).verdict == "better"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--comparisons", type=int, default=200)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    rng, n = np.random.default_rng(0), args.comparisons
    winners = sum(permuted(rng) for _ in range(n))
    plants = [planted(rng) for _ in range(n)]
    found = sum(hit for _, hit in plants)
    ties = [compare_paired(arm, arm) for arm in rng.random((n, QUESTIONS)) < 0.5]
    rows: list[dict[str, Any]] = []
    for what, hits, questions in (
        ("permuted labels, a winner", winners, QUESTIONS),
        ("10 points planted, found", found, round(float(np.median([k for k, _ in plants])))),
        ("a tie, undecided", sum(c.verdict == "undecided" for c in ties), QUESTIONS),
    ):
        low, high = wilson(hits, n)
        rows.append(
            {"what": what, "comparisons": n, "questions": questions, "share": hits / n, "low": low, "high": high}
        )
        print(f"{what}: {hits} of {n} ({low:.1%} to {high:.1%}), {questions} questions each")
    files.write_json(args.out, {"born": birth_certificate([0]), "rows": rows})


if __name__ == "__main__":
    main()
