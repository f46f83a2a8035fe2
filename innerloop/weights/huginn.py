"""Huginn (2025): a prelude, a core that recurs from a random start, a coda.                     arXiv 2502.05171

    e = prelude(embed(question));   z = noise
    a step:   z <- core(adapt [z; e])
    answer:   logits = head(norm(coda(norm(z)))),  head = transposed token embedding

Trained by full unrolls of random depth with gradient through the last 8 steps: Unroll(32, draw="poisson",
grad="last(8)"). Any depth can then be used, and the final state does not depend on the start (`agreement`). Its exits
are halt.kl, entropy, cosine, unchanged_for and converged (0.02 is the paper's 0.03, as the state holds e too). Left
out: gains of norms, biases of queries and keys.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Annotated, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from innerloop import halt
from innerloop.core import Answer, Question, think
from innerloop.noise import key_of, salted, uniform_at
from innerloop.parts.attention import Reading, attention_context, prefix_lengths, reading_of
from innerloop.parts.cache import Cache
from innerloop.parts.config import NetConfig
from innerloop.parts.embed import Embed
from innerloop.parts.layers import Linear, dtype_named, rms_norm, trunc_normal
from innerloop.parts.mixers import Net
from innerloop.schema import Count, Range, check

__all__ = ["Config", "Huginn"]


@dataclass(frozen=True)
class Config:
    net: NetConfig = field(
        default_factory=lambda: replace(NetConfig(), layers=4, norm="sandwich", rope_base=5e4)
    )  # of the core
    prelude: Annotated[int, Range(0, 512)] = 2  # blocks before the loop
    coda: Annotated[int, Range(0, 512)] = 2  # and after it
    recurrence: Count = 32  # mean depth of training; scales the initial weights
    dtype: str = "bfloat16"  # of the state and of all products; weights stay float32

    def __post_init__(self) -> None:
        check(self)


class State(NamedTuple):
    z: Tensor  # (B, L, D)
    e: Tensor  # (B, L, D) output of the prelude
    reading: Reading  # what each position may see
    key: Tensor  # (B,) int64 key of the random start, drawn in the first step
    t: Tensor  # (B,) int64, steps taken


class Huginn(nn.Module):
    causal = True  # supports causal masks
    stop = staticmethod(halt.kl())

    def __init__(self, c: Config = Config()) -> None:
        super().__init__()
        self.c, self.dtype = c, dtype_named(c.dtype)
        self.embed, self.adapt = Embed(c.net), Linear(2 * c.net.hidden_size, c.net.hidden_size)
        self.prelude, self.coda = (Net(replace(c.net, layers=n)) for n in (c.prelude, c.coda))
        self.core = Net(c.net)
        std, blocks = math.sqrt(2 / (5 * c.net.hidden_size)), c.prelude + c.coda + c.net.layers * c.recurrence
        for name, m in self.named_modules():
            if isinstance(m, Linear) or name == "embed.tokens":
                share = 1 / math.sqrt(2 * blocks) if name.endswith((".out", ".down")) else 1.0
                m.weight.data.copy_(trunc_normal(*m.weight.shape, std=std * share))

    def init(self, x: Question) -> State:
        reading, prompt = reading_of(self.c.net, x), prefix_lengths(self.c.net, x.inputs)
        e_BLD = self.prelude(self.embed(x, self.dtype), context=attention_context(self.c.net, reading))
        return State(torch.zeros_like(e_BLD), e_BLD, reading, self.key(x, prompt), torch.zeros_like(prompt))

    def key(self, x: Question, prompt: Tensor) -> Tensor:
        """(B,) int64 hash of the prompt alone, so that the noise leaks no later token."""
        in_prompt = torch.arange(x.inputs.shape[1], device=prompt.device) + self.c.net.prefix < prompt[:, None]
        return key_of(x._replace(inputs=x.inputs * in_prompt))

    def start(self, key: Tensor, cache: Cache | None = None) -> Tensor:
        """(B, P, D) normal of variance 2/5, as of the embedded tokens, truncated at three deviations."""
        every = torch.arange(self.c.net.length, device=key.device)[None]
        u = uniform_at(key, every if cache is None else cache.places, self.c.net.hidden_size)
        return (torch.erfinv((2 * u - 1) * math.erf(3 / math.sqrt(2))) * math.sqrt(4 / 5)).to(self.dtype)

    def step(self, s: State, x: Question) -> State:
        z_BLD = torch.where(s.t[:, None, None] == 0, self.start(s.key, x.cache), s.z)
        z_BLD = self.core(self.adapt(torch.cat((z_BLD, s.e), -1)), context=attention_context(self.c.net, s.reading))
        return s._replace(z=z_BLD, t=s.t + 1)

    def read(self, s: State) -> Answer:
        return Answer(
            self.say(self.coda(rms_norm(s.z), context=attention_context(self.c.net, s.reading)))[:, self.c.net.prefix :]
        )

    def say(self, c_BLD: Tensor) -> Tensor:
        return F.linear(rms_norm(c_BLD), self.embed.tokens.weight.to(c_BLD.dtype))


def agreement(loop: Huginn, x: Question, depth: int) -> Tensor:
    """(B,) cosine of the final states from two random starts; near 1: path independence."""
    a, b = (think(loop, x, depth, state=salted(loop.init(x), salt)).state.z.float().flatten(1) for salt in (0, 1))
    return F.cosine_similarity(a, b)
