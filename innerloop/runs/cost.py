"""Training cost: counted FLOPs of one optimizer step for one example."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from innerloop import tasks
from innerloop.data.sets import token_dtype
from innerloop.errors import InputError
from innerloop.learn.plan import Plan
from innerloop.learn.stream import ExampleStream
from innerloop.learn.supervise import Batch, SupervisedStep, initial_carry, supervised_step
from innerloop.learn.unroll import unrolled_step
from innerloop.ledger import count_flops
from innerloop.runs.fit import build_model
from innerloop.runs.run import Run

__all__ = ["COUNTED_ROWS", "step_flops", "training_flops", "training_step"]

COUNTED_ROWS = 4  # examples that are counted together


def training_flops(run: Run, loop: Any = None, examples: Any = None) -> int:
    """FLOPs of an optimizer step of `run` for one example, forward and backward: a mean over training.

    `loop` stands in for the run's own system, `examples` for puzzles that its task generates.
    """
    loop = (loop or build_model(run)).train()
    grows = hasattr(loop, "set_progress") or run.plan.unroll.draw == "ramp"
    shares = [(i + 0.5) / 8 for i in range(8)] if grows else [0.5]
    task = tasks.get(run.data.task, **run.data.options)
    if examples is None:
        try:
            examples = task.make(COUNTED_ROWS, 0)
        except InputError:  # it has no generator: the count does not depend on which tokens they are
            tokens = np.ones((COUNTED_ROWS, task.shape[0] * task.shape[1]), token_dtype(task.vocab))
            examples = task.as_set(tokens, tokens)
    batch = ExampleStream(examples, None, 0).fill(torch.ones(COUNTED_ROWS, dtype=torch.bool), 0)
    return sum(step_flops(loop, batch, run.plan, progress) for progress in shares) // COUNTED_ROWS // len(shares)


def step_flops(loop: Any, batch: Batch, plan: Plan, progress: float) -> int:
    """FLOPs of one optimizer step on a batch, at one share of training."""
    unroll = plan.unroll
    if hasattr(loop, "set_progress"):
        loop.set_progress(progress)
    depth = unroll.draw_depth(progress, torch.Generator()) if unroll.draw == "ramp" else unroll.mean_depth
    return count_flops(lambda: sum(training_step(loop, batch, plan, depth).losses.values()).backward())  # type: ignore[union-attr]


def training_step(loop: Any, batch: Batch, plan: Plan, depth: int) -> SupervisedStep:
    """The forward pass and losses of one optimizer step on a fresh batch: `depth` steps if `plan` unrolls, else one."""
    rows = len(batch.labels)
    if plan.unroll.depth:
        return unrolled_step(loop, batch, plan.unroll, depth, torch.arange(1, rows + 1), plan.loss)
    draw = plan.halting.draw(rows, torch.Generator().manual_seed(0), True)
    return supervised_step(loop, initial_carry(loop, batch), batch, plan.halting, draw, plan.loss)
