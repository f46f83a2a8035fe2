"""Halting rules. A rule is called as rule(loop, old, new, steps) -> bool, or (B,) bool per example."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from innerloop.errors import InputError
from innerloop.ledger import Ledger, counts_flops
from innerloop.noise import has_key, scramble, uniform
from innerloop.tree import floating

__all__ = [
    "Halt",
    "answer_unchanged",
    "certain",
    "confident",
    "confident_and_unchanged",
    "converged",
    "cosine",
    "entropy",
    "finished",
    "kl",
    "never",
    "residual",
    "sampled",
    "spent",
    "unchanged_for",
]

Halt = Callable[[Any, Any, Any, Any], Any]  # (loop, old state, new state, steps) -> bool, or (B,) bool

SAMPLED_SALT = 0x5A17  # makes the draws of `sampled` independent of other draws from the same key


def never(loop: Any, old: Any, new: Any, steps: Any) -> bool:
    """Run to the full depth, as official HRM and TRM evaluation does."""
    return False


def finished(loop: Any, old: Any, new: Any, steps: Any) -> Any:
    """Stop when the state's `done` says so: bool, or (B,) bool."""
    return new.done


def spent(ledger: Ledger, **limits: float) -> Halt:
    """Stop all examples as soon as an open `ledger` has reached one of these limits: nfe=200, seconds=3.

        with counting() as ledger:
            think(loop, x, depth=1000, halt=spent(ledger, nfe=200 * len(x.inputs)))

    The limits hold for the ledger's totals, over all examples and calls. At least one step is taken.
    """
    for unit, limit in limits.items():
        if unit not in Ledger.__dataclass_fields__:
            raise InputError(f"a ledger has no {unit}: it has {', '.join(Ledger.__dataclass_fields__)}")
        if not limit > 0:
            raise InputError(f"spent({unit}={limit:g}) allows no step: give a limit above 0")
    if not limits:
        raise InputError("spent() has no limit: give one, such as nfe=200")

    def rule(loop: Any, old: Any, new: Any, steps: Any) -> bool:
        if "flops" in limits and not counts_flops(ledger):
            raise InputError("spent(flops=) needs a ledger that counts them: give counting(flops=True)")
        return any(getattr(ledger, unit) >= limit for unit, limit in limits.items())

    return rule


def confident(p: float = 0.5, at_least: int = 1) -> Halt:
    """Stop an example when its halting head predicts with probability above `p` that the answer is right.

    Loops with a continue head (HRM) compare the two: q_halt - q_continue > logit(p).
    """
    if not 0 < p < 1:
        raise InputError(f"confident({p}) is not a probability strictly between 0 and 1")
    margin = math.log(p / (1 - p))

    def rule(loop: Any, old: Any, new: Any, steps: Any) -> Tensor:
        answer = loop.read(new)
        if answer.q_halt is None:
            raise InputError(f"{loop_name(loop)} has no halting head: use the rule `converged` or `answer_unchanged`")
        return (halting_margin(answer) > margin) & (torch.as_tensor(steps, device=answer.q_halt.device) >= at_least)

    return rule


def loop_name(loop: Any) -> str:
    """Class name of the innermost loop, inside its wrappers."""
    while hasattr(loop, "loop"):
        loop = loop.loop
    return type(loop).__name__


def halting_margin(answer: Any) -> Tensor:
    """(B,) halting logit: q_halt, minus q_continue where there is one."""
    return answer.q_halt if answer.q_continue is None else answer.q_halt - answer.q_continue


def converged(tol: float = 1e-2) -> Halt:
    """Stop an example when the relative change of its state in a step is below `tol`."""
    return lambda loop, old, new, steps: residual(old, new) < tol


def residual(old: Any, new: Any) -> Tensor:
    """(B,) relative change |new - old| / |new| of a state, over all its floating tensors, in float32."""
    flat = lambda t: t.float().reshape(len(t), -1)  # noqa: E731
    pairs = [(flat(a), flat(b)) for a, b in zip(floating(old), floating(new), strict=True)]
    squared_change = sum((b - a).square().sum(1) for a, b in pairs)
    squared_norm = sum(b.square().sum(1) for _, b in pairs)
    return (squared_change / squared_norm.clamp_min(1e-30)).sqrt()  # type: ignore[union-attr]


def answer_unchanged(loop: Any, old: Any, new: Any, steps: Any) -> Tensor:
    """Stop an example when a step leaves its decoded answer unchanged."""
    before, after = (loop.read(s).logits.argmax(-1) for s in (old, new))
    return (before == after).flatten(1).all(1)


def confident_and_unchanged(p: float = 0.5) -> Halt:
    """Stop an example when its halting head is confident and the last step left its answer unchanged.

    The head alone stops too early: it predicts the mean correctness of similar states.
    """
    is_confident = confident(p)
    return lambda loop, old, new, steps: is_confident(loop, old, new, steps) & answer_unchanged(loop, old, new, steps)


def certain(p: float = 0.8) -> Halt:
    """Stop an example when at every position the most probable token has a probability above `p`.

    It needs no halting head, and on puzzles it separates right from wrong answers better than one.
    """
    if not 0 < p < 1:
        raise InputError(f"certain({p}) is not a probability strictly between 0 and 1")

    def rule(loop: Any, old: Any, new: Any, steps: Any) -> Tensor:
        logits = loop.read(new).logits.float()
        return _all_positions(logits.amax(-1) - logits.logsumexp(-1) > math.log(p))

    return rule


def sampled(loop: Any, old: Any, new: Any, steps: Any) -> Tensor:
    """Stop an example at random, with the probability of its halting head: PonderNet (arXiv 2107.05407).

    The draw is a function of the state's `key`: the same in any batch, a different one for a salted state.
    """
    answer = loop.read(new)
    if answer.q_halt is None or not has_key(new):
        raise InputError(f"{loop_name(loop)} has no halting head or no `key` to draw from: use another rule")
    draw = uniform(scramble(new.key ^ SAMPLED_SALT), 1)[:, 0]  # independent of what the loop's next step draws
    return draw < halting_margin(answer).sigmoid()


def kl(tol: float = 5e-4) -> Halt:
    """Stop an example when KL(old || new answer) is below `tol` everywhere; at step 1 old is uniform.

    Huginn's exits (arXiv 2502.05171) are this, `entropy`, `cosine`, `unchanged_for` and `converged` with tol 0.03.
    """

    def rule(loop: Any, old: Any, new: Any, steps: Any) -> Tensor:
        q = _log_p(loop, new)
        first = _first(steps, q)
        p = torch.where(first, -math.log(q.shape[-1]), _log_p(loop, old))
        return _all_positions((p.exp() * (p - q)).sum(-1) < tol)

    return rule


def entropy(tol: float = 1e-3) -> Halt:
    """Stop an example when a step changes its answer's entropy by less than `tol` everywhere, from step 2 on."""

    def rule(loop: Any, old: Any, new: Any, steps: Any) -> Tensor:
        p, q = _log_p(loop, old), _log_p(loop, new)
        change = ((p.exp() * p).sum(-1) - (q.exp() * q).sum(-1)).abs()
        return _all_positions((change < tol) & ~_first(steps, change))

    return rule


def cosine(tol: float = 1e-3) -> Halt:
    """Stop an example when 1 - cosine(old state, new state) is below `tol`."""

    def rule(loop: Any, old: Any, new: Any, steps: Any) -> Tensor:
        a, b = (torch.cat([t.float().reshape(len(t), -1) for t in floating(s)], 1) for s in (old, new))
        return 1 - torch.nn.functional.cosine_similarity(a, b) < tol

    return rule


def unchanged_for(steps_in_a_row: int = 5) -> Halt:
    """Stop an example when its decoded answer has stayed the same for so many steps in a row, counted from step 1 on.

    The rule keeps one count per thread, which restarts at step 1.
    """
    if steps_in_a_row < 1:
        raise InputError(f"unchanged_for({steps_in_a_row}) would stop after one step: give 1 or more")
    local = threading.local()

    def rule(loop: Any, old: Any, new: Any, steps: Any) -> Tensor:
        same = answer_unchanged(loop, old, new, steps)
        before: Tensor | None = getattr(local, "count", None)
        if before is None or before.shape != same.shape:
            before = torch.zeros_like(same, dtype=torch.float)
        local.count = (before.to(same.device) + 1) * (same & ~_first(steps, same))
        return local.count >= steps_in_a_row  # type: ignore[no-any-return]

    return rule


def _log_p(loop: Any, state: Any) -> Tensor:
    return torch.log_softmax(loop.read(state).logits.float(), -1)


def _first(steps: Any, like: Tensor) -> Tensor:
    """Whether an example has taken exactly one step, shaped to broadcast over `like`."""
    return (torch.as_tensor(steps, device=like.device) == 1).view(-1, *[1] * (like.ndim - 1))


def _all_positions(mask: Tensor) -> Tensor:
    return mask.flatten(1).all(1)
