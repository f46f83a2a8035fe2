"""Gradient rules: which updates of a loop autograd records (full, truncated, phantom, implicit).

A rule is called as rule(schedule, update, s): it runs update(name, s) for every name of the schedule and returns the
last s. It runs them itself because a rule may replace backpropagation (implicit differentiation). `think` passes its
steps as updates; a system whose step consists of several updates passes those. "Taped" means recorded by autograd.

    J = df/dz at z* = f(z*),  g the incoming gradient:          `implicit` passes on v* = g + J'v*
    last(k), phantom(k, 1):   v_k = sum over i < k of (J')^i g,          so that v* - v_k = (J')^k v*
    phantom(k, tau):          the same with (1 - tau) I + tau J' for J'
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from innerloop.errors import InputError
from innerloop.tree import floating, map_tensors

__all__ = ["Rule", "Solver", "Update", "full", "implicit", "last", "last_cycle", "phantom", "rule_named", "warmup"]

Update = Callable[[str, Any], Any]  # (name, state) -> state
Rule = Callable[[Sequence[str], Update, Any], Any]  # (schedule, update, state) -> state
Solver = Callable[..., Any]  # solver(f, v, limit) on (B, n) vectors, its result's `z` the solution: parts.solvers


def full(schedule: Sequence[str], update: Update, s: Any) -> Any:
    """Every update is recorded: backpropagation through all of them."""
    for name in schedule:
        s = update(name, s)
    return s


def last(k: int) -> Rule:
    """Record the last `k` updates only. HRM's one-step gradient (arXiv 2506.21734) is last(2), one low, one high call.

    In `think` they are counted from `depth`: an example that halts before them gets no gradient.
    """
    if k < 0:
        raise InputError(f"last({k}) records a negative number of updates: give 0 or more")
    return lambda schedule, update, s: _suffix(k, schedule, update, s)


def last_cycle(schedule: Sequence[str], update: Update, s: Any) -> Any:
    """Record what follows the previous occurrence of the final name: TRM's last z...z y (arXiv 2510.04871)."""
    *before, final = schedule
    k = before[::-1].index(final) + 1 if final in before else len(schedule)
    return _suffix(k, schedule, update, s)


def warmup(k0: int, k1: int, progress: float) -> Rule:
    """last(k) with k rising from k0 to k1 in equal shares of training; `progress` runs from 0 to 1."""
    if k0 < 0 or k1 < k0:
        raise InputError(f"warmup({k0}, {k1}) does not rise from 0 or more: give 0 <= k0 <= k1")
    return last(min(k1, k0 + int((k1 - k0 + 1) * max(progress, 0.0))))


def phantom(k: int, tau: float, solver: Solver | None = None) -> Rule:
    """Record the last `k` updates, damped: s <- (1 - tau) s + tau f(s) on floating tensors (arXiv 2111.05177).

    Earlier updates are not recorded: they run plainly, or by `solver` with as many iterations at most, for schedules
    that repeat one update. Damping does not move a fixed point. Integer tensors are not damped.
    """
    if k < 1 or not 0 < tau <= 1:
        raise InputError(f"phantom({k}, {tau:g}) needs k >= 1 and 0 < tau <= 1")

    def rule(schedule: Sequence[str], update: Update, s: Any) -> Any:
        untaped = max(0, len(schedule) - k)
        if solver is None or not untaped:
            with torch.no_grad():
                s = full(schedule[:untaped], update, s)
        else:
            s = _unpack(_solve(solver, schedule[:untaped], update, s), s)
        for name in schedule[untaped:]:
            s = _blend(s, update(name, s), tau)
        return s

    return rule


def implicit(solver: Solver, backward: Solver | None = None) -> Rule:
    """Differentiate the fixed point by the implicit function theorem, as in DEQ (arXiv 1909.01377).

    `solver` finds z* = f(z*) in at most len(schedule) iterations, without gradient. Then f runs once more, recorded;
    its incoming gradient g is replaced by the solution of y = J'y + g that `backward` (or `solver`) finds. Memory is
    that of one update. The schedule must repeat one update. z is all floating tensors of the state, and f must change
    each of them, since a tensor that is only passed through has Jacobian 1, which is no contraction. Integer tensors
    are constant while solving. The initial state gets no gradient. First derivatives only.
    """

    def rule(schedule: Sequence[str], update: Update, s: Any) -> Any:
        z = _solve(solver, schedule, update, s).detach()
        if not torch.is_grad_enabled():
            return update(schedule[-1], _unpack(z, s))
        z.requires_grad_()
        with uncompiled():
            new = update(schedule[-1], _unpack(z, s))
        f_z = _pack(new)

        def adjoint(g: Tensor) -> Tensor:
            options: Any = {"retain_graph": True, "allow_unused": True, "materialize_grads": True}
            return (backward or solver)(lambda y: torch.autograd.grad(f_z, z, y, **options)[0] + g, g).z

        return _unpack(_ReplaceBackward.apply(f_z, adjoint), new)

    return rule


def uncompiled() -> Any:
    """A context in which compiled blocks run eagerly, for code that differentiates them twice.

    Compiled graphs cannot be differentiated twice, and may free their buffers at the first backward pass.
    """
    compiled = "_dynamo" in vars(torch)  # without it nothing is compiled; importing it takes seconds
    return torch.compiler.set_stance("force_eager") if compiled else torch.enable_grad()


class _ReplaceBackward(torch.autograd.Function):
    """The identity; its backward is `adjoint` of the incoming gradient."""

    @staticmethod
    def forward(ctx: Any, v: Tensor, adjoint: Callable[[Tensor], Tensor]) -> Tensor:  # type: ignore[override]
        ctx.adjoint = adjoint
        return v.view_as(v)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        return ctx.adjoint(g), None


def _suffix(k: int, schedule: Sequence[str], update: Update, s: Any) -> Any:
    untaped = max(0, len(schedule) - k)
    with torch.no_grad():
        s = full(schedule[:untaped], update, s)
    return full(schedule[untaped:], update, s)


def _solve(solver: Solver, schedule: Sequence[str], update: Update, s: Any) -> Tensor:
    """(B, n) fixed point of the update that the schedule repeats, without gradient."""
    if len(set(schedule)) != 1:
        n = len(set(schedule))
        raise InputError(f"a fixed point needs a schedule that repeats one update, but this one has {n} different ones")
    with torch.no_grad():
        return solver(lambda v: _pack(update(schedule[0], _unpack(v, s))), _pack(s), len(schedule)).z


def _refit(state: Any, slots: Iterator[Tensor]) -> Any:
    """`state` with its floating tensors taken from `slots`, in order."""
    return map_tensors(lambda t: next(slots) if t.is_floating_point() else t, state)


def _pack(state: Any) -> Tensor:
    """All floating tensors of a state as one (B, n) vector, float32 or wider, for a solver."""
    return torch.cat([t.flatten(1).to(torch.promote_types(t.dtype, torch.float32)) for t in floating(state)], 1)


def _unpack(v: Tensor, like: Any) -> Any:
    """The inverse of `_pack`: `like` with its floating tensors from `v`, in their shapes and dtypes."""
    slots = list(floating(like))
    parts = v.split([t[0].numel() for t in slots], 1)
    return _refit(like, (p.view(t.shape).to(t.dtype) for p, t in zip(parts, slots, strict=True)))


def _blend(old: Any, new: Any, tau: float) -> Any:
    if tau == 1:
        return new
    return _refit(new, ((1 - tau) * a + tau * b for a, b in zip(floating(old), floating(new), strict=True)))


def rule_named(text: str, solver: Solver | None = None, backward: Solver | None = None) -> Rule:
    """The rule with this name in a config: "full", "last_cycle", "last(2)", "phantom(5, 0.5)" or "implicit".

    The last two use `solver` (and "implicit" also `backward`) of systems that have one. Raises InputError for any other
    text, and for "implicit" without a solver.
    """
    if text in ("full", "last_cycle"):
        return full if text == "full" else last_cycle
    if text == "implicit":
        if solver is None:
            raise InputError('the rule "implicit" needs a solver: only systems that have one, such as deq, offer it')
        return implicit(solver, backward)
    if match := re.fullmatch(r"last\((\d+)\)", text):
        return last(int(match[1]))
    if match := re.fullmatch(r"phantom\((\d+), ?(\d*\.?\d+)\)", text):
        return phantom(int(match[1]), float(match[2]), solver)
    raise InputError(
        f'no gradient rule is called "{text}": use "full", "last_cycle", "last(2)" with a number of updates, '
        'or "phantom(5, 0.5)" with a number of updates and their damping'
    )
