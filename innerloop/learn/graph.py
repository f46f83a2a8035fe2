"""Training without host synchronisation: several optimizer steps are queued on the device, as a CUDA graph there.

    ring buffer   the next examples, augmented by the host in advance: example n in slot n mod R, on the device
    lists         random numbers and learning rates of the next steps, one row per step
    body          halted rows take examples position, position + 1 ...; one step of deep supervision, backward,
                  optimizers, EMA; the carry, the position and the sums of metrics stay on the device

The host queues `body` several times, fills the ring buffer while they run, and reads the metrics once for all of them.
On CUDA the body is captured once and replayed as a graph: one launch per step. Nothing in it depends on a value on the
host; tests/learn/test_device_steps.py checks on a CPU that it gives the same bits as plain steps of the Trainer.
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

SYNC_EVERY = 10  # most optimizer steps between two synchronisations
WARMUP_STEPS = 3  # warm-up steps on a side stream before a capture; undone afterwards


def unsupported_reason(t: CarriedLearner) -> str:
    """Why the graph trainer does not support this run, as part of a sentence; empty if it does."""
    plan = t.plan
    if t.distributed.world_size > 1:
        return "training runs on several processes"
    if plan.accumulate > 1 or plan.unroll.depth:
        return "plan.accumulate or plan.unroll is set"
    if sparse_parameters(t.loop):
        return "gradients of puzzle embeddings have no fixed shape"
    return ""


def can_capture(t: CarriedLearner) -> bool:
    """Whether the body can be captured as a CUDA graph: the same operations at every step."""
    supported = all(isinstance(o, AdamATan2 | torch.optim.AdamW) for o in t.optimizers)
    return t.device.type == "cuda" and supported and not t.update_hooks and not hasattr(t.loop, "set_progress")


class GraphTrainer:
    """Runs several optimizer steps of a trainer without host synchronisation."""

    def __init__(self, t: CarriedLearner) -> None:
        self.t, self.device = t, t.device
        batch, width = t.plan.batch, t.stream.examples.inputs.shape[1]
        self.size = (2 * SYNC_EVERY + 1) * batch  # slots: examples of two runs of SYNC_EVERY steps, if all rows halt
        one_byte = np.asarray(t.stream.examples.inputs).dtype.itemsize == 1
        dtype = torch.uint8 if one_byte else torch.int32  # torch has few operations in uint16
        self.inputs, self.labels = torch.zeros(2, self.size, width, dtype=dtype, device=self.device)
        self.puzzles = torch.zeros(self.size, dtype=torch.long, device=self.device)
        self.filled = t.position  # number of the first example that is not in the slots yet
        self.position = torch.tensor(t.position, device=self.device)
        self.carry = map_tensors(Tensor.clone, t.carries[0])
        self.step_index = torch.zeros((), dtype=torch.long, device=self.device)
        self.rate_factors = torch.zeros(SYNC_EVERY, device=self.device)
        self.draws: tuple[Tensor | None, ...] = ()
        self.names: list[str] = []
        self.sums = torch.zeros(0, dtype=torch.float64, device=self.device)
        self.graph: Any = None
        self.fill(t.position)

    # -- host -------------------------------------------------------------------------------------------------------

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
        self.fill(t.position)  # while the steps run: examples taken before them are used up
        totals = self.sums.tolist()  # the only synchronisation
        t.step += count
        t.position = int(self.position)
        t.carries = [self.carry]
        return dict(zip(self.names, totals, strict=True))

    def prepare(self, count: int) -> None:
        """Copy random numbers and learning rates of the next `count` steps to the device."""
        t, plan = self.t, self.t.plan
        rows = [plan.halting.draw(plan.batch, t.draws, t.noisy) for _ in range(count)]
        rate_factors = [t.rate_factor(t.step + i) for i in range(count)]
        columns = [None if c[0] is None else torch.stack(c) for c in zip(*rows, strict=True)]
        if not self.draws:
            buffers = [None if c is None else c.new_zeros(SYNC_EVERY, *c.shape[1:]) for c in columns]
            self.draws = tuple(None if c is None else c.to(self.device) for c in buffers)
        for buffer, new in zip((self.rate_factors, *self.draws), (torch.tensor(rate_factors), *columns), strict=True):
            if buffer is not None and new is not None:
                buffer[:count].copy_(self.pinned(new), non_blocking=True)
        self.step_index.zero_()
        self.sums.zero_()

    def pinned(self, t: Tensor) -> Tensor:
        """`t` in pinned memory on CUDA, so that its copy to the device is asynchronous."""
        return t.pin_memory() if self.device.type == "cuda" else t

    def fill(self, used: int) -> None:
        """Refill every slot whose example is used up; `used`: examples used so far."""
        while self.filled < used + self.size:
            first = self.filled % self.size
            count = min(used + self.size - self.filled, self.size - first)
            inputs, labels, puzzles = (
                torch.from_numpy(a.astype(np.int64)) for a in self.t.stream.rows(self.filled, count)
            )
            for ring, new in ((self.inputs, inputs), (self.labels, labels), (self.puzzles, puzzles)):
                ring[first : first + count].copy_(self.pinned(new.to(ring.dtype)), non_blocking=True)
            self.filled += count

    def step(self, i: int) -> None:
        t = self.t
        if can_capture(t):
            if self.graph is None:
                self.capture()
            self.graph.replay()
            return
        if hasattr(t.loop, "set_progress"):
            t.loop.set_progress((t.step + i) / t.plan.steps)
        t.set_rate(t.step + i)
        self.body()

    # -- device -----------------------------------------------------------------------------------------------------

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
        metrics = {name: value.detach().double() for name, value in (out.losses | out.metrics).items()}
        metrics["loss"] = sum(v for k, v in metrics.items() if k.endswith("_loss")) / plan.batch  # type: ignore[assignment]
        self.add_metrics(metrics | {"grad_norm": norm.double()})
        self.position += carry.halted.sum()
        self.step_index += 1
        with torch.no_grad():
            for tensor, new in zip(checkpoint.flatten(carry), checkpoint.flatten(out.carry), strict=True):
                if tensor is not None and new is not None:
                    tensor.copy_(new)

    def add_metrics(self, metrics: dict[str, Tensor]) -> None:
        if not self.names:
            self.names = list(metrics)
            self.sums = torch.zeros(len(metrics), dtype=torch.float64, device=self.device)
        self.sums += torch.stack(list(metrics.values()))

    # -- CUDA graph ---------------------------------------------------------------------------------------------------

    def capture(self) -> None:
        """Capture the body as a CUDA graph, after WARMUP_STEPS steps whose effect is undone."""
        t = self.t
        before, no_state = deepcopy(t.state()), [not o.state for o in t.optimizers]
        tensors = [x for x in checkpoint.flatten((self.carry, self.position, self.step_index)) if x is not None]
        copies = [x.clone() for x in tensors]
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARMUP_STEPS):
                self.body()
        torch.cuda.current_stream().wait_stream(side)
        self.roll_back(before, no_state)
        torch._foreach_copy_(tensors, copies)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            rate = self.rate_factors.index_select(0, self.step_index[None])[0]
            for optimizer in t.optimizers:
                for group in optimizer.param_groups:
                    group["lr"].copy_(group["base_lr"] * rate)
            self.body()

    def roll_back(self, before: dict[str, Any], no_state: list[bool]) -> None:
        """Restore the trainer to `before`; optimizer states it lacks become zeros, so that no replay allocates them."""
        allocated = [o.state_dict() for o in self.t.optimizers]
        for old, new, was_empty in zip(before["optimizers"], allocated, no_state, strict=True):
            if was_empty:
                old["state"] = {i: {k: torch.zeros_like(v) for k, v in s.items()} for i, s in new["state"].items()}
        self.t.load_all(before, [self.carry])
        self.sums.zero_()
        for optimizer in self.t.optimizers:
            on_device(optimizer, self.device)
            optimizer.zero_grad(set_to_none=True)


def on_device(optimizer: torch.optim.Optimizer, device: torch.device) -> None:
    """Make the learning rate, and AdamATan2's step count, tensors that a replayed graph reads and changes."""
    for group in optimizer.param_groups:
        group["lr"] = torch.tensor(float(group["lr"]), device=device)
        if isinstance(optimizer, AdamATan2):
            group["t"] = torch.tensor(float(group.get("t", 0)), device=device)
        else:
            group["capturable"] = True
