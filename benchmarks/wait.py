"""Does "Wait" help? Accuracy over forced rechecks, of a model that learned to recheck and of two that cannot.

    python benchmarks/wait.py --seeds 0 1 2 --threads 1 --out results/wait.json

Three small models learn to answer a + b, a - b, a * b modulo 10, the first answer right with probability 0.4: one from
traces in which each recheck mends a wrong answer with probability 0.5, one from traces whose rechecks mend nothing, one
from traces without rechecks. Each is then made to recheck n times by budget forcing (innerloop.tokens.forcing), at
temperature 1, on questions that it learned, since what is studied is the recheck. From other samples of its own: p0,
how often the first answer is right; q, how often a recheck mends a wrong one; b, how often it breaks a right one. The
law a(n + 1) = a(n) (1 - b) + (1 - a(n)) q from these three, which for b = 0 is a(n) = 1 - (1 - p0)(1 - q)^n, is set
beside the accuracy that was measured. Resumable by seed.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from itertools import pairwise
from typing import Any

from by_seed import measure_each, options

import innerloop
from innerloop import recipes
from innerloop.data.questions import questions_of
from innerloop.interval import wilson
from innerloop.runs.certificate import birth_certificate
from innerloop.runs.run import override
from innerloop.tasks.recheck import WAIT
from innerloop.tokens.forcing import Budgeted, ThinkingFormat
from innerloop.tokens.way import Asked, answer_many

MODELS = {
    "rechecks": {"mends": 0.5, "rechecks": [0, 4]},
    "mends nothing": {"mends": 0.0, "rechecks": [0, 4]},
    "never rechecks": {"mends": 0.0, "rechecks": [0, 0]},
}
PLACES, WAITS, SAMPLES = 32, range(7), 20  # of a row; forced rechecks; of each question
PLAN = ["plan.steps=1200", "plan.check_every=400", "config.net.layers=2", "data.count=40000", "data.holdout=200"]


def traces(model: Any, items: list[Any], waits: int, first: int = 0) -> list[list[str]]:
    """The right answer and the numbers that each sample wrote, first, second, ...; `first`: of their seeds."""
    thinking = ThinkingFormat(close="=", stop=("=", WAIT))
    way = Budgeted(model, 2 * waits + 4, wait=waits, word=WAIT, temperature=1.0, thinking=thinking)
    asked = [Asked(item, first + 1000 * i + n) for i, item in enumerate(items) for n in range(SAMPLES)]
    said = answer_many(way, asked, workers=64)
    numbers = []
    for one, ask in zip(said, asked, strict=True):
        thought, _, _ = one.text.partition("=")
        numbers.append([ask.item.answer or "", *thought.split(WAIT)])
    return numbers


def law(p0: float, q: float, b: float, waits: int) -> float:
    a = p0
    for _ in range(waits):
        a = a * (1 - b) + (1 - a) * q
    return a


def measured(name: str, seed: int, args: argparse.Namespace) -> dict[str, Any]:
    options = json.dumps(MODELS[name] | {"right": 0.4, "places": PLACES})
    run = override(recipes.get("chain"), ["data.task=recheck", f"data.options={options}", *PLAN, *args.set])
    built, folder = innerloop.build(replace(run, seed=seed)), args.runs / f"{name.replace(' ', '_')}_{seed}"
    began = time.process_time()
    innerloop.fit(built, folder)
    seconds = time.process_time() - began
    model, items = innerloop.open_model(str(folder)), questions_of(built.task, 100, seed=0)
    longest = traces(model, items, WAITS[-1], first=1_000_000)  # other samples than those that are judged
    pairs = [(t[0], x, y) for t in longest for x, y in pairwise(t[1:])]
    wrong, right = [p for p in pairs if p[0] != p[1]], [p for p in pairs if p[0] == p[1]]
    q, b = (sum(p[0] == p[2] for p in wrong) / len(wrong), sum(p[0] != p[2] for p in right) / max(1, len(right)))
    p0 = sum(t[0] == t[1] for t in longest) / len(longest)
    rows = []
    for waits in WAITS:
        found = traces(model, items, waits)
        hits = sum(t[0] == t[-1] for t in found)
        low, high = wilson(hits, len(found))
        predicted = law(p0, q, b, waits)
        rows.append(
            {
                "waits": waits, "right": hits, "samples": len(found), "low": low, "high": high, "law": predicted,
                "simple_law": law(p0, q, 0.0, waits), "within": low <= predicted <= high,
            }
        )  # fmt: skip
    return {
        "model": name, "seed": seed, "cpu_minutes": round(seconds / 60, 2), "questions": len(items), "p0": p0, "q": q,
        "b": b, "accuracy": rows, "born": birth_certificate([seed]),
    }  # fmt: skip


def tell(row: dict[str, Any]) -> None:
    shares = " ".join(f"{r['right'] / r['samples']:.2f}({r['law']:.2f})" for r in row["accuracy"])
    told = f"p0 {row['p0']:.2f} q {row['q']:.2f} b {row['b']:.3f}"
    print(f"{row['model']:15} seed {row['seed']}: {told}; {shares}", flush=True)


def main() -> None:
    args = options(__doc__, "runs/wait").parse_args()
    measure_each(args, [{"model": name, "seed": seed} for seed in args.seeds for name in MODELS], measured, tell)


if __name__ == "__main__":
    main()
