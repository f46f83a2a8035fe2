"""A puzzle held in several views at once: turned, mirrored or renamed, side by side, with messages between them.

    x_g  = the question in view g;   each view is thought about by the same net
    m    = back(silu(tell(mean over the views of a position)))      added to the input of the next call of the net

All weights are shared by the views, and the answer is the mean over them. Where the views are a group, the answer turns
with the question, exactly, whatever the net: it learns from one board as from all its images. Groups as an axis of the
state: group equivariant networks (arXiv 1602.07576).
Shapes: B batch, V views, L positions, D channels of a view.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from innerloop.core import Answer, Question
from innerloop.parts.config import NetConfig
from innerloop.parts.layers import Linear

__all__ = ["Views"]


class Views(nn.Module):
    """The views of a config, and messages between them. A state is (B, L, V D) outside, (B V, L, D) in its views."""

    cells: Tensor
    back: Tensor
    names: Tensor

    def __init__(self, config: NetConfig) -> None:
        super().__init__()
        self.count, self.nodes = len(config.views), (config.nodes, config.node)
        cells = torch.tensor(config.views)  # (V, S): the cell that each cell of a view shows
        names = torch.tensor(config.view_tokens)  # (V, vocab): what each token is called there
        for name, index in (("cells", cells), ("back", cells.argsort(1)), ("names", names)):
            self.register_buffer(name, index, persistent=False)
        self.tell, self.hear = Linear(config.node, config.node), Linear(config.node, config.node)

    def images(self, x: Question) -> Question:
        """(B, S) questions -> (B V, S)."""
        view = torch.arange(self.count, device=x.inputs.device)[:, None]
        inputs = self.names[view, x.inputs.long()[:, self.cells]]
        return Question(inputs.flatten(0, 1), x.puzzle.repeat_interleave(self.count))

    def enter(self, h_BLD: Tensor) -> Tensor:
        """(B, L, V D) -> (B V, L, D)."""
        return self.moved(h_BLD.unflatten(2, (self.count, -1)).transpose(1, 2), self.cells).flatten(0, 1)

    def leave(self, h_BLD: Tensor) -> Tensor:
        """(B V, L, D) -> (B, L, V D): what belongs to a position of the puzzle stands there."""
        return self.moved(h_BLD.unflatten(0, (-1, self.count)), self.back).transpose(1, 2).flatten(2)

    def moved(self, h_BVLD: Tensor, index_VL: Tensor) -> Tensor:
        """Position i of view g is taken from position index[g, i] of that view."""
        offset = torch.arange(self.count, device=index_VL.device)[:, None] * index_VL.shape[1]
        return h_BVLD.flatten(1, 2)[:, (index_VL + offset).flatten()].unflatten(1, index_VL.shape)

    def message(self, h_BLD: Tensor) -> Tensor:
        """(B V, L, D) -> (B V, L, D): to each position, from its images in all views."""
        h_BVLD = self.moved(h_BLD.unflatten(0, (-1, self.count)), self.back)
        mean_BLND = (h_BVLD.sum(1) * self.count**-0.5).unflatten(2, self.nodes)
        said_BLD = self.hear(F.silu(self.tell(mean_BLND))).flatten(2)
        return said_BLD[:, self.cells].flatten(0, 1)

    def mean(self, answer: Answer) -> Answer:
        """The answer of the states (B V, L, D) at the positions of the puzzle -> the mean over the views."""
        view = torch.arange(self.count, device=self.names.device)[:, None, None]
        logits_BVSV = self.moved(answer.logits.unflatten(0, (-1, self.count)), self.back)
        place = torch.arange(logits_BVSV.shape[2], device=self.names.device)[:, None]
        logits_BVSV = logits_BVSV[:, view, place, self.names[:, None]]
        halts = (None if q is None else q.unflatten(0, (-1, self.count)).mean(1) for q in answer[1:3])
        return Answer(logits_BVSV.mean(1), *halts)
