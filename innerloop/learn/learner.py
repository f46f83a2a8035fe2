"""Protocol of a trainer, as checkpointing and CUDA-graph code use it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import torch

__all__ = ["Learner"]


class Learner(Protocol):
    """A model, its optimizers and the state kept between optimizer steps; implemented by learn.train.Trainer."""

    loop: Any  # the system: a Loop and a torch.nn.Module
    task: Any
    plan: Any  # learn.plan.Plan
    folder: Path
    device: torch.device
    distributed: Any
    stream: Any
    optimizers: list[torch.optim.Optimizer]
    average: Any  # of the weights; None where none is kept
    draws: torch.Generator
    carries: list[Any]
    update_hooks: list[Any]
    noisy: bool
    data: dict[str, str]  # fingerprints of the puzzles: train, and validation where there are any
    position: int  # examples handed out so far
    step: int

    def state(self) -> dict[str, Any]: ...
    def put(self, state: dict[str, Any], carries: list[Any]) -> None: ...
    def part_rows(self, i: int) -> slice: ...
    def set_rate(self, step: int) -> None: ...
    def update(self) -> None: ...
