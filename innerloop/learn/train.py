"""Supervised training: the Trainer and `train`.

    every optimizer step:  refill halted rows;  one step of the loop;  loss;  backward;  optimizers;  EMA
    every `check_every`:   validate the averaged weights and save the best

The same plan, seed and examples give the same run on one process, on several, and after any interruption.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from innerloop.data.packing import packed
from innerloop.data.protocols import Examples, Task
from innerloop.data.sets import fingerprint
from innerloop.errors import InputError
from innerloop.learn import checkpoint, restore
from innerloop.learn.evaluate import Row, evaluate
from innerloop.learn.graph import GraphTrainer, unsupported_reason
from innerloop.learn.learner import Learner, Result
from innerloop.learn.lock import lock_folder
from innerloop.learn.log import Log
from innerloop.learn.plan import Plan
from innerloop.learn.stream import ExampleStream
from innerloop.learn.supervise import Batch, Carry, Draw, SupervisedStep, initial_carry, random_salts, supervised_step
from innerloop.learn.tracker import upgraded_state
from innerloop.learn.unroll import unrolled_step
from innerloop.noise import has_key


class Trainer(Learner):
    """Supervised training of a loop on examples. `run` trains to the end; `state` and `restore` save and load all."""

    def __init__(
        self,
        loop: Any,
        task: Task,
        examples: Examples,
        plan: Plan,
        folder: Path,
        *,
        validation: Examples | None = None,
        seed: int = 0,
        on_check: Callable[[int, list[Row]], None] | None = None,
        resume: bool = True,
        **how: Any,
    ) -> None:
        """
        validation  examples that choose the weights to save; None: the last weights are saved
        on_check    called as on_check(step, rows of learn.evaluate) after each validation
        resume      continue from the state in `folder`, if there is one
        how         Learner's other arguments: device, live, minutes, sinks
        """
        super().__init__(loop, plan, folder, seed=seed, **how)
        self.task, self.validation, self.on_check = task, validation, on_check
        self.validates = validation is not None
        self.data = {k: fingerprint(s) for k, s in (("train", examples), ("validation", validation)) if s is not None}
        self.stream = ExampleStream(
            packed(examples) if getattr(task, "packs", False) else examples,
            task if plan.augment else None,
            seed,
            reveal=plan.reveal,
            blank=getattr(task, "blank", 0),
        )
        self.micro_batch = self.distributed.local_batch(plan.batch, plan.accumulate)
        self.carries = [self.empty_carry() for _ in range(plan.accumulate)]
        self.noisy = has_key(self.carries[0].state)
        if resume and (saved := checkpoint.load_state(folder)) is not None:
            self.restore(saved)
        self.graph_trainer = self.make_graph_trainer()
        self.all_or_nothing = self.graph_trainer is not None

    def make_graph_trainer(self) -> GraphTrainer | None:
        """The graph trainer, if the plan enables it. Raises InputError where it is "on" and not supported."""
        enabled = self.plan.device_steps == "on" or (self.plan.device_steps == "auto" and self.device.type == "cuda")
        reason = unsupported_reason(self) if enabled else ""
        if reason and self.plan.device_steps == "on":
            raise InputError(f'plan.device_steps is "on", but {reason}: leave it "auto"')
        return GraphTrainer(self) if enabled and not reason else None

    def empty_carry(self) -> Carry:
        free = torch.ones(self.micro_batch, dtype=torch.bool, device=self.device)
        return initial_carry(self.loop, self.stream.fill(~free, 0))

    # -- state ----------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Learner's state, the carried rows of the whole batch and the fingerprints of the puzzles."""
        return super().state() | {"carries": [self.gather_carries()], "data": self.data}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a saved state. Raises InputError, and changes nothing, if it is damaged or of another run."""
        self.load_all(state, restore.checked_carries(self, state))

    def load_all(self, state: dict[str, Any], carries: list[Carry]) -> None:
        """Load a state that this trainer saved, without checks."""
        self.load(state | {"watch": upgraded_state(state["watch"], self.task.verifies)})
        self.carries = carries

    def gather_carries(self) -> list[Tensor | None]:
        """The carried states of the whole batch, over all micro-batches and ranks, as flat tensors."""
        columns: Any = zip(*(checkpoint.flatten(c) for c in self.carries), strict=True)
        return [None if column[0] is None else self.distributed.gather_rows(torch.cat(column)) for column in columns]

    def micro_batch_rows(self, i: int) -> slice:
        """The rows of the global batch that micro-batch `i` of this rank holds."""
        first = (self.distributed.rank * self.plan.accumulate + i) * self.micro_batch
        return slice(first, first + self.micro_batch)

    # -- one step -------------------------------------------------------------------------------------------------

    def train_step(self) -> tuple[dict[str, float], bool]:
        if self.graph_trainer:
            numbers = self.graph_trainer.run()
            return numbers, all(map(math.isfinite, numbers.values()))
        plan, before = self.plan, self.position
        carries = list(self.carries)
        step = self.unrolled_step_function() if plan.unroll.depth else self.supervised_step_function()
        counts = self.distributed.gather_counts([int(c.halted.sum()) for c in carries])
        if hasattr(self.loop, "set_progress"):
            self.loop.set_progress(self.step / plan.steps)
        first_micro_batch = self.distributed.rank * plan.accumulate
        self.zero_grad()
        sums: dict[str, Tensor] = {}
        for i, carry in enumerate(carries):
            first = before + sum(counts[: first_micro_batch + i])
            fresh = self.stream.fill(carry.halted, first)
            out = step(carry, fresh, self.micro_batch_rows(i))
            (sum(out.losses.values()) / plan.batch).backward()  # type: ignore[union-attr]
            carries[i] = out.carry
            for name, value in (out.losses | out.metrics).items():
                sums[name] = sums.get(name, 0.0) + value.detach().double()
        numbers, finite = self.apply(sums)
        if finite:
            self.carries, self.position = carries, before + sum(counts)
        return numbers, finite

    def supervised_step_function(self) -> Callable[[Carry, Batch, slice], SupervisedStep]:
        """A function for one step of deep supervision on a micro-batch."""
        plan = self.plan
        draw = plan.halting.draw(plan.batch, self.draws, self.noisy)

        def step(carry: Carry, fresh: Batch, rows: slice) -> SupervisedStep:
            local_draw = Draw(*(None if d is None else d[rows] for d in draw))  # type: ignore[arg-type]
            return supervised_step(self.loop, carry, fresh, plan.halting, local_draw, plan.loss)

        return step

    def unrolled_step_function(self) -> Callable[[Carry, Batch, slice], SupervisedStep]:
        """A function for a full unroll on a micro-batch of fresh puzzles."""
        plan = self.plan
        depth = plan.unroll.draw_depth(self.step / plan.steps, self.draws)
        salt = random_salts(plan.batch, self.draws) if self.noisy else None

        def step(carry: Carry, fresh: Batch, rows: slice) -> SupervisedStep:
            return unrolled_step(self.loop, fresh, plan.unroll, depth, None if salt is None else salt[rows], plan.loss)

        return step

    # -- validation -----------------------------------------------------------------------------------------------

    def validate(self, log: Log) -> None:
        """Validate the averaged weights; save them if they are the best so far."""
        if self.validation is None:
            return
        if self.distributed.is_main:
            with self.averaged():
                rows = evaluate(self.loop, self.task, self.validation, self.plan.depths, device=self.device)
            chosen = rows[-1]
            shares = {f"valid/{k}@{r.depth}": getattr(r, k) for r in rows for k in ("exact", "token", "valid")}
            known = {k: v for k, v in shares.items() if v is not None}
            log.write({"step": self.step, "seconds": round(self.seconds, 3), **known})
            if self.tracker.observe(self.step, chosen.exact, chosen.valid, chosen.token):
                self.save_weights()
            for text in self.tracker.new_warnings():
                log.print(text, "yellow")
            if self.on_check:
                self.on_check(self.step, rows)
        self.distributed.barrier()


def train(loop: nn.Module, task: Task, examples: Examples, plan: Plan, folder: Path | str, **how: Any) -> Result:
    """Train `loop` on `examples` as `plan` says. Resumes from `folder` if an earlier run there has not ended.

    loop is a Loop and a torch.nn.Module; examples and validation are of `task`, such as PuzzleSets; see Trainer for the
    other arguments. `minutes` ends this call, validations included, before the plan is done; calling again resumes, and
    the result is bit-equal.
    The saved weights are folder/model.safetensors: the best validated ones, or the last without validation. A run.json,
    with which the folder opens, is written by runs.training, for loops that can be made again by name.
    """
    is_main = int(os.environ.get("RANK", "0")) == 0
    with lock_folder(folder) if is_main else nullcontext():
        trainer = Trainer(loop, task, examples, plan, Path(folder), **how)
        try:
            return trainer.run()
        finally:
            trainer.distributed.close()
