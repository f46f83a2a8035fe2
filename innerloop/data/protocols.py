"""What learning, evaluation and solving ask of examples and of a task. Nothing here must be subclassed.

PuzzleSet and tasks.Task are such; so is any class of yours with these names. Tokens are whole numbers of any integer
dtype, 0 = padding, up to 65,535; B rows of S positions, S = rows x columns of the task's shape.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from innerloop.rules.symmetry import Views

__all__ = ["Examples", "Scored", "Task", "Tokens"]

Tokens = NDArray[np.integer[Any]]  # (N, S), or (S,) of one question
Scored = tuple[NDArray[np.bool_], NDArray[np.float64], NDArray[np.bool_]]  # exact, token, valid: (B,) each


class Examples(Protocol):
    """N labelled questions."""

    @property
    def inputs(self) -> Tokens: ...  # (N, S)
    @property
    def labels(self) -> Tokens: ...  # (N, S); 0 where nothing is asked
    @property
    def puzzle(self) -> NDArray[np.integer[Any]]: ...  # (N,) identifier, an index of `identifiers`
    @property
    def group(self) -> NDArray[np.integer[Any]]: ...  # (N,) rows of a group are variants: an epoch draws one of each
    @property
    def rating(self) -> NDArray[np.floating[Any]]: ...  # (N,) difficulty, nan = unknown
    @property
    def identifiers(self) -> Sequence[str]: ...  # names, the first of them for none

    def __len__(self) -> int: ...
    def take(self, index: Any) -> Examples: ...  # the rows of an int or bool array or slice


class Task(Protocol):
    """What the tokens mean."""

    @property
    def name(self) -> str: ...
    @property
    def shape(self) -> tuple[int, int]: ...  # rows, columns
    @property
    def vocab(self) -> int: ...  # tokens are 0 .. vocab - 1
    @property
    def verifies(self) -> bool: ...  # whether `valid_batch` knows the rules, and not only the form of an answer

    def valid_batch(self, inputs: Tokens, answers: Tokens) -> NDArray[np.bool_]: ...  # (B,)
    def score_batch(self, inputs: Tokens, answers: Tokens, labels: Tokens) -> Scored: ...
    def augment(self, inputs: Tokens, labels: Tokens, rng: np.random.Generator) -> tuple[Tokens, Tokens]: ...
    def views(self, count: int, rng: np.random.Generator) -> Views | None: ...  # random symmetries; None without any

    # of the solver alone: how questions come in and answers go out
    def tokens(self, values: Any, what: str) -> Tokens: ...  # (N, S), checked
    def encode_many(self, texts: list[str], where: str = ...) -> Tokens: ...  # (N, S) of N texts
    def decode(self, tokens: Tokens) -> str: ...  # the text of one answer (S,)
