"""Training without host synchronisation: several optimizer steps are queued on the device, as a CUDA graph there.

    ring buffer   the next examples, augmented by the host in advance: example n in slot n mod R, on the device
    lists         random numbers and learning rates of the next steps, one row per step
    body          halted rows take examples position, position + 1 ...; one step of deep supervision, backward,
                  optimizers, EMA; the carry, the position and the sums of metrics stay on the device

The host queues `body` several times, fills the ring buffer while they run, and reads the metrics once for all of them.
On CUDA the body is captured once and replayed as a graph: one launch per step. Nothing in it depends on a value on the
host; a test on a CPU shows that it gives the same bits as Trainer.train_step.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import numpy as np
import torch
from torch import Tensor

from innerloop.core import Question, map_tensors
from innerloop.learn import checkpoint
from innerloop.learn.loss import IGNORE
from innerloop.learn.optim import AdamATan2, sparse_parameters
from innerloop.learn.restore import CarriedLearner
from innerloop.learn.supervise import Batch, Draw, supervised_step

SYNC_EVERY = 10  # most steps between two synchronisations
WARMUP_STEPS = 3  # warm-up steps on a side stream before a capture; undone afterwards


def unsupported_reason(t: CarriedLearner) -> str:
    """Why the graph trainer does not support this run, as part of a sentence; empty if it does."""
    plan = t.plan
    if t.distributed.size > 1:
        return "several processes learn together"
    if plan.accumulate > 1 or plan.unroll.depth:
        return "a step is more than one segment"
    if sparse_parameters(t.loop):
        return "a table of puzzle embeddings has gradients of no fixed shape"
    return ""


def capturable(t: CarriedLearner) -> bool:
    """Whether the body can be captured as a CUDA graph: the same operations at every step."""
    known = all(isinstance(o, AdamATan2 | torch.optim.AdamW) for o in t.optimizers)
    return t.device.type == "cuda" and known and not t.update_hooks and not hasattr(t.loop, "set_progress")


class GraphTrainer:
    """Runs several optimizer steps of a trainer without host synchronisation."""

    def __init__(self, t: CarriedLearner) -> None:
        self.t, self.device = t, t.device
        batch, width = t.plan.batch, t.stream.examples.inputs.shape[1]
        self.size = (2 * SYNC_EVERY + 1) * batch  # two stretches, each row free every time
        wide = np.asarray(t.stream.examples.inputs).dtype.itemsize > 1
        kind = torch.int32 if wide else torch.uint8  # a tensor has few operations in other narrow dtypes
        self.inputs, self.labels = torch.zeros(2, self.size, width, dtype=kind, device=self.device)
        self.puzzles = torch.zeros(self.size, dtype=torch.long, device=self.device)
        self.filled = t.position
        self.position = torch.tensor(t.position, device=self.device)
        self.carry = map_tensors(Tensor.clone, t.carries[0])
        self.step_index = torch.zeros((), dtype=torch.long, device=self.device)
        self.rates = torch.zeros(SYNC_EVERY, device=self.device)
        self.draws: tuple[Tensor | None, ...] = ()
        self.names: list[str] = []
        self.sums = torch.zeros(0, dtype=torch.float64, device=self.device)
        self.graph: Any = None
        self.fill(t.position)

    # -- the host ---------------------------------------------------------------------------------------------------

    def run(self) -> dict[str, float]:
        """Run up to the next log, validation or checkpoint. Returns the sums of losses and metrics over these steps."""
        t, plan = self.t, self.t.plan
        ends = [
            plan.steps,
            *(-(-(t.step + 1) // every) * every for every in (SYNC_EVERY, plan.check_every, plan.save_every)),
        ]
        count = min(ends) - t.step
        self.prepare(count)
        for i in range(count):
            self.step(i)
        known = t.position  # examples taken before these steps
        self.fill(known)
        totals = self.sums.tolist()  # the host waits here, and nowhere else
        t.step += count
        t.position = int(self.position)
        t.carries = [self.carry]
        return dict(zip(self.names, totals, strict=True))

    def prepare(self, count: int) -> None:
        """Copy random numbers and learning rates of the next `count` steps to the device."""
        t, plan = self.t, self.t.plan
        rows = [plan.halting.draw(plan.batch, t.draws, t.noisy) for _ in range(count)]
        rates = [t.rate_factor(t.step + i) for i in range(count)]
        columns = [None if c[0] is None else torch.stack(c) for c in zip(*rows, strict=True)]
        if not self.draws:
            blank = [None if c is None else c.new_zeros(SYNC_EVERY, *c.shape[1:]) for c in columns]
            self.draws = tuple(None if c is None else c.to(self.device) for c in blank)
        for held, new in zip((self.rates, *self.draws), (torch.tensor(rates), *columns), strict=True):
            if held is not None and new is not None:
                held[:count].copy_(self.pinned(new), non_blocking=True)
        self.step_index.zero_()
        self.sums.zero_()

    def pinned(self, t: Tensor) -> Tensor:
        """`t` in pinned memory on CUDA, so that its copy to the device is asynchronous."""
        return t.pin_memory() if self.device.type == "cuda" else t

    def fill(self, taken: int) -> None:
        """Fill every slot of the ring buffer whose example is before number `taken`, which is used up."""
        while self.filled < taken + self.size:
            first = self.filled % self.size
            count = min(taken + self.size - self.filled, self.size - first)
            inputs, labels, puzzles = (
                torch.from_numpy(a.astype(np.int64)) for a in self.t.stream.rows(self.filled, count)
            )
            for ring, new in ((self.inputs, inputs), (self.labels, labels), (self.puzzles, puzzles)):
                ring[first : first + count].copy_(self.pinned(new.to(ring.dtype)), non_blocking=True)
            self.filled += count

    def step(self, i: int) -> None:
        t = self.t
        if capturable(t):
            if self.graph is None:
                self.capture()
            self.graph.replay()
            return
        if hasattr(t.loop, "set_progress"):
            t.loop.set_progress((t.step + i) / t.plan.steps)
        t.set_rate(t.step + i)
        self.body()

    # -- the device -------------------------------------------------------------------------------------------------

    def body(self) -> None:
        """One optimizer step with static shapes, no host synchronisation, and results written in place."""
        t, plan, carry = self.t, self.t.plan, self.carry
        slot = (self.position + carry.halted.cumsum(0) - 1) % self.size
        labels = self.labels[slot].long()
        fresh = Batch(Question(self.inputs[slot].long(), self.puzzles[slot]), labels.where(labels != 0, IGNORE))
        draw = Draw(*(None if d is None else d.index_select(0, self.step_index[None])[0] for d in self.draws))  # type: ignore[arg-type]
        t.zero_grad()
        out = supervised_step(t.loop, carry, fresh, plan.halting, draw, plan.loss)
        (sum(out.losses.values()) / plan.batch).backward()  # type: ignore[union-attr]
        norm = t.clip()
        t.update()
        numbers = {name: value.detach().double() for name, value in (out.losses | out.metrics).items()}
        numbers["loss"] = sum(v for k, v in numbers.items() if k.endswith("_loss")) / plan.batch  # type: ignore[assignment]
        self.count(numbers | {"grad_norm": norm.double()})
        self.position += carry.halted.sum()
        self.step_index += 1
        with torch.no_grad():
            for held, new in zip(checkpoint.flatten(carry), checkpoint.flatten(out.carry), strict=True):
                if held is not None and new is not None:
                    held.copy_(new)

    def count(self, numbers: dict[str, Tensor]) -> None:
        if not self.names:
            self.names = list(numbers)
            self.sums = torch.zeros(len(numbers), dtype=torch.float64, device=self.device)
        self.sums += torch.stack(list(numbers.values()))

    # -- a graph ----------------------------------------------------------------------------------------------------

    def capture(self) -> None:
        """Capture the body as a CUDA graph, after WARMUP_STEPS steps whose effect is undone."""
        t = self.t
        before, fresh = deepcopy(t.state()), [not o.state for o in t.optimizers]
        held = [x for x in checkpoint.flatten((self.carry, self.position, self.step_index)) if x is not None]
        kept = [x.clone() for x in held]
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARMUP_STEPS):
                self.body()
        torch.cuda.current_stream().wait_stream(side)
        self.roll_back(before, fresh)
        torch._foreach_copy_(held, kept)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            rate = self.rates.index_select(0, self.step_index[None])[0]
            for optimizer in t.optimizers:
                for group in optimizer.param_groups:
                    group["lr"].copy_(group["base_lr"] * rate)
            self.body()

    def roll_back(self, before: dict[str, Any], fresh: list[bool]) -> None:
        """Restore the trainer, with optimizer states allocated (else every replay would allocate them again)."""
        made = [o.state_dict() for o in self.t.optimizers]
        for old, new, first in zip(before["optimizers"], made, fresh, strict=True):
            if first:
                old["state"] = {i: {k: torch.zeros_like(v) for k, v in s.items()} for i, s in new["state"].items()}
        self.t.put_all(before, [self.carry])
        self.sums.zero_()
        for optimizer in self.t.optimizers:
            on_device(optimizer, self.device)
            optimizer.zero_grad(set_to_none=True)


def on_device(optimizer: torch.optim.Optimizer, device: torch.device) -> None:
    """Make learning rate and step count tensors, which a replayed graph can read and change."""
    for group in optimizer.param_groups:
        group["lr"] = torch.tensor(float(group["lr"]), device=device)
        if isinstance(optimizer, AdamATan2):
            group["t"] = torch.tensor(float(group.get("t", 0)), device=device)
        else:
            group["capturable"] = True
