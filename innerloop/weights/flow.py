"""Flow Reasoning Model (2026): a flow from noise to the answer, whose denoiser is a loop.      arXiv 2606.29150

    x_t = (1 - t) noise + t onehot(answer);   D(x_t, t, question, s) -> categorical, s its last prediction or 0
    a step:   p <- D(x, t, question, s);   x <- x + dt (p - x) / (1 - t);   r <- KL(p|s) + KL(s|p);   s <- p
    learned:  t0 < t drawn;  s = steps from x_t0 to time t, off the tape, for half of the examples, else 0;  D(x_t, .)
    answer:   logits = head(D's state),  halt = q(its first place)

Time is walked on a grid as far as `hold`; there x stays, and the loop s <- D goes on. `r` falls towards fixed points:
`still` halts by it, and it is to tell right from wrong. Trained by Unroll(depth=1): a step that is shown the target is
one training step (fixed-point forcing), whose answer's cross-entropy is the loss.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from innerloop import grad
from innerloop.core import Answer, Question, run_schedule
from innerloop.errors import InputError
from innerloop.halt import Halt
from innerloop.noise import key_of, normal, scramble, uniform
from innerloop.parts.config import NetConfig
from innerloop.parts.embed import Embed
from innerloop.parts.heads import Heads
from innerloop.parts.layers import Linear, dtype_named
from innerloop.parts.mixers import Net
from innerloop.schema import Count, Share

__all__ = ["Config", "Flow"]


@dataclass(frozen=True)
class Config:
    net: NetConfig = field(default_factory=NetConfig)
    grid: Count = 8  # steps in which time is walked from 0 to `hold`
    hold: Share = 0.3  # the time at which x stays; 0: it is noise for ever, and only s moves
    forcing: Share = 0.5  # share of examples that learn with their own prediction; 0: a plain flow, without any
    rollout: Count = 16  # steps from t0 to t of those
    dtype: str = "bfloat16"  # of all products; weights, x and s stay float32

    def __post_init__(self) -> None:
        if self.grid < 1 or self.rollout < 1 or not (0 <= self.hold < 1 and 0 <= self.forcing <= 1):
            raise InputError(f"a flow needs grid and rollout >= 1, 0 <= hold < 1 and 0 <= forcing <= 1, not {self}")


class State(NamedTuple):
    x: Tensor  # (B, S, V) float32, where the flow stands
    s: Tensor  # (B, S, V) float32, the last prediction; zeros before the first
    h: Tensor  # (B, L, D) the denoiser's state, from which the answer is read
    r: Tensor  # (B,) float32 residual, mean over tokens; the first prediction is held against the uniform one
    t: Tensor  # (B,) int64, steps taken
    key: Tensor  # (B,) int64, of the noise


class Flow(nn.Module):
    needs_target = True

    def __init__(self, c: Config = Config()) -> None:
        super().__init__()
        self.c, self.dtype, config = c, dtype_named(c.dtype), c.net
        self.stop = still()
        self.embed, self.net, self.heads = Embed(config), Net(config), Heads(config, continue_head=False)
        self.point, self.carry = Linear(config.vocab, config.hidden_size), Linear(config.vocab, config.hidden_size)
        self.clock = Linear(config.hidden_size, config.hidden_size)
        self.schedule_learning = ("roll",) * (c.rollout if c.forcing else 0) + ("learn",)

    def init(self, x: Question) -> State:
        rows, config, key = len(x.inputs), self.c.net, key_of(x)
        zero = torch.zeros(rows, config.seq, config.vocab, device=key.device)
        h = zero.new_zeros(rows, config.length, config.hidden_size, dtype=self.dtype)
        return State(zero, zero, h, zero[:, 0, 0], torch.zeros_like(key), key)

    def step(self, s: State, x: Question) -> State:
        e_BLD, c = self.embed(x, self.dtype), self.c
        if x.target is not None:
            return self.learn(s, e_BLD, F.one_hot(x.target.clamp_min(0), c.net.vocab).float())
        s = s._replace(x=normal(s.key, c.net.seq, c.net.vocab).where((s.t == 0)[:, None, None], s.x))
        now, then = (c.hold * (s.t + i).clamp_max(c.grid) / c.grid for i in (0, 1))
        return self.move(s, e_BLD, now, then)

    def learn(self, s: State, e_BLD: Tensor, y_BSV: Tensor) -> State:
        """One training step towards the answer's one-hot; its ignored places count as padding."""
        key, (t, share, coin) = scramble(s.key + 1), uniform(s.key, 3).unbind(1)
        noise, forced = normal(key, *y_BSV.shape[1:]), (coin < self.c.forcing)[:, None, None]
        at = lambda i: t * (share + (1 - share) * i / self.c.rollout)  # noqa: E731
        updates = {
            "roll": lambda s: self.move(s, e_BLD, at(s.t), at(s.t + 1)),
            "learn": lambda s: self.move(s._replace(x=blend(noise, y_BSV, t), s=s.s * forced), e_BLD, t, t),
        }
        s = s._replace(x=blend(noise, y_BSV, at(0)), s=0 * s.s, t=0 * s.t, key=scramble(key + 1))
        return run_schedule(self.schedule_learning, updates, s, grad.last(1))

    def move(self, s: State, e_BLD: Tensor, now: Tensor, then: Tensor) -> State:
        """Predict at time `now` (B,), and go on to time `then` along the straight line to the prediction."""
        waves = torch.logspace(0, 3, self.c.net.hidden_size // 2, device=now.device) * now[:, None]
        clock_BD = self.clock(torch.cat((waves.sin(), waves.cos()), -1).to(self.dtype))
        tokens = self.point(s.x.to(self.dtype)) + self.carry((s.s * bool(self.c.forcing)).to(self.dtype))
        h = self.net(e_BLD + clock_BD[:, None], F.pad(tokens, (0, 0, self.c.net.prefix, 0)))
        log_p, log_s = (self.heads(z).logits.float().log_softmax(-1) for z in (h, s.h))
        p, r = log_p.exp(), ((log_p.exp() - log_s.exp()) * (log_p - log_s)).sum(-1).mean(-1)
        return State(blend(s.x, p, (then - now) / (1 - now)), p, h, r, s.t + 1, s.key)

    def read(self, s: State) -> Answer:
        return self.heads(s.h)


def blend(a: Tensor, b: Tensor, w: Tensor) -> Tensor:
    """(1 - w) a + w b with w (B,): exactly a at 0 and b at 1. The interpolant x_t, and an Euler step towards b."""
    w = w[:, None, None]
    return (1 - w) * a + w * b


def still(tol: float = 1e-2) -> Halt:
    """Stop an example when its residual falls below `tol`: two predictions in a row are the same."""
    return lambda loop, old, new, steps: new.r < tol
