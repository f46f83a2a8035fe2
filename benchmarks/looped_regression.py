"""Does a looped transformer learn to do regression in its context, and hold its answer beyond the trained depth?

    python benchmarks/looped_regression.py --seeds 0 1 2 --threads 1 --out results/looped_regression.json

The task of weights/looped.py (arXiv 2311.12424), small: a prompt holds 10 points of a random linear function of 5
variables, without noise, and 5 more whose values are asked. One layer of width 64 is learned by the paper's schedule
of loops. Reported is the squared error / 5 of unseen prompts: the answer zero gets 1, least squares 0. In the paper
each prefix of a causal prompt asks; here the points asked stand beside the known ones. Three minutes on one thread.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from innerloop.core import Question, think
from innerloop.files import write_json
from innerloop.grad import rule_named
from innerloop.learn.unroll import Unroll
from innerloop.parts.config import NetConfig
from innerloop.runs.certificate import birth_certificate
from innerloop.weights.looped import Config, Looped

VARIABLES, KNOWN, ASKED = 5, 10, 5
WINDOW, LOOPS = 5, 8
PLAN = Unroll(LOOPS, "ramp", first=WINDOW, ramp=0.3, grad=f"last({WINDOW})", weigh="window", window=WINDOW)
SIZE = NetConfig(
    vocab=1,
    seq=KNOWN + ASKED,
    rows=1,
    hidden_size=64,
    heads=4,
    layers=1,
    multiple_of=32,
    norm="magic",
    positions="none",  # the points are a set
    prefix=0,
    puzzle_emb_size=0,
    pool="mean",
)


class Points(nn.Module):
    """Takes the place of Embed: a point's variables, its value or 0, and whether it is known -> (B, S, D)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(VARIABLES + 2, width)

    def forward(self, x: Question, dtype: torch.dtype) -> Tensor:
        return self.linear(x.inputs.to(dtype))


class Prompts(NamedTuple):
    question: Question
    x: Tensor  # (B, S, VARIABLES)
    y: Tensor  # (B, S)


def prompts(count: int, generator: torch.Generator) -> Prompts:
    w = torch.randn(count, VARIABLES, 1, generator=generator)
    x = torch.randn(count, KNOWN + ASKED, VARIABLES, generator=generator)
    y = (x @ w)[..., 0]
    known = (torch.arange(KNOWN + ASKED) < KNOWN).float()
    inputs = torch.cat((x, (y * known)[..., None], known.expand_as(y)[..., None]), -1)
    return Prompts(Question(inputs, torch.zeros(count, dtype=torch.long)), x, y)


def error(said: Tensor, y: Tensor) -> Tensor:
    """Squared error / VARIABLES of the points asked, a mean."""
    return (said - y)[:, KNOWN:].square().mean() / VARIABLES


def answer(loop: Any, state: Any) -> Tensor:
    return loop.read(state).logits[..., 0]


def learned(seed: int, steps: int, batch: int) -> Looped:
    torch.manual_seed(seed)
    loop = Looped(Config(SIZE, dtype="float32"))
    loop.embed = Points(SIZE.hidden_size)  # type: ignore[assignment]
    optimizer = torch.optim.Adam(loop.parameters(), 3e-3)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, steps, pct_start=0.05)
    draw = torch.Generator().manual_seed(seed)
    for i in range(steps):
        p, depth = prompts(batch, draw), PLAN.steps(i / steps, draw)
        said = think(loop, p.question, depth, grad=rule_named(PLAN.grad), record=answer).trace[-PLAN.window :]
        loss = torch.stack([error(s, p.y) for s in said]).mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(loop.parameters(), 1.0)
        optimizer.step()
        rate.step()
    return loop


@torch.no_grad()
def judged(loop: Looped, seed: int, depths: list[int]) -> list[dict[str, Any]]:
    """The errors of unseen prompts at each of `depths`, beside those of least squares and of the answer zero."""
    p = prompts(2000, torch.Generator().manual_seed(seed + 1_000_003))
    said = think(loop, p.question, max(depths), record=answer).trace
    w = torch.linalg.lstsq(p.x[:, :KNOWN], p.y[:, :KNOWN, None]).solution
    others = {"least_squares": error((p.x @ w)[..., 0], p.y).item(), "zero": error(0 * p.y, p.y).item()}
    return [{"seed": seed, "loops": d, "error": error(said[d - 1], p.y).item()} | others for d in depths]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=800, help="optimizer steps of each run")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    depths = [1, 2, 4, LOOPS, 2 * LOOPS, 5 * LOOPS]
    rows, seconds = [], []
    for seed in args.seeds:
        began = time.perf_counter()
        loop = learned(seed, args.steps, args.batch)
        seconds.append(time.perf_counter() - began)
        found = judged(loop, seed, depths)
        rows += found
        print(f"seed {seed}", {r["loops"]: round(r["error"], 4) for r in found}, f"{seconds[-1]:.0f} s", flush=True)
    mean = {d: statistics.mean(r["error"] for r in rows if r["loops"] == d) for d in depths}
    print("mean", {d: round(e, 4) for d, e in mean.items()})
    if args.out:
        about = {
            "trained_loops": LOOPS,
            "window": WINDOW,
            "optimizer_steps": args.steps,
            "batch": args.batch,
            "parameters": sum(p.numel() for p in Looped(Config(SIZE)).net.parameters()),
            "test_prompts": 2000,
            "selection": "last weights",
            "seconds": seconds,
            "mean_error_by_loops": mean,
        }
        write_json(args.out, {"born": birth_certificate(args.seeds)} | about | {"rows": rows})


if __name__ == "__main__":
    main()
