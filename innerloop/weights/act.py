"""Adaptive Computation Time (2016): each example runs until its halting probabilities sum to 1.  arXiv 1603.08983

    x = embed(question) + flag at the first step;   z = 0
    a step:   z <- net(z, x);   p = sigmoid(w . z + b);   halt once the sum of p reaches 1 - eps
    answer:   logits = head(mean of the states weighted by p, the last by the remainder)
    cost:     tau * (steps + remainder)

A halted example keeps its state, so further steps do not change it; `halt.finished` avoids them, and `depth` is the
maximum. The cost needs full unrolls (learn/unroll.py, tape "full"), since the earlier probabilities of a carried state
have no gradient. The flag is the paper's extra input bit as a vector. The q_halt head is trained to predict
correctness, as in other systems, but halting does not use it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from torch import Tensor, nn

from innerloop import halt, schema
from innerloop.core import Answer, Question
from innerloop.parts.act import (
    ActState,
    HaltingUnit,
    advance,
    check_act,
    freeze_halted,
    initial_act,
    ponder_cost,
    weighted,
)
from innerloop.parts.config import NetConfig
from innerloop.parts.embed import Embed
from innerloop.parts.heads import Heads
from innerloop.parts.layers import dtype_named, trunc_normal
from innerloop.parts.mixers import Net
from innerloop.schema import Amount, Share

__all__ = ["ACT", "Config"]


@dataclass(frozen=True)
class Config:
    net: NetConfig = field(default_factory=NetConfig)
    eps: Share = 0.01  # an example halts at a sum of 1 - eps, so that one step can be enough
    tau: Amount = 0.01  # cost of a step, in nats of the answer's loss; results depend on it strongly
    form: str = "graves"  # how states are weighted: a name from parts.act.FORMS
    dtype: str = "bfloat16"  # of the state and of all products; weights and halting stay float32

    def __post_init__(self) -> None:
        schema.check(self)
        check_act(self.form, self.eps, self.tau)


class State(NamedTuple):
    z: Tensor  # (B, L, D) current state
    act: ActState  # of granularity (B,); act.n are each example's steps

    @property
    def done(self) -> Tensor:
        """(B,) bool, for halt.finished."""
        return self.act.done


class ACT(nn.Module):
    stop = staticmethod(halt.finished)

    def __init__(self, c: Config = Config()) -> None:
        super().__init__()
        self.c, self.dtype = c, dtype_named(c.dtype)
        self.embed, self.net, self.heads = Embed(c.net), Net(c.net), Heads(c.net, continue_head=False)
        self.flag = nn.Parameter(trunc_normal(c.net.hidden_size, std=1.0))
        self.halting = HaltingUnit(c.net)

    def init(self, x: Question) -> State:
        z = x.inputs.new_zeros((len(x.inputs), self.c.net.length, self.c.net.hidden_size), dtype=self.dtype)
        return State(z, initial_act(z))

    def step(self, s: State, x: Question) -> State:
        first = (s.act.n == 0)[:, None, None].to(self.dtype)
        z = self.net(s.z, self.embed(x, self.dtype) + first * self.flag.to(self.dtype))
        z = freeze_halted(s.act.done, s.z, z)
        return State(z, advance(s.act, s.z, self.halting(z), self.c.eps, self.c.form))

    def read(self, s: State) -> Answer:
        return self.heads(weighted(s.act, s.z, self.c.form))

    def terms(self, s: State) -> dict[str, Tensor]:
        return {"act_loss": self.c.tau * ponder_cost(s.act)}
