"""PuzzleSet: a frozen, validated table of questions and answers in memory."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from innerloop.data.notation import Notation, ranges
from innerloop.data.protocols import Examples
from innerloop.errors import InputError
from innerloop.text import printable

__all__ = [
    "LEAST_HELD",
    "MOST_HELD",
    "MOST_VOCAB",
    "Example",
    "PuzzleSet",
    "Reading",
    "Score",
    "as_tokens",
    "count_held_out",
    "fingerprint",
    "largest",
    "token_dtype",
]

MOST_VOCAB = 65_536  # tokens are 0 .. 65,535
PIECE = 16 << 20  # bytes that are hashed at once
LEAST_HELD, MOST_HELD = 20, 500  # puzzles that are held out of a file where nobody says how many


def token_dtype(vocab: int) -> type[np.integer[Any]]:
    """What tokens of such a vocabulary are kept in: a byte where they fit."""
    return np.uint8 if vocab <= 256 else np.int32


def largest(vocab: int) -> int:
    """The largest token that an answer of such a vocabulary may hold by mistake, and is wrong then and no error."""
    return 255 if vocab <= 256 else MOST_VOCAB - 1


def count_held_out(puzzles: int) -> int:
    """How many of so many puzzles are held out where nobody says: a tenth, of few puzzles up to a quarter."""
    return max(1, min(MOST_HELD, max(puzzles // 10, min(LEAST_HELD, puzzles // 4))))


class Example(NamedTuple):
    """One puzzle: question and answer (S,) tokens, rating (higher is harder, nan = unknown), puzzle
    identifier.
    """

    question: np.ndarray
    answer: np.ndarray
    rating: float
    puzzle: int = 0


class Score(NamedTuple):
    """exact: every labelled cell equals the label; token: share of labelled cells right; valid: the task's own rules
    hold.
    """

    exact: bool
    token: float
    valid: bool


class Reading(NamedTuple):
    """What a file was taken for, and why; `str` of it is one clause for people."""

    task: str
    shape: tuple[int, int]
    puzzles: int
    reason: str
    symbols: str = ""  # as the file writes them; "" where it holds numbers
    blank: str = ""  # symbols of an empty cell
    notation: Notation = Notation("")  # how to write answers as the file writes them
    words: tuple[str, ...] = ()  # what a cell may hold, where it has several characters

    def __str__(self) -> str:
        rows, columns = self.shape
        size = f"read as {self.task} {rows}x{columns}: {self.puzzles:,} puzzle{'s' * (self.puzzles != 1)}"
        if self.words:
            return f"{size}, cells {printable(' '.join(self.words), 60)}; {self.reason}"
        symbols = f", symbols {printable(ranges(self.symbols), 60)}" if self.symbols else ""
        blank = f", empty cells {' or '.join(map(repr, self.blank))}" if self.blank else ""
        return f"{size}{symbols}{blank}; {self.reason}"


@dataclass(frozen=True, eq=False)
class PuzzleSet:
    """N puzzles of S cells. Arrays are checked once, here; every reader and generator returns this type.

    Raises InputError when the set is empty, arrays disagree in length, a token is outside the vocabulary, or a rating
    is infinite (nan means unknown).
    """

    inputs: np.ndarray  # (N, S) question tokens, 0 = padding; uint8, or int32 where vocab > 256
    labels: np.ndarray  # (N, S) answer tokens, of the same dtype, 0 = ignored (becomes -100 in the loss)
    vocab: int  # tokens are 0 .. vocab-1
    shape: tuple[int, int]  # rows, columns; rows * columns == S
    puzzle: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int32))  # int32 (N,), 0 = blank
    # int32 (N,), the original a row comes from
    group: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int32))
    rating: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))  # float32 (N,), nan = unknown
    task: str = "grid"  # name for `innerloop.tasks.get`
    source: str = ""  # where the rows come from, for people
    identifiers: tuple[str, ...] = ("<blank>",)  # name of each puzzle identifier
    reading: Reading | None = None  # how a file was read; None where the puzzles were generated

    def __post_init__(self) -> None:
        inputs, labels = (_tokens(self, name) for name in ("inputs", "labels"))
        n, where = len(inputs), self.source or "the set"
        if inputs.shape != labels.shape:
            raise InputError(
                f"{where}: inputs are {inputs.shape} but labels are {labels.shape}; give both the same shape."
            )
        if n == 0:
            raise InputError(f"{where} holds no puzzle; give at least one row.")
        if not isinstance(self.vocab, int | np.integer) or not 1 <= self.vocab <= MOST_VOCAB:
            said = printable(repr(self.vocab), 40)
            raise InputError(f"{where}: the vocabulary is {said}; give 1 to {MOST_VOCAB:,} tokens.")
        if len(self.shape) != 2 or not all(isinstance(n, int | np.integer) and n > 0 for n in self.shape):
            raise InputError(f"{where}: the shape is {printable(repr(self.shape), 40)}; give (rows, columns).")
        if self.shape[0] * self.shape[1] != inputs.shape[1]:
            raise InputError(
                f"{where}: a grid of {self.shape[0]}x{self.shape[1]} has {self.shape[0] * self.shape[1]} cells but "
                "rows have "
                f"{inputs.shape[1]}; set shape=(rows, columns) to match."
            )
        for name, array in (("inputs", inputs), ("labels", labels)):
            top = int(array.max())
            if top >= self.vocab:
                row = int(np.argmax((array >= self.vocab).any(1))) + 1
                raise InputError(
                    f"{where}, row {row}: {name} hold token {top} outside the vocabulary 0..{self.vocab - 1}; "
                    f"correct the row or set vocab={top + 1}."
                )
        object.__setattr__(self, "inputs", inputs)
        object.__setattr__(self, "labels", labels)
        for name, dtype, default in (
            ("puzzle", np.int32, np.zeros(n, np.int32)),
            ("group", np.int32, np.arange(n, dtype=np.int32)),
            ("rating", np.float32, np.full(n, np.nan, np.float32)),
        ):
            object.__setattr__(self, name, _column(self, name, dtype, default))
        if np.isinf(self.rating).any():
            row = int(np.argmax(np.isinf(self.rating))) + 1
            raise InputError(
                f"{where}, row {row}: the rating is not finite; give a number, or leave it empty if unknown."
            )
        low, high = int(self.puzzle.min()), int(self.puzzle.max())
        if low < 0 or high >= len(self.identifiers):
            raise InputError(
                f"{where}: puzzle identifiers run {low}..{high} but {len(self.identifiers)} names are given; "
                "list one name for each identifier from 0 ('<blank>') on."
            )

    def __len__(self) -> int:
        return len(self.inputs)

    def take(self, index: Any) -> PuzzleSet:
        """The rows of `index` (int or bool array, or slice), in that order."""
        rows = np.arange(len(self))[index].reshape(-1)
        if len(rows) == 0:
            raise InputError(f"{self.source or 'the set'}: no row is left after the choice; choose at least one.")
        return replace(
            self,
            inputs=self.inputs[rows],
            labels=self.labels[rows],
            puzzle=self.puzzle[rows],
            group=self.group[rows],
            rating=self.rating[rows],
        )

    def split(self, fraction: float, seed: int) -> tuple[PuzzleSet, PuzzleSet]:
        """(kept, held out): about `fraction` of the *groups* is held out, so no original sits on both sides."""
        groups = np.unique(self.group)
        held = round(fraction * len(groups))
        if not 0 < held < len(groups):
            raise InputError(
                f"{self.source or 'the set'}: a share of {fraction} of {len(groups)} groups leaves one side empty; "
                "choose a share that keeps at least one group on each side."
            )
        out = np.isin(self.group, np.random.default_rng(seed).permutation(groups)[:held])
        return self.take(~out), self.take(out)


def _tokens(s: PuzzleSet, name: str) -> np.ndarray:
    """Check one token table and give it as (N, S), without a copy when it is one of that dtype already."""
    vocab = s.vocab if isinstance(s.vocab, int | np.integer) else 0  # which is refused later
    return as_tokens(getattr(s, name), name, s.source or "the set", largest(int(vocab)))


def as_tokens(values: Any, what: str, where: str = "", most: int = 255) -> np.ndarray:
    """(N, S) of a table of whole numbers 0 .. most, of any numeric type: nothing wraps and nothing is rounded.

    uint8 where `most` fits a byte, else int32.

    Raises InputError that names `what` and, where it is given, `where`.
    """
    lead = f"{where}: " if where else ""
    said = f"tokens are whole numbers 0..{most}."
    try:
        array = np.asarray(values)
    except ValueError:  # rows of different lengths
        raise InputError(f"{lead}{what} are rows of different lengths; give a table of rows x cells (N, S).") from None
    if array.ndim != 2:
        raise InputError(f"{lead}{what} have {array.ndim} dimensions; give a table of rows x cells (N, S).")
    if array.dtype.kind == "f":
        if not np.isfinite(array).all():
            row = int(np.argmax(~np.isfinite(array).all(1))) + 1
            at = f"{where}, row {row}: " if where else ""
            raise InputError(f"{at}{what} hold a value that is not finite; {said}")
        if (array != np.floor(array)).any():
            raise InputError(f"{lead}{what} hold fractions; {said}")
    elif array.dtype.kind not in "iub":
        raise InputError(f"{lead}{what} have type {array.dtype}; {said}")
    if array.size and (array.min() < 0 or array.max() > most):
        raise InputError(f"{lead}{what} run from {array.min()} to {array.max()}; {said}")
    return array.astype(token_dtype(most + 1), copy=False)


def _column(s: PuzzleSet, name: str, dtype: Any, default: np.ndarray) -> np.ndarray:
    array = np.asarray(getattr(s, name))
    if array.size == 0:
        return default
    if array.shape != default.shape:
        raise InputError(
            f"{s.source or 'the set'}: {name} has shape {array.shape}; give one value a row, {default.shape}."
        )
    if array.dtype.kind not in "iufb":
        raise InputError(f"{s.source or 'the set'}: {name} has type {array.dtype}; give numbers.")
    if np.issubdtype(dtype, np.integer):
        low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
        whole = array.dtype.kind != "f" or bool((np.isfinite(array) & (array == np.floor(array))).all())
        if not whole or array.min() < low or array.max() > high:
            raise InputError(f"{s.source or 'the set'}: {name} must hold whole numbers from {low} to {high}.")
    with np.errstate(over="ignore"):  # what is too large becomes infinite, which is refused by name
        return array.astype(dtype, copy=False)


def fingerprint(s: Examples) -> str:
    """sha256 over tokens, labels, identifiers, groups and names of a set, in their order; ratings do not count."""
    head = [s.vocab, list(s.shape)] if isinstance(s, PuzzleSet) else list(s.inputs.shape)
    total = hashlib.sha256(json.dumps(head).encode())
    for name in s.identifiers:
        total.update(json.dumps(name).encode())
    for array in (s.inputs, s.labels, s.puzzle, s.group):
        total.update(f"{array.dtype} {array.shape} ".encode())
        rows = max(1, PIECE // max(1, array[:1].nbytes))
        for i in range(0, len(array), rows):
            total.update(np.ascontiguousarray(array[i : i + rows]).data)
    return total.hexdigest()
