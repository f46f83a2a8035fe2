"""Mazes: mark one shortest way from S to G. Perfect lattice mazes, or independent walls like Maze-Hard.

Tokens: 0 padding, then '#' wall, ' ' floor, 'S' start, 'G' goal, 'o' the way (vocabulary 6, the layout of the HRM and
TRM folders). With independent walls several shortest ways exist and the label is one of them, so `exact` under-counts:
`valid` accepts every shortest way. A rating is the number of cells on the way, S and G included.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np

from innerloop.data.sets import Example
from innerloop.errors import InputError
from innerloop.rules.symmetry import Views, dihedral, turns
from innerloop.tasks.task import Task, item_rng

__all__ = ["Maze"]

WALL, FLOOR, START, GOAL, WAY = 1, 2, 3, 4, 5
COLOURS = {WALL: "#59616f", START: "#2f9e5b", GOAL: "#d1495b", WAY: "#e8a33d"}
TRIES = 20_000


class Maze(Task):
    """A square maze.

    kind: "walls" (every cell a wall with a density drawn per maze from `density`, S uniform, G uniform among cells at
    least `distance` moves away) or "perfect" (one way between any two cells, odd sizes). distance: fewest moves from S
    to G; default 2 * size for walls, size for perfect; Maze-Hard's own filter at size 30 is 109. size: default 30 and
    15.
    """

    name = "maze"
    charset = "# SGo"
    vocab = 6
    blank = FLOOR
    rating_counts = "cells on the way"
    local = True
    void = " "

    def __init__(
        self,
        size: int | None = None,
        kind: str = "walls",
        distance: int | None = None,
        density: tuple[float, float] = (0.3, 0.42),
    ):
        if kind not in ("walls", "perfect"):
            raise InputError(f"there is no kind of maze {kind!r}; choose 'walls' or 'perfect'.")
        n = size or (30 if kind == "walls" else 15)
        if not 3 <= n <= 255 or (kind == "perfect" and (n % 2 == 0 or n < 5)):
            raise InputError(
                f"a {kind} maze cannot have size {n}; choose 3 to 255, and an odd size from 5 on for 'perfect'."
            )
        self.distance = (2 * n if kind == "walls" else n) if distance is None else int(distance)
        if not 1 <= self.distance <= n * n // 2 + n:
            raise InputError(f"a distance of {self.distance} moves does not fit a {n}x{n} maze; choose a smaller one.")
        if not 0 <= density[0] <= density[1] < 1:
            raise InputError(f"density={tuple(density)} is no range of wall shares; give 0 <= low <= high < 1.")
        self.kind, self.size, self.shape = kind, n, (n, n)
        self.density = (float(density[0]), float(density[1]))
        self.options = {"size": n, "kind": kind, "distance": self.distance, "density": list(self.density)}

    # --- generator ----------------------------------------------------------------------------------------------------
    def sample(self, seed: int, i: int) -> Example:
        rng, n = item_rng(seed, i), self.size
        for _ in range(TRIES):
            floor = self._lattice(rng) if self.kind == "perfect" else self._noise(rng)
            cells = np.flatnonzero(floor)
            if len(cells) < 2:
                continue
            start = int(rng.choice(cells))
            layers = _layers(_board(floor.reshape(n, n)), 1 << _bit(start, n), n)
            far = _cells(layers[self.distance :], n)
            if not far:
                continue
            goal = far[int(rng.integers(len(far)))]
            question = np.where(floor, FLOOR, WALL).astype(np.uint8)
            question[start], question[goal] = START, GOAL
            answer = question.copy()
            way = _way_back(layers, goal, n, rng)
            answer[way] = WAY
            return Example(question, answer, float(len(way) + 2))
        raise InputError(
            f"no {self._size()} {self.kind} maze with {self.distance} moves was found in {TRIES} tries; "
            "ask for a smaller distance."
        )

    def _noise(self, rng: np.random.Generator) -> np.ndarray:
        return rng.random(self.size * self.size) >= rng.uniform(*self.density)

    def _lattice(self, rng: np.random.Generator) -> np.ndarray:
        """Depth-first carving: rooms at odd coordinates, a wall between two rooms opened when the walk first steps
        over.
        """
        n = self.size
        floor = np.zeros((n, n), bool)
        stack = [(1, 1)]
        floor[1, 1] = True
        while stack:
            r, c = stack[-1]
            steps = [
                (dr, dc)
                for dr, dc in ((-2, 0), (2, 0), (0, -2), (0, 2))
                if 0 < r + dr < n and 0 < c + dc < n and not floor[r + dr, c + dc]
            ]
            if not steps:
                stack.pop()
                continue
            dr, dc = steps[int(rng.integers(len(steps)))]
            floor[r + dr // 2, c + dc // 2] = floor[r + dr, c + dc] = True
            stack.append((r + dr, c + dc))
        return floor.reshape(-1)

    # --- score --------------------------------------------------------------------------------------------------------
    def valid_batch(self, inputs: np.ndarray, answers: np.ndarray) -> np.ndarray:
        """Nothing but floor turned into way, and S, the marks and G are one shortest way with no mark to spare."""
        self.check(inputs, "questions")
        self.check(answers, "answers")
        n = self.size
        ok: np.ndarray = (((answers == WAY) & (inputs == FLOOR)) | (answers == inputs)).all(1)
        ok &= ((inputs == START).sum(1) == 1) & ((inputs == GOAL).sum(1) == 1)
        for row in np.flatnonzero(ok):
            question, answer = inputs[row], answers[row]
            goal = 1 << _bit(int(np.argmax(question == GOAL)), n)
            start = 1 << _bit(int(np.argmax(question == START)), n)
            marks = int((answer == WAY).sum())
            best = _moves(_board((question != WALL).reshape(n, n)), start, goal, n)
            # A way of `best` moves inside the marks uses best - 1 of them: all of them, when there are no more.
            ok[row] = best == marks + 1 and best == _moves(
                _board(((answer == WAY) | (question == START) | (question == GOAL)).reshape(n, n)), start, goal, n
            )
        return ok

    # --- exact solver -------------------------------------------------------------------------------------------------
    def domain(self, question: np.ndarray) -> np.ndarray:
        """Only a floor on some shortest way may become way, and must where it is on all; everything else stays."""
        allowed = np.arange(self.vocab) == question[:, None]
        layers = self._between(question)
        if layers is None:
            return np.zeros_like(allowed)
        allowed[:, WAY] = False
        for layer in layers:
            marks = [cell for cell in layer if question[cell] in (FLOOR, WAY)]
            allowed[marks, WAY] = True
            allowed[marks, FLOOR] &= len(layer) > 1
        return allowed

    def constrain(self, model: Any, has: Callable[[int, int], Any], question: np.ndarray) -> None:
        """One cell of the way at each number of moves from S, next to the one before."""
        n, layers = self.size, self._between(question) or []
        for layer in layers:
            model.add_exactly_one([has(cell, WAY) for cell in layer])
        for before, layer in pairwise(layers):
            for cell in layer:
                beside = [b for b in before if abs(b // n - cell // n) + abs(b % n - cell % n) == 1]
                model.add_bool_or([~has(cell, WAY), *(has(b, WAY) for b in beside)])

    def _between(self, question: np.ndarray) -> list[list[int]] | None:
        """The cells at 1, 2... moves from S on the shortest ways to G, without the ends; None where there is no way."""
        n, ends = self.size, [np.flatnonzero(question == mark) for mark in (START, GOAL)]
        if any(len(cells) != 1 for cells in ends):
            return None
        start, goal = (1 << _bit(int(cells[0]), n) for cells in ends)
        free = _board((question != WALL).reshape(n, n))
        there, back = _layers(free, start, n), _layers(free, goal, n)
        moves = next((d for d, layer in enumerate(there) if layer & goal), 0)
        return [_few(there[d] & back[moves - d], n) for d in range(1, moves)] if moves else None

    # --- symmetries and pictures --------------------------------------------------------------------------------------
    def views(self, count: int, rng: np.random.Generator) -> Views:
        """One of the eight turns and mirrors each."""
        return turns(count, self.shape, self.vocab, rng)

    def canonical_batch(self, inputs: np.ndarray) -> list[bytes]:
        """Exact: the smallest of the eight images. (S and G swapped counts as another maze.)"""
        self.check(inputs, "questions")
        table = dihedral(*self.shape)
        return [min(row[cells].tobytes() for cells in table) for row in inputs]

    def wrong_cells(self, question: np.ndarray, answer: np.ndarray, label: np.ndarray | None = None) -> np.ndarray:
        """Changed walls, S or G; a mark off the label is not wrong as such, since several shortest ways may exist."""
        return (answer != question) & ~((question == FLOOR) & (answer == WAY))

    def glyph(self, token: int) -> str:
        return {WALL: "█", START: "S", GOAL: "G", WAY: "•"}.get(token, "")

    def colour(self, token: int) -> str:
        return COLOURS.get(token, "")


# A maze as one integer, a bit a cell: all four moves of a whole frontier are four shifts, so a 30x30 search takes well
# under a millisecond without any compiled code. One spare column keeps a step right from wrapping into the next row.
def _bit(cell: int, n: int) -> int:
    return cell // n * (n + 1) + cell % n


def _board(free: np.ndarray) -> int:
    """Bool (n, n) as one integer."""
    wide = np.zeros((len(free), len(free) + 1), np.uint8)
    wide[:, :-1] = free
    return int.from_bytes(np.packbits(wide.reshape(-1), bitorder="little").tobytes(), "little")


def _grow(frontier: int, n: int) -> int:
    return frontier << 1 | frontier >> 1 | frontier << (n + 1) | frontier >> (n + 1)


def _layers(free: int, start: int, n: int) -> list[int]:
    """Cells at 0, 1, 2... moves from the start."""
    layers, open_, frontier = [start], free & ~start, start
    while frontier := _grow(frontier, n) & open_:
        layers.append(frontier)
        open_ &= ~frontier
    return layers


def _moves(free: int, start: int, goal: int, n: int) -> int:
    """Fewest moves from start to goal, -1 where there is no way."""
    open_, frontier, moves = free & ~start, start, 0
    while not frontier & goal:
        frontier = _grow(frontier, n) & open_
        open_ &= ~frontier
        moves += 1
        if not frontier:
            return -1
    return moves


def _cells(layers: list[int], n: int) -> list[int]:
    """Cell indices of all bits of some layers, in ascending order."""
    union = 0
    for layer in layers:
        union |= layer
    raw = np.frombuffer(union.to_bytes((n * (n + 1) + 7) // 8, "little"), np.uint8)
    bits = np.flatnonzero(np.unpackbits(raw, bitorder="little"))
    return [int(b // (n + 1) * n + b % (n + 1)) for b in bits]


def _few(layer: int, n: int) -> list[int]:
    """The same of one layer with few cells, sooner."""
    cells = []
    while layer:
        row, column = divmod((layer & -layer).bit_length() - 1, n + 1)
        cells.append(row * n + column)
        layer &= layer - 1
    return cells


def _way_back(layers: list[int], goal: int, n: int, rng: np.random.Generator) -> list[int]:
    """One shortest way, without its ends: from the goal to a random neighbour in each earlier layer."""
    here = 1 << _bit(goal, n)
    depth = next(d for d, layer in enumerate(layers) if layer & here)
    way = []
    for layer in reversed(layers[1:depth]):
        before = _cells([_grow(here, n) & layer], n)
        cell = before[int(rng.integers(len(before)))]
        way.append(cell)
        here = 1 << _bit(cell, n)
    return way
