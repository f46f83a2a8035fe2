"""best: the best of n samples of a way, by a verifier or by a judge.

    y = argmax_i  judge(question, y_i);    what can be selected is bounded by pass@n

A verifier takes the first sample that it accepts; if it accepts none the way abstains, since all are known to be wrong.
"""

from __future__ import annotations

from typing import Any, Protocol

from innerloop.errors import InputError
from innerloop.tokens.check import need_check, verdict
from innerloop.tokens.way import Asked, Item, Said, State, Way, answer_many, subkey

__all__ = ["Best", "Judge", "Verified"]


class Judge(Protocol):
    """Chooses among samples."""

    def choose(
        self, item: Item, samples: tuple[Said, ...], key: int
    ) -> tuple[int | None, float | None, dict[str, Any]]:
        """(index of the best sample, None for none of them; how sure, 0 to 1, or None; counts for the record)."""


class Verified:
    """The item's own verifier: the first sample that it accepts."""

    def choose(
        self, item: Item, samples: tuple[Said, ...], key: int
    ) -> tuple[int | None, float | None, dict[str, Any]]:
        need_check(item, "best(..., verify)")
        for i, said in enumerate(samples):
            if verdict(item, said).right:
                return i, 1.0, {"checked": i + 1}
        return None, 0.0, {"checked": len(samples), "abstained": True}


class Best(Way):
    """The best of `n` samples of the way `inner` by `judge`, asked `wave` at a time.

    With a verifier it stops at the first wave that holds an accepted answer; any other judge sees all samples.
    """

    def __init__(self, inner: Way, n: int = 8, judge: Judge | None = None, *, wave: int = 0) -> None:
        if n < 1 or wave < 0:
            raise InputError(f"best of n={n}, wave={wave}: give n of 1 or more")
        if n > 1 and getattr(inner, "temperature", 1.0) == 0:
            raise InputError("samples at temperature 0 are all the same: use a way with a temperature above 0")
        self.inner, self.n, self.judge, self.model = inner, n, judge or Verified(), inner.model
        self.wave = (wave or n) if isinstance(self.judge, Verified) else n
        self.depth = -(-n // self.wave)

    def advance(self, s: State, x: Asked) -> State:
        if isinstance(self.judge, Verified):
            need_check(x.item, "best(..., verify)")
        first = len(s.samples)
        count = min(self.wave, self.n - first)
        asked = [Asked(x.item, subkey(s.key, "best", i)) for i in range(first, first + count)]
        samples = (*s.samples, *answer_many(self.inner, asked, workers=count))
        winner, sure, counts = self.judge.choose(x.item, samples, subkey(s.key, "judge"))
        done = winner is not None or len(samples) >= self.n
        cut = any(said.outcome == "cut" for said in samples)
        return s._replace(samples=samples, phase=s.phase + 1, done=done, cut=cut, memory=(winner, sure, counts))

    def read(self, s: State) -> Said:
        winner, sure, counts = s.memory or (None, None, {})
        if winner is None:
            outcome = "cut" if s.cut and not any(said.answer for said in s.samples) else "unparsed"
            return Said(None, outcome, "", sure, s.samples, None, counts)
        best = s.samples[winner]
        return Said(best.answer, best.outcome, best.text, sure, s.samples, winner, counts)
