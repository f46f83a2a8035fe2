"""vote: the answer that most samples of a way give (self-consistency).             Wang et al. 2022, arXiv 2203.11171

    wave after wave of samples, each at a temperature above 0;   answer = argmax_a  sum_i w_i [a_i = a]

It stops as soon as the answer in the lead cannot be caught by the samples that are left. The share of votes is its
confidence.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from innerloop.errors import InputError
from innerloop.tokens.way import Asked, Said, State, Waves, Way, majority

__all__ = ["Vote", "decided"]


class Vote(Waves):
    """Majority of up to `n` samples of the way `inner`, asked `wave` at a time, `wave` of them at once.

    early         whether to stop when the lead cannot be caught; the answer is that of all `n`
    least         share of the votes below which it abstains: the answer is then None ("unparsed")
    """

    def __init__(self, inner: Way, n: int = 8, *, wave: int = 0, early: bool = True, least: float = 0.0) -> None:
        if not 0 <= least <= 1:
            raise InputError(f"a vote of least={least}: give a share from 0 to 1")
        super().__init__(inner, n, wave)
        self.early, self.least = early, least

    def advance(self, s: State, x: Asked) -> State:
        samples = self.next_wave(s, x, "vote")
        cut = any(said.outcome == "cut" for said in samples)
        done = len(samples) >= self.n or (self.early and decided(samples, self.n - len(samples)))
        return s._replace(samples=samples, phase=s.phase + 1, done=done, cut=cut)

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
    counts = Counter(said.answer for said in samples if said.answer is not None)
    ranked = [*(count for _, count in counts.most_common(2)), 0, 0]
    return bool(counts) and ranked[0] - ranked[1] > left
