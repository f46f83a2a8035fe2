"""Speed is Confidence (2026): K latents in one TRM; the winner of each step answers.           arXiv 2601.19085

    x = embed(question);   y = a fixed random vector;   z_1 .. z_K = K of them, the same at every position
    a step:   of every k, from the shared y:   T times:  ( z_k <- net(z_k, y_k + x)  n times;   y_k <- net(y_k, z_k) )
              y <- y_k of the winner:  of least cross-entropy given the target, else of the highest halting logit
    answer:   logits = head(y),  halt = q(y at the first position)

Only the winner's y is passed on, so only it gets gradient; every latent keeps its own z. `loop.latents = 1` tests the
first latent by itself, the paper's "1x inference". Halting first among several loops is width.first_to_halt.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from innerloop import grad
from innerloop.core import Answer, Question, run_schedule
from innerloop.errors import InputError
from innerloop.parts.config import NetConfig
from innerloop.parts.embed import Embed, initial_vectors
from innerloop.parts.heads import Heads
from innerloop.parts.layers import dtype_named
from innerloop.parts.mixers import Net
from innerloop.parts.recursion import schedule, updates
from innerloop.schema import Count, check

__all__ = ["Config", "SiC"]

SIZE = replace(NetConfig(), puzzle_emb_size=0, block="tokens", positions="none")
NONE = -100  # label of a position without a target


@dataclass(frozen=True)
class Config:
    net: NetConfig = field(default_factory=lambda: SIZE)
    latents: Count = 4  # K
    cycles: Count = 6  # T, H_cycles in the official code
    thoughts: Count = 9  # n, L_cycles in the official code: updates of z before each update of y
    grad: str = "last_cycle"  # which updates of a step carry gradient: the name of a rule in innerloop.grad
    dtype: str = "bfloat16"  # of the state and of all products; weights stay float32

    def __post_init__(self) -> None:
        check(self)
        if self.latents < 1:
            raise InputError(f"{self.latents} latents cannot race: give 1 or more")


class State(NamedTuple):
    y: Tensor  # (B, L, D) the answer of the last winner; L = prefix + tokens
    z: Tensor  # (B, K, L, D) all latents


class SiC(nn.Module):
    needs_target = True
    y0: Tensor
    z0: Tensor

    def __init__(self, c: Config = Config()) -> None:
        super().__init__()
        self.c, self.grad, self.dtype = c, grad.rule_named(c.grad), dtype_named(c.dtype)
        self.embed, self.net, self.heads = Embed(c.net), Net(c.net), Heads(c.net, continue_head=False)
        self.schedule, self.latents = schedule(c.thoughts, c.cycles), c.latents
        self.register_buffer("y0", initial_vectors(c.net))
        self.register_buffer("z0", initial_vectors(c.net, c.latents))

    def init(self, x: Question) -> State:
        rows, shape = len(x.inputs), (self.c.net.length, self.c.net.hidden_size)
        z_KLD = self.z0[: self.latents, None].to(self.dtype)
        return State(self.y0.to(self.dtype).expand(rows, *shape), z_KLD.expand(rows, -1, *shape))

    def step(self, s: State, x: Question) -> State:
        rows, K = s.z.shape[:2]
        y_NLD, x_NLD = (t.repeat_interleave(K, 0) for t in (s.y, self.embed(x, self.dtype)))  # N = B K
        racing = State(y_NLD, s.z.flatten(0, 1))
        new: State = run_schedule(self.schedule, updates(self.net, x_NLD), racing, self.grad)
        winner = self.judged(new.y.detach(), x, K).unflatten(0, (rows, K)).argmax(1)
        y_BKLD, z_BKLD = (t.unflatten(0, (rows, K)) for t in new)
        return State(y_BKLD[torch.arange(rows, device=winner.device), winner], z_BKLD)

    def judged(self, y_NLD: Tensor, x: Question, K: int) -> Tensor:
        """(N,) score of each candidate: minus its cross-entropy given a target, else its halting logit."""
        answer = self.heads(y_NLD)
        if x.target is None:
            return answer.q_halt
        labels = x.target.where(x.target >= 0, NONE).repeat_interleave(K, 0).flatten()
        nll_M = F.cross_entropy(answer.logits.float().flatten(0, 1), labels, ignore_index=NONE, reduction="none")
        return -nll_M.view(len(y_NLD), -1).sum(1)

    def read(self, s: State) -> Answer:
        return self.heads(s.y)
