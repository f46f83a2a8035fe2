"""Optimizers (Adam-atan2, sign SGD), the learning-rate schedule and the exponential moving average of weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from innerloop.errors import InputError


class AdamATan2(Optimizer):
    """Adam with atan2(m, sqrt(v)) in place of m / (sqrt(v) + eps): no epsilon, invariant to the gradient's scale.

    p <- p (1 - lr wd) - lr / (1 - b1^t) * atan2(m, sqrt(v / (1 - b2^t))), as in the kernel of HRM and TRM
    (without the factor 1.27; the bias correction of m is outside). Source: arXiv 2407.05872, PyPI adam-atan2 0.0.3.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.95),
        weight_decay: float = 0.1,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if not params:
                continue
            group.setdefault("t", 0)
            group["t"] += 1  # in place, where it is a tensor: learn/graph.py
            (b1, b2), lr, t = group["betas"], group["lr"], group["t"]
            for p in params:
                if not self.state[p]:
                    self.state[p] = {"m": torch.zeros_like(p), "v": torch.zeros_like(p)}
            g = [p.grad for p in params]
            m, v = ([self.state[p][k] for p in params] for k in "mv")
            torch._foreach_lerp_(m, g, 1 - b1)
            torch._foreach_mul_(v, b2)
            torch._foreach_addcmul_(v, g, g, 1 - b2)
            root = torch._foreach_sqrt(v)
            torch._foreach_div_(root, (1 - b2**t) ** 0.5)
            torch._foreach_mul_(params, 1 - lr * group["weight_decay"])
            update = [torch.atan2(a, b) for a, b in zip(m, root, strict=True)]
            torch._foreach_mul_(update, -lr / (1 - b1**t))
            torch._foreach_add_(params, update)


class SparseSignSGD(Optimizer):
    """Sign descent on the rows in the batch: w <- w (1 - lr wd) - lr sign(sum of the row's gradients).

    For puzzle embeddings, whose parameters have sparse gradients (parts.embed.Table). Source: HRM's official code.
    """

    def __init__(self, params: Iterable[Any], lr: float = 1e-2, weight_decay: float = 0.1) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                grad = p.grad.coalesce()
                rows = grad.indices()[0]
                p[rows] = p[rows] * (1 - group["lr"] * group["weight_decay"]) - group["lr"] * grad.values().sign()


def sparse_parameters(model: nn.Module) -> list[nn.Parameter]:
    """Puzzle-embedding tables: trained by SparseSignSGD, never averaged."""
    return [m.weight for m in model.modules() if getattr(m, "sparse", False)]  # type: ignore[misc]


def optimizers(model: nn.Module, name: str, lr: float, weight_decay: float, puzzle_lr: float) -> list[Optimizer]:
    """The optimizers of one model: `name` for its dense parameters, sign descent for its puzzle embeddings.

    name: "adam_atan2" or "adamw", with betas (0.9, 0.95); "muon": Muon for the hidden matrices, at 20 x lr as
    its updates are orthogonal, and AdamW for tables, heads and vectors.
    """
    sparse = sparse_parameters(model)
    skip = {id(p) for p in sparse}
    dense = [(n, p) for n, p in model.named_parameters() if id(p) not in skip]
    everything = [p for _, p in dense]
    betas = (0.9, 0.95)
    if name == "adam_atan2":
        result: list[Optimizer] = [AdamATan2(everything, lr, betas, weight_decay)]
    elif name == "adamw":
        result = [torch.optim.AdamW(everything, lr, betas, weight_decay=weight_decay, fused=True)]
    elif name == "muon":
        hidden = [p for n, p in dense if p.ndim == 2 and "embed" not in n and "heads" not in n]
        hidden_ids = {id(p) for p in hidden}
        rest = [p for p in everything if id(p) not in hidden_ids]
        result = [
            torch.optim.Muon(hidden, 20 * lr, weight_decay=weight_decay / 20),
            torch.optim.AdamW(rest, lr, betas, weight_decay=weight_decay, fused=True),
        ]
    else:
        raise InputError(f'no optimizer is called "{name}": use "adam_atan2", "adamw" or "muon"')
    if sparse:
        result.append(SparseSignSGD(sparse, puzzle_lr, weight_decay))
    for optimizer in result:
        for group in optimizer.param_groups:
            group["base_lr"] = group["lr"]
    return result


def schedule(step: int, steps: int, warmup: int, floor: float) -> float:
    """Factor on the learning rate at `step` (from 0) of `steps`: linear warm-up, then a cosine to `floor`.

    floor = 1: constant after the warm-up, as in official HRM and TRM; floor = 0: towards zero.
    """
    if step < warmup:
        return (step + 1) / warmup
    progress = min(1.0, (step - warmup) / max(1, steps - warmup))
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress))


class EMA:
    """EMA of a model's dense parameters: w <- decay w + (1 - decay) p, starting from the initial weights."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        skip = {id(p) for p in sparse_parameters(model)}
        self.decay = decay
        self.params: dict[str, Tensor] = {}
        for name, p in model.state_dict(keep_vars=True).items():  # with the keys of a weights file
            if isinstance(p, nn.Parameter) and id(p) not in skip:
                skip.add(id(p))  # count tied weights once
                self.params[name] = p
        self.shadow = {n: p.detach().clone() for n, p in self.params.items()}

    @torch.no_grad()
    def update(self) -> None:
        torch._foreach_lerp_(list(self.shadow.values()), list(self.params.values()), 1 - self.decay)

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange the average and the model's weights; a second call exchanges them back."""
        for name, p in self.params.items():
            current = p.detach().clone()
            p.copy_(self.shadow[name])
            self.shadow[name].copy_(current)

    def state_dict(self) -> dict[str, Tensor]:
        return dict(self.shadow)

    def load_state_dict(self, shadow: dict[str, Tensor]) -> None:
        for name, average in self.shadow.items():
            average.copy_(shadow[name])
