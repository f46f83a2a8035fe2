"""Graph colouring completion: colour every vertex so that no edge has two ends alike, keeping the colours given.

The board is the graph's own table, one row and one column a vertex: a cell off the diagonal says whether its row's and
its column's vertex are joined, a cell on it holds that vertex's colour. Tokens: 0 padding, 1 '.' not joined, 2 '#'
joined, 3 '?' to be coloured, 4 '1', 5 '2'... the colours. A question mostly has several solutions, so `exact` against
the one label under-counts: `valid` is the score that matters. A generated rating is the number of vertices to colour.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from innerloop.data.formats import read_text
from innerloop.data.opening import check_labels
from innerloop.data.sets import Example, PuzzleSet
from innerloop.errors import InputError
from innerloop.rules.bounds import SearchBound
from innerloop.rules.symmetry import Views, same_names
from innerloop.tasks.task import Task, item_rng

__all__ = ["Colouring", "read_graphs"]

APART, JOINED, FIRST = 1, 2, 4  # tokens: no edge, an edge, colour 1


class Colouring(Task):
    """Graphs of `size` vertices, in `colours` colours.

    Generated graphs hide a colouring: vertices of different colours are joined with chance `density`, so that it is
    known to be one. `givens` = (fewest, most) vertices coloured in the question; the first two are joined where any
    are, which tells the colours apart: with three of them, no two solutions then differ by the colours' names alone.
    `units` are the rows and columns.
    """

    name = "colouring"
    blank = 3
    rating_counts = "vertices to colour"

    def __init__(self, size: int = 8, colours: int = 3, density: float = 0.6, givens: tuple[int, int] = (2, 3)) -> None:
        if not 3 <= size <= 20 or not 2 <= colours <= 9:
            raise InputError(f"{size} vertices in {colours} colours: choose 3 to 20 vertices and 2 to 9 colours.")
        low, high = givens
        if not 0 <= low <= high <= size or not 0 <= density <= 1:
            raise InputError(
                f"givens=({low}, {high}) and density={density} do not fit {size} vertices; "
                f"give 0 <= fewest <= most <= {size} and a share from 0 to 1."
            )
        self.size, self.colours, self.density, self.givens = size, colours, density, (int(low), int(high))
        self.shape = (size, size)
        self.charset = ".#?" + "123456789"[:colours]
        self.vocab = len(self.charset) + 1
        cells = np.arange(size * size).reshape(size, size)
        self.symbols = (tuple(range(FIRST, self.vocab)),)
        self.units = np.concatenate([cells, cells.T])
        self.diagonal = np.arange(size) * (size + 1)
        self.options = {"size": size, "colours": colours, "density": density, "givens": list(self.givens)}

    # --- examples -----------------------------------------------------------------------------------------------------
    def sample(self, seed: int, i: int) -> Example:
        rng, n = item_rng(seed, i), self.size
        colour = rng.integers(self.colours, size=n)
        joined = np.triu((colour[:, None] != colour) & (rng.random((n, n)) < self.density))
        shown = rng.permutation(n)
        if joined.any():
            ends = np.argwhere(joined)[rng.integers(joined.sum())]
            shown = np.concatenate([ends, shown[~np.isin(shown, ends)]])
        count = int(rng.integers(self.givens[0], self.givens[1] + 1))
        return self.example(joined | joined.T, colour + FIRST, shown[:count])

    def example(self, joined: np.ndarray, colour: np.ndarray, shown: np.ndarray) -> Example:
        """Of a symmetric bool (n, n), the tokens (n,) of a colouring, and the vertices whose colour is given."""
        answer = np.where(joined, JOINED, APART).astype(np.uint8).reshape(-1)
        answer[self.diagonal] = colour
        question = answer.copy()
        question[np.delete(self.diagonal, shown)] = self.blank
        return Example(question, answer, float(self.size - len(shown)))

    # --- scores -------------------------------------------------------------------------------------------------------
    def valid_batch(self, inputs: np.ndarray, answers: np.ndarray) -> np.ndarray:
        self.check(inputs, "questions")
        self.check(answers, "answers")
        colour = answers[:, self.diagonal]
        coloured = ((colour >= FIRST) & (colour < self.vocab)).all(1)
        return coloured & ~self._clashes(inputs, colour).any((1, 2)) & self.kept(inputs, answers)  # type: ignore[no-any-return]

    def _edges(self, inputs: np.ndarray) -> np.ndarray:
        """bool (B, n, n): joined in either of the two cells, and nothing with itself."""
        edges = (inputs == JOINED).reshape(-1, self.size, self.size)
        return (edges | edges.transpose(0, 2, 1)) & ~np.eye(self.size, dtype=bool)  # type: ignore[no-any-return]

    def _clashes(self, inputs: np.ndarray, colour: np.ndarray) -> np.ndarray:
        """bool (B, n, n): edges whose ends are alike."""
        return self._edges(inputs) & (colour[:, :, None] == colour[:, None])

    def every(self, question: np.ndarray, limit: int, bound: SearchBound | None = None) -> np.ndarray:
        """Vertex by vertex, the given ones first."""
        self.check(question[None], "questions")
        bound = bound or SearchBound()
        given = question[self.diagonal]
        order = np.argsort(given == self.blank, kind="stable").tolist()
        edges = self._edges(question[None])[0]
        earlier = [[u for u in order[:i] if edges[v, u]] for i, v in enumerate(order)]
        options = [range(FIRST, self.vocab) if given[v] == self.blank else [int(given[v])] for v in order]
        found: list[list[int]] = []
        colour = [0] * self.size

        def place(i: int) -> None:
            bound.node()
            if i == self.size:
                found.append(colour.copy())
                return
            for c in options[i]:
                if len(found) < limit and all(colour[u] != c for u in earlier[i]):
                    colour[order[i]] = c
                    place(i + 1)

        place(0)
        answers = np.repeat(question[None], len(found), 0)
        answers[:, self.diagonal] = np.array(found, np.uint8).reshape(-1, self.size)
        return answers

    def domain(self, question: np.ndarray) -> np.ndarray:
        """The graph stays as it is; a vertex takes its given colour, else any that no neighbour was given."""
        allowed = np.arange(self.vocab) == question[:, None]
        colour = allowed[self.diagonal] & (np.arange(self.vocab) >= FIRST)
        free = np.isin(question[self.diagonal], (0, self.blank))[:, None] & (np.arange(self.vocab) >= FIRST)
        allowed[self.diagonal] = (colour | free) & ~(self._edges(question[None])[0] @ colour)
        return allowed

    def constrain(self, model: Any, has: Callable[[int, int], Any], question: np.ndarray) -> None:
        """The ends of an edge do not share a colour."""
        for u, v in np.argwhere(np.triu(self._edges(question[None])[0])).tolist():
            for colour in range(FIRST, self.vocab):
                model.add_at_most_one(has(int(self.diagonal[u]), colour), has(int(self.diagonal[v]), colour))

    def wrong_cells(self, question: np.ndarray, answer: np.ndarray, label: np.ndarray | None = None) -> np.ndarray:
        """Even with a label: changed givens and vertices with a neighbour alike (another colouring is not wrong)."""
        wrong = (question != 0) & (question != self.blank) & (answer != question)
        wrong[self.diagonal] |= self._clashes(question[None], answer[None, self.diagonal])[0].any(1)
        return wrong

    # --- symmetries ---------------------------------------------------------------------------------------------------
    def views(self, count: int, rng: np.random.Generator) -> Views:
        """Vertices in another order, colours by other names."""
        order = rng.random((count, self.size)).argsort(1)
        cells = (order[:, :, None] * self.size + order[:, None]).reshape(count, -1)
        names = same_names(count, self.vocab)
        names[:, FIRST:] = rng.random((count, self.colours)).argsort(1) + FIRST
        return Views(cells, names)

    def _relations(self, inputs: np.ndarray) -> np.ndarray:
        """uint64 (B, n, n), what does not depend on the colours' names: joined; given alike; on the diagonal, given."""
        self.check(inputs, "questions")
        colour = inputs[:, self.diagonal]
        given = colour >= FIRST
        alike = given[:, :, None] & (colour[:, :, None] == colour[:, None])
        return self._edges(inputs).astype(np.uint64) + np.uint64(2) * alike

    def canonical_batch(self, inputs: np.ndarray) -> list[bytes]:
        """Equal for every variant; unequal graphs may share a key, and `same` settles those.

        Colour refinement, once for each vertex marked in turn, until colours have spread over the whole graph. A sum of
        hashes does not depend on the order of vertices.
        """
        m_BNN = self._relations(inputs)
        know = np.eye(self.size, dtype=np.uint64)[None] + np.uint64(3) * np.diagonal(m_BNN, axis1=1, axis2=2)[:, None]
        for _ in range(self.size):  # (B, which is marked, vertex)
            know = _hash(know) + _hash(_hash(know)[:, :, None] + m_BNN[:, None] * np.uint64(0x9E3779B1)).sum(-1)
        return [key.tobytes() for key in _hash(_hash(know).sum(-1)).sum(-1)]

    def same(self, a: np.ndarray, b: np.ndarray) -> bool:
        """By search for an order of b's vertices that makes it a."""
        m, w = (r.tolist() for r in self._relations(np.stack([a, b])))
        n = self.size

        def extend(image: list[int]) -> bool:
            v = len(image)
            return v == n or any(
                m[v][v] == w[u][u] and all(m[v][i] == w[u][image[i]] for i in range(v)) and extend([*image, u])
                for u in range(n)
                if u not in image
            )

        return self.canonical(a) == self.canonical(b) and extend([])

    def glyph(self, token: int) -> str:
        return {JOINED: "●"}.get(token, "" if token == APART else super().glyph(token))


def _hash(n: np.ndarray) -> np.ndarray:
    """uint64 -> uint64 that looks random (the finaliser of SplitMix64)."""
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1)):
        n = (n ^ (n >> np.uint64(shift))) * np.uint64(factor)
    return n


def read_graphs(path: Path | str, limit: int | None = None) -> tuple[Colouring, PuzzleSet]:
    """A .jsonl[.gz] of graphs, one object a line: n_vertices, edges [[a, b], ...] from 0 on, n_colors, answer [1..].

    The ends of the first edge are given their colours, which tells the colours apart; without an edge, vertex 0 is.
    Raises InputError naming file and row.
    """
    task: Colouring | None = None
    rows: list[Example] = []
    for number, line in enumerate(filter(str.strip, read_text(Path(path)).splitlines()), 1):
        where = f"{path}, row {number}"
        try:
            record: dict[str, Any] = json.loads(line)
            n, colours = int(record["n_vertices"]), int(record["n_colors"])
            edges, answer = np.array(record["edges"], int).reshape(-1, 2), np.array(record["answer"], int)
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{where}: no graph with n_vertices, edges, n_colors and answer ({error}).") from None
        task = task or Colouring(n, colours)
        if (n, colours) != (task.size, task.colours):
            raise InputError(f"{where}: {n} vertices in {colours} colours among graphs of {task.size}; split the file.")
        if (
            answer.shape != (n,)
            or not ((answer >= 1) & (answer <= colours)).all()
            or (edges[:, 0] == edges[:, 1]).any()
        ):
            raise InputError(f"{where}: the answer must give each of {n} vertices a colour from 1, and no edge a loop.")
        if len(edges) and (edges.min() < 0 or edges.max() >= n):
            raise InputError(f"{where}: an edge leaves the vertices 0 to {n - 1}; correct the row.")
        joined = np.zeros((n, n), bool)
        joined[edges[:, 0], edges[:, 1]] = joined[edges[:, 1], edges[:, 0]] = True
        rows.append(task.example(joined, answer + FIRST - 1, edges[0] if len(edges) else np.array([0])))
        if len(rows) == limit:
            break
    if task is None:
        raise InputError(f"{path} holds no graph; give at least one row.")
    questions, answers = (np.stack([row[k] for row in rows]) for k in (0, 1))
    s = task.as_set(questions, answers, rating=np.array([r.rating for r in rows], np.float32), source=str(path))
    check_labels(task, s)
    return task, s
