"""Solve puzzles with a trained loop: how deep, how wide, by which rule, for how much; or say "I don't know".

    solver = Solver(loop, task)
    for s in solver.solve(puzzles, depth=64, width=20, pick="verified", budget=Budget(nfe=200)):
        print(s.text if s.known else "I don't know", s.confidence, s.why)

Four dials spend compute at test time: depth, trajectories that differ (by noise, by the loop's own noise, or by seeing
the puzzle turned and renamed), the rule that picks one of them, and a budget over all puzzles, of which easy ones leave
more to hard ones. What is picked by a verifier is right; what is picked by anything else comes with the probability of
being right that it had on validation puzzles.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from innerloop.core import Question
from innerloop.errors import InputError
from innerloop.learn.evaluate import own_rule
from innerloop.noise import keyed
from innerloop.rules.symmetry import Views
from innerloop.solve.calibrate import Trust, trust
from innerloop.solve.choose import RULES, Choice, Trajectories, choose
from innerloop.solve.engine import Engine, Moment
from innerloop.solve.hybrid import behind, need_exact
from innerloop.solve.job import PuzzleJob
from innerloop.solve.nfe import Compiled, calls_of_a_step, compiled, few_sizes, in_float32
from innerloop.solve.options import Budget, EngineKey, Solution, SolveOptions
from innerloop.solve.verify import Verifier, verifier_of
from innerloop.text import printable
from innerloop.width import Noisy

__all__ = ["Budget", "Solution", "SolveOptions", "Solver"]


class Solver:
    """A trained loop and its task, ready to answer.

    verify  the task's verifier where it knows its rules, else none; or one of your own (solve.verify.as_verifier)
    trusts  what each rule's confidence is worth, by `calibrate`; kept with the dials it was measured at
    rows    trajectories run at once
    compile whether a step is compiled (solve.nfe.compiled): for thousands of puzzles, or a GPU. Nothing changes where
            the loop's blocks are compiled already
    """

    def __init__(
        self,
        loop: Any,
        task: Any,
        *,
        verify: Verifier | None = None,
        trusts: dict[str, Trust] | None = None,
        rows: int = 64,
        compile: bool = False,
        device: torch.device | str = "cpu",
    ) -> None:
        self.loop, self.task, self.rows, self.device = loop, task, rows, torch.device(device)
        self.verify = verify or (verifier_of(task) if task.verifies else None)
        self.trusts = trusts or {}
        self.compile = compile
        self._compiled: dict[EngineKey, Compiled | None] = {}
        self.calls = calls_of_a_step(loop, task)

    # -- one call -----------------------------------------------------------------------------------------------------
    def solve(
        self,
        puzzles: Any,
        depth: int = 64,
        width: int = 1,
        pick: str = "auto",
        budget: Budget | None = None,
        exact: float = 0.0,
        done: Callable[[int, Solution], None] | None = None,
        watch: Callable[[int, int, Moment], None] | None = None,
        **dials: Any,
    ) -> list[Solution]:
        """A Solution for each puzzle, in their order.

        puzzles  a text or a list of them, tokens (N, S) or (S,) in whole numbers of any type, or a PuzzleSet
        budget   its seconds are for all that this call does, the exact solver included
        exact    seconds that an exact solver may take for each puzzle the model does not know (solve/hybrid.py)
        done     called as done(i, solution) as soon as puzzle i is answered
        watch    called as watch(i, k, moment) after every step of trajectory k of puzzle i
        dials    further fields of SolveOptions
        Raises InputError for puzzles or dials that make no sense for this loop or task.
        """
        until = time.monotonic()
        if not 0 <= exact < float("inf"):
            raise InputError(f"exact is {exact}: give the seconds that the exact solver may take a puzzle, or 0")
        if exact:
            need_exact(self.task)
        settings = self.settled(SolveOptions(depth, width, pick, **dials))
        questions, ids = self.questions(puzzles)
        settings.check(len(questions))
        spent, seconds = (budget or Budget()).limits(len(questions))
        until += seconds
        engine = self.engine(settings)
        views = self.views(settings)
        cases = [PuzzleJob(self, q, settings, int(p), views) for q, p in zip(questions, ids, strict=True)]
        for i, case in enumerate(cases):
            case.watch = None if watch is None else partial(watch, i)
        place = {id(case): i for i, case in enumerate(cases)}
        found: list[Any] = [None] * len(cases)
        for case in self.finished(engine, cases, spent / self.calls, until):
            known, i = case.solution(), place[id(case)]
            left = min(exact, until - time.monotonic())
            found[i] = behind(self.task, case.question, known, left, settings.seed % 2**31) if exact else known
            if done:
                done(i, found[i])
        return found

    def finished(self, engine: Engine, cases: Sequence[PuzzleJob], cap: float, until: float) -> Iterator[PuzzleJob]:
        """Each case once nothing could change its answer, or all when `cap` steps or the time `until` are over."""
        queue = deque(sorted(((k, case) for case in cases for k in case.wave()), key=lambda begun: begun[0]))
        open_ = {id(case): case for case in cases}

        def close(case: PuzzleJob) -> PuzzleJob:
            del open_[id(case)]
            for ended in engine.cancel([j for j in case.jobs if j.owner[1] not in case.done]):
                case.took(ended)
            return case

        while open_:
            while queue and len(engine) < self.rows:
                k, case = queue.popleft()
                if id(case) in open_ and k in case.pending:
                    engine.submit(case.job(k))
            over = engine.tick()
            for ended in over:  # all of them before any case is finished: several of its trajectories may end at once
                ended.job.owner[0].took(ended)
            for case in (ended.job.owner[0] for ended in over):
                if id(case) not in open_:
                    continue
                if case.finished:
                    yield close(case)
                else:
                    queue.extend((k, case) for k in case.wave())
            if engine.tally.steps >= cap or time.monotonic() >= until:
                yield from [close(case) for case in list(open_.values())]

    def questions(self, puzzles: Any) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """(tokens (N, S), identifiers (N,)) of whatever was given. Raises InputError for what this loop cannot take."""
        if isinstance(puzzles, str):
            puzzles = [puzzles]
        if len(puzzles.inputs if hasattr(puzzles, "inputs") else puzzles) == 0:
            raise InputError("there is no puzzle to solve: give at least one")
        if hasattr(puzzles, "inputs"):
            tokens = self.task.tokens(puzzles.inputs, "the puzzles")
            return tokens, self.known(puzzles.puzzle, len(tokens))
        if isinstance(puzzles, Sequence) and all(isinstance(p, str) for p in puzzles):
            tokens = self.task.encode_many([p.replace("\r", "").replace("\n", "") for p in puzzles], "puzzles")
        else:
            tokens = self.task.tokens([puzzles] if np.ndim(puzzles[0]) == 0 else puzzles, "the puzzles")
        return tokens, np.zeros(len(tokens), np.int64)

    def known(self, identifiers: Any, rows: int) -> NDArray[np.int64]:
        """Puzzle identifiers (rows,), each of which this loop has learned. Raises InputError for any other."""
        ids = np.asarray(identifiers)
        if ids.shape != (rows,) or ids.dtype.kind not in "iu":
            raise InputError(
                f"puzzle identifiers are {ids.dtype} {ids.shape} of {rows} puzzles: "
                f"give a whole number for each, ({rows},)"
            )
        config = getattr(getattr(self.loop, "c", None), "net", None)
        most = config.puzzles if config is not None and config.puzzle_emb_size else None
        if ids.min() < 0 or (most is not None and ids.max() >= most):
            learned = "are from 0 on" if most is None else f"that this model learned are 0 to {most - 1}"
            raise InputError(f"puzzle identifiers run from {ids.min()} to {ids.max()}: those {learned}")
        return ids.astype(np.int64)

    # -- what the dials mean here -------------------------------------------------------------------------------------
    def settled(self, d: SolveOptions) -> SolveOptions:
        """The dials with `auto` decided. Raises InputError where they make no sense for this loop or task."""
        d.check()
        if d.pick == "auto":
            d = replace(d, pick=self.best_rule())
        if d.pick not in RULES:
            raise InputError(
                f'no selection rule is called "{printable(str(d.pick))}": use one of {", ".join(self.rules)}, or auto'
            )
        if d.pick == "verified" and self.verify is None:
            verifier_of(self.task)  # says why there is none
        if d.pick not in self.rules:
            raise InputError(
                f'this loop has nothing to pick by "{d.pick}": it has no such head, '
                f"use one of {', '.join(self.rules)}, or auto"
            )
        if d.width > 1 and not self.differ(d):
            raise InputError(
                f"width {d.width} would repeat the same thought: {self.task.name} has no symmetry to look by and the "
                "loop no noise of its own, so give noise, such as 0.3,0.3"
            )
        return d

    def differ(self, d: SolveOptions) -> bool:
        """Whether trajectories differ from each other at these dials."""
        if any(d.noise) or (d.views and self.task.views(1, np.random.default_rng(0)) is not None):
            return True
        return keyed(self.blank[0])

    @property
    def has_head(self) -> bool:
        """Whether the loop has a halting head."""
        return self.loop.read(self.blank[0]).q_halt is not None

    @cached_property
    def stops(self) -> bool:
        """Whether the loop has a rule to stop by, found by trying it on a step."""
        first, question = self.blank
        with torch.no_grad():
            second = self.loop.step(first, question)
            try:
                own_rule(self.loop)(self.loop, first, second, torch.ones(1, dtype=torch.long, device=self.device))
            except InputError:  # it has no halting head
                return False
        return True

    @cached_property
    def rules(self) -> list[str]:
        """The rules of solve.choose that apply here: the loop has such a head or halts, the task has a verifier."""
        answer = self.loop.read(self.blank[0])
        lacks = {"verified": self.verify is None, "q": answer.q_halt is None, "value": answer.value is None}
        lacks["first"] = not self.stops
        return [rule for rule in RULES if not lacks.get(rule)]

    @cached_property
    def blank(self) -> tuple[Any, Question]:
        """A first state and the empty puzzle it is of, to look at what kind of loop this is."""
        tokens = torch.ones(1, int(np.prod(self.task.shape)), dtype=torch.long, device=self.device)
        question = Question(tokens, torch.zeros_like(tokens[:, 0]))
        with torch.no_grad():
            return self.loop.init(question), question

    def best_rule(self) -> str:
        """What `auto` means: the verifier where there is one, else the rule most often right when calibrated."""
        if self.verify is not None:
            return "verified"
        if not self.trusts:
            raise InputError(
                "pick=auto chooses by validation puzzles where the rules are not known: calibrate first, or name a rule"
            )
        return max(self.trusts.values(), key=lambda t: (t.accuracy, -np.nan_to_num(t.ece, nan=1.0))).rule

    def confidence(self, d: SolveOptions, choice: Choice, valid: bool | None) -> float | None:
        """Probability that the choice is right: certain where verified, by calibration elsewhere, None if unknown."""
        if valid:
            return 1.0
        if not np.isfinite(choice.score) or valid is False:
            return 0.0
        known = self.trusts.get(d.pick)
        return None if known is None else known.curve(choice.score)

    def views(self, d: SolveOptions) -> Views | None:
        """One view for each trajectory, the first as the puzzle stands; None where there is none, or none is wanted."""
        if not d.views or d.width == 1:
            return None
        found: Views | None = self.task.views(d.width, np.random.default_rng(d.seed))
        if found is not None:
            found.cells[0], found.tokens[0] = np.arange(found.cells.shape[1]), np.arange(found.tokens.shape[1])
        return found

    def engine(self, d: SolveOptions, **how: Any) -> Engine:
        """An engine that thinks at these dials."""
        loop = self.precise if d.kind.deep else self.loop
        if d.kind.noisy:
            loop = Noisy(loop, *d.noise, d.slots, d.seed)
        options: dict[str, Any] = {"halt": own_rule(loop), "verify": self.verify, "device": self.device}
        if self.compile:
            if d.kind not in self._compiled:
                self._compiled[d.kind] = compiled(loop)
            if (graph := self._compiled[d.kind]) is not None:
                loop, options["sizes"] = graph, few_sizes(self.rows)
        return Engine(loop, self.rows, **options | how)

    @cached_property
    def precise(self) -> Any:
        """The loop with its state in float32."""
        return in_float32(self.loop)

    # -- how far to trust ---------------------------------------------------------------------------------------------
    def calibrate(self, examples: Any, rules: Sequence[str] = (), **dials: Any) -> dict[str, Trust]:
        """Measure every rule this loop can be picked by on labelled `examples`; what was found is kept in `trusts`.

        An answer is right if the verifier accepts it, or, without one, if it is as labelled.
        """
        every = self.trajectories(examples, SolveOptions(pick="vote", **dials))
        right = [
            self.right(q, label, t.answers) for q, label, t in zip(examples.inputs, examples.labels, every, strict=True)
        ]
        found = {}
        for rule in rules or [r for r in RULES if r != "verified"]:
            if np.isnan(RULES[rule](every[0])).all() or (rule == "first" and not any(t.halted.any() for t in every)):
                continue
            choices = [choose(t, rule) for t in every]
            outcome = np.array([r[c.winner] for r, c in zip(right, choices, strict=True)])
            found[rule] = trust(rule, np.array([c.score for c in choices]), outcome)
        self.trusts = found
        return found

    def right(
        self, question: NDArray[np.uint8], label: NDArray[np.uint8], answers: NDArray[np.uint8]
    ) -> NDArray[np.bool_]:
        """bool (K,): whether each of K answers to one question is right."""
        if self.verify is not None:
            return self.verify(np.repeat(question[None], len(answers), 0), answers)
        return ((answers == label) | (label == 0)).all(1)  # type: ignore[no-any-return]

    def trajectories(self, examples: Any, d: SolveOptions) -> list[Trajectories]:
        """All `width` trajectories of every puzzle, none stopped by another: for calibration and for study."""
        d = replace(self.settled(replace(d, pick=d.pick if d.pick != "verified" else "vote")), pick="residual")
        engine, views = self.engine(d), self.views(d)
        questions, ids = self.questions(examples)
        cases = [PuzzleJob(self, q, d, int(p), views) for q, p in zip(questions, ids, strict=True)]
        for case in cases:
            for k in case.wave():
                engine.submit(case.job(k))
        for ended in engine.run():
            ended.job.owner[0].took(ended)
        return [case.trajectories()[1] for case in cases]
