"""Learner: a model, its optimizers, the average of its weights and the loop over optimizer steps.

    every optimizer step:  train_step()  (a subclass: its losses, backward, then `apply`)
    every `check_every`:   validate(log), with the averaged weights
    every `save_every`:    save(), a checkpoint of everything

Supervised training (learn.train.Trainer) is a subclass. Another objective, rewards for example, is another
subclass: gradient clipping, weight updates, averaging, checks, saving and resuming are shared.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from innerloop.learn import checkpoint, restore
from innerloop.learn.compile import compile_blocks
from innerloop.learn.distributed import Distributed
from innerloop.learn.lock import lock_folder
from innerloop.learn.log import Log
from innerloop.learn.optim import EMA, optimizers, schedule
from innerloop.learn.plan import Plan
from innerloop.learn.tracker import BestTracker

LOG_EVERY = 10  # steps between lines of metrics.jsonl
PER_PUZZLE = ("accuracy", "exact_accuracy", "q_halt_accuracy", "steps")  # metrics that are sums over "count" puzzles


class Result(NamedTuple):
    """How a run ended."""

    steps: int
    seconds: float  # of training alone: validation and saving not counted
    best: dict[str, Any]  # step, exact, token and valid (None: unknown) of the saved weights; empty without validation
    stopped: str  # why it failed before plan.steps; empty if it did not
    warnings: list[str]
    flat: str = ""  # why it ended before plan.steps, as plan.patience says; empty if it did not


class Learner:
    """A model under training. A subclass implements `train_step`, and may extend `validate`, `state` and `load`."""

    validates = False  # whether `validate` chooses the weights to save; if not, every checkpoint saves its own
    all_or_nothing = False  # whether a step that is not finite invalidates all steps since the last checkpoint

    def __init__(
        self,
        loop: Any,
        plan: Plan,
        folder: Path,
        *,
        seed: int = 0,
        device: torch.device | str = "cpu",
        live: bool = True,
        minutes: float = 0.0,
        sinks: tuple[str, ...] = (),
    ) -> None:
        """
        folder   where checkpoints, weights and metrics.jsonl are written
        seed     of the random numbers of training
        live     whether progress is printed
        minutes  wall-clock time after which `run` ends, validations included; 0: no limit
        sinks    further loggers: "tensorboard", "wandb"
        """
        self.device = torch.device(device)
        self.distributed = Distributed(self.device)
        self.loop, self.plan, self.folder = loop.to(self.device).train(), plan, folder
        self.live, self.sinks, self.minutes = live, sinks, minutes
        self.optimizers = optimizers(loop, plan.optimizer, plan.lr, plan.weight_decay, plan.puzzle_lr)
        self.average = EMA(loop, plan.ema) if plan.ema else None
        self.draws = torch.Generator().manual_seed(seed)
        self.position = 0  # examples used so far, over all ranks
        self.step, self.seconds = 0, 0.0
        self.tracker = BestTracker()
        self.update_hooks = [m for m in self.loop.modules() if hasattr(m, "after_update")]

    # -- state ----------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """The whole training state as tensors and plain values, readable by torch.load(weights_only=True)."""
        return {
            "step": self.step,
            "seconds": self.seconds,
            "position": self.position,
            "model": self.loop.state_dict(),
            "optimizers": [host_state(o.state_dict()) for o in self.optimizers],
            "average": self.average.state_dict() if self.average else {},
            "draws": self.draws.get_state(),
            "watch": self.tracker.state(),
            "torch": torch.get_rng_state(),
        }

    def restore(self, state: Any) -> None:
        """Continue from a saved state. Raises InputError, and changes nothing, if it is damaged or of another run."""
        restore.check_state(self, state)
        self.load(state)

    def load(self, state: dict[str, Any]) -> None:
        """Load a state that this learner saved, without checks."""
        self.step, self.seconds, self.position = state["step"], state["seconds"], state["position"]
        self.loop.load_state_dict(state["model"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        if self.average:
            self.average.load_state_dict(state["average"])
        self.draws.set_state(state["draws"])
        self.tracker = BestTracker(state["watch"])
        torch.set_rng_state(state["torch"])

    def save(self) -> None:
        """Write a checkpoint, and the weights where no validation chooses them. Every rank must call it.

        When it returns, all ranks may read what was written.
        """
        state = self.state()
        if self.distributed.is_main:
            checkpoint.save_state(self.folder, state)
            if not self.validates:
                self.save_weights()
        self.distributed.barrier()

    def save_weights(self) -> None:
        """Write the averaged weights as the run's model.safetensors."""
        with self.averaged():
            checkpoint.save_weights(self.folder / checkpoint.MODEL, self.loop.state_dict())

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Context in which the loop has its averaged weights and is in eval mode."""
        if self.average:
            self.average.swap()
        self.loop.eval()
        try:
            yield
        finally:
            self.loop.train()
            if self.average:
                self.average.swap()

    # -- one step -------------------------------------------------------------------------------------------------

    def train_step(self) -> tuple[dict[str, float], bool]:
        """One optimizer step, or several. Returns sums of losses and metrics, and whether all are finite. If not,
        nothing was changed; where `all_or_nothing`, all since the last checkpoint is invalid.
        """
        raise NotImplementedError

    def zero_grad(self) -> None:
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)

    def apply(self, sums: dict[str, Tensor]) -> tuple[dict[str, float], bool]:
        """Clip the accumulated gradients, set the learning rate, step the optimizers; then `after_update` and the EMA.

        sums: scalars, over this rank's part of the batch; those ending in "_loss" are losses. Returns them summed over
        ranks with "loss" (a mean over the batch) and "grad_norm", and whether all are finite; if not, nothing changed.
        """
        names, values = list(sums), torch.stack(list(sums.values()))
        if self.distributed.world_size > 1:
            self.distributed.sum_gradients(self.loop.parameters())
            values = self.distributed.all_reduce(values)
        metrics = dict(zip(names, values.tolist(), strict=True))
        metrics["loss"] = sum(v for k, v in metrics.items() if k.endswith("_loss")) / self.plan.batch
        metrics["grad_norm"] = self.clip().item()
        if not (math.isfinite(metrics["loss"]) and math.isfinite(metrics["grad_norm"])):
            return metrics, False
        self.set_rate(self.step)
        self.update()
        self.step += 1
        return metrics, True

    def clip(self) -> Tensor:
        """Clip the dense gradients to plan.clip, if that is not 0. Returns their norm before."""
        dense = [p for p in self.loop.parameters() if p.grad is not None and not p.grad.is_sparse]
        return nn.utils.clip_grad_norm_(dense, self.plan.clip or float("inf"))

    def set_rate(self, step: int) -> None:
        factor = self.rate_factor(step)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["base_lr"] * factor

    def rate_factor(self, step: int) -> float:
        return schedule(step, self.plan.steps, self.plan.warmup, self.plan.floor)

    def update(self) -> None:
        """Optimizer steps, `after_update` of all modules that have it, then the EMA."""
        for optimizer in self.optimizers:
            optimizer.step()
        with torch.no_grad():
            for module in self.update_hooks:
                module.after_update()
        if self.average:
            self.average.update()

    # -- the loop -------------------------------------------------------------------------------------------------

    def validate(self, log: Log) -> None:
        """Called every plan.check_every steps and after the last one."""

    def non_finite_weight(self) -> str:
        """Which weight is not finite, as part of a sentence; empty where all are."""
        averaged = self.average.shadow if self.average else {}
        return checkpoint.non_finite(self.loop.state_dict()) or checkpoint.non_finite(averaged)

    def run(self, until: int = 0) -> Result:
        """Train until step `until` (0: plan.steps) or until `minutes` are over; another call goes on from there.

        Raises InputError if another process trains in this folder.
        """
        with lock_folder(self.folder) if self.distributed.is_main else nullcontext("") as note:
            return self.run_steps(note, min(until or self.plan.steps, self.plan.steps))

    def run_steps(self, note: str, last: int) -> Result:
        plan, stopped, start = self.plan, "", time.monotonic()
        shown = self.live and self.distributed.is_main
        log = Log(self.folder, plan.steps, self.step, shown, self.sinks, self.folder.name)
        notes = [compile_blocks(self.loop, plan.compile, self.device, plan.steps), note]
        if shown:
            log.print("\n".join(filter(None, notes)))
        recent: dict[str, float] = {}
        recorded = self.step  # up to which step metrics.jsonl holds the means
        metrics = {"loss": 0.0}
        try:
            ended = bool(self.early_stop_reason())
            while self.step < last and not (stopped or ended):
                began, before = time.perf_counter(), self.step
                metrics, finite = self.train_step()
                self.seconds += time.perf_counter() - began
                at_check = self.step == plan.steps or not (self.step % plan.check_every and self.step % plan.save_every)
                non_finite = self.non_finite_weight() if finite and at_check else ""
                if non_finite or not finite:
                    stopped = self.tracker.divergence_message(max(self.step, before + 1), metrics, non_finite)
                    break
                recent = {k: recent.get(k, 0.0) + v for k, v in metrics.items()}
                count = max(recent.get("count", 0.0), 1.0)
                done = self.step - before
                exact = recent.get("exact_accuracy", 0.0) / count
                log.step(self.step, self.answer_loss(metrics) / done, exact)
                if self.step % LOG_EVERY == 0 and self.distributed.is_main:
                    log.write(self.record(recent, count, self.step - recorded))
                    recent, recorded = {}, self.step
                if self.step % plan.check_every == 0 or self.step == plan.steps:
                    self.validate(log)
                    ended = self.on_any_rank(bool(self.early_stop_reason()))
                if self.step % plan.save_every == 0:
                    self.save()
                if self.out_of_time(start):
                    break
            non_finite = self.non_finite_weight()
            if non_finite and not stopped:
                stopped = self.tracker.divergence_message(self.step, metrics, non_finite)
            if not non_finite and not (stopped and self.all_or_nothing):
                self.save()
        finally:
            log.close()
            self.distributed.barrier()
        return Result(
            self.step, self.seconds, self.tracker.best, stopped, self.tracker.warnings, self.early_stop_reason()
        )

    def answer_loss(self, metrics: dict[str, float]) -> float:
        """The loss of the answers, a mean over the batch, which systems share; the whole one where there are none."""
        return metrics["lm_loss"] / self.plan.batch if "lm_loss" in metrics else metrics["loss"]

    def early_stop_reason(self) -> str:
        """Why to stop early, or "": no higher validation accuracy in the last plan.patience validations.

        Two are enough where every validation puzzle is solved.
        """
        plan, best, since = self.plan, self.tracker.best, self.step - self.tracker.last_rise
        if not (plan.patience and self.validates and best) or self.step >= plan.steps:
            return ""
        if since < plan.check_every * min(plan.patience, 2 if best["exact"] == 1 else plan.patience):
            return ""
        return f"validated accuracy has not risen since step {self.tracker.last_rise:.0f}"

    def out_of_time(self, start: float) -> bool:
        """Whether `minutes` have passed on any rank."""
        return bool(self.minutes) and self.on_any_rank(time.monotonic() - start > 60 * self.minutes)

    def on_any_rank(self, value: bool) -> bool:
        """Whether it is true on any rank. Every rank must call it."""
        return any(self.distributed.gather_counts([int(value)]))

    def record(self, recent: dict[str, float], count: float, steps: int) -> dict[str, Any]:
        """One line of metrics.jsonl: means over the last `steps` steps, and over the `count` puzzles that halted.

        recent  sums of losses and metrics over these steps
        """
        line: dict[str, Any] = {"step": self.step, "seconds": round(self.seconds, 3), "examples": self.position}
        line["lr_factor"] = self.rate_factor(self.step - 1)
        for name, value in recent.items():
            if name in PER_PUZZLE:
                line["train/" + ("mean_steps" if name == "steps" else name)] = value / count
            elif name.endswith("_loss"):
                line["train/" + name] = value / steps / self.plan.batch
            elif name in ("loss", "grad_norm"):
                line["train/" + name] = value / steps
        return line


def host_state(state: dict[str, Any]) -> dict[str, Any]:
    """An optimizer's state_dict whose groups hold plain numbers, even where a CUDA graph keeps them as tensors."""
    groups = [
        {k: v.item() if isinstance(v, Tensor) else False if k == "capturable" else v for k, v in group.items()}
        for group in state["param_groups"]
    ]
    return state | {"param_groups": groups}
