"""Symmetries that the rows of a file do not contradict: a two-sample test of changed rows against unchanged ones.

A symmetry of a puzzle turns its puzzles into others of the same kind. Where the file was drawn evenly, turned rows then
look like rows of the file. Rows are compared by how often each pair of neighbouring cells holds what it does (question
and answer of both cells together), and each cell by itself. A symmetry is kept where half of the rows, changed, is as
near to the other half as unchanged rows are. Symbols that must change places with it, as signs between cells do when
a board is mirrored, are found by trying: each swap that brings the halves nearer is taken. No proof: a rule that hardly
shows in neighbours is not seen.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import NamedTuple

import numpy as np

from innerloop.data.sets import PuzzleSet
from innerloop.rules.symmetry import MIRRORS, dihedral, swapped
from innerloop.tasks.grid import Grid

__all__ = ["found_symmetries"]

SPLITS = 6  # halvings of the rows
MOST_ROWS = 4000
TRIED_ROWS = 1000  # of each half, to find swaps
LEAST_ROWS = 100  # fewer say nothing
MARGIN = 3.0  # standard deviations by which changed rows may be further from the others than unchanged ones
MOST_BINS = 1 << 22  # numbers that are counted without sorting
ALIKE = 0.1  # two symbols may change places where their counts differ by no more than this share

Halves = tuple[PuzzleSet, PuzzleSet]


def found_symmetries(task: Grid, examples: PuzzleSet, seed: int = 0) -> tuple[str, ...]:
    """What the rows do not contradict, as the option `symmetries` of tasks.Grid."""
    rng = np.random.default_rng(seed)
    rows = examples.take(rng.permutation(len(examples))[:MOST_ROWS])
    if len(rows) < LEAST_ROWS:
        return ()
    orders = [rng.permutation(len(rows)) for _ in range(SPLITS)]
    halves = [(rows.take(order[::2]), rows.take(order[1::2])) for order in orders]
    expected = [counted(one.inputs, one.labels, task) for one, _ in halves]

    def far(changed: Grid | None) -> list[float]:
        """How far each other half is from the first one, its rows changed by random symmetries of a grid."""
        found = []
        for known, (_, other) in zip(expected, halves, strict=True):
            pair = other.inputs, other.labels
            seen = pair if changed is None else changed.augment(*pair, rng)
            found.append(compared(known, counted(*seen, task)).max())
        return found

    usual = far(None)
    most = np.mean(usual) + MARGIN * np.std(usual)

    def holds(name: str) -> bool:
        return bool(np.mean(far(Grid(**task.options | {"symmetries": [name]}))) <= most)

    names = [name for name in ("names",) if holds(name)]
    if holds("turns"):
        return ("turns", *names)
    found: list[str] = []
    first = np.arange(min(TRIED_ROWS, len(rows) // 2))
    few = halves[0][0].take(first), halves[0][1].take(first)
    for name in mirrors(task):
        best = with_swaps(task, name, few)
        if best and not follows(task, best, found) and holds(best):
            found.append(best)
    return (*found, *names)


def mirrors(task: Grid) -> list[str]:
    """The symmetries of the grid to be tried; "same" is for symbols that change places on a board left as it is."""
    square = task.shape[0] == task.shape[1]
    return [name for name in MIRRORS if square or "transpose" not in name]


def follows(task: Grid, name: str, found: list[str]) -> bool:
    """Whether the symmetries found already hold this one."""
    if not found:
        return False
    one, all_found = (Grid(**task.options | {"symmetries": names}).group for names in ([name], found))
    known = {(c.tobytes(), t.tobytes()) for c, t in zip(all_found.cells, all_found.tokens, strict=True)}
    return all((c.tobytes(), t.tobytes()) in known for c, t in zip(one.cells, one.tokens, strict=True))


def with_swaps(task: Grid, name: str, halves: Halves) -> str:
    """The symmetry with those swaps of symbols that bring changed rows nearest to the others, one after another.

    "" where nothing changes.
    """
    if task.words:
        return "" if name == "same" else name
    expected = counted(halves[0].inputs, halves[0].labels, task)
    pairs = list(swappable(task, halves[0]))
    swaps = reversed_numbers(task, halves[0]) if name == "same" else []
    if name == "same" and not swaps:
        return ""

    cells = dihedral(*task.shape)[MIRRORS[name]]
    plain = counted(halves[1].inputs[:, cells], halves[1].labels[:, cells], task)
    tokens = {symbol: token for token, symbol in enumerate(task.charset, 1)}

    def far(some: list[tuple[str, str]]) -> float:
        names = swapped(task.vocab, [(tokens[one], tokens[other]) for one, other in some])[0]
        return float(compared(expected, renamed(plain, names, task)).sum())

    best = far(swaps)
    while True:
        taken = {symbol for pair in swaps for symbol in pair}
        tried = [(far([*swaps, pair]), pair) for pair in pairs if not taken & set(pair)]
        nearest, pair = min(tried, default=(best, ("", "")))
        if nearest >= best:
            return " ".join([name, *map("".join, swaps)])
        best, swaps = nearest, [*swaps, pair]


def swappable(task: Grid, rows: PuzzleSet) -> Iterator[tuple[str, str]]:
    """Pairs of symbols that are about as frequent as each other, in questions and in answers."""
    counts = np.stack([np.bincount(a.ravel(), minlength=task.vocab) for a in (rows.inputs, rows.labels)])
    for one, other in combinations([t for t in range(1, task.vocab) if t != task.blank], 2):
        a, b = counts[:, one], counts[:, other]
        if (abs(a - b) <= ALIKE * np.maximum(a, b) + 3 * np.sqrt(a + b)).all() and (a + b).any():
            yield task.charset[one - 1], task.charset[other - 1]


def reversed_numbers(task: Grid, rows: PuzzleSet) -> list[tuple[str, str]]:
    """The first symbol that undecided cells take with the last, and so on inwards; none for fewer than three."""
    if not task.blank:
        return []
    values = [task.charset[t - 1] for t in np.unique(rows.labels[rows.inputs == task.blank]) if t]
    return list(zip(values[: len(values) // 2], values[::-1], strict=False)) if len(values) > 2 else []


class Counts(NamedTuple):
    """How often each number occurs in a sample of `total` numbers; each number stands once."""

    numbers: np.ndarray  # int64 (U,); in order, as `counted` returns them
    times: np.ndarray  # int64 (U,)
    total: int


def compared(one: list[Counts], other: list[Counts]) -> np.ndarray:
    """(3,) total variation distances between what is counted of two samples: of cells, and of two kinds of pairs."""
    return np.array([distance(a, b) for a, b in zip(one, other, strict=True)])


def counted(inputs: np.ndarray, labels: np.ndarray, task: Grid) -> list[Counts]:
    """What each cell holds, and each pair of neighbours side by side or above each other, as numbers, counted."""
    many, codes = task.vocab**2, (inputs.astype(np.int64) * task.vocab + labels).reshape(-1, *task.shape)
    places = np.arange(codes[0].size).reshape(task.shape)
    sides = codes[:, :, :-1] * many + codes[:, :, 1:], codes[:, :-1] * many + codes[:, 1:]
    return [counts_of(codes + many * places, many * places.size), *(counts_of(pairs, many * many) for pairs in sides)]


def counts_of(numbers: np.ndarray, most: int) -> Counts:
    """Counts of whole numbers from 0 on, below `most`."""
    if most <= MOST_BINS:  # many times as fast as sorting them
        times = np.bincount(numbers.ravel(), minlength=1)
        values = np.flatnonzero(times)
        times = times[values]
    else:
        values, times = np.unique(numbers, return_counts=True)
    return Counts(values, times, numbers.size)


def renamed(counts: list[Counts], names: np.ndarray, task: Grid) -> list[Counts]:
    """What `counted` says of the same rows whose tokens are called otherwise; names: (vocab,), a permutation."""
    many = task.vocab**2
    codes = (names.astype(np.int64)[:, None] * task.vocab + names).ravel()  # of question and answer of a cell
    found = []
    for one, pairs in zip(counts, (False, True, True), strict=True):
        high, low = np.divmod(one.numbers, many)
        found.append(one._replace(numbers=(codes[high] if pairs else high) * many + codes[low]))
    return found


def distance(a: Counts, b: Counts) -> float:
    """Total variation distance between the frequencies of two samples, exact: 1 less what they share. a: in order."""
    if not a.total * b.total:
        return 0.0
    at = np.minimum(np.searchsorted(a.numbers, b.numbers), len(a.numbers) - 1)
    shared = np.minimum(a.times[at] * b.total, b.times * a.total)[a.numbers[at] == b.numbers].sum()
    return 1.0 - float(shared) / (a.total * b.total)
