"""Training-step speed of the official configurations, against a plain eager implementation of the same maths.

    python benchmarks/step.py --out results/step_cpu.json --systems trm trm_mlp hrm

Both models take turns, step by step, in one process; what is reported is the median of each and of their ratio.
The reference is what the official code does on a CPU: no compile, fused attention, freed memory given back. The ceiling
is one matrix product of the model's own largest shape, timed in the same turns with its memory kept. FLOP: products
and attention only, backward twice the forward; HRM's extra forward for its Q target counted.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from dataclasses import replace
from pathlib import Path
from unittest import mock

import torch
import torch.nn.functional as F

from innerloop import files, memory
from innerloop.core import Question
from innerloop.learn.compile import compile_blocks
from innerloop.learn.optim import EMA, optimizers
from innerloop.learn.precision import fast_float32
from innerloop.learn.supervise import Batch, HaltingConfig, initial_carry, supervised_step
from innerloop.parts import attention, mixers
from innerloop.parts.config import NetConfig
from innerloop.runs.certificate import birth_certificate
from innerloop.weights.hrm import HRM
from innerloop.weights.hrm import Config as HRMConfig
from innerloop.weights.trm import TRM
from innerloop.weights.trm import Config as TRMConfig

TRM_SIZE = replace(NetConfig(), prefix=16)
MODELS = {
    "trm": lambda dtype: TRM(TRMConfig(TRM_SIZE, dtype=dtype)),
    "trm_mlp": lambda dtype: TRM(TRMConfig(replace(TRM_SIZE, block="tokens", positions="none"), dtype=dtype)),
    "hrm": lambda dtype: HRM(HRMConfig(replace(NetConfig(), layers=4), dtype=dtype)),
}


class Learner:
    """One model with its optimizers, doing the official training step on random puzzles."""

    heap = staticmethod(memory.keep)

    def __init__(self, make, dtype: str, batch: int, device: torch.device, choice: str) -> None:
        torch.manual_seed(0)
        self.products = "highest"  # torch's default for float32
        self.model = make(dtype).to(device).train()
        self.said = compile_blocks(self.model, choice, device, 10_000)
        self.optimizers = optimizers(self.model, "adam_atan2", 1e-4, 1.0, 1e-4)
        self.average, self.halting, self.batch = EMA(self.model, 0.999), HaltingConfig(), batch
        self.draws = torch.Generator().manual_seed(0)
        tokens = torch.randint(1, 11, (batch, 81), device=device)
        self.fresh = Batch(Question(tokens, torch.zeros(batch, dtype=torch.long, device=device)), tokens)
        self.carry = initial_carry(self.model, self.fresh)

    def step(self) -> float:
        torch.set_float32_matmul_precision(self.products)
        self.heap()
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        draw = self.halting.draw(self.batch, self.draws)
        out = supervised_step(self.model, self.carry, self.fresh, self.halting, draw)
        loss = sum(out.losses.values()) / self.batch
        loss.backward()
        for optimizer in self.optimizers:
            optimizer.step()
        self.average.update()
        self.carry = out.carry
        return loss.item()


class Plain(Learner):
    """The reference, as the official code on a CPU: eager, torch's fused attention, transposed token mixing, memory as
    the C library handles it by itself."""

    heap = staticmethod(memory.give_back)

    def step(self) -> float:
        fused = mock.patch.object(attention, "attend", F.scaled_dot_product_attention)
        with fused, mock.patch.object(mixers, "mix", mixers.mix_plain):
            return super().step()


def flop(model: torch.nn.Module, batch: int) -> float:
    """Floating-point operations of one training step."""
    config = model.c.net
    weights = [p for n, p in model.named_parameters() if ".blocks." in n]
    per_block = sum(p.numel() for p in weights) / len(
        {n.rsplit(".blocks.", 1)[0] for n, _ in model.named_parameters() if ".blocks." in n}
    )
    attend = 4 * config.length**2 * config.hidden_size * config.layers if config.block == "attention" else 0
    if config.block == "tokens":  # token mixers see width columns, channel mixers length rows
        rows = sum(
            p.numel() * (config.hidden_size if ".mix." in n else config.length)
            for n, p in model.named_parameters()
            if ".blocks." in n
        )
        call = 2.0 * batch * rows
    else:
        call = batch * (2.0 * per_block * config.length + attend)
    calls = len(model.schedule)
    taped = 2 if isinstance(model, HRM) else model.c.thoughts + 1
    again = calls if isinstance(model, HRM) else 0
    return call * (calls + again + 2 * taped)


def timed(f) -> float:
    began = time.perf_counter()
    f()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - began


def ceiling(batch: int, dtype: torch.dtype, device: torch.device, repeats: int) -> float:
    """FLOP/s of the product (B L x 512) (512 x 3072), median of `repeats` of 10."""
    x = torch.randn(batch * 97, 512, device=device, dtype=dtype)
    w = torch.randn(3072, 512, device=device, dtype=dtype)
    F.linear(x, w)
    seconds = [timed(lambda: [F.linear(x, w) for _ in range(10)]) / 10 for _ in range(repeats)]
    return 2.0 * x.shape[0] * 512 * 3072 / statistics.median(seconds)


def measure(name: str, dtype: str, batch: int, device: torch.device, turns: int) -> dict:
    plain = Plain(MODELS[name], dtype, batch, device, "off")
    ours = Learner(MODELS[name], dtype, batch, device, "on")
    if dtype == "float32":
        print(fast_float32(), flush=True)
        ours.products = torch.get_float32_matmul_precision()
    first = timed(ours.step)  # compiles
    plain.step(), ours.step(), ours.step()
    rows = []
    for _ in range(turns):
        rows.append((timed(plain.step), timed(ours.step), ceiling(batch, getattr(torch, dtype), device, 3)))
    slow, fast, top = (statistics.median(c) for c in zip(*rows, strict=True))
    work = flop(ours.model, batch)
    shares = [work / f / t for _, f, t in rows]
    return {
        "system": name,
        "dtype": dtype,
        "batch": batch,
        "eager_ms": slow * 1e3,
        "ours_ms": fast * 1e3,
        "ratio": statistics.median(s / f for s, f, _ in rows),
        "samples_per_s": batch / fast,
        "gflops": work / fast / 1e9,
        "ceiling_gflops": top / 1e9,
        "share_of_ceiling": statistics.median(shares),
        "first_step_s": first,
        "turns": turns,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--systems", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    rows = []
    for name in args.systems:
        rows.append(measure(name, args.dtype, args.batch, torch.device(args.device), args.turns))
        print(json.dumps({k: round(v, 3) if isinstance(v, float) else v for k, v in rows[-1].items()}), flush=True)
    if args.out:
        files.write_json(args.out, {"born": birth_certificate([0]), "rows": rows})


if __name__ == "__main__":
    main()
