"""Does adaptive computation time (ACT) take fewer steps at a higher ponder cost tau? On prefix parity.

    python benchmarks/act_tau.py --taus 0.003 0.01 0.03 0.1 --seeds 0 1 2 --threads 1 --out results/act_tau.json

Trains weights/act.py by full unrolls and reports, on rows drawn anew, how many steps it took and how often it was
right in every place. There are 510 rows of 1 to 8 bits, so most were seen in training: this measures thinking, not
generalisation. The last weights are judged. Two to four minutes on one thread.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from innerloop import tasks
from innerloop.core import think
from innerloop.files import write_json
from innerloop.halt import finished
from innerloop.interval import wilson
from innerloop.learn.checkpoint import MODEL, load_weights
from innerloop.learn.evaluate import batches
from innerloop.learn.plan import Plan
from innerloop.learn.precision import prepare
from innerloop.learn.train import train
from innerloop.learn.unroll import Unroll
from innerloop.parts.config import NetConfig
from innerloop.runs.certificate import birth_certificate
from innerloop.runs.fit import fit_config
from innerloop.weights.act import ACT, Config

CAP = 8  # steps at most, in training and after
SIZE = NetConfig(
    hidden_size=32,
    heads=4,
    layers=1,
    expansion=2.0,
    multiple_of=32,
    positions="learned",
    prefix=0,
    puzzle_emb_size=0,
    pool="mean",
)


@torch.no_grad()
def judged(loop: ACT, task: Any, examples: Any) -> dict[str, Any]:
    """Steps taken and rows answered right in every place, over `examples`."""
    [(part, question)] = batches(examples, len(examples), "cpu")
    thought = think(loop.eval(), question, CAP, halt=finished)
    exact, token, _ = task.score_batch(part.inputs, thought.answer.logits.argmax(-1).numpy(), part.labels)
    steps = thought.state.act.n
    low, high = wilson(float(exact.sum()), len(examples))
    return {
        "puzzles": len(examples),
        "exact": float(exact.mean()),
        "low": low,
        "high": high,
        "token": float(token.mean()),
        "steps": steps.double().mean().item(),
        "histogram": torch.bincount(steps, minlength=CAP + 1)[1:].tolist(),  # rows that took 1 .. CAP steps
    }


def measured(tau: float, seed: int, places: int, steps: int) -> dict[str, Any]:
    task = tasks.get("prefix", places=places)
    plan = Plan(
        steps=steps,
        batch=64,
        optimizer="adamw",
        lr=2e-3,
        weight_decay=0.01,
        warmup=20,
        clip=1.0,
        ema=0.0,
        loss="softmax",
        unroll=Unroll(CAP),
        augment=False,
        save_every=steps,
        compile="off",
    )
    torch.manual_seed(seed)
    loop = ACT(Config(fit_config(SIZE, task, 1), tau=tau, dtype="float32"))
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        prepare(loop, "cpu")
        train(loop, task, task.make(4000, seed), plan, folder, seed=seed, live=False)
        load_weights(Path(folder) / MODEL, loop)
    seconds = time.perf_counter() - began
    return {"tau": tau, "seed": seed} | judged(loop, task, task.make(1000, seed + 1_000_003)) | {"seconds": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--taus", type=float, nargs="+", default=[0.003, 0.01, 0.03, 0.1])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--places", type=int, default=8, help="longest row; shorter ones are padded")
    parser.add_argument("--steps", type=int, default=300, help="optimizer steps of each run")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rows = []
    for tau in sorted(args.taus):
        for seed in args.seeds:
            rows.append(measured(tau, seed, args.places, args.steps))
            print({k: v for k, v in rows[-1].items() if k not in ("low", "high", "puzzles")}, flush=True)
    summary = []
    for tau in sorted(args.taus):
        taken, exact = ([r[k] for r in rows if r["tau"] == tau] for k in ("steps", "exact"))
        spread = [statistics.stdev(v) if len(v) > 1 else 0.0 for v in (taken, exact)]
        summary.append(
            {
                "tau": tau,
                "steps": statistics.mean(taken),
                "steps_spread": spread[0],
                "exact": statistics.mean(exact),
                "exact_spread": spread[1],
            }
        )
        print({k: round(v, 3) for k, v in summary[-1].items()})
    falls = all(a["steps"] > b["steps"] for a, b in pairwise(summary))
    each = [[r["steps"] for r in rows if r["seed"] == seed] for seed in args.seeds]
    seeds_falling = sum(all(a > b for a, b in pairwise(run)) for run in each)
    print(f"mean steps fall with tau: {falls}; in {seeds_falling} of {len(each)} seeds at every pair of prices")
    if args.out:
        task = {"task": "prefix", "places": args.places, "cap": CAP, "optimizer_steps": args.steps}
        found = {"mean_steps_fall_with_tau": falls, "seeds_falling": seeds_falling, "summary": summary}
        how = {"train_puzzles": 4000, "selection": "last weights; halted by their own unit, or at the cap"}
        write_json(args.out, {"born": birth_certificate(args.seeds)} | task | how | found | {"rows": rows})


if __name__ == "__main__":
    main()
