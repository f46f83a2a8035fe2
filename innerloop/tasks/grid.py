"""Anybody's own fixed-size puzzle, read from CSV or JSONL without a line of code.

What is not given is inferred: the alphabet is every symbol of the file in code-point order (so it does not depend on
the order of rows), the shape is the square of the row length, or one row where the length is no square. The library
cannot know the rules: `valid` then only says that givens were kept and no blank is left, unless a `rule` is passed.
"""

from __future__ import annotations

from collections.abc import Callable
from math import isqrt

import numpy as np

from innerloop.data.sets import Example, PuzzleSet
from innerloop.errors import InputError
from innerloop.rules.symmetry import Views, dihedral, same_names, turns
from innerloop.tasks.task import Task, item_rng

__all__ = ["Grid"]

MOST_SYMBOLS = 254
SYMMETRIES = ("turns", "names")


class Grid(Task):
    """A puzzle of fixed size with unknown rules.

    alphabet: the symbols of tokens 1, 2...; shape: (rows, columns); blank: the symbol of an undecided cell: every other
    cell of the question must stay as it is (None: no cell is given, the answer may be anything). rule: an optional
    check `rule(question, answer) -> bool` on (S,) tokens, which makes `valid` a real verification. examples: rows
    that `sample` draws from (a grid has no generator of its own). symmetries: what leaves your puzzle the same puzzle,
    to learn from and to solve in several views: "turns" (turned and mirrored) and "names" (every symbol but the blank
    called otherwise, as colours are). fill: the symbols that an undecided cell may take, of which the exact solver
    chooses (default: every symbol but the blank). `options` holds neither rule nor examples. A subclass may define
    `rule` as a method, and `constrain` for the exact solver (docs/add_a_task.md).
    """

    name = "grid"
    rule: Callable[[np.ndarray, np.ndarray], bool] | None = None

    def __init__(
        self,
        alphabet: str = ".0123456789",
        shape: tuple[int, int] = (9, 9),
        blank: str | None = None,
        rule: Callable[[np.ndarray, np.ndarray], bool] | None = None,
        examples: PuzzleSet | None = None,
        symmetries: tuple[str, ...] = (),
        fill: str = "",
    ):
        if not alphabet or len(set(alphabet)) != len(alphabet) or len(alphabet) > MOST_SYMBOLS:
            raise InputError(
                f"alphabet={alphabet!r} must list 1 to {MOST_SYMBOLS} different symbols; leave out the repeated ones."
            )
        if blank is not None and (len(blank) != 1 or blank not in alphabet):
            raise InputError(
                f"blank={blank!r} is no symbol of the alphabet {alphabet!r}; choose one of its symbols or none."
            )
        if len(shape) != 2 or min(shape) < 1:
            raise InputError(f"shape={shape} is no grid; give (rows, columns), both at least 1.")
        if unknown := [name for name in symmetries if name not in SYMMETRIES]:
            raise InputError(f"symmetries={list(symmetries)}: {unknown[0]!r} is none of {', '.join(SYMMETRIES)}.")
        if wrong := [symbol for symbol in fill if symbol not in alphabet or symbol == blank]:
            raise InputError(f"fill={fill!r}: {wrong[0]!r} is no symbol of the alphabet but the blank; leave it out.")
        self.charset, self.vocab, self.shape = alphabet, len(alphabet) + 1, (int(shape[0]), int(shape[1]))
        self.blank = alphabet.index(blank) + 1 if blank else 0
        self.rule = rule or self.rule
        self.verifies, self.examples = self.rule is not None, examples
        self.local = self.lined = min(self.shape) > 1  # most puzzles on a grid speak of neighbours, rows and columns
        self.options = {"alphabet": alphabet, "shape": list(self.shape), "blank": blank}
        self.symmetries = tuple(symmetries)
        if "names" in symmetries:
            self.symbols = (tuple(t for t in range(1, self.vocab) if t != self.blank),)
        if symmetries:
            self.options["symmetries"] = list(symmetries)
        self.fill = np.isin(
            np.arange(self.vocab), [i for i, s in enumerate(alphabet, 1) if s in (fill or alphabet) and s != blank]
        )
        if fill:
            self.options["fill"] = fill

    @classmethod
    def infer(cls, questions: list[str], answers: list[str], shape: tuple[int, int] | None = None) -> Grid:
        """The grid that holds these texts; the blank is '.' (else '0', ' ' or '?') if it is never in an answer and
        every cell with another symbol is unchanged in the answer.
        """
        alphabet = "".join(sorted(set().union(*questions, *answers)))
        if len(alphabet) > MOST_SYMBOLS:
            raise InputError(
                f"the rows hold {len(alphabet):,} different symbols, and at most {MOST_SYMBOLS} can be told apart; "
                "use fewer symbols."
            )
        size = len(questions[0])
        side = isqrt(size)
        blank = _blank(questions, answers)
        return cls(
            alphabet, shape or ((side, side) if side * side == size else (1, size)), blank,
            fill=_fill(alphabet, blank, questions, answers),
        )  # fmt: skip

    def sample(self, seed: int, i: int) -> Example:
        if self.examples is None:
            return super().sample(seed, i)
        s = self.examples
        row = int(item_rng(seed, i).integers(len(s)))
        return Example(s.inputs[row], s.labels[row], float(s.rating[row]))

    def views(self, count: int, rng: np.random.Generator) -> Views | None:
        if not self.symmetries:
            return None
        cells = np.tile(np.arange(self.shape[0] * self.shape[1]), (count, 1))
        views = Views(cells, same_names(count, self.vocab))
        if "turns" in self.symmetries:
            views = turns(count, self.shape, self.vocab, rng)
        if "names" in self.symmetries:
            free = np.array(self.symbols[0])
            views.tokens[:, free] = free[rng.random((count, len(free))).argsort(1)]
        return views

    def canonical_batch(self, inputs: np.ndarray) -> list[bytes]:
        """Exact: the smallest image, with symbols numbered as they come where their names mean nothing."""
        self.check(inputs, "questions")
        table = dihedral(*self.shape) if "turns" in self.symmetries else np.arange(inputs.shape[1])[None]
        images = inputs[:, table].reshape(-1, inputs.shape[1])
        keys = [self._unnamed(image).tobytes() for image in np.ascontiguousarray(images)]
        return [min(keys[i : i + len(table)]) for i in range(0, len(keys), len(table))]

    def _unnamed(self, image: np.ndarray) -> np.ndarray:
        if "names" not in self.symmetries:
            return image
        names = np.full(self.vocab, 255, np.uint8)  # of padding and blanks: no symbol gets so far
        found, first = np.unique(image, return_index=True)
        free = found[np.argsort(first)]
        free = free[(free != 0) & (free != self.blank)]
        names[free] = np.arange(len(free))
        if self.blank:
            names[0] = 254
        return names[image]

    def kept(self, inputs: np.ndarray, answers: np.ndarray) -> np.ndarray:
        """Without a blank symbol nothing is given: a question may be any code for what is asked."""
        return super().kept(inputs, answers) if self.blank else np.ones(len(inputs), bool)

    def domain(self, question: np.ndarray) -> np.ndarray:
        """As everywhere, but of the symbols of `fill`, and a cell of padding stays padding."""
        allowed: np.ndarray = np.arange(self.vocab) == question[:, None]
        allowed[question == self.blank if self.blank else question != 0] = self.fill
        return allowed

    def valid_batch(self, inputs: np.ndarray, answers: np.ndarray) -> np.ndarray:
        self.check(inputs, "questions")
        self.check(answers, "answers")
        # A cell padded in the question may be padded in the answer; a blank one must be decided.
        decided = (answers != 0) | (inputs == 0)
        if self.blank:
            decided &= answers != self.blank
        ok: np.ndarray = self.kept(inputs, answers) & decided.all(1) & (answers < self.vocab).all(1)
        if self.rule is not None:
            for row in np.flatnonzero(ok):
                ok[row] = bool(self.rule(inputs[row], answers[row]))
        return ok


def _fill(alphabet: str, blank: str | None, questions: list[str], answers: list[str]) -> str:
    """The symbols that answers have in undecided cells; "" where they are all but the blank."""
    if blank is None:
        return ""
    rows = zip(questions, answers, strict=True)
    found = {y for q, a in rows if blank in q for x, y in zip(q, a, strict=True) if x == blank}
    return "" if found >= set(alphabet) - {blank} else "".join(sorted(found))


def _blank(questions: list[str], answers: list[str]) -> str | None:
    solved: set[str] = set().union(*answers)
    for blank in ".0 ?":
        if blank in solved or not any(blank in q for q in questions):
            continue
        if all(x in (blank, y) for q, a in zip(questions, answers, strict=True) for x, y in zip(q, a, strict=True)):
            return blank
    return None
