"""What does the exact gradient of a fixed point buy? A DEQ learns Sudoku by three gradients, all else equal.

    python benchmarks/deq_gradients.py --threads 1 --out results/deq_gradients.json

    implicit          y = J'y + g solved for at the fixed point (implicit function theorem)
    phantom(5, 0.5)   five damped steps on the tape after the same solve
    phantom(1, 1)     one step on the tape: J taken for zero

Same data, weights at the start, order of examples, solver and number of optimizer steps. `by quarters` is
the validated accuracy along the run, `exact` that of the best of these four on unseen puzzles. `calls` is the mean
number of calls of the net a test puzzle's solve took, `solved` the share of them solved to tol. `error` is the median
of |v - v*| / |v*|, how far what a rule passes on is from the exact v* = g + J'v*, over `judged` puzzles: those of 200
whose fixed point and v* could be solved for to 1e-5, with the net that this row trained.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from subject import of_recipe
from torch import Tensor

from innerloop import files, grad, recipes
from innerloop.core import run_schedule, think
from innerloop.interval import wilson
from innerloop.learn import checkpoint
from innerloop.learn.evaluate import batches
from innerloop.learn.precision import prepare
from innerloop.learn.train import train
from innerloop.learn.unroll import Unroll
from innerloop.parts.solvers import Anderson, Broyden
from innerloop.runs.certificate import birth_certificate
from innerloop.runs.fit import build, unseen_puzzles
from innerloop.weights import deq

TAPES = ("implicit", "phantom(5, 0.5)", "phantom(1, 1)")
TEST = 1000  # unseen puzzles
JUDGED = 200  # of them, for the errors of gradients
FORWARD = Anderson(tol=1e-5, limit=200, warn=False)
ADJOINT = Broyden(tol=1e-5, limit=200, memory=200, warn=False)


def one(tape: str, seed: int, args: argparse.Namespace) -> dict[str, Any]:
    """Train once, test on unseen puzzles, and look at the solves and gradients of the trained net."""
    run = recipes.get(args.recipe)
    config = deq.Config(run.config.net, args.solver, args.iterations, args.tol, tape, args.jacobian)
    every = max(1, args.steps // 4)
    plan = replace(run.plan, steps=args.steps, check_every=every, unroll=Unroll(depth=1), depths=(1,))
    built = build(replace(run, name="deq", system="deq", config=config, plan=plan, seed=seed))
    tests = unseen_puzzles(built.task, built.train, built.run.data, TEST)
    curve: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        note = lambda _, rows: curve.append(rows[-1].exact)  # noqa: E731
        how: dict[str, Any] = {"validation": built.validation, "seed": seed, "live": False, "on_check": note}
        prepare(built.loop, "cpu")
        done = train(built.loop, built.task, built.train, plan, folder, **how)
        checkpoint.load_weights(Path(folder) / checkpoint.MODEL, built.loop)
    loop = built.loop.eval()
    exact, calls, solved = [], [], []
    with torch.no_grad():
        for part, question in batches(tests, 250, "cpu"):
            thought = think(loop, question, 1)
            answer = thought.answer.logits.argmax(-1).numpy().astype(np.uint8)
            exact.append(built.task.score_batch(part.inputs, answer, part.labels)[0])
            calls.append(thought.state.calls)
            solved.append(thought.state.residual <= args.tol)
    hits = np.concatenate(exact)
    low, high = wilson(float(hits.sum()), len(hits))
    return {
        "tape": tape,
        "seed": seed,
        "exact": float(hits.mean()),
        "low": low,
        "high": high,
        "puzzles": len(hits),
        "by quarters": [round(v, 3) for v in curve],
        "seconds": done.seconds,
        "calls": float(torch.cat(calls).float().mean()),
        "solved": float(torch.cat(solved).float().mean()),
        **adjoint_error(loop, tests),
    }


def adjoint_error(loop: Any, tests: Any) -> dict[str, float]:
    """How far what the truncated rules pass on, v_k, is from v* = g + J'v*, puzzle by puzzle at the same weights."""
    part, question = next(batches(tests, JUDGED, "cpu"))
    labels = torch.as_tensor(part.labels.astype(np.int64))
    e_BLD = loop.embed(question, loop.dtype).detach()
    fine: list[Tensor] = []

    def watched(solver: Any) -> Any:
        def solve(*what: Any) -> Any:
            fine.append((found := solver(*what)).converged)
            return found

        return solve

    def passed_on(rule: Any) -> Tensor:
        """(B, n) gradient of each puzzle's loss in what is added to the net's output, which is v."""
        add_BLD = torch.zeros_like(e_BLD, requires_grad=True)
        update = lambda z: loop.net(z, e_BLD) + add_BLD  # noqa: E731
        z_BLD = run_schedule(("z",) * FORWARD.limit, {"z": update}, torch.zeros_like(e_BLD), rule)
        logits = loop.heads(z_BLD).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum")
        return torch.autograd.grad(loss, add_BLD)[0].flatten(1)

    exact = passed_on(grad.implicit(watched(FORWARD), watched(ADJOINT)))
    kept = fine[0] & fine[1]
    found = {"judged": float(kept.sum())}
    for tape in TAPES[1:]:
        error = (passed_on(grad.rule_named(tape, FORWARD)) - exact).norm(dim=1) / exact.norm(dim=1)
        found[f"error {tape}"] = float(error[kept].median())
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="sudoku4_trm")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--solver", default="anderson")
    parser.add_argument("--iterations", type=int, default=16)
    parser.add_argument("--tol", type=float, default=1e-3)
    parser.add_argument("--jacobian", type=float, default=0.0)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rows = []
    parameters = sum(p.numel() for p in build(recipes.get(args.recipe)).loop.parameters())
    for seed in args.seeds:
        for tape in TAPES:
            rows.append(one(tape, seed, args))
            print(rows[-1], flush=True)
    for tape in TAPES:
        mine = [r for r in rows if r["tape"] == tape]
        exact = [r["exact"] for r in mine]
        spread = statistics.stdev(exact) if len(exact) > 1 else 0.0
        seconds = statistics.mean(r["seconds"] for r in mine)
        print(f"{tape}: exact {statistics.mean(exact):.3f} +- {spread:.3f} over {len(exact)} seeds, {seconds:.0f} s")
    if args.out:
        how = {k: getattr(args, k) for k in ("recipe", "steps", "solver", "iterations", "tol", "jacobian")}
        about = {"subject": of_recipe(args.recipe, parameters), "born": birth_certificate(args.seeds)}
        files.write_json(args.out, about | {"setting": how, "rows": rows})


if __name__ == "__main__":
    main()
