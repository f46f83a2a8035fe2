"""Best-checkpoint tracking, and warnings of collapse, overfitting and divergence."""

from __future__ import annotations

from typing import Any

COLLAPSE_DROP = 0.10  # drop of exact accuracy below the best that counts as a collapse


class BestTracker:
    """The best validation so far, and warnings, each given once."""

    def __init__(self, best: dict[str, Any] | None = None, warnings: list[str] | None = None, told: int = 0) -> None:
        self.best, self.warnings, self.told = best or {}, warnings or [], told
        self.since_best = 0

    def state(self) -> dict[str, Any]:
        return {"best": self.best, "warnings": self.warnings, "told": self.told}

    def observe(self, step: int, exact: float, valid: float | None, token: float = 0.0) -> bool:
        """Record a validation; returns whether it is the best so far (a later equal one is).

        Ties in exact accuracy are decided by the share of valid answers, or by token accuracy where that is unknown.
        """
        found = {"step": step, "exact": exact, "token": token, "valid": valid}
        if not self.best or _rank(found) >= _rank(self.best):
            self.best, self.since_best = found, 0
            return True
        self.since_best += 1
        lost = self.best["exact"] - exact
        if lost > COLLAPSE_DROP:
            self.warn("collapse", f"step {step}: exact accuracy fell from {self.best['exact']:.1%} to {exact:.1%}")
        elif self.since_best == 5:
            since = f"since step {self.best['step']:.0f}"
            self.warn("overfitting", f"step {step}: five validations in a row below the best ({since})")
        return False

    def warn(self, kind: str, what: str) -> None:
        if not any(w.startswith(kind) for w in self.warnings):
            self.warnings.append(f"{kind}: {what}; the best weights are kept")

    def new_warnings(self) -> list[str]:
        fresh, self.told = self.warnings[self.told :], len(self.warnings)
        return fresh

    def diverged(self, step: int, numbers: dict[str, float], weight: str = "") -> str:
        """A sentence for the user about what is not finite; `weight` describes the weight, if it is one."""
        what = "the loss" if numbers["loss"] != numbers["loss"] else "the gradient"
        what = weight or f"{what} is not finite"
        return f"step {step}: {what}; the weights before it are kept. Lower plan.lr or set plan.clip"


def _rank(found: dict[str, Any]) -> tuple[float, float]:
    return found["exact"], found["token"] if found["valid"] is None else found["valid"]


def upgraded_state(state: dict[str, Any], verifies: bool) -> dict[str, Any]:
    """A saved state in today's form; older versions stored token accuracy under "valid"."""
    best = state["best"]
    if best and not verifies and "token" not in best:  # without a verifier, "valid" held token accuracy
        best = best | {"token": best["valid"], "valid": None}
    return state | {"best": best}
