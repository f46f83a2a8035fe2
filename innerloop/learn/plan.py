"""Training configuration: steps, batch, optimizer, halting, validation, checkpoints."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from innerloop.errors import InputError
from innerloop.learn.loss import CROSS_ENTROPIES
from innerloop.learn.supervise import HaltingConfig
from innerloop.learn.unroll import Unroll
from innerloop.schema import Amount, Count, Length, Many, Range, Share, Whole, check

# Whole numbers: Count and Many from 1, Whole from 0. Numbers: Share 0 to 1, Amount 0 or more (innerloop.schema).
Rate = Annotated[float, Range(0, 10, above=True)]  # above it every optimizer here diverges
Depths = Annotated[tuple[Count, ...], Length(1, 1000)]


@dataclass(frozen=True)
class Plan:
    """Defaults are TRM's for Sudoku-Extreme (arXiv 2510.04871), except `steps` and the cosine decay to zero."""

    steps: Many = 20_000  # optimizer steps in all; the learning-rate schedule ends there
    batch: Count = 768  # puzzles per optimizer step, over all processes
    accumulate: Count = 1  # micro-batches per optimizer step, to save memory; equal up to rounding
    optimizer: str = "adam_atan2"  # "adam_atan2", "adamw" or "muon"
    lr: Rate = 1e-4  # peak learning rate
    weight_decay: Amount = 1.0  # decoupled: weights shrink by lr times this at every step
    puzzle_lr: Amount = 1e-4  # learning rate of the puzzle embeddings' sign descent
    warmup: Whole = 2000  # steps to the peak
    floor: Share = 0.0  # learning rate at the end, as a share of the peak: 0 cosine to zero, 1 constant (official)
    clip: Amount = 0.0  # largest gradient norm; 0: no clipping
    ema: Share = 0.999  # decay of the averaged weights, which are evaluated and saved; 0: no averaging
    loss: str = "stablemax"  # "stablemax" (float64, official) or "softmax"
    halting: HaltingConfig = field(default_factory=HaltingConfig)  # of deep supervision
    unroll: Unroll = field(default_factory=Unroll)  # full unrolls instead of deep supervision, if its depth is not 0
    augment: bool = True  # the task's symmetries, on the fly
    reveal: Share = 0.0  # share of examples that show a random part of their answer, in tasks with a blank token
    compile: str = "auto"  # torch.compile: "auto": where the run is long enough to pay for it; "on"; "off"
    device_steps: str = "auto"  # optimizer steps without host sync, as a CUDA graph: "auto": on CUDA; "on"; "off"
    check_every: Many = 500  # steps between validations; the best weights are saved
    patience: Whole = 0  # validations in a row without a higher exact accuracy that end training; 0: all `steps`
    save_every: Many = 500  # steps between checkpoints
    depths: Depths = (16,)  # depths of a validation; accuracy at the largest chooses the best weights

    def __post_init__(self) -> None:
        check(self)
        if self.batch % self.accumulate:
            raise InputError(
                f"plan.batch {self.batch} does not split into plan.accumulate {self.accumulate} equal parts"
            )
        if self.loss not in CROSS_ENTROPIES:
            raise InputError(f'plan.loss is "{self.loss}": use one of {", ".join(CROSS_ENTROPIES)}')
        for name in ("compile", "device_steps"):
            if getattr(self, name) not in ("auto", "on", "off"):
                raise InputError(f'plan.{name} is "{getattr(self, name)}": use "auto", "on" or "off"')
        if self.ema == 1:
            raise InputError("plan.ema is 1, which would never move from the initial weights: give less")

    @property
    def trained_depth(self) -> int:
        """The depth of training: the largest that it reaches, or about the mean of a "poisson" unroll."""
        return self.unroll.depth or self.halting.trained_depth
