"""Fixed-point solvers for z = f(z) (Picard, Anderson, Broyden), batched, each example stopped by its residual.

    picard      z <- f(z)
    anderson    z <- the combination of the last m + 1 values of f of least combined residual (doi 10.1137/10078356X)
    broyden     z <- z - H (f(z) - z),  H a quasi-Newton inverse Jacobian (doi 10.2307/2003941)

Used by gradient rules (grad.implicit). The number of iterations depends on the data. Autograd records a solve unless
the caller disables it. Shapes: B examples, n numbers each, k remembered steps.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from innerloop.errors import InputError

Map = Callable[[Tensor], Tensor]
Move = Callable[[Tensor, Tensor], Tensor]  # (z, f(z)) -> next z


class NotConverged(UserWarning):
    """Some examples did not converge; the solver returns their iterate of least residual.

    The text is constant, so that Python's default filter shows it once. Loops whose state holds the residual pass
    warn=False.
    """


class SolverResult(NamedTuple):
    z: Tensor  # (B, n) the iterate of least residual
    residual: Tensor  # (B,) its |f(z) - z| / |f(z)|
    iterations: Tensor  # (B,) int64 calls of f for this example
    converged: Tensor  # (B,) bool: residual <= tol


@dataclass(frozen=True)
class Picard:
    """Plain iteration; converges if f contracts."""

    tol: float = 1e-3  # residual at which an example stops
    limit: int = 40  # most calls of f, unless the call gives a limit
    warn: bool = True  # warn NotConverged if an example reached the limit

    def __post_init__(self) -> None:
        if self.tol < 0 or self.limit < 1:
            raise InputError(f"a solver needs tol >= 0 and a limit of 1 or more, not {self.tol:g} and {self.limit}")

    def __call__(self, f: Map, z: Tensor, limit: int | None = None) -> SolverResult:
        """Solve z = f(z) from `z` (B, n), float32 or float64."""
        move, best = self.mover(), z
        residual = torch.full_like(z[:, 0], torch.inf)
        iterations = torch.zeros_like(residual, dtype=torch.long)
        done = torch.zeros_like(residual, dtype=torch.bool)
        for _ in range(limit or self.limit):
            f_z = f(z)
            size = f_z.norm(dim=1).clamp_min(torch.finfo(z.dtype).tiny)
            now = (f_z - z).norm(dim=1) / size
            better = ~done & (now < residual)  # never true of NaN
            best, residual = torch.where(better[:, None], z, best), torch.where(better, now, residual)
            iterations = iterations + ~done
            done = residual <= self.tol
            if bool(done.all()):
                break
            following = move(z, f_z)
            for spare in (f_z, best):  # a row with inf or NaN goes back to the last finite values
                following = torch.where(following.isfinite().all(1, keepdim=True), following, spare)
            z = torch.where(done[:, None], best, following)
        if self.warn and not bool(done.all()):
            text = "a fixed-point solver stopped before all examples converged and keeps their best iterates: "
            warnings.warn(text + "look at Solution.residual, and raise limit or tol", NotConverged, stacklevel=2)
        return SolverResult(best, residual, iterations, done)

    def mover(self) -> Move:
        """A new update rule (z, f(z)) -> next z, with memory for one solve."""
        return lambda z, f_z: f_z


@dataclass(frozen=True)
class Anderson(Picard):
    """Anderson acceleration; about as fast as GMRES if f is linear."""

    m: int = 5  # number of differences kept
    ridge: float = 1e-6  # added to the normal equations, whose diagonal is 1; raised where they are singular

    def mover(self) -> Move:
        memory: list[tuple[Tensor, Tensor]] = []  # (z, f(z) - z), the latest last

        def move(z: Tensor, f_z: Tensor) -> Tensor:
            memory.append((z, f_z - z))
            del memory[: -self.m - 1]
            if len(memory) < 2:
                return f_z
            z_BKn, g_BKn = (torch.stack(part, 1).diff(dim=1) for part in zip(*memory, strict=True))
            size = g_BKn.norm(dim=2, keepdim=True).clamp_min(torch.finfo(z.dtype).tiny)
            weight_BK1 = _least_squares(g_BKn / size, f_z - z, self.ridge) / size
            return f_z - (weight_BK1 * (z_BKn + g_BKn)).sum(1)

        return move


def _least_squares(a_BKn: Tensor, b_Bn: Tensor, ridge: float) -> Tensor:
    """(B, K, 1) weights w of least |b - a'w|^2 + ridge |w|^2; rows of `a` have length 1 or 0.

    Examples with a singular system, exactly or numerically, get a larger ridge, and zeros if none helps. No matrix
    products over n: their rounding depends on B, which a solve that does not contract would amplify.
    """
    gram = torch.stack([(a_BKn * row_Bn[:, None]).sum(2) for row_Bn in a_BKn.unbind(1)], 1)
    right = (a_BKn * b_Bn[:, None]).sum(2, keepdim=True)
    eye = torch.eye(gram.shape[1], dtype=gram.dtype, device=gram.device)
    found = torch.zeros_like(right)
    open_B = torch.ones_like(b_Bn[:, 0], dtype=torch.bool)
    for lift in (ridge, 1e-6, 1e-4, 1e-2):
        if lift < ridge:
            continue
        w, info = torch.linalg.solve_ex(gram + lift * eye, right)
        left = (b_Bn - (a_BKn * w).sum(1)).norm(dim=1)
        good = open_B & (info == 0) & (left <= 1.001 * b_Bn.norm(dim=1))  # as of any least squares; false of NaN
        found, open_B = torch.where(good[:, None, None], w, found), open_B & ~good
        if not bool(open_B.any()):
            break
    return found


@dataclass(frozen=True)
class Broyden(Picard):
    """Broyden's good method from H = -I; also for maps that do not contract."""

    memory: int = 30  # rank-one updates of H before it restarts from -I

    def mover(self) -> Move:
        updates: list[tuple[Tensor, Tensor]] = []  # (u, v):  H = -1 + sum of u v'
        before: list[Tensor] = []  # z and f(z) - z of the previous call

        def move(z: Tensor, f_z: Tensor) -> Tensor:
            g = f_z - z
            if before:
                s, y = z - before[0], g - before[1]
                h_y, s_h = _apply(updates, y), _apply([(v, u) for u, v in updates], s)
                bottom = _dot(s, h_y)
                safe = bottom.abs() > 1e-12 * s.norm(dim=1, keepdim=True) * h_y.norm(dim=1, keepdim=True)
                if len(updates) == self.memory:
                    updates.clear()
                else:
                    updates.append((torch.where(safe, (s - h_y) / torch.where(safe, bottom, 1), 0), s_h))
            before[:] = [z, g]
            return z - _apply(updates, g)

        return move


def _apply(updates: list[tuple[Tensor, Tensor]], x: Tensor) -> Tensor:
    """H x, or x'H with u and v exchanged."""
    return sum((u * _dot(v, x) for u, v in updates), -x)


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum(1, keepdim=True)


SOLVERS: dict[str, type[Picard]] = {"picard": Picard, "anderson": Anderson, "broyden": Broyden}


def solver_named(name: str, **how: Any) -> Picard:
    """The solver with this name in a config, with arguments `how`. Raises InputError for an unknown name."""
    if name not in SOLVERS:
        raise InputError(f'no solver is called "{name}": use one of {", ".join(SOLVERS)}')
    return SOLVERS[name](**how)
