"""Data-parallel training with torchrun: rank, world size, and collectives for gradients and counts."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from innerloop.errors import InputError

# Gloo's threads release a collective some time after it is done. If theirs is the last reference, the release needs
# the interpreter, and aborts if that is shutting down: so the latest ones are kept referenced here.
RECENT_WORK: deque[Any] = deque(maxlen=4)


def run_collective(collective: Callable[..., Any], *args: Any) -> None:
    """Run a torch.distributed collective and wait for it."""
    work = collective(*args, async_op=True)
    work.wait()
    RECENT_WORK.append((work, args))


class Distributed:
    """Rank and world size from torchrun's environment; with one process every collective is the identity.

    With n rows per rank, rank r holds rows r n .. (r + 1) n - 1 of the global batch.
    """

    def __init__(self, device: torch.device) -> None:
        self.rank, self.world_size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
        self.device = device
        self.owns_group = self.world_size > 1 and not dist.is_initialized()
        if self.owns_group:
            dist.init_process_group("nccl" if device.type == "cuda" else "gloo")

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def local_batch(self, batch: int, parts: int = 1) -> int:
        """Rows of a batch of each of `parts` micro-batches of this process. Raises InputError if they are not equal."""
        if batch % (self.world_size * parts):
            each = f", {parts} micro-batches each" if parts > 1 else ""
            raise InputError(
                f"a batch of {batch} does not split over {self.world_size} processes{each}: "
                f"give a multiple of {self.world_size * parts}"
            )
        return batch // (self.world_size * parts)

    def gather_counts(self, local: list[int]) -> list[int]:
        """All-gather of a list of integers: every rank's, in rank order."""
        if self.world_size == 1:
            return local
        gathered = [torch.zeros(len(local), dtype=torch.long, device=self.device) for _ in range(self.world_size)]
        run_collective(dist.all_gather, gathered, torch.tensor(local, device=self.device))
        return [int(n) for part in gathered for n in part]

    def all_reduce(self, numbers: Tensor) -> Tensor:
        """All-reduce: the sum over ranks of a 1-d tensor, in place."""
        if self.world_size > 1:
            run_collective(dist.all_reduce, numbers)
        return numbers

    def gather_rows(self, local: Tensor) -> Tensor:
        """All-gather of rows, in rank order; every rank gives equally many."""
        if self.world_size == 1:
            return local
        local = local.contiguous()
        sendable = local.to(torch.uint8) if local.dtype == torch.bool else local
        gathered = [torch.empty_like(sendable) for _ in range(self.world_size)]
        run_collective(dist.all_gather, gathered, sendable)
        return torch.cat(gathered).to(local.dtype)

    def sum_gradients(self, params: Iterable[nn.Parameter]) -> None:
        """Sum gradients over ranks: dense ones in one flat buffer, sparse ones by an all-gather of their rows."""
        if self.world_size == 1:
            return
        with_grad = [p for p in params if p.grad is not None]
        dense = [p.grad for p in with_grad if not p.grad.is_sparse]  # type: ignore[union-attr]
        if dense:
            flat = torch.cat([g.flatten() for g in dense])  # type: ignore[union-attr]
            run_collective(dist.all_reduce, flat)
            for grad, part in zip(dense, flat.split([g.numel() for g in dense]), strict=True):  # type: ignore[union-attr]
                grad.copy_(part.view_as(grad))  # type: ignore[union-attr]
        for p in with_grad:
            if p.grad.is_sparse:  # type: ignore[union-attr]
                p.grad = self._gather_sparse(p.grad)  # type: ignore[arg-type]

    def _gather_sparse(self, grad: Tensor) -> Tensor:
        """All-gather of a sparse gradient: every rank has one uncoalesced row per puzzle, so sizes are equal."""
        rows, values = grad._indices().contiguous(), grad._values().contiguous()
        all_rows = [torch.empty_like(rows) for _ in range(self.world_size)]
        all_values = [torch.empty_like(values) for _ in range(self.world_size)]
        run_collective(dist.all_gather, all_rows, rows)
        run_collective(dist.all_gather, all_values, values)
        return torch.sparse_coo_tensor(
            torch.cat(all_rows, 1), torch.cat(all_values), grad.shape, check_invariants=False
        )

    def barrier(self) -> None:
        if self.world_size > 1:
            run_collective(dist.barrier)

    def close(self) -> None:
        if self.owns_group:
            dist.destroy_process_group()
