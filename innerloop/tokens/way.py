"""Way: the base of all ways to think in text; each is a loop whose step is one call of a language model, or a few.

    way = Direct(model)
    said = answer(way, Item("2", "What is 17 * 3?"))      # think(way, Asked(item, key), way.depth, halt=finished)
    said.answer, said.outcome                             # "51", "answered"

A way ends with one of three outcomes: answered, unparsed (a whole text that holds no answer), or cut (the budget or the
limit of tokens ended it). What is right is not known here: see Item.check and innerloop.tokens.marks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from innerloop.budget import Budget, OverBudget, limited, share_of
from innerloop.core import think, think_many
from innerloop.errors import InputError
from innerloop.halt import finished
from innerloop.lm.protocol import Completion, Prompt
from innerloop.lm.watch import Path, part, watched
from innerloop.tokens.answers import find, kind_named

__all__ = [
    "UNKNOWN",
    "Asked",
    "Item",
    "Said",
    "State",
    "Verdict",
    "Waves",
    "Way",
    "Within",
    "answer",
    "answer_many",
    "finished",
    "subkey",
    "tell",
]

OUTCOMES = ("answered", "unparsed", "cut")
UNKNOWN = {  # why there is no answer, for people
    "cut": "the budget or the limit of tokens ended it",
    "unparsed": "no answer that can be trusted",
}


class Verdict(NamedTuple):
    """What a verifier says of an answer."""

    right: bool
    message: str = ""  # what is wrong, for a model that tries again


Check = Callable[[str], Verdict]  # of an answer in its one form (tokens.answers.find)


@dataclass(frozen=True)
class Item:
    """A question. The right answer is for the marks alone: no way of thinking looks at it."""

    id: str
    question: str
    answer: str | None = None  # the right one, in any text that gives it; None: only `check` tells
    kind: str = "number"  # of answer, a name in tokens.answers.KINDS
    # A verifier that does not know `answer`; None: there is none.
    check: Check | None = field(default=None, compare=False)
    # What marks an answer in place of equality with `answer`; it may know that one, so no way of thinking looks at it.
    judge: Check | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        kind_named(self.kind)
        if not self.question.strip():
            raise InputError(f"item {self.id} has an empty question")


class Asked(NamedTuple):
    """A question to a way, with the seed of all that it draws."""

    item: Item
    key: int = 0
    path: Path = ()  # of the sample that this is, for those who watch


class State(NamedTuple):
    """Where a way stands."""

    key: int
    text: str = ""  # what the model has written, for people and as the begin of the next call
    answer: str | None = None
    samples: tuple[Said, ...] = ()  # of a way that asks another way
    phase: int = 0  # calls so far, or what the way counts
    done: bool = False
    cut: bool = False  # ended by a budget or by the limit of tokens
    memory: Any = None  # of the way alone


@dataclass(frozen=True)
class Said:
    """The result of a way."""

    answer: str | None  # in its one form; None: unparsed or cut
    outcome: str  # answered, unparsed or cut
    text: str
    confidence: float | None = None  # share of votes, or 1.0 where a verifier accepts it; None: not known
    samples: tuple[Said, ...] = ()
    winner: int | None = None  # the sample that was chosen
    details: dict[str, Any] = field(default_factory=dict)  # counts of the way, such as how often it was made to go on


class Way:
    """Base of the ways. A subclass implements `advance`, and `read` where its answer is not that of its state."""

    depth = 1  # most steps
    model: Any

    def init(self, x: Asked) -> State:
        return State(x.key)

    def step(self, s: State, x: Asked) -> State:
        """One step; a budget that allows no call ends the thought, with what there is."""
        with part(x.path):
            try:
                new = self.advance(s, x)
            except OverBudget:
                new = s._replace(done=True, cut=True)
        if new.done and x.path:
            tell(x.path, self.read(new))
        return new

    def advance(self, s: State, x: Asked) -> State:
        raise NotImplementedError

    def read(self, s: State) -> Said:
        outcome = "answered" if s.answer is not None else "cut" if s.cut else "unparsed"
        return Said(s.answer, outcome, s.text, samples=s.samples)

    def ask(self, prompt: Prompt, **sampling: Any) -> Completion:
        """One completion of one prompt."""
        (reply,) = self.model.generate([prompt], **sampling)
        return reply.completions[0]


class Waves(Way):
    """Base of the ways that ask another way for up to `n` samples, `wave` at a time; 0: all at once."""

    def __init__(self, inner: Way, n: int, wave: int) -> None:
        if n < 1 or wave < 0:
            raise InputError(f"{n} samples in waves of {wave}: give n of 1 or more, and wave of 0 or more")
        need_sampling(inner, n)
        self.inner, self.n, self.model, self.wave = inner, n, inner.model, wave or n
        self.depth = -(-n // self.wave)

    def next_wave(self, s: State, x: Asked, name: str) -> tuple[Said, ...]:
        """All samples so far, with those of another wave; `name` goes into their seeds."""
        first = len(s.samples)
        count = min(self.wave, self.n - first)
        asked = [Asked(x.item, subkey(s.key, name, i), (*x.path, i)) for i in range(first, first + count)]
        return (*s.samples, *answer_many(self.inner, asked, workers=count))


def tell(path: Path, said: Said) -> None:
    """Give the result of a sample to those who watch."""
    watch = watched()
    if watch is not None and watch.result is not None:
        watch.result(path, said)


def need_sampling(inner: Way, n: int) -> None:
    """Raise InputError if n samples of a way would all be the same."""
    if n > 1 and getattr(inner, "temperature", 1.0) == 0:
        raise InputError("samples at temperature 0 are all the same: use a way with a temperature above 0")


def answer(way: Way, item: Item, key: int = 0, path: Path = ()) -> Said:
    """What a way says to one question. path: of the sample that this is."""
    return think(way, Asked(item, key, path), way.depth, halt=finished).answer


class Numbered(NamedTuple):
    """A state of a way, and the number of its question."""

    number: int
    state: State

    @property
    def done(self) -> bool:
        return self.state.done


class Within:
    """A way of which every question has its own budget; questions are (number, Asked).

    done    called as done(number, result) when a question has its result
    """

    def __init__(
        self, way: Way, budgets: Sequence[Budget], done: Callable[[int, Said], None] = lambda number, said: None
    ) -> None:
        self.way, self.budgets, self.done = way, budgets, done

    def init(self, x: tuple[int, Asked]) -> Numbered:
        return Numbered(x[0], self.way.init(x[1]))

    def step(self, s: Numbered, x: tuple[int, Asked]) -> Numbered:
        with limited(self.budgets[s.number]):
            return Numbered(s.number, self.way.step(s.state, x[1]))

    def read(self, s: Numbered) -> Said:
        said = self.way.read(s.state)
        self.done(s.number, said)
        return said


def answer_many(way: Way, asked: Iterable[Asked], workers: int = 1) -> list[Said]:
    """What a way says to each question, `workers` at once; each may spend an equal share of what open budgets allow.

    So the results do not depend on the order in which calls come back. Raises core.SomeFailed with all that there are.
    """
    asked = list(asked)
    shares = share_of(len(asked))
    if not shares:
        return [t.answer for t in think_many(way, asked, depth=way.depth, halt=finished, workers=workers)]
    within = Within(way, [Budget(shares) for _ in asked])
    thoughts = think_many(within, list(enumerate(asked)), depth=way.depth, halt=finished, workers=workers)
    return [t.answer for t in thoughts]


def subkey(key: int, *path: int | str) -> int:
    """A seed for a part of what is drawn under `key`: different for every path, the same every time."""
    digest = hashlib.sha256("/".join(map(str, (key, *path))).encode()).digest()
    return int.from_bytes(digest[:7], "big")


def answered(s: State, item: Item, completion: Completion, model: Any, first: bool = False) -> State:
    """The state after the completion that ends a thought: its answer, or that it was cut.

    A model trained here may have a `cue`, which it writes before its answer.
    """
    text = s.text + completion.text
    if completion.finish == "length":
        return s._replace(text=text, done=True, cut=True)
    said = completion.text.rpartition(getattr(model, "cue", "") or "\0")[2]
    return s._replace(text=text, answer=find(item.kind, said, first), done=True)


def majority(samples: Sequence[Said], weights: Sequence[float] | None = None) -> tuple[int | None, float]:
    """(index of the first sample that gives the answer of the most votes, its share of all samples); None: no answer.

    Ties go to the answer that was given first. Samples without an answer count in the share, and vote for nothing.
    """
    weights = [1.0] * len(samples) if weights is None else weights
    totals: dict[str, float] = {}
    for sample, weight in zip(samples, weights, strict=True):
        if sample.answer is not None:
            totals[sample.answer] = totals.get(sample.answer, 0.0) + weight
    if not totals:
        return None, 0.0
    best = max(totals, key=lambda a: totals[a])
    return next(i for i, s in enumerate(samples) if s.answer == best), totals[best] / sum(weights)
