"""Supervised training: the Trainer and `train`.

    every optimizer step:  refill halted rows;  one step of the loop;  loss;  backward;  optimizers;  EMA
    every `check_every`:   validate the averaged weights and save the best
    every `save_every`:    write a checkpoint

The same plan, seed and examples give the same run on one process, on several, and after any interruption.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from innerloop.data.protocols import Examples, Task
from innerloop.data.sets import fingerprint
from innerloop.errors import InputError
from innerloop.learn import checkpoint, restore
from innerloop.learn.compile import compile_blocks
from innerloop.learn.distributed import Distributed
from innerloop.learn.evaluate import Row, evaluate
from innerloop.learn.graph import GraphTrainer, on_host, unsupported_reason
from innerloop.learn.lock import hold
from innerloop.learn.log import Log
from innerloop.learn.optim import EMA, optimizers, schedule
from innerloop.learn.plan import Plan
from innerloop.learn.stream import ExampleStream
from innerloop.learn.supervise import Batch, Carry, Draw, SupervisedStep, initial_carry, random_salts, supervised_step
from innerloop.learn.tracker import BestTracker, upgraded_state
from innerloop.learn.unroll import unrolled
from innerloop.noise import has_key

LOG_EVERY = 10  # steps between lines of metrics.jsonl


class Result(NamedTuple):
    """How a run ended."""

    steps: int
    seconds: float  # of training alone: validation and saving not counted
    best: dict[str, Any]  # step, exact, token and valid (None: unknown) of the kept weights; empty without validation
    stopped: str  # empty, or why it stopped before plan.steps
    warnings: list[str]


class Trainer:
    """State and steps of a training run. `run` trains to the end; `state` and `restore` save and load everything."""

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
        device: torch.device | str = "cpu",
        live: bool = True,
        minutes: float = 0.0,
        sinks: tuple[str, ...] = (),
        on_check: Callable[[int, list[Row]], None] | None = None,
        resume: bool = True,
    ) -> None:
        self.device = torch.device(device)
        self.distributed = Distributed(self.device)
        self.loop, self.task, self.plan, self.folder = loop.to(self.device).train(), task, plan, folder
        self.validation, self.on_check, self.live, self.sinks = validation, on_check, live, sinks
        self.minutes = minutes
        self.data = {k: fingerprint(s) for k, s in (("train", examples), ("validation", validation)) if s is not None}
        self.stream = ExampleStream(examples, task if plan.augment else None, seed)
        self.optimizers = optimizers(loop, plan.optimizer, plan.lr, plan.weight_decay, plan.puzzle_lr)
        self.average = EMA(loop, plan.ema) if plan.ema else None
        self.draws = torch.Generator().manual_seed(seed)
        self.micro_batch = self.distributed.local_batch(plan.batch) // plan.accumulate
        self.position = 0  # examples used so far, over all ranks
        self.step, self.seconds = 0, 0.0
        self.tracker = BestTracker()
        self.carries = [self.blank() for _ in range(plan.accumulate)]
        self.update_hooks = [m for m in self.loop.modules() if hasattr(m, "after_update")]
        self.noisy = has_key(self.carries[0].state)
        if resume and (saved := checkpoint.load_state(folder)) is not None:
            self.restore(saved)
        self.graph_trainer = self.enable()

    def enable(self) -> GraphTrainer | None:
        """The graph trainer, if the plan asks for it. Raises InputError where it is "on" and not supported."""
        wanted = self.plan.resident == "on" or (self.plan.resident == "auto" and self.device.type == "cuda")
        reason = unsupported_reason(self) if wanted else ""
        if reason and self.plan.resident == "on":
            raise InputError(f'plan.resident is "on", but {reason}: leave it "auto"')
        return GraphTrainer(self) if wanted and not reason else None

    def blank(self) -> Carry:
        free = torch.ones(self.micro_batch, dtype=torch.bool, device=self.device)
        return initial_carry(self.loop, self.stream.fill(~free, 0))

    # -- state ----------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """The whole training state as tensors and plain values, readable by torch.load(weights_only=True)."""
        return {
            "step": self.step,
            "seconds": self.seconds,
            "position": self.position,
            "model": self.loop.state_dict(),
            "optimizers": [on_host(o.state_dict()) for o in self.optimizers],
            "average": self.average.state_dict() if self.average else {},
            "draws": self.draws.get_state(),
            "carries": [self.rows()],
            "watch": self.tracker.state(),
            "torch": torch.get_rng_state(),
            "data": self.data,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a saved state. Raises InputError, and changes nothing, if it is damaged or of another run."""
        self.put(state, restore.checked_carries(self, state))

    def put(self, state: dict[str, Any], carries: list[Carry]) -> None:
        """Load a state that this trainer saved, without checks."""
        self.step, self.seconds, self.position = state["step"], state["seconds"], state["position"]
        self.loop.load_state_dict(state["model"])
        for optimizer, kept in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(kept)
        if self.average:
            self.average.load_state_dict(state["average"])
        self.draws.set_state(state["draws"])
        self.carries = carries
        self.tracker = BestTracker(**upgraded_state(state["watch"], self.task.verifies))
        torch.set_rng_state(state["torch"])

    def rows(self) -> list[Tensor | None]:
        """The carried states of the whole batch, over all parts and ranks, as flat tensors."""
        columns: Any = zip(*(checkpoint.flatten(c) for c in self.carries), strict=True)
        return [None if column[0] is None else self.distributed.gather_rows(torch.cat(column)) for column in columns]

    def part_rows(self, i: int) -> slice:
        """The rows of the global batch that micro-batch `i` of this rank holds."""
        first = (self.distributed.rank * self.plan.accumulate + i) * self.micro_batch
        return slice(first, first + self.micro_batch)

    def save(self) -> None:
        state = self.state()  # every rank must call it: rows are gathered
        if self.distributed.is_main:
            checkpoint.save_state(self.folder, state)
            if self.validation is None:
                self.keep()

    def keep(self) -> None:
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

    def learn(self) -> tuple[dict[str, float], bool]:
        """One optimizer step, or several with the graph trainer. Returns the sums of losses and metrics, and whether
        all are finite. If not, nothing was changed; with the graph trainer, all since the last save is invalid.
        """
        if self.graph_trainer:
            numbers = self.graph_trainer.run()
            return numbers, all(map(math.isfinite, numbers.values()))
        plan, before = self.plan, self.position
        carries = list(self.carries)
        think = self.unrolled_step() if plan.unroll.depth else self.carried_step()
        counts = self.distributed.gather_counts([int(c.halted.sum()) for c in carries])
        if hasattr(self.loop, "set_progress"):
            self.loop.set_progress(self.step / plan.steps)
        first_part = self.distributed.rank * plan.accumulate
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        sums: dict[str, Tensor] = {}
        for i, carry in enumerate(carries):
            first = before + sum(counts[: first_part + i])
            fresh = self.stream.fill(carry.halted, first)
            out = think(carry, fresh, self.part_rows(i))
            (sum(out.losses.values()) / plan.batch).backward()  # type: ignore[union-attr]
            carries[i] = out.carry
            for name, value in (out.losses | out.metrics).items():
                sums[name] = sums.get(name, 0.0) + value.detach().double()
        self.distributed.sum_gradients(self.loop.parameters())
        totals = self.distributed.all_reduce(torch.stack(list(sums.values()))).tolist()
        numbers = dict(zip(sums, totals, strict=True))
        numbers["loss"] = sum(v for k, v in numbers.items() if k.endswith("_loss")) / plan.batch
        dense = [p for p in self.loop.parameters() if p.grad is not None and not p.grad.is_sparse]
        norm = nn.utils.clip_grad_norm_(dense, plan.clip or float("inf")).item()
        numbers["grad_norm"] = norm
        if not all(map(torch.isfinite, torch.tensor([numbers["loss"], norm]))):
            return numbers, False
        self.set_rate(self.step)
        self.update()
        self.carries, self.position = carries, before + sum(counts)
        self.step += 1
        return numbers, True

    def carried_step(self) -> Callable[[Carry, Batch, slice], SupervisedStep]:
        """A function for one step of deep supervision on a micro-batch."""
        plan = self.plan
        draw = plan.halting.draw(plan.batch, self.draws, self.noisy)

        def think(carry: Carry, fresh: Batch, rows: slice) -> SupervisedStep:
            mine = Draw(*(None if d is None else d[rows] for d in draw))  # type: ignore[arg-type]
            return supervised_step(self.loop, carry, fresh, plan.halting, mine, plan.loss)

        return think

    def unrolled_step(self) -> Callable[[Carry, Batch, slice], SupervisedStep]:
        """A function for a full unroll on a micro-batch of fresh puzzles."""
        plan = self.plan
        depth = plan.unroll.steps(self.step / plan.steps, self.draws)
        salt = random_salts(plan.batch, self.draws) if self.noisy else None

        def think(carry: Carry, fresh: Batch, rows: slice) -> SupervisedStep:
            return unrolled(self.loop, fresh, plan.unroll, depth, None if salt is None else salt[rows], plan.loss)

        return think

    def set_rate(self, step: int) -> None:
        factor = schedule(step, self.plan.steps, self.plan.warmup, self.plan.floor)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["base_lr"] * factor

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

    def non_finite_weight(self) -> str:
        """Which weight is not finite, as part of a sentence; empty where all are."""
        averaged = self.average.shadow if self.average else {}
        return checkpoint.non_finite(self.loop.state_dict()) or checkpoint.non_finite(averaged)

    def run(self) -> Result:
        """Train until plan.steps or `minutes` are over. Raises InputError if another process trains in this folder."""
        with hold(self.folder) if self.distributed.is_main else nullcontext("") as note:
            return self.run_steps(note)

    def run_steps(self, note: str) -> Result:
        plan, stopped, start = self.plan, "", time.monotonic()
        log = Log(
            self.folder, plan.steps, self.step, self.live and self.distributed.is_main, self.sinks, self.folder.name
        )
        said = [compile_blocks(self.loop, plan.compile, self.device, plan.steps), note]
        if self.live and self.distributed.is_main:
            log.say("\n".join(filter(None, said)))
        recent: dict[str, float] = {}
        numbers = {"loss": 0.0}
        try:
            while self.step < plan.steps and not stopped:
                began, before = time.perf_counter(), self.step
                numbers, finite = self.learn()
                self.seconds += time.perf_counter() - began
                due = self.step == plan.steps or not (self.step % plan.check_every and self.step % plan.save_every)
                bad = self.non_finite_weight() if finite and due else ""
                if bad or not finite:
                    stopped = self.tracker.diverged(self.step + (not finite), numbers, bad)
                    break
                recent = {k: recent.get(k, 0.0) + v for k, v in numbers.items()}
                count = max(recent["count"], 1.0)
                done = self.step - before
                log.step(self.step, numbers["loss"] / done, recent["exact_accuracy"] / count, plan.batch * done)
                if self.step % LOG_EVERY == 0 and self.distributed.is_main:
                    log.write(self.record(recent, count))
                    recent = {}
                if self.step % plan.check_every == 0 or self.step == plan.steps:
                    self.validate(log)
                if self.step % plan.save_every == 0:
                    self.save()
                if self.out_of_time(start):
                    break
            bad = self.non_finite_weight()
            if bad and not stopped:
                stopped = self.tracker.diverged(self.step, numbers, bad)
            if not bad and not (stopped and self.graph_trainer):
                self.save()
        finally:
            log.close()
            self.distributed.wait()
        return Result(self.step, self.seconds, self.tracker.best, stopped, self.tracker.warnings)

    def out_of_time(self, start: float) -> bool:
        """Whether `minutes` are over on any rank."""
        return bool(self.minutes) and any(
            self.distributed.gather_counts([int(time.monotonic() - start > 60 * self.minutes)])
        )

    def record(self, recent: dict[str, float], count: float) -> dict[str, Any]:
        """One line of metrics.jsonl: means over the last LOG_EVERY steps and over the puzzles that halted in them."""
        span = LOG_EVERY if self.step >= LOG_EVERY else self.step
        per_puzzle = ("accuracy", "exact_accuracy", "q_halt_accuracy", "steps")
        line: dict[str, Any] = {"step": self.step, "seconds": round(self.seconds, 3), "examples": self.position}
        line["lr_factor"] = schedule(self.step - 1, self.plan.steps, self.plan.warmup, self.plan.floor)
        for name, value in recent.items():
            if name in per_puzzle:
                line["train/" + ("mean_steps" if name == "steps" else name)] = value / count
            elif name.endswith("_loss"):
                line["train/" + name] = value / span / self.plan.batch
            elif name in ("loss", "grad_norm"):
                line["train/" + name] = value / span
        return line

    def validate(self, log: Log) -> None:
        """Validate the averaged weights; save them if none were better."""
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
                self.keep()
            for text in self.tracker.new_warnings():
                log.say(text, "yellow")
            if self.on_check:
                self.on_check(self.step, rows)
        self.distributed.wait()


def train(loop: nn.Module, task: Task, examples: Examples, plan: Plan, folder: Path | str, **how: Any) -> Result:
    """Train `loop` on `examples` as `plan` says, in `folder`, going on where an earlier run there ended.

    loop is a Loop and a torch.nn.Module; examples and validation are of `task`, such as PuzzleSets; see Trainer for the
    other arguments. `minutes` ends this call, validations included, before the plan is done: the same call goes on, and
    the result is the same, bit for bit.
    The kept weights are folder/model.safetensors: the best validated ones, or the last without validation.
    """
    first = int(os.environ.get("RANK", "0")) == 0
    with hold(folder) if first else nullcontext():
        trainer = Trainer(loop, task, examples, plan, Path(folder), **how)
        try:
            return trainer.run()
        finally:
            trainer.distributed.close()
