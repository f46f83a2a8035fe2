"""Continuous batching of puzzles: each takes as many steps as it needs (built on innerloop/rows.py).

An answer does not depend on the other puzzles in the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from innerloop.core import Loop, Question
from innerloop.data.protocols import Tokens
from innerloop.data.sets import token_dtype
from innerloop.errors import InputError
from innerloop.halt import Halt, halting_margin
from innerloop.rows import CachedRead, Counters, Done, QueueFull, Rows
from innerloop.rules.symmetry import Views
from innerloop.solve.verify import Verifier
from innerloop.tree import take

__all__ = ["ENDS", "BoardReader", "CachedRead", "Counters", "Done", "Engine", "Job", "QueueFull", "StepOutput"]

ENDS = ("verified", "halted", "depth", "cancelled", "late")


class StepOutput(NamedTuple):
    """Output of one row after one step."""

    step: int
    answer: Tokens  # (S,)
    certainty: NDArray[np.float32]  # (S,) probability of each cell's token
    q: float  # the halting head's probability that the answer is right; NaN without one
    value: float  # of the value head; NaN without one
    residual: float  # relative change of the state in this step; NaN unless the job asks for it (wants_residual)
    state: Any  # this row's state, for `watch` only: a view that keeps the batch's memory alive; else None


@dataclass(eq=False)
class Job:
    """One trajectory of one puzzle."""

    question: Tokens  # (S,)
    depth: int  # most steps
    halting: bool = False  # stop by the engine's halting rule
    verify: bool = False  # stop as soon as the answer is valid
    wants_residual: bool = False  # compute the residual of every step; always so with `watch`
    salt: int = 0  # trajectory number: salt of the noise key, for loops that draw noise
    puzzle: int = 0  # identifier
    priority: float = 0.0  # higher goes first; ties in order of arrival
    deadline: float = float("inf")  # on the clock of time.monotonic(); the job then ends as "late"
    watch: Callable[[StepOutput], None] | None = None  # called after each step, in the engine's thread
    owner: Any = None  # any value of the caller
    # (the puzzle (S,) as it was given, `question`'s symmetry view of it or None), if answers are to be verified for it
    original: tuple[Tokens, Views | None] | None = None

    def __post_init__(self) -> None:
        self.wants_residual |= self.watch is not None


class Engine(Rows):
    """Runs puzzle jobs, at most `rows` at once, with at most `queue` waiting; see Rows.

    verify  verifier for jobs with verify=True
    """

    def __init__(
        self,
        loop: Loop,
        rows: int = 64,
        *,
        halt: Halt | None = None,
        verify: Verifier | None = None,
        queue: int = 100_000,
        sizes: Sequence[int] | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__(loop, rows, BoardReader(verify), halt=halt, queue=queue, sizes=sizes, device=device)
        self.verify = verify

    def submit(self, job: Job) -> None:
        """Queue a job. Raises QueueFull if the queue is full, InputError for an unsupported job."""
        if job.verify and self.verify is None:
            raise InputError("this engine has no verifier: give it one, or ask for the full depth")
        super().submit(job)


def narrow(tokens: Tensor, vocab: int) -> Tensor:
    """int64 tokens in the smallest dtype for this vocabulary, uint8 or int32."""
    return tokens.to(torch.uint8 if token_dtype(vocab) is np.uint8 else torch.int32)


def to_verify(job: Job, answer: Tokens) -> tuple[Tokens, Tokens]:
    """(question, answer) (S,) that the verifier gets: the job's own, or the original puzzle with the answer mapped."""
    question, view = job.original or (job.question, None)
    return question, answer if view is None else view.undo(answer[None])[0]


class BoardReader:
    """The Reader for puzzles: results are StepOutputs; a row ends as soon as its answer is valid."""

    def __init__(self, verify: Verifier | None) -> None:
        self.verify = verify

    def question(self, jobs: Sequence[Job], device: torch.device) -> Question:
        tokens = torch.from_numpy(np.stack([job.question for job in jobs]).astype(np.int64))
        return Question(tokens.to(device), torch.tensor([job.puzzle for job in jobs], device=device))

    def ended(self, rows: Rows, old: Any) -> dict[int, str]:
        """Verify the answers of jobs that ask for it, then call the `watch` functions."""
        ends = self.verified(rows)
        watched = [i for i, job in enumerate(rows.jobs) if job is not None and job.watch is not None]
        for i, output in zip(watched, self.outputs(rows, watched, states=True), strict=True):
            rows.jobs[i].watch(output)
        return ends

    def verified(self, rows: Rows) -> dict[int, str]:
        """Rows whose answer is valid. An answer that did not change in this step was checked before and is skipped."""
        asking = [i for i, job in enumerate(rows.jobs) if job is not None and job.verify]
        if not asking or self.verify is None:
            return {}
        logits = rows.loop.read(rows.state).logits
        answers = narrow(logits.argmax(-1), logits.shape[-1]).cpu()
        before, rows.reader_memory = rows.reader_memory, answers
        same = [False] * len(answers) if before is None else (answers == before).all(1).tolist()
        changed = [i for i in asking if not same[i] or rows.steps[i] == 1]
        if not changed:
            return {}
        pairs = [to_verify(rows.jobs[i], answers[i].numpy()) for i in changed]
        valid = self.verify(np.stack([question for question, _ in pairs]), np.stack([answer for _, answer in pairs]))
        return {i: "verified" for i, ok in zip(changed, valid, strict=True) if ok}

    def result(self, rows: Rows, which: Sequence[int]) -> list[StepOutput]:
        return self.outputs(rows, which)

    @torch.no_grad()
    def outputs(self, rows: Rows, which: Sequence[int], states: bool = False) -> list[StepOutput]:
        """The outputs of these rows after their last step, with `states` or without."""
        if not which:
            return []
        index = torch.tensor(which, device=rows.device)
        answer = take(rows.loop.read(rows.state), index)
        state = take(rows.state, index) if states else None
        certainty, tokens = torch.softmax(answer.logits.float(), -1).max(-1)
        nan = [float("nan")] * len(which)
        q = nan if answer.q_halt is None else halting_margin(answer).sigmoid().tolist()
        value = nan if answer.value is None else answer.value.tolist()
        residual = nan if rows.residual is None else rows.residual[index].tolist()
        answers, certainties = narrow(tokens, answer.logits.shape[-1]).cpu().numpy(), certainty.cpu().numpy()
        steps = [rows.steps[i] for i in which]
        row_states = [take(state, k) if states else None for k in range(len(which))]
        return [
            StepOutput(*row) for row in zip(steps, answers, certainties, q, value, residual, row_states, strict=True)
        ]
