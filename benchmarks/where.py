"""Where should the loop be: in the weights, in the tokens, or around them? One task, one budget of FLOPs, over seeds.

    python benchmarks/where.py --seeds 0 1 2 --threads 1 --out results/where.json

For every seed two language models learn chain arithmetic of 1 to 6 steps from the same texts, for as many optimizer
steps: `plain`, three layers, and `looped`, one layer that is run eight times at every token (a third of the weights,
and 8/3 of the FLOPs of training). Then `innerloop compare` asks both the same held-out questions, each way under the
same hard budget of FLOPs a question: plain directly, in a chain, after dots, and by a vote; looped directly at depth 4,
8 and 16, by a vote, and in a chain. The null arm is samples of plain's direct answer for as long as the budget lasts.
Resumable: a seed that is done is kept in --out.
"""

from __future__ import annotations

import argparse
import contextlib
import io
from dataclasses import replace
from typing import Any

from by_seed import measure_each, options
from subject import of_recipe

import innerloop
from innerloop import files, recipes
from innerloop.cli.comparing import RESULT, compare
from innerloop.runs.certificate import birth_certificate
from innerloop.runs.run import override

DEPTH, QUESTIONS, BUDGET = 8, 300, 150e6  # of the loop; questions; FLOPs of one question
LOOPED = (f"plan.unroll.depth={DEPTH}", f"plan.depths=[{DEPTH}]")
OF_PLAIN = ("direct", "chain", "dots", "vote(8, direct)")
OF_LOOPED = (
    ("direct", DEPTH // 2),
    ("direct", DEPTH),
    ("direct", 2 * DEPTH),
    ("vote(4, direct)", DEPTH),
    ("chain", DEPTH),
)


def trained(name: str, run: Any, args: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    """(the folder of a training, what it is about); one that was cut goes on."""
    built, folder = innerloop.build(run), args.runs / f"{name}_{run.seed}"
    result = innerloop.fit(built, folder)
    size = sum(p.numel() for p in built.loop.parameters())
    return str(folder), {"recipe": run.name, "parameters": size, "steps": result.steps, "seconds": result.seconds}


def measured(seed: int, args: argparse.Namespace) -> dict[str, Any]:
    """Train both with one seed, and compare."""
    plain, about_plain = trained("chain", replace(override(recipes.get("chain"), args.set), seed=seed), args)
    looped_run = override(recipes.get("chain", system="looped"), [*LOOPED, *args.set])
    looped, about_looped = trained("looped", replace(looped_run, seed=seed), args)
    ways = {way: f"plain: {way}" for way in OF_PLAIN}
    ways |= {f"{way} @ {looped}:{depth}": f"looped, depth {depth}: {way}" for way, depth in OF_LOOPED}
    folder = args.runs / f"compared_{seed}"
    with contextlib.redirect_stdout(io.StringIO()):
        compare(
            plain, think=tuple(ways), budget=f"{QUESTIONS * BUDGET / 1e9:g}G-flops", limit=QUESTIONS, seed=seed,
            out=str(folder),
        )  # fmt: skip
    found = files.read_json(folder / RESULT)
    rows = [row | {"name": ways.get(row["name"], "null: samples of plain: direct")} for row in found["rows"]]
    return {
        "seed": seed, "plain": about_plain, "looped": about_looped, "rows": rows, "limits": found["limits"],
        "subject": of_recipe("chain", about_plain["parameters"]), "born": birth_certificate([seed]),
    }  # fmt: skip


def tell(row: dict[str, Any]) -> None:
    for way in row["rows"]:
        cost = way["spent"]["flops"] / 1e6
        print(f"seed {row['seed']}: {way['name']:32} {100 * way['accuracy']:5.1f} % for {cost:6.1f} MFLOPs", flush=True)


def main() -> None:
    args = options(__doc__, "runs/where").parse_args()
    measure_each(args, [{"seed": seed} for seed in args.seeds], measured, tell)


if __name__ == "__main__":
    main()
