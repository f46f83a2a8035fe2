"""Our own small language model on chain arithmetic: direct answers, chains and dots by length, and its floor in bits.

    python benchmarks/own_model.py --seeds 0 1 2 --threads 1 --out results/own_model.json

The recipe chain is trained on 1 to 6 steps in all three modes. Then every mode is asked held-out questions of 1 to 10
steps, so that 7 to 10 are longer than any it learned from. Bits per character are of right responses to held-out
questions, by the model and by n-gram models of orders 0 to 5 that were counted on the same training texts
(interpolated Kneser-Ney, over whole texts). Resumable: a seed that is done is kept in --out.
"""

from __future__ import annotations

import argparse
import math
import time
from dataclasses import replace
from typing import Any

from by_seed import measure_each, options
from subject import of_recipe

import innerloop
from innerloop import recipes
from innerloop.data.questions import questions_of
from innerloop.interval import wilson
from innerloop.lm.ngram import NGram
from innerloop.runs.certificate import birth_certificate
from innerloop.runs.run import override
from innerloop.tasks.chain import ChainArithmetic
from innerloop.tokens.answers import same
from innerloop.tokens.way import Asked, answer_many
from innerloop.tokens.ways import way_of

LENGTHS, QUESTIONS, TEXTS, ORDERS = range(1, 11), 200, 300, range(6)


def accuracies(model: Any, modulus: int, places: int) -> list[dict[str, Any]]:
    """A row for every mode and number of steps."""
    rows = []
    for steps in LENGTHS:
        task = ChainArithmetic((steps, steps), modulus, places=places)
        items = questions_of(task, QUESTIONS)
        for mode in model.forms:
            said = answer_many(way_of(mode, model), [Asked(item) for item in items], workers=32)
            right = sum(same(item.kind, s.answer, item.answer) for item, s in zip(items, said, strict=True))
            low, high = wilson(right, len(items))
            rows.append(
                {"mode": mode, "steps": steps, "questions": len(items), "right": right, "low": low, "high": high}
            )
    return rows


def bits(model: Any, task: Any) -> float:
    """Bits per character, the end mark included, of right responses to held-out questions, over all modes."""
    prompts, responses = [], []
    for question in task.questions(TEXTS):
        for mode, mark in task.forms.items():
            prompts.append(question + mark)
            responses.append(task.respond(question, mode) + (";" if hasattr(model, "loop") else "\x03"))
    scores = model.score(prompts, responses)
    return -sum(map(sum, scores)) / math.log(2) / sum(map(len, responses))


def measured(seed: int, args: argparse.Namespace) -> dict[str, Any]:
    """Train with one seed, and measure."""
    run = replace(override(recipes.get("chain"), args.set), seed=seed)
    built, folder = innerloop.build(run), args.runs / f"chain_{seed}"
    began = time.process_time()
    result = innerloop.fit(built, folder)
    seconds = time.process_time() - began
    model = innerloop.open_model(str(folder))
    options = built.run.data.options
    texts = [built.task.decode(row).rstrip(built.task.pad_symbol)[:-1] for row in built.train.inputs]
    floors = {str(order): bits(NGram.fit(texts, order), built.task) for order in ORDERS}
    return {
        "seed": seed, "cpu_minutes": round(seconds / 60, 2), "steps": result.steps, "texts": len(built.train),
        "accuracy": accuracies(model, options["modulus"], options["places"]), "bits": bits(model, built.task),
        "ngram_bits": floors, "subject": of_recipe("chain", sum(p.numel() for p in built.loop.parameters())),
        "born": birth_certificate([seed]),
    }  # fmt: skip


def tell(row: dict[str, Any]) -> None:
    floor = min(row["ngram_bits"].values())
    print(
        f"seed {row['seed']}: {row['cpu_minutes']} CPU minutes; {row['bits']:.3f} bits, n-grams {floor:.3f}", flush=True
    )
    for mode in ("direct", "chain", "dots"):
        print(f"  {mode:7}", *(f"{r['right'] / r['questions']:.2f}" for r in row["accuracy"] if r["mode"] == mode))


def main() -> None:
    args = options(__doc__, "runs/own_model").parse_args()
    measure_each(args, [{"seed": seed} for seed in args.seeds], measured, tell)


if __name__ == "__main__":
    main()
