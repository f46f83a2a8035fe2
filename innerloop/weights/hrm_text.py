"""HRM-Text (2026): HRM as a language model, started from the question.                          arXiv 2605.20613

    h = embed(question), which is not injected again;   l = a fixed random vector, the same at every position
    a step:   N times:  ( l <- low(l + h)  T times;   h <- high(h + l) )
    answer:   logits = head(h)

One step is the whole computation: Unroll(1). Prompts are bidirectional, responses causal. Norms: eps 1e-5, not 1e-6.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from torch import Tensor, nn

from innerloop import grad
from innerloop.core import Answer, Question, run_schedule
from innerloop.errors import InputError
from innerloop.parts.attention import context_of
from innerloop.parts.config import NetConfig
from innerloop.parts.embed import Embed, initial_vectors
from innerloop.parts.layers import Linear, dtype_named
from innerloop.parts.mixers import Net
from innerloop.schema import Count, Share, Whole, check

__all__ = ["HRMText", "Config", "guided", "strip_think"]  # noqa: RUF022 -- the system first

SIZE = NetConfig(
    hidden_size=1536, heads=12, layers=16, block="gated", norm="magic", mask="prefix", prefix=0, puzzle_emb_size=0
)


@dataclass(frozen=True)
class Config:
    net: NetConfig = field(default_factory=lambda: SIZE)
    cycles: Count = 2  # N, H_cycles in the official code: updates of h in a step
    low_cycles: Count = 3  # T, L_cycles in the official code: updates of l before each of h
    credit: tuple[Whole, Whole] = (2, 5)  # K, updates with gradient: at the start, and after the warm-up
    warmup: Share = 0.2  # share of training in which K grows
    dtype: str = "bfloat16"  # of the state and of all products; weights stay float32

    def __post_init__(self) -> None:
        check(self)


class State(NamedTuple):
    h: Tensor  # (B, L, D) high-level state
    l: Tensor  # (B, L, D) low-level state


class HRMText(nn.Module):
    causal = True  # supports causal masks
    l0: Tensor

    def __init__(self, c: Config = Config()) -> None:
        super().__init__()
        self.c, self.dtype = c, dtype_named(c.dtype)
        self.embed, self.low, self.high = Embed(c.net), Net(c.net), Net(c.net)
        self.head = Linear(c.net.hidden_size, c.net.vocab)
        self.schedule = (("l",) * c.low_cycles + ("h",)) * c.cycles
        self.register_buffer("l0", initial_vectors(c.net))
        self.grad = credited(c.credit[1], c.cycles)

    def set_progress(self, progress: float) -> None:
        first, last = self.c.credit
        self.grad = credited(first + int(min(1.0, progress / self.c.warmup) * (last - first)), self.c.cycles)

    def init(self, x: Question) -> State:
        h_BLD = self.embed(x, self.dtype)
        return State(h_BLD, self.l0.to(self.dtype).expand_as(h_BLD))

    def step(self, s: State, x: Question, schedule: Sequence[str] = (), grad: grad.Rule | None = None) -> State:
        look = context_of(self.c.net, x)
        updates = {
            "l": lambda s: State(s.h, self.low(s.l, s.h, context=look)),
            "h": lambda s: State(self.high(s.h, s.l, context=look), s.l),
        }
        return run_schedule(schedule or self.schedule, updates, s, grad or self.grad)

    def read(self, s: State) -> Answer:
        return Answer(self.head(s.h)[:, self.c.net.prefix :])


def credited(k: int, cycles: int) -> grad.Rule:
    """Gradient through K updates: the last min(cycles, K - 1) of h, the others of l. They are no suffix."""
    if k < 2:
        raise InputError(f"credit for {k} updates leaves one of the nets without any: give 2 or more")
    most = {"h": min(cycles, k - 1), "l": k - min(cycles, k - 1)}

    def rule(schedule: Sequence[str], update: grad.Update, s: Any) -> Any:
        for i, name in enumerate(schedule):
            s = (grad.full if schedule[i:].count(name) <= most[name] else grad.last(0))((name,), update, s)
        return s

    return rule


def guided(loop: HRMText, x: Question, weight: float, cycles: int = 1) -> Tensor:
    """weight * strong + (1 - weight) * weak, logits after all and after `cycles` cycles: autoguidance as we read it."""
    cut = cycles * (loop.c.low_cycles + 1)
    weak = loop.step(loop.init(x), x, loop.schedule[:cut], grad.full)
    strong = loop.step(weak, x, loop.schedule[cut:], grad.full)
    return loop.read(strong).logits.lerp(loop.read(weak).logits, 1 - weight)


def strip_think(text: str) -> str:
    """`text` without its <think> spans, nested ones and one that never ends included; stray end tags go too."""
    depth, kept = 0, ""
    for part in re.split(r"(</?think>)", text):
        depth = max(0, depth + {"<think>": 1, "</think>": -1}.get(part, 0))
        kept += part if depth == 0 and part != "</think>" else ""
    return kept
