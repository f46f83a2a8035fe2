"""Best-checkpoint tracking, and warnings of collapse, overfitting and divergence."""

from __future__ import annotations

import math
from typing import Any

COLLAPSE_DROP = 0.10  # drop of exact accuracy below the best that counts as a collapse


class BestTracker:
    """The best validation so far, and warnings, each given once."""

    def __init__(self, state: dict[str, Any] | None = None) -> None:
        """state: what `state` returned; None for a new tracker."""
        state = state or {"best": {}, "warnings": [], "told": 0}  # "told": how many of the warnings were given
        self.best, self.warnings, self.reported = state["best"], state["warnings"], state["told"]
        self.last_rise = state.get("last_rise", self.best.get("step", 0))  # step of the last strictly better accuracy
        self.since_best = state.get("since_best", 0)  # validations since the best one

    def state(self) -> dict[str, Any]:
        counts = {"told": self.reported, "last_rise": self.last_rise, "since_best": self.since_best}
        return {"best": self.best, "warnings": self.warnings, **counts}

    def observe(self, step: int, exact: float, valid: float | None, token: float = 0.0) -> bool:
        """Record a validation; returns whether it is the best so far (a later equal one is).

        Ties in exact accuracy are decided by the share of valid answers, or by token accuracy where that is unknown.
        """
        validation = {"step": step, "exact": exact, "token": token, "valid": valid}
        if not self.best or exact > self.best["exact"]:
            self.last_rise = step
        if not self.best or _rank(validation) >= _rank(self.best):
            self.best, self.since_best = validation, 0
            return True
        self.since_best += 1
        drop = self.best["exact"] - exact
        if drop > COLLAPSE_DROP:
            self.warn("collapse", f"step {step}: exact accuracy fell from {self.best['exact']:.1%} to {exact:.1%}")
        elif self.since_best == 5:
            since = f"since step {self.best['step']:.0f}"
            self.warn("overfitting", f"step {step}: five validations in a row below the best ({since})")
        return False

    def warn(self, kind: str, text: str) -> None:
        if not any(w.startswith(kind) for w in self.warnings):
            self.warnings.append(f"{kind}: {text}; the best weights are kept")

    def new_warnings(self) -> list[str]:
        """Warnings since the last call."""
        new, self.reported = self.warnings[self.reported :], len(self.warnings)
        return new

    def divergence_message(self, step: int, numbers: dict[str, float], weight: str = "") -> str:
        """A sentence that names what is not finite; `weight` says which weight, if it is one."""
        subject = "the gradient" if math.isfinite(numbers["loss"]) else "the loss"
        problem = weight or f"{subject} is not finite"
        return f"step {step}: {problem}; the last finite weights are kept. Lower plan.lr or set plan.clip"


def _rank(validation: dict[str, Any]) -> tuple[float, float]:
    return validation["exact"], validation["token"] if validation["valid"] is None else validation["valid"]


def upgraded_state(state: dict[str, Any], verifies: bool) -> dict[str, Any]:
    """A saved state in the current format; older versions stored token accuracy under "valid"."""
    best = state["best"]
    if best and not verifies and "token" not in best:  # without a verifier, "valid" held token accuracy
        best = best | {"token": best["valid"], "valid": None}
    return state | {"best": best}
