"""Probes of states (ridge, logistic, MLP) with controls, and steering along probe directions.

    probe   a linear map (ridge, logistic) or a small MLP from a state (D) to the classes of a feature
    steer   x <- x + alpha (p_target - p_current),  p_k the probe's direction for class k
    control shuffled labels for the probe (selectivity, arXiv 1909.03368); a random direction of equal norm for the push

That a probe reads a feature does not show that the model uses it; that the push changes what the model does, and a
random push of the same size does not, shows it (Othello-GPT, arXiv 2210.13382 and 2309.00941). Rows are split by group,
such as the game or the puzzle, because rows of one group resemble each other.

Shapes: n rows, D width of a state, F features read at once, C classes of each.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from innerloop.errors import InputError
from innerloop.interval import cluster_bootstrap

__all__ = [
    "KINDS",
    "LinearProbe",
    "ProbeResult",
    "fit",
    "measure",
    "random_steering_vector",
    "split",
    "steering_vector",
]


@dataclass(frozen=True)
class LinearProbe:
    """Scores of F features with C classes each: x @ weight + bias."""

    weight: Tensor  # (D, F, C)
    bias: Tensor  # (F, C)

    def scores(self, x: Tensor) -> Tensor:
        """(n, D) -> (n, F, C)."""
        return torch.einsum("nd,dfc->nfc", x.to(self.weight), self.weight) + self.bias

    def predict(self, x: Tensor) -> Tensor:
        """(n, D) -> (n, F) classes."""
        return self.scores(x).argmax(-1)


@dataclass(frozen=True)
class MlpProbe:
    """One hidden layer of ReLU, shared by the features, and a Linear on it."""

    weight: Tensor  # (D, H)
    bias: Tensor  # (H)
    out: LinearProbe

    def scores(self, x: Tensor) -> Tensor:
        return self.out.scores(F.relu(x.to(self.weight) @ self.weight + self.bias))

    def predict(self, x: Tensor) -> Tensor:
        return self.scores(x).argmax(-1)


# -- fitting ----------------------------------------------------------------------------------------------------------


def ridge(x: Tensor, y: Tensor, classes: int, seed: int = 0, penalty: float = 1e-4) -> LinearProbe:
    """Least squares on one-hot classes, closed form; `penalty` is in units of the mean variance of x."""
    hot = F.one_hot(y, classes).to(torch.float64).flatten(1)
    wide = x.double()
    mean_x, mean_y = wide.mean(0), hot.mean(0)
    centred = wide - mean_x
    gram = centred.T @ centred
    gram.diagonal().add_(penalty * gram.diagonal().mean().clamp_min(1e-12))
    weight = torch.linalg.solve(gram, centred.T @ (hot - mean_y))
    bias = mean_y - mean_x @ weight
    return LinearProbe(weight.view(-1, y.shape[1], classes).float(), bias.view(-1, classes).float())


def logistic(x: Tensor, y: Tensor, classes: int, seed: int = 0, penalty: float = 1e-4) -> LinearProbe:
    """Softmax regression by L-BFGS from zero, with an L2 penalty on the weights of standardised x."""
    scaled, mean, scale = _standard(x)
    weight = torch.zeros(x.shape[1], y.shape[1], classes, requires_grad=True)
    bias = torch.zeros(y.shape[1], classes, requires_grad=True)

    def loss() -> Tensor:
        scores = LinearProbe(weight, bias).scores(scaled)
        return F.cross_entropy(scores.flatten(0, 1), y.flatten()) * y.shape[1] + penalty * weight.square().sum()

    _minimise(loss, [weight, bias], 100)
    return _unscaled(weight.detach(), bias.detach(), mean, scale)


def mlp(x: Tensor, y: Tensor, classes: int, seed: int = 0, hidden: int = 128, steps: int = 400) -> MlpProbe:
    """By Adam on mini-batches of 1024 rows; all randomness from `seed`."""
    scaled, mean, scale = _standard(x)
    generator = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.randn(shape, generator=generator) * (2 / shape[0]) ** 0.5  # noqa: E731
    first, bias = draw(x.shape[1], hidden), torch.zeros(hidden)
    weight, offset = draw(hidden, y.shape[1], classes) * 0.5, torch.zeros(y.shape[1], classes)
    parameters = [t.requires_grad_() for t in (first, bias, weight, offset)]
    adam = torch.optim.Adam(parameters, lr=1e-2)
    probe = MlpProbe(first, bias, LinearProbe(weight, offset))
    for step in range(steps):
        adam.param_groups[0]["lr"] = 1e-2 * (1 - step / steps)
        rows = torch.randint(len(x), (min(1024, len(x)),), generator=generator)
        adam.zero_grad()
        scores = probe.scores(scaled[rows])
        (F.cross_entropy(scores.flatten(0, 1), y[rows].flatten()) * y.shape[1]).backward()
        adam.step()
    first, bias, weight, offset = (t.detach() for t in parameters)
    return MlpProbe(first / scale[:, None], bias - (mean / scale) @ first, LinearProbe(weight, offset))


KINDS: dict[str, Callable[..., LinearProbe | MlpProbe]] = {"ridge": ridge, "logistic": logistic, "mlp": mlp}


def fit(kind: str, x: Tensor, y: Tensor, classes: int, seed: int = 0) -> Any:
    """A probe of rows x (n, D) for features y (n, F) or (n,) int64 in 0 .. classes - 1; kind is a name of KINDS."""
    if kind not in KINDS:
        raise InputError(f'no probe is called "{kind}": use one of {", ".join(KINDS)}')
    y = y[:, None] if y.ndim == 1 else y
    if len(x) != len(y) or x.ndim != 2 or len(x) < 2:
        raise InputError(f"a probe needs rows (n, D) and labels (n,) or (n, F), not {tuple(x.shape)}, {tuple(y.shape)}")
    if int(y.min()) < 0 or int(y.max()) >= classes:
        raise InputError(f"labels go from {int(y.min())} to {int(y.max())}, but the probe has {classes} classes")
    return KINDS[kind](x.detach().float().cpu(), y.long().cpu(), classes, seed)


def _standard(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    mean, scale = x.mean(0), x.std(0).clamp_min(1e-6)
    return (x - mean) / scale, mean, scale


def _unscaled(weight: Tensor, bias: Tensor, mean: Tensor, scale: Tensor) -> LinearProbe:
    weight = weight / scale[:, None, None]
    return LinearProbe(weight, bias - torch.einsum("d,dfc->fc", mean, weight))


def _minimise(loss: Callable[[], Tensor], parameters: list[Tensor], steps: int) -> None:
    optimizer = torch.optim.LBFGS(parameters, max_iter=steps, history_size=20, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss()
        value.backward()
        return value

    optimizer.step(closure)  # type: ignore[arg-type]


# -- measuring --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ProbeResult:
    """How well a probe reads held-out groups, and how well it would read nothing."""

    kind: str
    accuracy: float
    low: float  # 95 % interval of `accuracy`, groups drawn again
    high: float
    balanced: float  # mean recall over the classes that occur
    majority: float  # share of the commonest class among the held-out rows, feature by feature
    control: float  # accuracy of the same probe fitted and judged on shuffled labels
    selectivity: float  # accuracy - control
    classes: list[int]  # how often each class occurs among the held-out labels
    train: int  # rows fitted
    test: int  # rows judged
    groups: int  # held-out groups

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def split(groups: Any, share: float = 0.3, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Bool masks (n,) of rows to fit and to judge: whole groups (n,), about `share` of them held out."""
    place = torch.as_tensor(np.unique(np.asarray(groups), return_inverse=True)[1])
    kinds = int(place.max()) + 1
    if kinds < 2:
        raise InputError("all rows are of one group: give 2 groups or more, so that one can be held out")
    order = torch.randperm(kinds, generator=torch.Generator().manual_seed(seed))
    out = torch.zeros(kinds, dtype=torch.bool)
    out[order[: min(kinds - 1, max(1, round(share * kinds)))]] = True
    return ~out[place], out[place]


def measure(
    kind: str, x: Tensor, y: Tensor, groups: Any, classes: int, seed: int = 0, control: bool = True
) -> tuple[ProbeResult, Any]:
    """Fit on some groups, judge on the others; returns the figures and the probe.

    The control's labels are the same ones, whole rows of them shuffled, so that their balance is kept.
    """
    y = (y[:, None] if y.ndim == 1 else y).cpu()
    x = x.detach().float().cpu()
    train, test = split(groups, seed=seed)
    probe = fit(kind, x[train], y[train], classes, seed)
    hits = probe.predict(x[test]) == y[test]
    found = cluster_bootstrap(
        hits.flatten().numpy(), np.repeat(np.asarray(groups)[test.numpy()], y.shape[1]), seed=seed
    )
    recalls = [hits[y[test] == c].float().mean() for c in range(classes) if bool((y[test] == c).any())]
    majority = torch.stack([(y[test] == c).float().mean(0) for c in range(classes)]).max(0).values.mean()
    chance = float("nan")
    if control:
        mixed = y[torch.randperm(len(y), generator=torch.Generator().manual_seed(seed + 1))]
        idle = fit(kind, x[train], mixed[train], classes, seed)
        chance = float((idle.predict(x[test]) == mixed[test]).float().mean())
    counts = torch.bincount(y[test].flatten(), minlength=classes).tolist()
    balanced = float(torch.stack(recalls).mean())
    shares = (found.value, found.low, found.high, balanced, float(majority), chance, found.value - chance)
    sizes = (int(train.sum()), int(test.sum()), len(np.unique(np.asarray(groups)[test.numpy()])))
    return ProbeResult(kind, *shares, counts, *sizes), probe


# -- steering ---------------------------------------------------------------------------------------------------------


def steering_vector(
    probe: LinearProbe,
    x: Tensor,
    target: Tensor,
    feature: Tensor | int = 0,
    current: Tensor | None = None,
    times: float = 2,
) -> Tensor:
    """(n, D) alpha (p_target - p_current), to be added to rows x so that `feature` reads as class `target` (n,).

    current  class each row is taken to hold, (n,); None: the one the probe reads
    feature  which of the probe's features: one for all rows, or (n,)
    times    alpha as a multiple of what makes both classes read equally strong: above 1 the reading changes, 2 mirrors
             it. Rows that already read as the target by more than that stay
    """
    rows, which = torch.arange(len(x)), torch.as_tensor(feature).expand(len(x))
    scores = probe.scores(x)[rows, which].cpu()
    now = scores.argmax(-1) if current is None else current.cpu()
    aim = torch.as_tensor(target).expand(len(x)).cpu()
    directions = probe.weight.permute(1, 2, 0).cpu()  # (F, C, D)
    towards = directions[which, aim] - directions[which, now]
    gap = (scores[rows, now] - scores[rows, aim]).clamp_min(0)
    alpha = times * gap / towards.square().sum(-1).clamp_min(1e-12)
    return (alpha[:, None] * towards).to(x)


def random_steering_vector(like: Tensor, generator: torch.Generator) -> Tensor:
    """(n, D) random directions, row by row of the same norm as `like`: the control of a push."""
    noise = torch.randn(like.shape, generator=generator).to(like)
    return noise * (like.norm(dim=-1, keepdim=True) / noise.norm(dim=-1, keepdim=True))
