"""Options, budget and result of solving."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from innerloop.core import MAX_DEPTH
from innerloop.data.protocols import Tokens
from innerloop.errors import InputError
from innerloop.width import MAX_WIDTH

MAX_TRAJECTORIES = 10_000_000  # most trajectories of a call whose rule starts all of a puzzle's at once
FLOAT32_DEPTH = 256  # from this depth on the state is float32: bfloat16 rounding errors add up over thousands of steps


class EngineKey(NamedTuple):
    """The options that all puzzles of a batch must share."""

    noise: tuple[float, float]
    slots: tuple[str, ...]
    seed: int  # 0 where there is no noise
    deep: bool  # state in float32

    @property
    def noisy(self) -> bool:
        return any(self.noise)


@dataclass(frozen=True)
class SolveOptions:
    """Depth, width, selection rule and noise. `pick` is a name in solve.choose.RULES, or "auto"."""

    depth: int = 64  # most steps of a trajectory
    width: int = 1  # most trajectories of a puzzle
    pick: str = "auto"
    noise: tuple[float, float] = (0.0, 0.0)  # standard deviations of noise on the first state, and after every step
    slots: tuple[str, ...] = ()  # fields of the state that get this noise; empty: all floating ones
    views: bool = True  # each trajectory after the first sees the puzzle under another symmetry; no effect with `guess`
    guess: bool | None = None  # each after the first is given a cell that the first guessed (solve/guess.py), with the
    # rule "verified"; None: where the task takes guesses and there is no noise
    halting: bool = False  # trajectories stop by the loop's halting rule; always so with pick="first"
    min_confidence: float = 0.5  # confidence below which `known` is False; needs a calibration or a verifier
    seed: int = 0  # of views and noise

    def check(self, puzzles: int = 1) -> None:
        """Raise InputError for values out of range for any loop, or too large for so many puzzles.

        Called before memory of the size of depth or width is allocated.
        """
        if not (is_whole(self.depth) and is_whole(self.width) and self.depth >= 1 and self.width >= 1):
            raise InputError(f"depth {self.depth} and width {self.width} must both be 1 or more, in whole numbers")
        if self.depth > MAX_DEPTH or self.width > MAX_WIDTH:
            raise InputError(
                f"depth {self.depth} or width {self.width} is too large: "
                f"give a depth up to {MAX_DEPTH} and a width up to {MAX_WIDTH}"
            )
        if self.pick != "verified" and self.width * puzzles > MAX_TRAJECTORIES:  # "verified" rarely starts all of them
            raise InputError(
                f"{puzzles} puzzles of width {self.width} are more than {MAX_TRAJECTORIES} trajectories at once: "
                "give a smaller width, or fewer puzzles"
            )
        if len(self.noise) != 2 or not all(math.isfinite(n) and n >= 0 for n in self.noise):
            raise InputError(
                f"noise is {self.noise}: give two numbers of 0 or more, for the first state and for every step"
            )
        if not 0 <= self.min_confidence <= 1:
            raise InputError(f"min_confidence is {self.min_confidence}: give a probability from 0 to 1")
        if not (is_whole(self.seed) and 0 <= self.seed < 2**63):
            raise InputError(f"seed is {self.seed}: give a whole number from 0 to 2^63 - 1")

    @property
    def engine_key(self) -> EngineKey:
        return EngineKey(self.noise, self.slots, self.seed if any(self.noise) else 0, self.depth >= FLOAT32_DEPTH)


@dataclass(frozen=True)
class Budget:
    """Cost limits of a call, shared by its puzzles. At the limit each puzzle gets its best answer so far."""

    nfe: float | None = None  # block calls a puzzle, on average
    seconds: float | None = None  # of the whole call
    rate: float | None = None  # lowest throughput, puzzles per second; limits the seconds of the call

    def limits(self, puzzles: int) -> tuple[float, float]:
        """(block calls, seconds) of all puzzles, inf: no limit. Raises InputError for limits not above 0."""
        for name in ("nfe", "seconds", "rate"):
            value = getattr(self, name)
            if value is None:
                continue
            if not value > 0:
                raise InputError(f"a budget of {name}={value} is not above 0: give a number above 0, or None")
            if value == float("inf"):
                raise InputError(f"a budget of {name}={value} is no limit: give a finite number, or None")
        time_limits = [s for s in (self.seconds, puzzles / self.rate if self.rate else None) if s is not None]
        return (self.nfe * puzzles if self.nfe else float("inf"), min(time_limits, default=float("inf")))


@dataclass(frozen=True)
class Solution:
    """The answer to one puzzle, what it cost, and why it is this one. `print` shows its board and a line of why."""

    known: bool  # False: "I don't know"; `answer` is then a guess
    answer: Tokens  # (S,) tokens
    text: str  # the answer as the task writes it
    valid: bool | None  # verdict of the verifier; None without one
    confidence: float | None  # probability that it is right; 1.0 if verified, None without a calibration
    pick: str  # the selection rule
    why: str  # reason for the choice, in words
    source: str  # "model", or "exact" if the exact solver found the answer
    trajectory: int  # index of the chosen trajectory
    width: int  # trajectories that were run at least in part
    steps: int  # of the chosen trajectory
    nfe: int  # block calls, over all trajectories
    seconds: float  # from the start of the call
    certainty: NDArray[np.float32]  # (S,) probability of each cell's token, of the chosen trajectory
    question: Tokens | None = field(default=None, repr=False)  # (S,)
    task: Any = field(default=None, repr=False, compare=False)  # whose board it is

    @property
    def outcome(self) -> str:
        """The result in a word or two: valid, complete, 83% sure (by calibration), or I don't know."""
        if not self.known:
            return "I don't know"
        if self.valid or self.confidence is None:
            return "valid" if self.valid else "complete"
        return f"{self.confidence:.0%} sure"

    @property
    def cost(self) -> str:
        """Steps, block calls and time, for people."""
        calls = f"{self.nfe} block call{'s' * (self.nfe != 1)}"
        return f"{self.steps} step{'s' * (self.steps != 1)}, {calls}, {1000 * self.seconds:.0f} ms"

    def __str__(self) -> str:
        board = self.text
        if self.task is not None and self.question is not None and hasattr(self.task, "terminal"):
            board = self.task.terminal(self.question, self.answer).plain
        guess = "" if self.known else " (the board is the best guess)"
        rules = "" if self.valid is not None else " (this puzzle's rules are not known)"
        return f"{board}\n{self.outcome}{guess} after {self.cost}: {self.why}{rules}"


def is_whole(value: Any) -> bool:
    """Whether `value` is an integer of Python or numpy, and not a bool."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool)
