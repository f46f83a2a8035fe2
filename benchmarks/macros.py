"""Do macros make chains shorter at no loss? Our own language model, with macros that were mined, and with others.

    python benchmarks/macros.py --seeds 0 1 2 --threads 1 --out results/macros.json

For every seed the recipe chain is trained, and macros are mined from its right answers to training questions by
description length (innerloop.tokens.macros). Then the same net learns the same questions for as many optimizer steps
with these macros as further characters, and, as the null arm, with as many sequences of the same lengths that were
drawn at random from the same chains. Asked are held-out questions of 1 to 6 steps, in a chain: how many are right, and
how many tokens it took. Resumable: a seed that is done is kept in --out.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from by_seed import measure_each, options
from subject import of_recipe

import innerloop
from innerloop import recipes
from innerloop.cli.compressing import traces_of_run
from innerloop.data.questions import questions_of
from innerloop.interval import wilson
from innerloop.ledger import counting
from innerloop.runs.certificate import birth_certificate
from innerloop.runs.run import override
from innerloop.tasks.compressed import MACRO_NAMES
from innerloop.tokens.answers import same
from innerloop.tokens.macros import mine
from innerloop.tokens.way import Asked, answer_many
from innerloop.tokens.ways import way_of

QUESTIONS, MOST, MINED_FROM = 400, 8, 300


def at_random(traces: Sequence[Sequence[str]], sizes: Sequence[int], seed: int) -> dict[str, str]:
    """Sequences of these sizes from the traces, each another, at random."""
    draw, found = random.Random(seed), dict[str, str]()
    for size in sizes:
        while True:
            trace = draw.choice(traces)
            if len(trace) >= size:
                begin = draw.randrange(len(trace) - size + 1)
                text = "".join(trace[begin : begin + size])
                if text not in found.values():
                    found[MACRO_NAMES[len(found)]] = text
                    break
    return found


def asked(folder: str) -> dict[str, Any]:
    """How many held-out questions a run answers rightly in a chain, and what that costs."""
    model, task = innerloop.open_model(folder), innerloop.open_run(folder).task
    items = questions_of(task, QUESTIONS)
    with counting() as cost:
        said = answer_many(way_of("chain", model), [Asked(item) for item in items], workers=64)
    right = sum(same(item.kind, s.answer, item.answer) for item, s in zip(items, said, strict=True))
    low, high = wilson(right, len(items))
    return {"right": right, "n": len(items), "low": low, "high": high, "tokens_out": cost.tokens_out / len(items)}


def trained(name: str, seed: int, args: argparse.Namespace, macros: Any = None) -> str:
    """The folder of a training. macros: of the task compressed; None: the recipe as it is."""
    run = replace(override(recipes.get("chain"), args.set), seed=seed)
    if macros is not None:
        told = {"task": run.data.task, "options": run.data.options, "macros": macros}
        run = replace(run, data=replace(run.data, task="compressed", options=told))
    folder = args.runs / f"{name}_{seed}"
    innerloop.fit(innerloop.build(run), folder)
    return str(folder)


def measured(seed: int, args: argparse.Namespace) -> dict[str, Any]:
    """Train with none, with mined and with random macros, and ask."""
    plain = trained("chain", seed, args)
    traces = traces_of_run(plain, plain, MINED_FROM).rows
    found = mine(traces, list(MACRO_NAMES[:MOST]))
    mined = {m.name: "".join(m.steps) for m in found.macros}
    arms: dict[str, Mapping[str, str] | None] = {"none": None, "mined": mined}
    arms["random"] = at_random(traces, [len(text) for text in mined.values()], seed)
    rows = []
    for name, macros in arms.items():
        folder = plain if macros is None else trained(name, seed, args, macros=macros)
        rows.append({"macros": name, "texts": macros or {}} | asked(folder))
    size = sum(p.numel() for p in innerloop.open_run(plain).loop.parameters())
    return {
        "seed": seed, "rows": rows, "bits_before": found.bits_before, "bits_after": found.bits_after,
        "subject": of_recipe("chain", size), "born": birth_certificate([seed]),
    }  # fmt: skip


def tell(row: dict[str, Any]) -> None:
    for arm in row["rows"]:
        right, tokens = arm["right"] / arm["n"], arm["tokens_out"]
        print(f"seed {row['seed']}: {arm['macros']:7} {right:.3f} right, {tokens:.2f} tokens", flush=True)


def main() -> None:
    args = options(__doc__, "runs/macros").parse_args()
    measure_each(args, [{"seed": seed} for seed in args.seeds], measured, tell)


if __name__ == "__main__":
    main()
