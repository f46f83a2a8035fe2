"""What a training will cost, before it is paid: sizes, FLOPs, memory and time, from a few timed steps.

Nothing is written. The model that was given has trained those steps afterwards: build another one to train.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from innerloop.learn.compile import compile_blocks
from innerloop.learn.evaluate import evaluate
from innerloop.learn.stream import ExampleStream
from innerloop.learn.train import Trainer
from innerloop.runs.cost import COUNTED_ROWS, step_flops, training_flops
from innerloop.runs.fit import BuiltRun

__all__ = ["Forecast", "forecast", "parts"]

WARM_STEPS, TIMED_STEPS = 2, 5
MOST_SECONDS = 10.0  # of timed steps
VALIDATED = 128  # puzzles that are evaluated to time a validation


class Forecast(NamedTuple):
    """Of the whole training, on this machine as busy as it was."""

    parameters: int
    flops_per_step: float  # of an optimizer step with its whole batch, forward and backward
    weights_bytes: int  # weights, gradients, optimizer states, average
    activation_bytes: int  # kept for the backward pass of a micro-batch; on a GPU the peak of all that is allocated
    compiled: str  # a sentence: whether blocks are compiled
    step_seconds: float
    validation_seconds: float  # of one validation
    validations: int

    def seconds(self, steps: int) -> float:
        """Of `steps` optimizer steps and all validations."""
        return steps * self.step_seconds + self.validations * self.validation_seconds


def forecast(built: BuiltRun, device: torch.device) -> Forecast:
    """Count and time a few steps of `built`, whose model is trained by them."""
    plan, loop = built.run.plan, built.loop
    flops, grown = training_flops(built.run, loop, built.train), 1.0
    if hasattr(loop, "set_progress") or plan.unroll.draw == "ramp":  # the first steps are cheaper than the mean
        grown = flops / max(1, step_flops(loop, counted_batch(built.train), plan, 0.0) / COUNTED_ROWS)
    how: dict[str, Any] = {"resume": False, "live": False, "device": device, "seed": built.run.seed}
    trainer = Trainer(loop, built.task, built.train, plan, Path(os.devnull), **how)
    compiled = compile_blocks(loop, plan.compile, device, plan.steps)
    kept = kept_bytes(trainer, device)
    counts = []
    for i in range(WARM_STEPS + TIMED_STEPS):
        began, before = time.perf_counter(), trainer.step
        trainer.train_step()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        if i >= WARM_STEPS or time.perf_counter() - began > MOST_SECONDS:
            counts.append((time.perf_counter() - began) / max(1, trainer.step - before))
        if sum(counts) > MOST_SECONDS:
            break
    each = built.validation.take(slice(VALIDATED))
    with trainer.averaged():
        began = time.perf_counter()
        evaluate(loop, built.task, each, plan.depths, device=device)
        validation = (time.perf_counter() - began) * len(built.validation) / len(each)
    return Forecast(
        sum(p.numel() for p in loop.parameters()),
        float(flops) * plan.batch,
        state_bytes(trainer),
        kept,
        compiled,
        sorted(counts)[len(counts) // 2] * grown,
        validation,
        -(-plan.steps // plan.check_every),
    )


def counted_batch(examples: Any) -> Any:
    return ExampleStream(examples, None, 0).fill(torch.ones(COUNTED_ROWS, dtype=torch.bool), 0)


def kept_bytes(trainer: Trainer, device: torch.device) -> int:
    """Bytes that one step keeps for its backward pass; it is the first step of `trainer`."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        trainer.train_step()
        return torch.cuda.max_memory_allocated(device)
    kept: dict[int, int] = {}
    weights = {p.untyped_storage().data_ptr() for p in trainer.loop.parameters()}

    def pack(t: Tensor) -> Tensor:
        storage = t.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        trainer.train_step()
    return sum(kept.values()) // trainer.plan.accumulate


def state_bytes(trainer: Trainer) -> int:
    """Weights, gradients, optimizer states and the average, in bytes."""
    weights = [*trainer.loop.parameters(), *trainer.loop.buffers()]
    states = [v for o in trainer.optimizers for s in o.state.values() for v in s.values() if isinstance(v, Tensor)]
    average = list(trainer.average.shadow.values()) if trainer.average else []
    gradients = [p for p in trainer.loop.parameters() if p.requires_grad]
    return sum(t.numel() * t.element_size() for t in (*weights, *gradients, *states, *average))


def parts(loop: nn.Module) -> list[tuple[str, int]]:
    """(name, parameters) of the model's direct parts that have any, and of what it holds itself."""
    own = sum(p.numel() for p in loop.parameters(recurse=False))
    inner = [(name, sum(p.numel() for p in child.parameters())) for name, child in loop.named_children()]
    return [(name, count) for name, count in (*inner, ("itself", own)) if count]
