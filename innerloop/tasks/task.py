"""Task, the base class: generate examples, verify and score answers, encode text, symmetries, pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from innerloop.data import picture
from innerloop.data.sets import Example, PuzzleSet, Score, as_tokens, largest, token_dtype
from innerloop.errors import InputError
from innerloop.rules.bounds import SearchBound
from innerloop.rules.symmetry import Views
from innerloop.text import printable

__all__: list[str] = []  # the base is no task: discovery must not list it


def item_rng(seed: int, i: int) -> np.random.Generator:
    """The random generator of item i of the list `seed`; both are whole numbers from 0."""
    if seed < 0 or i < 0:
        raise InputError(f"seed {seed} and item {i} must not be negative; give whole numbers from 0 on.")
    return np.random.default_rng([seed, i])


def as_units(lines: Sequence[Sequence[int] | np.ndarray]) -> np.ndarray:
    """int64 (U, k): `lines` of cells as `Task.units`; shorter ones repeat their last cell."""
    longest = max(map(len, lines))
    return np.stack([np.pad(np.asarray(line, np.int64), (0, longest - len(line)), "edge") for line in lines])


class Task:
    """Puzzles of one kind and size. A task file fills in `sample`, `valid_batch` and what differs from the defaults.

    Token 0 is padding (in labels: ignored); token i >= 1 is written `charset[i - 1]`. Arrays are uint8
    (int32 where vocab > 256); B rows of S cells.
    """

    name: str = ""
    shape: tuple[int, int]  # rows, columns
    charset: str  # the symbol of token 1, 2, ...
    vocab: int  # len(charset) + 1
    units: np.ndarray | None = None  # int64 (U, k): cells that constrain each other; a short unit repeats its last cell
    symbols: tuple[tuple[int, ...], ...] = ()  # tokens whose names mean nothing; several forms rename together
    local: bool = False  # True: the rules speak of neighbouring cells, and of all parts of the grid alike
    lined: bool = False  # True: of whole rows and columns
    ordered: bool = False  # True: of the order of the cells along a row and a column, if local
    blank: int = 0  # token of an empty cell of the question; 0 = the task has none
    takes_guesses: bool = False  # True: a cell of the answer may be given in the question, so that it can be guessed
    rating_counts: str = ""  # what a generated rating counts, in words; empty: its puzzles are not rated
    void: str = "·"  # how an empty cell is shown in a terminal
    identifiers: tuple[str, ...] = ("<blank>",)  # names of the puzzle identifiers `sample` gives
    causal: bool = False  # True: a position must not attend to later ones, which hold the answer (running text)
    verifies: bool = True  # False: `valid` is only a check of form, the rules are not known
    symmetric: bool = True  # False: `valid` judges only a puzzle as it was given, not a view of it (Task.views)
    asks_model: bool = False  # True: `valid` asks the exact model, so its own answers need no check
    options: dict[str, Any]  # what to pass to `get(name, **options)` to have this task again (plain JSON values)
    aliases: dict[str, str] = {}  # noqa: RUF012  other ways to write a symbol of the charset

    # --- examples -----------------------------------------------------------------------------------------------------
    def sample(self, seed: int, i: int) -> Example:
        """Item i of the endless list `seed`: a pure function of both."""
        raise InputError(f"the task {self.name!r} has no generator; open a file of examples with open_set(path).")

    def make(self, count: int, seed: int) -> PuzzleSet:
        """The first `count` items of list `seed` as a set; row i equals `sample(seed, i)`."""
        if count < 1:
            raise InputError(f"cannot make {count} puzzles; ask for at least 1.")
        rows = [self.sample(seed, i) for i in range(count)]
        return self.as_set(
            np.stack([r.question for r in rows]),
            np.stack([r.answer for r in rows]),
            rating=np.array([r.rating for r in rows], np.float32),
            puzzle=np.array([r.puzzle for r in rows], np.int32),
            source=f"{self.name} generated with seed {seed}",
            identifiers=self.identifiers,
        )

    def as_set(self, inputs: np.ndarray, labels: np.ndarray, **columns: Any) -> PuzzleSet:
        """A PuzzleSet of this task's vocabulary and shape."""
        return PuzzleSet(inputs, labels, vocab=self.vocab, shape=self.shape, task=self.name, **columns)

    # --- scores -------------------------------------------------------------------------------------------------------
    def valid_batch(self, inputs: np.ndarray, answers: np.ndarray) -> np.ndarray:
        """bool (B,): givens kept and the rules hold, without looking at a label."""
        raise NotImplementedError

    def score_batch(
        self, inputs: np.ndarray, answers: np.ndarray, labels: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(exact bool (B,), token float64 (B,), valid bool (B,)); exact of labelled cells, token of `counted` ones."""
        for tokens, what in ((inputs, "questions"), (answers, "answers"), (labels, "labels")):
            self.check(tokens, what)
        if not len(inputs) == len(answers) == len(labels):
            raise InputError(
                f"{len(inputs)} questions, {len(answers)} answers, {len(labels)} labels; give one each a row."
            )
        right, counted = answers == labels, self.counted(inputs, labels)
        total = counted.sum(1)
        token = np.where(total > 0, (right & counted).sum(1) / np.maximum(total, 1), 1.0)
        return (right | (labels == 0)).all(1), token, self.valid_batch(inputs, answers)

    def counted(self, inputs: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """bool (B, S): the cells that token accuracy is of; by default all that have a label, as in the papers."""
        return labels != 0

    def score(self, question: np.ndarray, answer: np.ndarray, label: np.ndarray) -> Score:
        """The score of one answer; all three are (S,) tokens."""
        exact, token, valid = self.score_batch(question[None], answer[None], label[None])
        return Score(bool(exact[0]), float(token[0]), bool(valid[0]))

    def check(self, tokens: np.ndarray, what: str) -> None:
        """Raise InputError unless `tokens` is (B, S) of this task, whole numbers from 0 on.

        Questions hold tokens of the vocabulary; an answer that holds any other, up to `largest`, is wrong and no error.
        """
        size, found = self.shape[0] * self.shape[1], getattr(tokens, "shape", type(tokens).__name__)
        if not isinstance(tokens, np.ndarray) or tokens.ndim != 2 or tokens.shape[1] != size:
            raise InputError(f"{what} have shape {found}; {self.name} {self._size()} takes (B, {size}).")
        if what == "questions" or tokens.dtype != np.uint8:
            as_tokens(tokens, what, "", self.vocab - 1 if what == "questions" else largest(self.vocab))

    def tokens(self, values: Any, what: str) -> np.ndarray:
        """(N, S) tokens of N puzzles in whole numbers of any type. Raises InputError for what is none of this task."""
        tokens = as_tokens(values, what, "", self.vocab - 1).astype(token_dtype(self.vocab), copy=False)
        self.check(tokens, what)
        return tokens

    def kept(self, inputs: np.ndarray, answers: np.ndarray) -> np.ndarray:
        """bool (B,): every given (question cell that is neither padding nor blank) is unchanged in the answer."""
        given = (inputs != 0) & (inputs != self.blank)
        return ((answers == inputs) | ~given).all(1)

    def every(self, question: np.ndarray, limit: int, bound: SearchBound | None = None) -> np.ndarray:
        """(n, S) tokens: all answers of one question (S,) that the rules allow, by exact search; at most `limit`.

        Raises Undecided where the search comes to its `bound`; None: it may take as long as it takes.
        """
        raise InputError(f"the task {self.name!r} has no exact search that lists all solutions of a question.")

    def solutions(self, question: np.ndarray, limit: int = 2, bound: SearchBound | None = None) -> int:
        """Exact number of solutions of one question (S,), counted up to `limit`. Raises Undecided at the `bound`."""
        return len(self.every(question, limit, bound) if bound else self.every(question, limit))

    # --- what an exact solver needs (innerloop.solve.exact) -----------------------------------------------------------
    def domain(self, question: np.ndarray) -> np.ndarray:
        """bool (S, vocab): the tokens that each cell of a valid answer to one question (S,) can hold.

        By default a given keeps its token, and any other cell holds any token but padding and blank; in a task without
        a blank nothing is given. A task narrows this by what it sees at once, and never leaves out a token that a valid
        answer needs. A cell with no token at all says that there is no answer.
        """
        allowed = np.ones((len(question), self.vocab), bool)
        allowed[:, [0, self.blank]] = False
        if self.blank:
            given = np.flatnonzero((question != 0) & (question != self.blank))
            allowed[given] = np.arange(self.vocab) == question[given, None]
        return allowed

    def constrain(self, model: Any, has: Callable[[int, int], Any], question: np.ndarray) -> Any:
        """Add the rules that the domain leaves open to `model`, an OR-tools CpModel, for one question (S,).

        `has(cell, token)` is the literal "this cell holds this token"; each cell holds exactly one token of its domain
        without a word here. Returns a linear expression to minimise, or None where any valid answer is as good.
        Raises InputError for a task without an exact model.
        """
        raise InputError(
            f"the task {self.name!r} has no exact model of its rules: give a function constrain(model, has, question)."
        )

    def cost(self, inputs: np.ndarray, answers: np.ndarray) -> np.ndarray | None:
        """float64 (B,), lower is better: what `constrain` minimises, for valid answers; None where all are as good."""
        return None

    @property
    def has_objective(self) -> bool:
        """Whether some valid answers are better than others, by `cost`."""
        return type(self).cost is not Task.cost

    def wrong_cells(self, question: np.ndarray, answer: np.ndarray, label: np.ndarray | None = None) -> np.ndarray:
        """bool (S,): cells that differ from the label; without one, cells that break a rule on sight (none by
        default).
        """
        if label is not None:
            return (label != 0) & (answer != label)
        return np.zeros(len(answer), bool)

    # --- text ---------------------------------------------------------------------------------------------------------
    @property
    def pad_symbol(self) -> str:
        """How token 0 is written."""
        return "_" if "_" not in self.charset else "\u2400"

    def encode_many(self, texts: list[str], where: str = "the text", what: str = "question") -> np.ndarray:
        """(N, S) tokens of N texts of S symbols; InputError names the first bad row and symbol."""
        size = self.shape[0] * self.shape[1]
        for row, text in enumerate(texts, 1):
            if len(text) != size:
                raise InputError(
                    f"{where}, row {row}: the {what} has {len(text)} cells where {self.name} {self._size()} has "
                    f"{size}; "
                    "give every row the same number of cells."
                )
        codes = np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), np.uint32).reshape(len(texts), size)
        symbols = {c: i for i, c in enumerate(self.charset, 1)}
        symbols |= {a: symbols[c] for a, c in self.aliases.items() if a not in symbols} | {self.pad_symbol: 0}
        table = np.full(max(map(ord, symbols)) + 2, -1, np.int32)
        for c, token in symbols.items():
            table[ord(c)] = token
        tokens = table[np.minimum(codes, len(table) - 1)]
        bad = tokens < 0
        if bad.any():
            row, cell = (int(v) for v in np.argwhere(bad)[0])
            raise InputError(
                f"{where}, row {row + 1}: the {what} has {texts[row][cell]!r} in cell {cell + 1}; {self.name} "
                f"{self._size()} "
                f"is written with {printable(repr(self.charset), 300)}; correct the row or name another task."
            )
        return tokens.astype(token_dtype(self.vocab))

    def encode(self, text: str) -> np.ndarray:
        """(S,) tokens of one text; line breaks are ignored."""
        return self.encode_many([text.replace("\r", "").replace("\n", "")])[0]

    def decode(self, tokens: np.ndarray) -> str:
        """The S symbols of one puzzle, row by row, in one line."""
        symbols = self.pad_symbol + self.charset
        return "".join(symbols[int(t)] for t in np.asarray(tokens).reshape(-1))

    def spell(self, tokens: np.ndarray) -> str:
        """The same for people and files: words parted by spaces where cells have several characters."""
        return self.decode(tokens)

    # --- symmetries ---------------------------------------------------------------------------------------------------
    def augment(
        self, inputs: np.ndarray, labels: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Each row turned by its own random symmetry of the task; question and label together, so both stay right."""
        views = self.views(len(inputs), rng)
        if views is None:
            return inputs.copy(), labels.copy()
        return views.apply(inputs), views.apply(labels)

    def views(self, count: int, rng: np.random.Generator) -> Views | None:
        """`count` random symmetries of the task; None where it knows none."""
        return None

    def canonical_batch(self, inputs: np.ndarray) -> list[bytes]:
        """One key a row, equal for every symmetric variant of a question; the default knows no symmetry."""
        return [row.tobytes() for row in np.ascontiguousarray(inputs)]

    def canonical(self, question: np.ndarray) -> bytes:
        """The key of one question (S,)."""
        return self.canonical_batch(question[None])[0]

    def same(self, a: np.ndarray, b: np.ndarray) -> bool:
        """Exactly: is b a symmetric variant of a? True where equal keys prove it (the default)."""
        return self.canonical(a) == self.canonical(b)

    # --- pictures -----------------------------------------------------------------------------------------------------
    def glyph(self, token: int) -> str:
        """What is shown in a cell of the picture."""
        return "" if token in (0, self.blank) else self.charset[token - 1]

    def colour(self, token: int) -> str:
        """A fill for the cell, '#rrggbb', or '' for the page's own background."""
        return ""

    def boxes(self) -> tuple[int, int]:
        """Rows and columns between two thick lines of the picture; (0, 0) = none."""
        return (0, 0)

    def terminal(
        self,
        question: np.ndarray,
        answer: np.ndarray,
        previous: np.ndarray | None = None,
        label: np.ndarray | None = None,
    ) -> Any:
        """A rich Text: givens bold, new digits coloured, wrong ones red, cells changed since `previous` underlined."""
        return picture.terminal(self, question, answer, previous, label)

    def svg(self, question: np.ndarray, answer: np.ndarray, label: np.ndarray | None = None) -> str:
        """A self-contained SVG of the answer over its question, readable on light and dark pages."""
        return picture.svg(self, question, answer, label)

    def _size(self) -> str:
        return f"{self.shape[0]}x{self.shape[1]}"
