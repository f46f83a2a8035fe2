"""Does the halting head's gradient help or harm small nets whose head reads the mean over all places?

    python benchmarks/halting_gradient.py --recipe demo --steps 600 --seeds 0 1 --out results/halting_gradient.json

Trains a recipe twice per seed, with the head reading only (as parts/heads.py does) and with its gradient let through.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from dataclasses import replace
from pathlib import Path
from unittest import mock

import torch
from subject import of_recipe

from innerloop import recipes
from innerloop.files import write_json
from innerloop.learn.precision import prepare
from innerloop.learn.train import train
from innerloop.runs.certificate import birth_certificate
from innerloop.runs.fit import build
from innerloop.runs.run import override


def accuracy(name: str, steps: int, seed: int, through: bool, every: int) -> list[float]:
    """Validated exact accuracy along one run."""
    run = override(recipes.get(name), [f"plan.steps={steps}", f"plan.check_every={every}", "data.holdout=300"])
    built = build(replace(run, seed=seed))
    prepare(built.loop, "cpu")
    found: list[float] = []
    keep = torch.Tensor.detach
    with tempfile.TemporaryDirectory() as folder:
        how = {"validation": built.validation, "seed": seed, "live": False}
        note = lambda step, rows: found.append(rows[-1].exact)  # noqa: E731
        if through:  # the only detach of a state inside a forward is the head's
            heads = built.loop.heads
            forward = type(heads).forward

            def open_head(self: torch.nn.Module, z: torch.Tensor) -> object:
                with mock.patch.object(torch.Tensor, "detach", lambda t: t if t.requires_grad else keep(t)):
                    return forward(self, z)

            with mock.patch.object(type(heads), "forward", open_head):
                train(built.loop, built.task, built.train, built.run.plan, folder, on_check=note, **how)
        else:
            train(built.loop, built.task, built.train, built.run.plan, folder, on_check=note, **how)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="demo")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--every", type=int, default=200)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rows = []
    for seed in args.seeds:
        for through in (False, True):
            curve = accuracy(args.recipe, args.steps, seed, through, args.every)
            rows.append({"seed": seed, "gradient": through, "every": args.every, "exact": curve})
            print(rows[-1], flush=True)
    for through in (False, True):
        last = [r["exact"][-1] for r in rows if r["gradient"] == through]
        print(f"gradient {through}: mean exact {statistics.mean(last):.3f} over {len(last)} seeds")
    if args.out:
        size = sum(p.numel() for p in build(recipes.get(args.recipe)).loop.parameters())
        value = {"subject": of_recipe(args.recipe, size), "born": birth_certificate(args.seeds)}
        value |= {"recipe": args.recipe, "steps": args.steps, "rows": rows}
        write_json(args.out, value)


if __name__ == "__main__":
    main()
