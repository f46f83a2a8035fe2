"""How much of a step should be on the tape? TRM at equal optimizer steps, with ever shorter gradients, over seeds.

    python benchmarks/tape.py --threads 1 --out results/tape.json

The paper's contrast of a full last cycle with a one-step gradient, at the size of a laptop: 6x6 Sudoku, two cycles of
three thoughts. Steps with a longer tape cost more, so the time is reported as well.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from dataclasses import replace
from pathlib import Path

import torch
from subject import of_recipe

from innerloop import files
from innerloop.learn import checkpoint
from innerloop.learn.evaluate import evaluate
from innerloop.learn.precision import prepare
from innerloop.learn.train import train
from innerloop.recipes import family
from innerloop.runs.certificate import birth_certificate
from innerloop.runs.fit import build, unseen_puzzles

TAPES = ("full", "last_cycle", "last(2)", "last(1)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="sudoku6")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--limit", type=int, default=500)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rows = []
    for tape in TAPES:
        found, seconds = [], []
        for seed in args.seeds:
            run = family.unmatched_run("trm", args.task, family.FAMILY_TASKS[args.task].hidden_size)
            config = replace(run.config, cycles=2, thoughts=3, grad=tape)
            run = replace(run, seed=seed, config=config, plan=replace(run.plan, **family.schedule_fields(args.steps)))
            built = build(run)
            with tempfile.TemporaryDirectory() as folder:
                how = {"validation": built.validation, "seed": seed, "live": False}
                prepare(built.loop, "cpu")
                result = train(built.loop, built.task, built.train, built.run.plan, folder, **how)
                checkpoint.load_weights(Path(folder) / checkpoint.MODEL, built.loop)
            test = unseen_puzzles(built.task, built.train, run.data, args.limit)
            row = evaluate(built.loop.eval(), built.task, test, (run.plan.trained_depth,))[0]
            found.append(row.exact)
            seconds.append(result.seconds)
            print(tape, seed, f"{row.exact:.3f} [{row.low:.3f}, {row.high:.3f}] {result.seconds:.0f} s", flush=True)
        spread = statistics.stdev(found) if len(found) > 1 else 0.0
        rows.append({"tape": tape, "mean exact": statistics.mean(found), "deviation between seeds": spread})
        rows[-1] |= {"by seed": found, "seconds": statistics.mean(seconds), "test puzzles": args.limit}
    if args.out:
        size = sum(p.numel() for p in built.loop.parameters())
        value = {
            "subject": of_recipe("family", size, system="trm", task=args.task),
            "born": birth_certificate(args.seeds),
        }
        value |= {"task": args.task, "steps": args.steps, "rows": rows}
        files.write_json(args.out, value)


if __name__ == "__main__":
    main()
