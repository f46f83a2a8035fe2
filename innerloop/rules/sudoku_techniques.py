"""How hard a Sudoku is for a person: the simplest set of techniques that solves it without a guess.

    singles   a cell with one candidate left, a digit with one cell left in a unit
    subsets   besides: locked candidates, naked and hidden pairs and triples
    beyond    needs more than these: chains, fish, or guesses

A technique is applied wherever it fits, the simplest first, until the grid is full or nothing moves.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations

from innerloop.rules.sudoku_search import Board

__all__ = ["LEVELS", "level"]

LEVELS = ("singles", "subsets", "beyond")


class Candidates:
    """Per cell a mask of the digits it may still hold; digit d is bit d - 1."""

    def __init__(self, grid: Sequence[int], b: Board) -> None:
        self.b, self.full = b, (1 << b.n) - 1
        self.masks = [1 << (d - 1) if d else self.full for d in grid]
        self.solved: set[int] = set()  # cells whose digit has been struck from their peers
        self.units_of = [[u for u in b.units if c in u] for c in range(b.n * b.n)]

    def keep(self, cells: Iterable[int], mask: int) -> bool:
        """Strike all digits outside `mask` from `cells`; whether that changed anything."""
        moved = False
        for c in cells:
            if self.masks[c] & ~mask:
                self.masks[c] &= mask
                moved = True
        return moved

    def singles(self) -> bool:
        """Strike solved digits from their peers, then fill a unit's digit that has one cell left."""
        moved = False
        for c, m in enumerate(self.masks):
            if m and not m & (m - 1) and c not in self.solved:
                self.solved.add(c)
                moved = True
                for unit in self.units_of[c]:
                    self.keep((p for p in unit if p != c), ~m)
        for unit in self.b.units:
            once = twice = 0
            for c in unit:
                twice |= once & self.masks[c]
                once |= self.masks[c]
            alone = once & ~twice
            for c in unit:
                if self.masks[c] & alone:
                    moved |= self.keep([c], self.masks[c] & alone)
        return moved

    def locked(self) -> bool:
        """A digit whose cells in one unit all lie in another leaves the rest of that other."""
        moved = False
        for bit in (1 << k for k in range(self.b.n)):
            for unit in self.b.units:
                cells = [c for c in unit if self.masks[c] & bit]
                if not 2 <= len(cells) <= self.b.n // 2 + 1:
                    continue
                for other in self.units_of[cells[0]]:
                    if other is not unit and all(c in other for c in cells):
                        moved |= self.keep((c for c in other if c not in cells), ~bit)
        return moved

    def subsets(self, size: int) -> bool:
        """Naked and hidden sets of `size` cells that hold as many digits between them."""
        moved = False
        for unit in self.b.units:
            open_ = [c for c in unit if self.masks[c] & (self.masks[c] - 1)]
            for cells in combinations([c for c in open_ if self.masks[c].bit_count() <= size], size):
                held = 0
                for c in cells:
                    held |= self.masks[c]
                if held.bit_count() == size:
                    moved |= self.keep((c for c in open_ if c not in cells), ~held)
            where = {k: [c for c in open_ if self.masks[c] >> k & 1] for k in range(self.b.n)}
            for digits in combinations([k for k, cells in where.items() if 2 <= len(cells) <= size], size):
                places = {c for k in digits for c in where[k]}
                if len(places) == size:
                    moved |= self.keep(places, sum(1 << k for k in digits))
        return moved

    @property
    def done(self) -> bool:
        return all(m and not m & (m - 1) for m in self.masks) and len(self.solved) == len(self.masks)


def level(grid: Sequence[int], b: Board) -> str:
    """One of LEVELS for a grid of S ints, 0 = empty. A grid without a solution is "beyond"."""
    c, used = Candidates(grid, b), 0
    while not c.done and all(c.masks):
        if c.singles():
            continue
        used = 1
        if not (c.locked() or c.subsets(2) or c.subsets(3)):
            return LEVELS[2]
    if not all(c.masks) or any(sum(c.masks[p] for p in u) != c.full for u in b.units):
        return LEVELS[2]
    return LEVELS[used]
