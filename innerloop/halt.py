"""When to stop. A rule is called as rule(loop, old, new, steps) -> bool, or one bool per example."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from innerloop.errors import InputError

Halt = Callable[[Any, Any, Any, Any], Any]


def never(loop: Any, old: Any, new: Any, steps: Any) -> bool:
    """Run to the full depth, as official HRM and TRM evaluation does."""
    return False


def finished(loop: Any, old: Any, new: Any, steps: Any) -> Any:
    """Stop when a state of text or names declares itself `done`."""
    return new.done


def confident(p: float = 0.5, at_least: int = 1) -> Halt:
    """Stop an example when its halting head believes, with probability above `p`, that it is right.

    Loops with a continue head (HRM) compare the two: q_halt - q_continue > logit(p).
    """
    if not 0 < p < 1:
        raise InputError(f"confident({p}) is not a probability strictly between 0 and 1")
    margin = math.log(p / (1 - p))

    def rule(loop: Any, old: Any, new: Any, steps: Any) -> Tensor:
        answer = loop.read(new)
        if answer.q_halt is None:
            raise InputError(f"{type(loop).__name__} has no halting head: stop it by `converged` or `settled` instead")
        return (halting_margin(answer) > margin) & (torch.as_tensor(steps, device=answer.q_halt.device) >= at_least)

    return rule


def halting_margin(answer: Any) -> Tensor:
    """(B,) logit by which an answer prefers to halt."""
    return answer.q_halt if answer.q_continue is None else answer.q_halt - answer.q_continue


def converged(tol: float = 1e-2) -> Halt:
    """Stop an example when its state moves less than `tol` in a step, as a share of its norm."""
    return lambda loop, old, new, steps: residual(old, new) < tol


def residual(old: Any, new: Any) -> Tensor:
    """(B,) relative change of a state in one step, over all its floating slots, in float32."""
    pairs = [(a.float(), b.float()) for a, b in zip(_slots(old), _slots(new), strict=True)]
    moved = sum((b - a).flatten(1).square().sum(1) for a, b in pairs)
    size = sum(b.flatten(1).square().sum(1) for _, b in pairs)
    return (moved / size.clamp_min(1e-30)).sqrt()  # type: ignore[union-attr]


def settled(loop: Any, old: Any, new: Any, steps: Any) -> Tensor:
    """Stop an example when a step leaves its decoded answer unchanged."""
    before, after = (loop.read(s).logits.argmax(-1) for s in (old, new))
    return (before == after).flatten(1).all(1)


def sure(p: float = 0.5) -> Halt:
    """Stop an example when its halting head is confident and a step left its answer as it was.

    The head alone stops too early: it learns how often an answer of that kind is right, not whether this one is.
    """
    believes = confident(p)
    return lambda loop, old, new, steps: believes(loop, old, new, steps) & settled(loop, old, new, steps)


def _slots(state: Any) -> Iterator[Tensor]:
    if isinstance(state, Tensor):
        if state.is_floating_point():
            yield state
    elif isinstance(state, tuple):
        for item in state:
            yield from _slots(item)
