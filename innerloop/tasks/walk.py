"""A walk to imagine: a small grid world is seen once, then actions are told; say what is seen after each of them.

A puzzle is a grid of 1 + `actions` rows, and each row holds a whole world of size x size cells, cell by cell. In the
question row 0 is the world at first, every later row an action in its first cell and padding after it; the answer holds
row 0 again, and in each later row the world after that action. Tokens: 0 padding, 1 '#' wall, 2 '.' floor, 3 '@' the
walker, 4 to 7 '^>v<' the actions. A generated rating is the number of actions that met a wall or an edge.

`plan` acts by what somebody imagines: every sequence of actions is imagined, none is tried out; `Walk.best` is the
truth to hold it against.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from innerloop.data.sets import Example
from innerloop.errors import InputError
from innerloop.rules.symmetry import dihedral
from innerloop.tasks.task import Task, item_rng

__all__ = ["Walk", "WalkPlan", "plan_by_imagination"]

WALL, FLOOR, WALKER, FIRST = 1, 2, 3, 4  # FIRST: the token of the first action
MOVES = ((-1, 0), (0, 1), (1, 0), (0, -1))  # rows and columns of '^>v<'
COLOURS = {WALL: "#59616f", WALKER: "#e8a33d"}
BATCH = 4096  # questions imagined at once

Imagine = Callable[[np.ndarray], np.ndarray]  # questions (B, S) -> answers (B, S), tokens


class Walk(Task):
    """A walker among walls on `size` x `size` cells.

    walls: most walls of a world, which has from none to so many. actions: steps of a question. edge: "block", the edge
    is a wall, or "wrap", who leaves on one side comes in on the other.
    """

    name = "walk"
    rating_counts = "actions that meet a wall or an edge"
    charset = "#.@^>v<"
    vocab = 8

    def __init__(self, size: int = 5, walls: int = 6, actions: int = 8, edge: str = "block"):
        if not 2 <= size <= 16:
            raise InputError(f"a world of {size}x{size} cells is not on offer; choose a size from 2 to 16.")
        if not 0 <= walls <= size * size - 2:
            raise InputError(f"{walls} walls leave the walker no room; choose 0 to {size * size - 2}.")
        if not 1 <= actions <= 255:
            raise InputError(f"a walk cannot have {actions} actions; choose 1 to 255.")
        if edge not in ("block", "wrap"):
            raise InputError(f"there is no edge {edge!r}; choose 'block' or 'wrap'.")
        self.size, self.walls, self.actions, self.edge = size, walls, actions, edge
        self.cells, self.shape = size * size, (1 + actions, size * size)
        self.options = {"size": size, "walls": walls, "actions": actions, "edge": edge}
        row, column = np.divmod(np.arange(self.cells), size)
        self.next = np.stack([self._towards(row + r, column + c) for r, c in MOVES], 1)  # (cells, 4), walls not seen

    def _towards(self, row: np.ndarray, column: np.ndarray) -> np.ndarray:
        n = self.size
        row, column = (a % n if self.edge == "wrap" else a.clip(0, n - 1) for a in (row, column))
        return row * n + column

    # --- the world ----------------------------------------------------------------------------------------------------
    def act(self, wall: np.ndarray, at: np.ndarray, action: np.ndarray) -> np.ndarray:
        """Where walkers at cells `at` (B,) stand after actions (B,) 0 to 3, among walls bool (B, cells)."""
        there = self.next[at, action]
        return np.where(wall[np.arange(len(at)), there], at, there)

    def told(self, inputs: np.ndarray) -> np.ndarray:
        """The right answers (B, S) to questions (B, S), by simulation; a row without an action stays padding."""
        self.check(inputs, "questions")
        grid = inputs.reshape(-1, *self.shape)
        wall, at = grid[:, 0] == WALL, (grid[:, 0] == WALKER).argmax(1)
        empty = np.where(wall, WALL, FLOOR).astype(np.uint8)
        answer, each = np.zeros_like(grid), np.arange(len(grid))
        answer[:, 0] = grid[:, 0]
        for k in range(1, 1 + self.actions):
            action = grid[:, k, 0].astype(np.int64) - FIRST
            told = (action >= 0) & (action < 4)
            at = np.where(told, self.act(wall, at, action.clip(0, 3)), at)
            seen = empty.copy()
            seen[each, at] = WALKER
            answer[told, k] = seen[told]
        return answer.reshape(inputs.shape)

    def question(self, world: np.ndarray, actions: np.ndarray) -> np.ndarray:
        """uint8 (B, S) questions of worlds (B, cells) and actions (B, at most `actions`) 0 to 3; fewer are padded."""
        grid = np.zeros((len(world), *self.shape), np.uint8)
        grid[:, 0] = world
        grid[:, 1 : 1 + actions.shape[1], 0] = actions + FIRST
        return grid.reshape(len(world), -1)

    def sample(self, seed: int, i: int) -> Example:
        rng = item_rng(seed, i)
        world = np.full(self.cells, FLOOR, np.uint8)
        cells = rng.permutation(self.cells)[: 1 + int(rng.integers(self.walls + 1))]
        world[cells[1:]], world[cells[0]] = WALL, WALKER
        question = self.question(world[None], rng.integers(4, size=(1, self.actions)))
        answer = self.told(question)
        stood = (answer.reshape(self.shape)[1:] == answer.reshape(self.shape)[:-1]).all(1)
        return Example(question[0], answer[0], float(stood.sum()))

    def valid_batch(self, inputs: np.ndarray, answers: np.ndarray) -> np.ndarray:
        """Exactly what happens, in every row that is told an action, and the first row kept."""
        self.check(answers, "answers")
        told = self.told(inputs)
        walkers = (inputs.reshape(-1, *self.shape)[:, 0] == WALKER).sum(1)
        return ((answers == told) | (told == 0)).all(1) & (walkers == 1)

    def domain(self, question: np.ndarray) -> np.ndarray:
        """What happens."""
        allowed = np.arange(self.vocab) == self.told(question[None])[0][:, None]
        one = (question[: self.cells] == WALKER).sum() == 1
        return allowed & one  # type: ignore[no-any-return]

    def constrain(self, model: Any, has: Callable[[int, int], Any], question: np.ndarray) -> None:
        """Nothing: the domain is the answer."""

    def wrong_cells(self, question: np.ndarray, answer: np.ndarray, label: np.ndarray | None = None) -> np.ndarray:
        told = self.told(question[None])[0]
        return (told != 0) & (answer != told)

    # --- shortest ways ------------------------------------------------------------------------------------------------
    def distances(self, world: np.ndarray, goal: int) -> np.ndarray:
        """int64 (cells,): fewest moves from each cell of a world (cells,) to `goal`, -1 where there is no way."""
        far, steps = np.full(self.cells, -1), 0
        edge = [int(goal)] if world[goal] != WALL else []
        far[edge] = 0
        while edge:  # every move can be undone, so the way there is as long as the way back
            steps += 1
            around = np.unique(self.next[edge])
            edge = [int(c) for c in around if far[c] < 0 and world[c] != WALL]
            far[edge] = steps
        return far

    def best(self, world: np.ndarray, goal: int) -> np.ndarray:
        """bool (4,): the actions that begin a shortest way of the walker to `goal`; none where there is no way."""
        far, at = self.distances(world, goal), (world == WALKER).argmax()[None]
        there = [int(self.act((world == WALL)[None], at, np.array([a]))[0]) for a in range(4)]
        return np.array([far[c] >= 0 and far[c] == far[at[0]] - 1 for c in there])

    # --- symmetries and pictures --------------------------------------------------------------------------------------
    def _images(self, inputs: np.ndarray, k: np.ndarray) -> np.ndarray:
        """Questions (B, S), each in its own turn or mirror k (B,) of the world, the actions turned with it."""
        grid, images = inputs.reshape(-1, *self.shape), inputs.reshape(-1, *self.shape).copy()
        images[:, 0] = np.take_along_axis(grid[:, 0], dihedral(self.size, self.size)[k], 1)
        images[:, 1:, 0] = np.take_along_axis(_turned_tokens(self.size)[k], grid[:, 1:, 0].astype(np.int64) % 8, 1)
        return images.reshape(inputs.shape)

    def augment(
        self, inputs: np.ndarray, labels: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """One of the eight turns and mirrors of the world a row."""
        k = rng.integers(8, size=len(inputs))
        table = dihedral(self.size, self.size)[k][:, None]
        worlds = np.take_along_axis(labels.reshape(-1, *self.shape), np.repeat(table, self.shape[0], 1), 2)
        return self._images(inputs, k), worlds.reshape(labels.shape)

    def canonical_batch(self, inputs: np.ndarray) -> list[bytes]:
        """Exact: the smallest of the eight images."""
        self.check(inputs, "questions")
        images = [self._images(inputs, np.full(len(inputs), k)) for k in range(8)]
        return [min(image.tobytes() for image in row) for row in zip(*images, strict=True)]

    def glyph(self, token: int) -> str:
        return "\u2588" if token == WALL else "" if token == FLOOR else super().glyph(token)

    def colour(self, token: int) -> str:
        return COLOURS.get(token, "")

    def boxes(self) -> tuple[int, int]:
        return (1, self.size)


@lru_cache
def _turned_tokens(n: int) -> np.ndarray:
    """uint8 (8, 8): what each token becomes in each image of an n x n world: actions are turned, the rest stays."""
    tokens = np.tile(np.arange(8, dtype=np.uint8), (8, 1))
    for k, table in enumerate(dihedral(n, n)):
        place = np.argsort(table)  # where each cell goes
        for a, (dr, dc) in enumerate(MOVES):
            r, c = int(dr < 0), int(dc < 0)  # a cell that the move does not lead off the grid
            before, after = (np.divmod(place[y * n + x], n) for y, x in ((r, c), (r + dr, c + dc)))
            tokens[k, FIRST + a] = FIRST + MOVES.index((int(after[0] - before[0]), int(after[1] - before[1])))
    tokens.setflags(write=False)
    return tokens


# -- planning by imagination ------------------------------------------------------------------------------------------


class WalkPlan(NamedTuple):
    """What to do in N worlds, as imagined."""

    actions: np.ndarray  # int64 (N, horizon), 0 to 3; only the first `steps` of a row are meant
    steps: np.ndarray  # int64 (N,) actions to the goal, 0 where no imagined sequence reaches it


def plan_by_imagination(task: Walk, imagine: Imagine, worlds: np.ndarray, goals: np.ndarray, horizon: int) -> WalkPlan:
    """The shortest way to a goal among all 4^horizon sequences of actions, each imagined once and none tried out.

    worlds: uint8 (N, cells), a walker in each; goals: (N,) cells. imagine: questions (B, S) -> answers (B, S), tokens;
    a model, or `task.told` itself. One sequence serves all shorter ones, since every step of it is imagined.
    Raises InputError unless 1 <= horizon <= task.actions, at most 8.
    """
    if not 1 <= horizon <= min(task.actions, 8):
        raise InputError(f"a horizon of {horizon} is out of reach; choose 1 to {min(task.actions, 8)}.")
    sequences = np.array(list(product(range(4), repeat=horizon)))
    actions, steps = np.zeros((len(worlds), horizon), np.int64), np.zeros(len(worlds), np.int64)
    for i, (world, goal) in enumerate(zip(worlds, goals, strict=True)):
        questions = task.question(np.repeat(world[None], len(sequences), 0), sequences)
        parts = [imagine(questions[k : k + BATCH]) for k in range(0, len(questions), BATCH)]
        seen = np.concatenate(parts).reshape(-1, *task.shape)[:, 1 : 1 + horizon, goal] == WALKER
        first = np.where(seen.any(1), seen.argmax(1) + 1, horizon + 1)
        best = int(first.argmin())
        actions[i], steps[i] = sequences[best], first[best] % (horizon + 1)
    return WalkPlan(actions, steps)
