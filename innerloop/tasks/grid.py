"""Anybody's own fixed-size puzzle, read from CSV or JSONL without a line of code.

What is not given is inferred: the alphabet is every symbol of the file in code-point order (so it does not depend on
the order of rows), the shape is the square of the row length, or one row where the length is no square, the blank is
a symbol around which nearly all rows leave the question as it is. The library cannot know the rules: `valid` then only
says that givens were kept and no blank is left, unless a `rule` is passed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import isqrt

import numpy as np

from innerloop.data.cells import read_words, word_symbols
from innerloop.data.sets import Example, PuzzleSet
from innerloop.errors import InputError
from innerloop.rules.symmetry import MIRRORS, Views, all_products, dihedral, same_names, swapped
from innerloop.tasks.task import Task, item_rng

__all__ = ["Grid"]

MOST_SYMBOLS = 254
BLANKS = ".0 ?"  # symbols that an empty cell may have where nothing is said
FAULTY, FEW = 10, 4  # one row in ten may change a given, and is a fault of the row; one of any FEW rows too
PIECE = 65_536  # rows, or images of them, that are compared at once
SYMMETRIES = ("turns", "names", *MIRRORS)


class Grid(Task):
    """A puzzle of fixed size with unknown rules.

    alphabet: the symbols of tokens 1, 2..., or a list of words where cells have several characters; shape: (rows,
    columns); blank: the symbol or word of an undecided cell: every other cell of the question must stay as it is (None:
    no cell is given, the answer may be anything). rule: an optional check `rule(question, answer) -> bool` on (S,)
    tokens, which makes `valid` a real verification. examples: rows that `sample` draws from (a grid has no generator of
    its own). symmetries: what leaves your puzzle the same puzzle, to learn from and to solve in several views: "turns"
    (turned and mirrored), "names" (every symbol but the blank called otherwise, as colours are), or single ones
    (rules.symmetry.MIRRORS), with the symbols that change places: "mirror <>". fill: the symbols
    that an undecided cell may take, of which the exact solver chooses (default: every symbol but the blank). `options`
    holds neither rule nor examples. A subclass may define `rule` as a method, and `constrain` for the exact solver
    (docs/add_a_task.md).
    """

    name = "grid"
    rule: Callable[[np.ndarray, np.ndarray], bool] | None = None

    def __init__(
        self,
        alphabet: str | Sequence[str] = ".0123456789",
        shape: tuple[int, int] = (9, 9),
        blank: str | None = None,
        rule: Callable[[np.ndarray, np.ndarray], bool] | None = None,
        examples: PuzzleSet | None = None,
        symmetries: tuple[str, ...] = (),
        fill: str = "",
    ):
        if not alphabet or len(set(alphabet)) != len(alphabet) or len(alphabet) > MOST_SYMBOLS or "" in [*alphabet]:
            raise InputError(
                f"alphabet={alphabet!r} must list 1 to {MOST_SYMBOLS} different symbols; leave out the repeated ones."
            )
        if blank is not None and (not blank or blank not in [*alphabet]):
            raise InputError(
                f"blank={blank!r} is no symbol of the alphabet {alphabet!r}; choose one of its symbols or none."
            )
        if len(shape) != 2 or min(shape) < 1:
            raise InputError(f"shape={shape} is no grid; give (rows, columns), both at least 1.")
        if wrong := [symbol for symbol in fill if symbol not in alphabet or symbol == blank]:
            raise InputError(f"fill={fill!r}: {wrong[0]!r} is no symbol of the alphabet but the blank; leave it out.")
        self.words = tuple(alphabet) if any(len(word) > 1 for word in alphabet) else ()  # of tokens 1, 2...
        self.charset = word_symbols(self.words) if self.words else "".join(alphabet)
        self.vocab, self.shape = len(alphabet) + 1, (int(shape[0]), int(shape[1]))
        self.blank = [*alphabet].index(blank) + 1 if blank else 0
        self.takes_guesses = bool(blank)
        self.rule = rule or self.rule
        self.verifies, self.examples = self.rule is not None, examples
        # Most puzzles on a grid speak of neighbours, of rows and columns, and of the order along these.
        self.local = self.lined = self.ordered = min(self.shape) > 1
        self.options = {"alphabet": [*self.words] or self.charset, "shape": list(self.shape), "blank": blank}
        self.symmetries = tuple(symmetries)
        self.group = self.part_of_group(self.symmetries)
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
    def infer(
        cls,
        questions: Sequence[str],
        answers: Sequence[str],
        shape: tuple[int, int] | None = None,
        blank: str | None = "",
        alphabet: Sequence[str] = (),
    ) -> Grid:
        """The grid that holds these texts, one symbol a cell (word_symbols of an alphabet of words).

        blank, alphabet: where they are known; "": the blank is the first of '.', '0', ' ' and '?' around which at
        least nine rows in ten leave the question as it is, and which their answers do not hold.
        """
        found = alphabet or "".join(sorted(set().union(*questions, *answers)))
        if len(found) > MOST_SYMBOLS:
            raise InputError(
                f"the rows hold {len(found):,} different symbols, and at most {MOST_SYMBOLS} can be told apart; "
                "use fewer symbols."
            )
        if blank and blank not in [*found]:
            raise InputError(f"no cell holds {blank!r}, which was given as the empty cell; give another or none.")
        if blank == "":
            symbol = find_blank(questions, answers)
            blank = found[word_symbols(found).index(symbol)] if symbol else None
        size = len(questions[0])
        side = isqrt(size)
        return cls(
            found, shape or ((side, side) if side * side == size else (1, size)), blank,
            fill=_fill(found, blank, questions, answers),
        )  # fmt: skip

    def sample(self, seed: int, i: int) -> Example:
        if self.examples is None:
            return super().sample(seed, i)
        s = self.examples
        row = int(item_rng(seed, i).integers(len(s)))
        return Example(s.inputs[row], s.labels[row], float(s.rating[row]))

    def encode_many(self, texts: list[str], where: str = "the text", what: str = "question") -> np.ndarray:
        """As everywhere; where cells are words, a text is S symbols or S words."""
        if self.words:
            symbols, size = dict(zip(self.words, self.charset, strict=True)), self.shape[0] * self.shape[1]
            texts = [
                text if len(text) == size else read_words(text, symbols, f"{where}, row {row}")[0]
                for row, text in enumerate(texts, 1)
            ]
        return super().encode_many(texts, where, what)

    def spell(self, tokens: np.ndarray) -> str:
        names = (self.pad_symbol, *self.words)
        return " ".join(names[int(t)] for t in tokens.reshape(-1)) if self.words else self.decode(tokens)

    def glyph(self, token: int) -> str:
        return self.words[token - 1] if self.words and token not in (0, self.blank) else super().glyph(token)

    def part_of_group(self, symmetries: Sequence[str]) -> Views:
        """All symmetries but "names" that follow from some of the grid's own. Raises InputError for others."""
        return all_products(self._generators(symmetries))

    def _generators(self, symmetries: Sequence[str]) -> Views:
        table, found = dihedral(*self.shape), [(np.arange(self.shape[0] * self.shape[1]), same_names(1, self.vocab))]
        for told in symmetries:
            name, _, swaps = told.partition(" ")
            if name not in SYMMETRIES or (swaps and name in ("turns", "names")):
                raise InputError(f"symmetries={list(self.symmetries)}: {told!r} is none of {', '.join(SYMMETRIES)}.")
            if MIRRORS.get(name, 0) >= len(table):
                raise InputError(f"symmetries={list(self.symmetries)}: {name!r} needs a square grid; leave it out.")
            if name == "turns":
                found += [(cells, same_names(1, self.vocab)) for cells in table]
            elif name in MIRRORS:
                found.append((table[MIRRORS[name]], swapped(self.vocab, self._swaps(told, swaps))))
        cells, tokens = zip(*found, strict=True)
        return Views(np.stack(cells), np.concatenate(tokens))

    def _swaps(self, told: str, swaps: str) -> list[tuple[int, int]]:
        """Pairs of tokens from "<> ^v"."""
        pairs = swaps.split()
        known = {s: i for i, s in enumerate(self.charset, 1)}
        symbols = "".join(pairs)
        if any(len(pair) != 2 for pair in pairs) or len(set(symbols)) < len(symbols):
            raise InputError(f"{told!r}: write the symbols that change places two by two, such as 'mirror <> ^v'.")
        if wrong := [s for s in symbols if s not in known or known[s] == self.blank]:
            raise InputError(f"{told!r}: {wrong[0]!r} is no symbol of the alphabet but the blank; leave it out.")
        return [(known[pair[0]], known[pair[1]]) for pair in pairs]

    def views(self, count: int, rng: np.random.Generator) -> Views | None:
        if not self.symmetries:
            return None
        views = self.group.take(rng.integers(len(self.group.cells), size=count))
        if "names" in self.symmetries:
            free = np.array(self.symbols[0])
            views.tokens[:, free] = free[rng.random((count, len(free))).argsort(1)]
        return views

    def canonical_batch(self, inputs: np.ndarray) -> list[bytes]:
        """Exact: the smallest image, with symbols numbered as they come where their names mean nothing."""
        self.check(inputs, "questions")
        count, keys = len(self.group.cells), list[bytes]()
        for some in np.array_split(inputs, range(PIECE // count, len(inputs), PIECE // count)):
            views = self.group.take(np.tile(np.arange(count), len(some)))
            images = np.ascontiguousarray(views.apply(some.repeat(count, 0)))
            of_some = [self._unnamed(image).tobytes() for image in images]
            keys += [min(of_some[i : i + count]) for i in range(0, len(of_some), count)]
        return keys

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

    def counted(self, inputs: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """The cells that are asked, in rows that have any: clues are no achievement."""
        labelled = labels != 0
        asked = labelled & (inputs == self.blank) if self.blank else labelled
        return np.where(asked.any(1, keepdims=True), asked, labelled)

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


def _fill(alphabet: Sequence[str], blank: str | None, questions: Sequence[str], answers: Sequence[str]) -> str:
    """The symbols that answers have in undecided cells; "" where they are all but the blank, or cells are words."""
    if blank is None or not answers or any(len(symbol) > 1 for symbol in alphabet):
        return ""
    rows = zip(questions, answers, strict=True)
    found = {y for q, a in rows if blank in q for x, y in zip(q, a, strict=False) if x == blank}
    return "" if found >= set(alphabet) - {blank} else "".join(sorted(found))


def find_blank(questions: Sequence[str], answers: Sequence[str]) -> str | None:
    """The symbol of an empty cell, where nearly all rows use one: the others are at fault, and not the guess."""
    size = len(questions[0])
    for blank in BLANKS:
        if not any(blank in question for question in questions):
            continue
        broken = 0
        for start in range(0, len(questions), PIECE):
            asked, solved = (_codes(texts[start : start + PIECE], size) for texts in (questions, answers))
            wrong = ((asked != ord(blank)) & (asked != solved)).any(1) | (solved == ord(blank)).any(1)
            broken += int(wrong.sum())
            if broken > max(len(questions) // FAULTY, len(questions) >= FEW):
                break
        else:
            return blank
    return None


def _codes(texts: Sequence[str], size: int) -> np.ndarray:
    """(N, S) code points."""
    return np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), np.uint32).reshape(len(texts), size)
