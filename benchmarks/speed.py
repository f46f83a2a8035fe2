"""How close to the hardware: blocks against the product ceiling, and training steps against plain eager maths.

    python benchmarks/speed.py --out results/speed_cpu.json        # within ten minutes on two cores

    block   one block of width 512, batch 64, bfloat16, forward and backward, compiled: its share of the ceiling
    step    the whole training step of official TRM, TRM-MLP and HRM, batches of 16 and 64, as benchmarks/step.py has it
    small   the whole training step of the recipes that run Orbit, their loop compiled by parts/fused.py and plain

Everything is timed in turns with what it is compared with, in one process; medians of the turns.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path
from typing import Any

import step
import torch
from subject import of_recipe

from innerloop import memory, recipes
from innerloop.files import write_json
from innerloop.learn.precision import fast_float32, prepare
from innerloop.learn.train import Trainer
from innerloop.parts import fused
from innerloop.runs.certificate import birth_certificate
from innerloop.runs.fit import build
from innerloop.runs.run import override

SMALL = ("sudoku4", "sudoku6", "demo", "maze11")
AGAIN = 4  # steps of a turn


def block(name: str, batch: int, device: torch.device, turns: int) -> dict[str, Any]:
    """Forward and backward of one block, compiled and eager, and the ceiling of its dtype."""
    torch.manual_seed(0)
    model = step.MODELS[name]("bfloat16").to(device)
    one = next(m for n, m in model.named_modules() if n.endswith("blocks.0"))
    config = model.c.net
    x = torch.randn(batch, config.length, config.hidden_size, dtype=torch.bfloat16, device=device, requires_grad=True)
    dz = torch.randn_like(x)
    fast = torch.compile(one, dynamic=False)

    def go(f: Any) -> None:
        f(x).backward(dz)

    memory.keep()
    torch._dynamo.reset()
    go(fast), go(fast), go(one)
    rows = []
    for _ in range(turns):
        top = step.ceiling(batch, torch.bfloat16, device, 3)
        rows.append((step.timed(lambda: go(one)), step.timed(lambda: go(fast)), top))
    weights = sum(p.numel() for p in one.parameters())
    work = 3.0 * batch * config.length * 2 * weights
    if config.block == "tokens":
        mixed = sum(p.numel() for n, p in one.named_parameters() if n.startswith("mix."))
        work = 3.0 * batch * 2 * (mixed * config.hidden_size + (weights - mixed) * config.length)
    else:
        work += 3.0 * batch * 4 * config.length**2 * config.hidden_size
    eager, ours, top = (statistics.median(c) for c in zip(*rows, strict=True))
    return {
        "what": "block",
        "of": name,
        "dtype": "bfloat16",
        "batch": batch,
        "eager_ms": eager * 1e3,
        "ours_ms": ours * 1e3,
        "ratio": statistics.median(e / o for e, o, _ in rows),
        "gflops": work / ours / 1e9,
        "ceiling_gflops": top / 1e9,
        "share_of_ceiling": statistics.median(work / o / t for _, o, t in rows),
        "turns": turns,
    }


def small(name: str, turns: int) -> dict[str, Any]:
    """One optimizer step of a recipe: everything from the examples to the average."""
    built = build(override(recipes.get(name), ["data.count=200", "data.holdout=2"]))
    said = fast_float32()
    with tempfile.TemporaryDirectory() as folder:
        prepare(built.loop, "cpu")
        trainer = Trainer(built.loop, built.task, built.train, built.run.plan, Path(folder), live=False)

        def go() -> None:
            for _ in range(AGAIN):
                trainer.train_step()

        with fused.plain():
            go()
        go()
        rows = []
        for _ in range(turns):
            ours = step.timed(go) / AGAIN
            with fused.plain():
                rows.append((step.timed(go) / AGAIN, ours))
    plain, ours = (statistics.median(c) for c in zip(*rows, strict=True))
    config = built.run.config.net
    return {
        "what": "small", "of": name, "dtype": "float32", "batch": built.run.plan.batch, "width": config.hidden_size,
        "parameters": sum(p.numel() for p in built.loop.parameters()),
        "nodes of a place": config.nodes, "eager_ms": plain * 1e3, "ours_ms": ours * 1e3,
        "ratio": statistics.median(p / o for p, o in rows), "products": said, "turns": turns,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=["small", "block", "step"], choices=["block", "step", "small"])
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    device, rows = torch.device(args.device), []
    todo = {
        "small": [lambda n=n: small(n, args.turns) for n in SMALL],
        "block": [lambda n=n: block(n, 64, device, args.turns) for n in ("trm", "trm_mlp", "hrm")],
        "step": [
            lambda n=n, b=b: {"what": "step", "of": n} | step.measure(n, "bfloat16", b, device, max(3, args.turns // 2))
            for b in (16, 64)
            for n in ("trm", "trm_mlp", "hrm")
        ],
    }
    for what in args.only:
        for one in todo[what]:
            rows.append(one())
            print({k: round(v, 3) if isinstance(v, float) else v for k, v in rows[-1].items()}, flush=True)
    if args.out:
        about = [of_recipe(r["of"], r["parameters"]) for r in rows if r["what"] == "small"]
        write_json(args.out, {"subjects": about, "born": birth_certificate([0]), "rows": rows})


if __name__ == "__main__":
    main()
