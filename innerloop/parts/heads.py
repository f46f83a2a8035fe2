"""Reading a state: one head for the tokens, one for halting."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from innerloop.core import Answer
from innerloop.parts.layers import Linear
from innerloop.parts.size import Size


class Heads(nn.Module):
    """logits from every token's place; q_halt (and q_continue, if `continue_head`) from what `size.pool` says.

    pool="first": the first place, which is the puzzle's prefix in HRM and TRM. pool="mean": the mean over all places,
    which the head only reads: through the mean its gradient would reach every place, and small nets then learn more
    slowly (benchmarks/halting_gradient.py).

    The halting head starts at zero weight and bias -5, "not yet right", whatever it sees. Its second row is
    there even where it is unused, so that official checkpoints fit.
    """

    def __init__(self, size: Size, continue_head: bool) -> None:
        super().__init__()
        self.prefix, self.pool, self.continue_head = size.prefix, size.pool, continue_head
        self.tokens = Linear(size.width, size.vocab)
        self.q = Linear(size.width, 2, bias=True)
        nn.init.zeros_(self.q.weight)
        nn.init.constant_(self.q.bias, -5.0)  # type: ignore[arg-type]

    def forward(self, z_BLD: Tensor) -> Answer:
        q_B2 = self.q(z_BLD[:, 0] if self.pool == "first" else z_BLD.detach().mean(1)).to(torch.float32)
        logits_BSV = self.tokens(z_BLD)[:, self.prefix :]
        return Answer(logits_BSV, q_B2[:, 0], q_B2[:, 1] if self.continue_head else None)
