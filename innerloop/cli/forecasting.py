"""`train --dry-run`: what a training would be and cost; nothing is trained or written."""

from __future__ import annotations

from typing import Any

import torch
from rich.console import Console

from innerloop.learn.precision import prepare
from innerloop.runs.certificate import memory_gib
from innerloop.runs.fit import BuiltRun
from innerloop.runs.forecast import forecast as measure
from innerloop.runs.forecast import parts
from innerloop.text import markup

__all__ = ["forecast"]

UNITS = ((86400, "days"), (3600, "h"), (60, "min"), (1, "s"))


def forecast(console: Console, built: BuiltRun, device: torch.device, why: str) -> int:
    """Print sizes, parameters, FLOPs, memory and the time to expect."""
    run, task, plan = built.run, built.task, built.run.plan
    prepare(built.loop, device)
    inner = ", ".join(f"{name} {count:,}" for name, count in parts(built.loop))
    with console.status("timing a few steps"):
        found = measure(built, device)
    rows, columns = task.shape
    validated = f"{found.validations} validations of {len(built.validation):,} puzzles at depth {join(plan.depths)}"
    unroll = f"an unroll of {plan.unroll.mean_depth} steps" if plan.unroll.depth else "one step of the loop"
    activations = "peak on the GPU" if device.type == "cuda" else "kept for the backward pass"
    memory = memory_gib()
    facts = {
        "run": f"{run.name}: {run.system} on {task.name} {rows}x{columns}, {task.vocab} tokens",
        "puzzles": f"{len(built.train):,} to learn from ({built.train.source}), {len(built.validation):,} others",
        "parameters": f"{found.parameters:,} ({inner})",
        "training": f"{plan.steps:,} optimizer steps of {plan.batch} puzzles, {unroll} each; trained depth "
        f"{plan.trained_depth}; {seen(built)}",
        "FLOPs": f"{found.flops_per_step:.2e} an optimizer step, {found.flops_per_step * plan.steps:.2e} in all",
        "memory": f"{size(found.weights_bytes)} for weights, gradients, optimizer and average; "
        f"{size(found.activation_bytes)} {activations}"
        + (f"; this machine has {memory:g} GiB" if memory and device.type == "cpu" else ""),
        "device": f"{why}; {found.compiled}",
        "time": f"about {duration(found.seconds(plan.steps))}: {plan.steps:,} steps of "
        f"{1000 * found.step_seconds:.1f} ms, {validated} of {duration(found.validation_seconds)} each",
    }
    for name, text in facts.items():
        console.print(f"[bold]{name:<11}[/]{markup(text, 1000)}")
    console.print("nothing was trained or written; the time is that of this machine, as busy as it is now")
    return 0


def seen(built: BuiltRun) -> str:
    """How often a puzzle is shown, where that can be said before: full unrolls take a fresh one for each row."""
    plan = built.run.plan
    if not plan.unroll.depth:
        return "puzzles stay for several steps"
    return f"each puzzle {plan.steps * plan.batch / len(built.train):.1f} times"


def join(values: Any) -> str:
    return ", ".join(map(str, values))


def size(count: int) -> str:
    """Bytes, in the unit that suits them."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024  # type: ignore[assignment]
    return f"{count:.2f} GiB"


def duration(seconds: float) -> str:
    """ "7.5 s", "3.2 min", "5.0 h", "2.1 days"."""
    length, unit = next(((n, u) for n, u in UNITS if seconds >= 2 * n), (1, "s"))
    return f"{seconds / length:.1f} {unit}" if seconds >= 0.1 else f"{1000 * seconds:.0f} ms"
