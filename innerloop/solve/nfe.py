"""A loop as a solver sees it: what a step costs, and whether its state can bear thousands of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from innerloop.core import Question
from innerloop.ledger import charge_rows, counting, counts, rows_of, step_cost
from innerloop.parts.mixers import Net

GRAPHS = 64  # that one step may be compiled into


@torch.no_grad()
def calls_of_a_step(loop: Any, task: Any) -> int:
    """Block calls (NFE) of one step of a loop for one puzzle; 1 where it runs no Net of innerloop.parts.

    All steps of a loop cost the same. One whose calls depend on its data (DEQ) is priced by the first step of an empty
    puzzle.
    """
    parameter = next(loop.parameters(), None) if hasattr(loop, "parameters") else None
    device = "cpu" if parameter is None else parameter.device
    blank = torch.ones(1, int(np.prod(task.shape)), dtype=torch.long, device=device)
    question = Question(blank, torch.zeros_like(blank[:, 0]))
    return int(step_cost(loop, loop.init(question), question)[1].nfe)


def in_float32(loop: Any) -> Any:
    """The same system with its state in float32: a copy, unless it is so already or has no say in it."""
    config: Any = getattr(loop, "c", None)
    if getattr(config, "dtype", "float32") == "float32":
        return loop
    twin = type(loop)(replace(config, dtype="float32"))
    twin.load_state_dict(loop.state_dict())
    return twin.to(next(loop.parameters()).device).eval()


def compiled(loop: Any) -> Any | None:
    """The same loop with its step as one compiled graph; None where that would be slower.

    Blocks that already run as one region made for their shape (parts/fused.py) would lose it: a compiler of graphs sees
    only their plain twin.
    """
    within = loop.loop if hasattr(loop, "loop") else loop
    nets = [m for m in within.modules() if isinstance(m, Net)] if hasattr(within, "modules") else []
    if nets and all(net.fused for net in nets):
        return None
    return Compiled(loop)


class Compiled:
    """The same loop with its step as one compiled graph: seconds for each batch size it meets, less time ever after.

    On a CPU it takes the overhead off small nets. Answers stay the same but for rounding, and so does what they cost:
    a graph charges no ledger, so this does, by what the step costs uncompiled. torch's limit of graphs for one function
    is raised for the whole process.
    """

    def __init__(self, loop: Any) -> None:
        _many_graphs()
        self.loop, self._graph = loop, torch.compile(loop.step, dynamic=False)
        self._calls: int | None = None  # of a step, once it was counted

    def step(self, s: Any, x: Any) -> Any:
        if counts() and self._calls is None:  # charged by its own nets, this once
            with counting() as cost:
                new = self.loop.step(s, x)
            self._calls = int(cost.nfe) // rows_of(new)
            return new
        charge_rows("nfe", s, self._calls or 0)
        return self._graph(s, x)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loop, name)


def _many_graphs() -> None:
    """Let a step have a graph for every batch size of several models.

    torch counts them by the step's code, which all models of a system share, and beyond 8 runs it as written.
    """
    from torch._dynamo import config  # seconds, which torch.compile takes anyway

    config.recompile_limit = max(config.recompile_limit, GRAPHS)


def few_sizes(rows: int) -> list[int]:
    """Batch sizes worth a compilation each: every fourth power of two, and `rows`."""
    return [n for n in (1, 4, 16, 64, 256) if n < rows] + [rows]
