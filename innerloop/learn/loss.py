"""Cross-entropies (softmax and stablemax) and accuracy of answers against labels."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

IGNORE = -100  # label of a position without loss or accuracy

CrossEntropy = Callable[[Tensor, Tensor], Tensor]


def softmax_cross_entropy(logits_BSV: Tensor, labels_BS: Tensor) -> Tensor:
    """(B, S) float32 negative log-likelihoods; 0 where the label is IGNORE."""
    flat = F.cross_entropy(logits_BSV.float().flatten(0, 1), labels_BS.flatten(), ignore_index=IGNORE, reduction="none")
    return flat.view_as(labels_BS)


def stablemax_cross_entropy(logits_BSV: Tensor, labels_BS: Tensor) -> Tensor:
    """(B, S) float64 negative log-likelihoods; 0 where the label is IGNORE (arXiv 2501.04697).

    s(x) in place of exp(x): x + 1 for x >= 0, 1 / (1 - x) below.
    """
    x = logits_BSV.double()
    s = torch.where(x < 0, 1 / (1 - x.clamp_max(0) + 1e-30), x.clamp_min(0) + 1)
    log_p = torch.log(s / s.sum(-1, keepdim=True))
    labelled = labels_BS != IGNORE
    picked = log_p.gather(-1, labels_BS.where(labelled, 0)[..., None])[..., 0]
    return -picked.where(labelled, 0.0)


CROSS_ENTROPIES: dict[str, CrossEntropy] = {"softmax": softmax_cross_entropy, "stablemax": stablemax_cross_entropy}


class Accuracy(NamedTuple):
    """Accuracy of each example."""

    token: Tensor  # (B,) float32 share of the labelled positions that are right
    exact: Tensor  # (B,) bool: every labelled position is right
    num_labels: Tensor  # (B,) int64 labelled positions; 0 for padding rows


def accuracy_of(logits_BSV: Tensor, labels_BS: Tensor) -> Accuracy:
    """Argmax against labels. A row without labels counts as exact, as in the official halting target."""
    labelled = labels_BS != IGNORE
    right = labelled & (logits_BSV.argmax(-1) == labels_BS)
    count, hits = labelled.sum(-1), right.sum(-1)
    return Accuracy(hits / count.clamp_min(1), hits == count, count)
