"""Reading a state: one head for the tokens, one for halting."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from innerloop.core import Answer
from innerloop.parts.config import NetConfig
from innerloop.parts.layers import Linear


class Heads(nn.Module):
    """logits from every token's place; q_halt (and q_continue, if `continue_head`) from what `size.pool` says.

    pool="first": the first place, which is the puzzle's prefix in HRM and TRM. pool="mean": the mean over all places,
    which the head only reads: through the mean its gradient would reach every place, and small nets then learn more
    slowly (benchmarks/halting_gradient.py).

    Where symbols are interchangeable, each one's logit is read from its own node, all else from the mean of a place's.

    The halting head starts at zero weight and bias -5, "not yet right", whatever it sees. Its second row is
    there even where it is unused, so that official checkpoints fit.
    """

    order: Tensor

    def __init__(self, config: NetConfig, continue_head: bool) -> None:
        super().__init__()
        self.prefix, self.pool, self.continue_head = config.prefix, config.pool, continue_head
        self.nodes, self.forms = (config.nodes, config.node), [form[0] for form in config.symbols]
        tied = [token for form in config.symbols for token in form]
        named = set(tied)
        self.plain = [token for token in range(config.vocab) if token not in named]
        self.register_buffer("order", torch.tensor(self.plain + tied).argsort(), persistent=False)
        self.ordered = self.plain + tied == list(range(config.vocab))
        self.tokens = Linear(config.node, config.vocab)
        self.q = Linear(config.node, 2, bias=True)
        nn.init.zeros_(self.q.weight)
        nn.init.constant_(self.q.bias, -5.0)  # type: ignore[arg-type]

    def forward(self, z_BLD: Tensor) -> Answer:
        if not self.forms:
            return self.whole(z_BLD)
        z_BLND = z_BLD.unflatten(2, self.nodes)
        answer = self.whole(z_BLND.mean(2))
        own = F.linear(z_BLND[:, self.prefix :], self.tokens.weight[self.forms].to(z_BLD.dtype)).transpose(2, 3)
        logits_BSV = torch.cat((answer.logits[..., self.plain], own.flatten(2)), -1)
        return answer._replace(logits=logits_BSV if self.ordered else logits_BSV[..., self.order])

    def whole(self, z_BLD: Tensor) -> Answer:
        """One node a place."""
        q_B2 = self.q(z_BLD[:, 0] if self.pool == "first" else z_BLD.detach().mean(1)).to(torch.float32)
        logits_BSV = self.tokens(z_BLD)[:, self.prefix :]
        return Answer(logits_BSV, q_B2[:, 0], q_B2[:, 1] if self.continue_head else None)
