"""Learned Gaussian noise on a state, with a prior and a posterior that sees the answer (GRAM, arXiv 2605.19376).

    prior       p(e | u)    = N(mu(u), sigma(u)^2)            used at inference
    posterior   q(e | u, y) = N(mu'(u + y), sigma'(u + y)^2)  used in training; y is the embedded answer

mu, sigma, mu' and sigma' are SwiGLU nets applied at every position. Shapes: B batch, L length, D width.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from innerloop.parts.config import NetConfig
from innerloop.parts.layers import SwiGLU, inner_width

INITIAL_STD = 0.1  # initial standard deviation, for every state


class Gaussian(NamedTuple):
    """Independent normals, float32 (float64 if the net is)."""

    mean: Tensor  # (B, L, D)
    std: Tensor  # (B, L, D), >= 0

    def detach(self) -> Gaussian:
        return Gaussian(self.mean.detach(), self.std.detach())


def kl(q: Gaussian, p: Gaussian) -> Tensor:
    """KL(q || p), elementwise."""
    ratio = (q.std / p.std).square()
    return 0.5 * (ratio + ((q.mean - p.mean) / p.std).square() - 1 - ratio.log())


def balanced_kl(q: Gaussian, p: Gaussian, balance: float) -> Tensor:
    """(B,) KL(q || p), summed over channels and averaged over positions, with KL balancing (arXiv 2010.02193).

    The value does not depend on `balance`. The share `balance` of the gradient trains the prior towards the posterior,
    the rest the posterior towards the prior.
    """
    mixed = balance * kl(q.detach(), p) + (1 - balance) * kl(q, p.detach())
    return mixed.sum(-1).mean(-1)


class GaussianHead(nn.Module):
    """u (B, L, D) -> Gaussian, of mean 0 and standard deviation INITIAL_STD at initialisation."""

    def __init__(self, config: NetConfig) -> None:
        super().__init__()
        inner = inner_width(config.hidden_size, config.expansion, config.multiple_of)
        self.mean, self.spread = SwiGLU(config.hidden_size, inner), SwiGLU(config.hidden_size, inner)
        for net in (self.mean, self.spread):
            nn.init.zeros_(net.down.weight)
        self.bias = nn.Parameter(
            self.mean.down.weight.new_full((config.hidden_size,), math.log(math.expm1(INITIAL_STD)))
        )

    def forward(self, u_BLD: Tensor) -> Gaussian:
        mean, spread = (net(u_BLD).to(self.bias.dtype) for net in (self.mean, self.spread))
        return Gaussian(mean, F.softplus(spread + self.bias))


class Guidance(nn.Module):
    """The prior and the posterior of the noise e."""

    def __init__(self, config: NetConfig, balance: float) -> None:
        super().__init__()
        self.balance = balance
        self.prior, self.posterior = GaussianHead(config), GaussianHead(config)

    def forward(self, u_BLD: Tensor, noise_BLD: Tensor, y_BLD: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(e (B, L, D), KL (B,)), in the dtype of a Gaussian.

        noise: standard normal. y: the embedded answer. With y, e is drawn from the posterior and the KL is
        KL(posterior || prior); without it, e is drawn from the prior and the KL is 0.
        """
        p = self.prior(u_BLD)
        if y_BLD is None:
            return p.mean + p.std * noise_BLD, u_BLD.new_zeros(len(u_BLD), dtype=p.mean.dtype)
        q = self.posterior(u_BLD + y_BLD)
        return q.mean + q.std * noise_BLD, balanced_kl(q, p, self.balance)
