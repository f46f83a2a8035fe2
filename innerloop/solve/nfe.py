"""Cost of a step in block calls (NFE), float32 copies and compiled steps of a loop, for the solver."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from innerloop.core import Question
from innerloop.ledger import charge_rows, counting, is_counting, rows_of, step_cost
from innerloop.parts.mixers import Net

GRAPHS = 64  # limit of compiled graphs of one step


@torch.no_grad()
def nfe_per_step(loop: Any, task: Any) -> int:
    """Block calls (NFE) of one step of a loop for one puzzle; 1 where it runs no Net of innerloop.parts.

    All steps are assumed to cost the same. Where the calls depend on the data (DEQ), it is the first step of a
    puzzle of all tokens 1.
    """
    parameter = next(loop.parameters(), None) if hasattr(loop, "parameters") else None
    device = "cpu" if parameter is None else parameter.device
    tokens = torch.ones(1, int(np.prod(task.shape)), dtype=torch.long, device=device)
    question = Question(tokens, torch.zeros_like(tokens[:, 0]))
    return int(step_cost(loop, loop.init(question), question)[1].nfe)


def in_float32(loop: Any) -> Any:
    """The same system with its state in float32: a copy, or the loop itself if it needs none."""
    config: Any = getattr(loop, "c", None)
    if getattr(config, "dtype", "float32") == "float32":
        return loop
    copy = type(loop)(replace(config, dtype="float32"))
    copy.load_state_dict(loop.state_dict())
    return copy.to(next(loop.parameters()).device).eval()


def compile_step(loop: Any) -> Any | None:
    """The same loop with its step as one compiled graph; None where that would be slower.

    Blocks that run as one fused C++ region (parts/fused.py) would lose it: torch.compile sees only their plain PyTorch
    form.
    """
    inner = loop.loop if hasattr(loop, "loop") else loop
    nets = [m for m in inner.modules() if isinstance(m, Net)] if hasattr(inner, "modules") else []
    if nets and all(net.fused for net in nets):
        return None
    return CompiledLoop(loop)


class CompiledLoop:
    """A loop whose step is one compiled graph. Compiling takes seconds for each new batch size.

    On a CPU it removes the call overhead of small nets. Answers are equal but for rounding. A compiled graph charges no
    ledger, so this class charges what the step costs uncompiled. torch's limit of graphs for one function is raised for
    the whole process.
    """

    def __init__(self, loop: Any) -> None:
        _raise_graph_limit()
        self.loop, self._graph = loop, torch.compile(loop.step, dynamic=False)
        self._calls: int | None = None  # block calls of a step per example, once measured

    def step(self, s: Any, x: Any) -> Any:
        if is_counting() and self._calls is None:  # its nets charge this first step themselves
            with counting() as cost:
                new = self.loop.step(s, x)
            self._calls = int(cost.nfe) // rows_of(new)
            return new
        charge_rows("nfe", s, self._calls or 0)
        return self._graph(s, x)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loop, name)


def _raise_graph_limit() -> None:
    """Raise torch's limit of graphs, so that every batch size of several models can have one.

    torch counts graphs by the step's code, which all models of a system share, and beyond 8 runs it uncompiled.
    """
    from torch._dynamo import config  # a slow import, which torch.compile needs anyway

    config.recompile_limit = max(config.recompile_limit, GRAPHS)


def compiled_batch_sizes(rows: int) -> list[int]:
    """Batch sizes to compile for: powers of 4 up to 256 below `rows`, and `rows`."""
    return [n for n in (1, 4, 16, 64, 256) if n < rows] + [rows]
