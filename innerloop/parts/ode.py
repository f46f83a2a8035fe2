"""ODE integrators for dz/dt = f(t, z), differentiated by backpropagation or by the adjoint equation.

    euler, rk4         fixed steps: static shapes, no data-dependent branches
    dormand_prince     adaptive steps per example, by its error (embedded pair of orders 5 and 4)
    adjoint            the gradient by a second ODE backward in time, in the memory of one f (arXiv 1806.07366):
                       da/dt = -a df/dz,   d(dL/dtheta)/dt = -a df/dtheta,   with z integrated backward too

The right-hand side is called as f(t, z) with t (B,) and z (B, ...), and returns dz/dt (B, ...).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from innerloop.errors import InputError

Field = Callable[[Tensor, Tensor], Tensor]
Tensors = tuple[Tensor, ...]  # several tensors integrated together, z first
Fields = Callable[[Tensor, Tensors], Tensors]


def _euler(f: Fields, t: Tensor, s: Tensors, dt: float) -> Tensors:
    return _along(s, (dt, f(t, s)))


def _rk4(f: Fields, t: Tensor, s: Tensors, dt: float) -> Tensors:
    k1 = f(t, s)
    k2 = f(t + dt / 2, _along(s, (dt / 2, k1)))
    k3 = f(t + dt / 2, _along(s, (dt / 2, k2)))
    k4 = f(t + dt, _along(s, (dt, k3)))
    return _along(s, (dt / 6, k1), (dt / 3, k2), (dt / 3, k3), (dt / 6, k4))


def _along(s: Tensors, *slopes: tuple[float, Tensors]) -> Tensors:
    """s + the sum of dt * slope."""
    return tuple(sum((dt * k[i] for dt, k in slopes), z) for i, z in enumerate(s))


METHODS: dict[str, Callable[[Fields, Tensor, Tensors, float], Tensors]] = {"euler": _euler, "rk4": _rk4}


def integrate(f: Field, z: Tensor, t0: float, t1: float, steps: int = 1, method: str = "rk4") -> Tensor:
    """z(t1) from z(t0) = `z` (B, ...) in `steps` equal steps of "euler" or "rk4"; autograd records them as usual.

    t1 < t0 integrates backward. Raises InputError for an unknown method or steps < 1.
    """
    return _integrate(lambda t, s: (f(t, s[0]),), (z,), t0, t1, steps, method)[0]


def _integrate(f: Fields, s: Tensors, t0: float, t1: float, steps: int, method: str) -> Tensors:
    if method not in METHODS or steps < 1:
        raise InputError(f'integrate takes 1 or more steps of {" or ".join(METHODS)}, not {steps} of "{method}"')
    dt = (t1 - t0) / steps
    for i in range(steps):
        s = METHODS[method](f, s[0].new_full((len(s[0]),), t0 + i * dt), s, dt)
    return s


def adjoint(
    f: Field, z: Tensor, theta: Sequence[Tensor], t0: float, t1: float, steps: int = 1, method: str = "rk4"
) -> Tensor:
    """The value of `integrate`; its gradient by the adjoint equation, with the same steps.

    `theta`: all tensors besides `z` that need a gradient: parameters of f, and tensors f closes over. The gradient is
    that of the exact flow, so it differs from `integrate`'s by the method's error. If f contracts, integrating z
    backward is unstable, so keep t1 - t0 short.
    """
    return _Adjoint.apply(_Problem(f, t0, t1, steps, method), z, *(p for p in theta if p.requires_grad))


class _Problem(NamedTuple):
    f: Field
    t0: float
    t1: float
    steps: int
    method: str


class _Adjoint(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, way: _Problem, z: Tensor, *theta: Tensor) -> Tensor:  # type: ignore[override]
        end = integrate(way.f, z, *way[1:])
        ctx.way, ctx.theta = way, theta
        ctx.save_for_backward(end)
        return end

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, a: Tensor) -> tuple[Any, ...]:  # type: ignore[override]
        way: _Problem = ctx.way

        def fields(t: Tensor, s: Tensors) -> Tensors:
            with torch.enable_grad():
                z = s[0].detach().requires_grad_()
                slope = way.f(t, z)
            pulled = torch.autograd.grad(slope, (z, *ctx.theta), -s[1], allow_unused=True, materialize_grads=True)
            return (slope.detach(), *pulled)

        start = (*ctx.saved_tensors, a, *(torch.zeros_like(p) for p in ctx.theta))
        _, a, *of_theta = _integrate(fields, start, way.t1, way.t0, way.steps, way.method)
        return (None, a, *of_theta)


class OdeResult(NamedTuple):
    z: Tensor  # (B, ...) at t1
    steps: Tensor  # (B,) int64 steps taken
    tries: Tensor  # (B,) int64 steps tried, rejected ones included; each is seven calls of f


# Dormand and Prince 1980: (time, weights of the earlier slopes); the last row is the step itself, of order 5.
_STAGES: tuple[tuple[float, tuple[float, ...]], ...] = (
    (0, ()),
    (1 / 5, (1 / 5,)),
    (3 / 10, (3 / 40, 9 / 40)),
    (4 / 5, (44 / 45, -56 / 15, 32 / 9)),
    (8 / 9, (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729)),
    (1, (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656)),
    (1, (35 / 384, 0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84)),
)
_ERROR = (71 / 57600, 0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40)  # order 5 minus order 4


def dormand_prince(
    f: Field, z: Tensor, t0: float, t1: float, rtol: float = 1e-5, atol: float = 1e-7, limit: int = 10_000
) -> OdeResult:
    """z(t1) by adaptive steps per example, with local error (root mean square) below atol + rtol |z|.

    Autograd records the steps; step sizes get no gradient. The number of steps depends on the data. Raises InputError
    if an example needs more than `limit` tries: its equation is stiff, or rtol is below float32's precision.
    """
    rows = lambda v: v.view(-1, *[1] * (z.ndim - 1))  # noqa: E731
    span = t1 - t0
    at = z.new_zeros(len(z))  # time passed, as a share of the span
    size = torch.full_like(at, 0.05)
    steps = torch.zeros_like(at, dtype=torch.long)
    tries = steps
    for _ in range(limit):
        todo = at < 1
        if not bool(todo.any()):
            return OdeResult(z, steps, tries)
        ends = size >= 1 - at
        size = torch.where(ends, 1 - at, size)
        dt = rows(span * size)
        slopes: list[Tensor] = []
        new = z
        for time, weights in _STAGES:
            new = z + dt * sum(w * k for w, k in zip(weights, slopes, strict=True))
            slopes.append(f(t0 + span * (at + time * size), new))
        error = (dt * sum(w * k for w, k in zip(_ERROR, slopes, strict=True))).detach()
        error = error / (atol + rtol * torch.maximum(z.abs(), new.abs()).detach())
        norm = error.flatten(1).square().mean(1).sqrt().nan_to_num(torch.inf)
        good = todo & (norm <= 1)
        z = torch.where(rows(good), new, z)
        at = torch.where(good, torch.where(ends, 1.0, at + size), at)
        size = size * (0.9 * norm.clamp_min(1e-10) ** -0.2).clamp(0.2, 5.0)
        steps, tries = steps + good, tries + todo
    raise InputError(f"{limit} tries did not reach t1: raise rtol ({rtol:g}), or take a method for stiff equations")
