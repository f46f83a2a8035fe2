"""best: the best of n samples of a way, by a verifier or by a judge.

    y = argmax_i  judge(question, y_i);    what can be selected is bounded by pass@n

A verifier takes the first sample that it accepts; if it accepts none the way abstains, since all are known to be wrong.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from innerloop.lm.watch import part
from innerloop.tokens.check import need_check, verdict
from innerloop.tokens.way import Asked, Item, Said, State, Waves, Way, subkey

__all__ = ["Best", "Choice", "Judge", "Verified"]


class Choice(NamedTuple):
    """What a judge chooses."""

    winner: int | None  # index of the best sample; None for none of them
    sure: float | None  # 0 to 1; None: not known
    counts: dict[str, Any]  # for the record


class Judge(Protocol):
    """Chooses among samples."""

    def choose(self, item: Item, samples: tuple[Said, ...], key: int, judged: int = 0) -> Choice:
        """The best sample; `judged`: how many of the first were refused before."""


class Verified:
    """The item's own verifier: the first sample that it accepts."""

    def choose(self, item: Item, samples: tuple[Said, ...], key: int, judged: int = 0) -> Choice:
        for i in range(judged, len(samples)):
            if verdict(item, samples[i]).right:
                return Choice(i, 1.0, {"checked": i + 1})
        return Choice(None, 0.0, {"checked": len(samples), "abstained": True})


class Best(Waves):
    """The best of `n` samples of the way `inner` by `judge`, asked `wave` at a time.

    With a verifier it stops at the first wave that holds an accepted answer; any other judge sees all samples.
    """

    def __init__(self, inner: Way, n: int = 8, judge: Judge | None = None, *, wave: int = 0) -> None:
        self.judge = judge or Verified()
        super().__init__(inner, n, wave if isinstance(self.judge, Verified) else 0)

    def advance(self, s: State, x: Asked) -> State:
        if isinstance(self.judge, Verified):
            need_check(x.item, "best(..., verify)")
        samples = self.next_wave(s, x, "best")
        with part((*x.path, "judge")):
            choice = self.judge.choose(x.item, samples, subkey(s.key, "judge"), len(s.samples))
        done = choice.winner is not None or len(samples) >= self.n
        cut = any(said.outcome == "cut" for said in samples)
        return s._replace(samples=samples, phase=s.phase + 1, done=done, cut=cut, memory=choice)

    def read(self, s: State) -> Said:
        winner, sure, counts = s.memory or Choice(None, None, {})
        if winner is None:
            outcome = "cut" if s.cut and not any(said.answer for said in s.samples) else "unparsed"
            return Said(None, outcome, "", sure, s.samples, None, counts)
        best = s.samples[winner]
        return Said(best.answer, best.outcome, best.text, sure, s.samples, winner, counts)
