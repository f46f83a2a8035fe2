"""A learned Gaussian push: where to steer a state and how far to scatter it, known before and after the answer is.

    prior       p(e | u)    = N(mu(u), sigma(u)^2)            what is left when nobody knows the answer
    posterior   q(e | u, y) = N(mu'(u + y), sigma'(u + y)^2)  its teacher, which sees the answer

All four are SwiGLU nets at every place, as GRAM has them (arXiv 2605.19376). Shapes: B batch, L length, D width.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from innerloop.parts.config import NetConfig
from innerloop.parts.layers import SwiGLU, inner_width

SCATTER = 0.1  # standard deviation before learning, whatever the state


class Gaussian(NamedTuple):
    """Independent normals; both are float32, or float64 where the net is."""

    mean: Tensor  # (B, L, D)
    std: Tensor  # (B, L, D), >= 0

    def detach(self) -> Gaussian:
        return Gaussian(self.mean.detach(), self.std.detach())


def kl(q: Gaussian, p: Gaussian) -> Tensor:
    """KL(q || p) of each number, in the shape of its arguments."""
    ratio = (q.std / p.std).square()
    return 0.5 * (ratio + ((q.mean - p.mean) / p.std).square() - 1 - ratio.log())


def balanced_kl(q: Gaussian, p: Gaussian, balance: float) -> Tensor:
    """(B,) KL(q || p), summed over the channels and averaged over the places.

    Its value is the KL for any balance. Of its gradient, the share `balance` moves the prior to the posterior and the
    rest the posterior to the prior, so that the teacher is not forgotten to please the pupil (arXiv 2010.02193).
    """
    mixed = balance * kl(q.detach(), p) + (1 - balance) * kl(q, p.detach())
    return mixed.sum(-1).mean(-1)


class GaussianHead(nn.Module):
    """u (B, L, D) -> Gaussian. Before learning the mean is 0 and the standard deviation SCATTER."""

    def __init__(self, config: NetConfig) -> None:
        super().__init__()
        inner = inner_width(config.hidden_size, config.expansion, config.multiple_of)
        self.mean, self.spread = SwiGLU(config.hidden_size, inner), SwiGLU(config.hidden_size, inner)
        for net in (self.mean, self.spread):
            nn.init.zeros_(net.down.weight)
        self.bias = nn.Parameter(self.mean.down.weight.new_full((config.hidden_size,), math.log(math.expm1(SCATTER))))

    def forward(self, u_BLD: Tensor) -> Gaussian:
        mean, spread = (net(u_BLD).to(self.bias.dtype) for net in (self.mean, self.spread))
        return Gaussian(mean, F.softplus(spread + self.bias))


class Guidance(nn.Module):
    """The prior and the posterior of one push."""

    def __init__(self, config: NetConfig, balance: float) -> None:
        super().__init__()
        self.balance = balance
        self.prior, self.posterior = GaussianHead(config), GaussianHead(config)

    def forward(self, u_BLD: Tensor, noise_BLD: Tensor, y_BLD: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The push (B, L, D) and what it costs (B,), in the dtype of a Gaussian.

        noise: standard normal. y: the embedded answer; with it the push is drawn from the posterior and costs
        KL(posterior || prior), without it from the prior and costs nothing.
        """
        p = self.prior(u_BLD)
        if y_BLD is None:
            return p.mean + p.std * noise_BLD, u_BLD.new_zeros(len(u_BLD), dtype=p.mean.dtype)
        q = self.posterior(u_BLD + y_BLD)
        return q.mean + q.std * noise_BLD, balanced_kl(q, p, self.balance)
