"""vote: the answer that most samples of a way give (self-consistency).             Wang et al. 2022, arXiv 2203.11171

    wave after wave of samples, each at a temperature above 0;   answer = argmax_a  sum_i w_i [a_i = a]

It stops as soon as the answer in the lead cannot be caught by the samples that are left. The share of votes is its
confidence.
"""

from __future__ import annotations

import math
from typing import Any

from innerloop.errors import InputError
from innerloop.tokens.way import Asked, Said, State, Way, answer_many, majority, subkey

__all__ = ["Vote", "decided"]


class Vote(Way):
    """Majority of up to `n` samples of the way `inner`, asked `wave` at a time, `wave` of them at once.

    early         whether to stop when the lead cannot be caught; the answer is that of all `n`
    least         share of the votes below which it abstains: the answer is then None ("unparsed")
    """

    def __init__(self, inner: Way, n: int = 8, *, wave: int = 0, early: bool = True, least: float = 0.0) -> None:
        if n < 1 or wave < 0 or not 0 <= least <= 1:
            raise InputError(
                f"a vote of n={n}, wave={wave}, least={least}: give n of 1 or more and a share from 0 to 1"
            )
        if n > 1 and getattr(inner, "temperature", 1.0) == 0:
            raise InputError("samples at temperature 0 are all the same: vote over a way with a temperature above 0")
        self.inner, self.n, self.early, self.least, self.model = inner, n, early, least, inner.model
        self.wave = wave or n
        self.depth = math.ceil(n / self.wave)

    def advance(self, s: State, x: Asked) -> State:
        first = len(s.samples)
        count = min(self.wave, self.n - first)
        asked = [Asked(x.item, subkey(s.key, "vote", i)) for i in range(first, first + count)]
        samples = (*s.samples, *answer_many(self.inner, asked, workers=count))
        cut = any(said.outcome == "cut" for said in samples[first:])
        done = len(samples) >= self.n or (self.early and decided(samples, self.n - len(samples)))
        return s._replace(samples=samples, phase=s.phase + 1, done=done, cut=s.cut or cut)

    def read(self, s: State) -> Said:
        winner, share = majority(s.samples)
        if winner is None or share < self.least:
            outcome = "cut" if s.cut and winner is None else "unparsed"
            return Said(None, outcome, "", share, s.samples)
        best = s.samples[winner]
        return Said(
            best.answer, "answered", best.text, share, s.samples, winner, {"votes": round(share * len(s.samples))}
        )


def decided(samples: Any, left: int) -> bool:
    """Whether `left` further votes cannot change which answer leads: not even by a tie, which the earlier one wins."""
    counts: dict[str, int] = {}
    for said in samples:
        if said.answer is not None:
            counts[said.answer] = counts.get(said.answer, 0) + 1
    ranked = sorted(counts.values(), reverse=True)
    second = ranked[1] if len(ranked) > 1 else 0
    return bool(ranked) and ranked[0] - second > left
