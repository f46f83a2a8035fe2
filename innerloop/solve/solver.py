"""Solver: answers puzzles with a trained loop at a given depth, width, selection rule and budget.

    solver = Solver(loop, task)
    for s in solver.solve(puzzles, depth=64, width=20, pick="verified", budget=Budget(nfe=200)):
        print(s.text if s.known else "I don't know", s.confidence, s.why)

Four options set the compute at test time: depth (steps), width (trajectories, which differ by added noise, by the
loop's own noise, or by a symmetry view of the puzzle), the rule that picks one trajectory, and a budget shared by all
puzzles. An answer picked by a verifier is right. Any other comes with its calibrated probability of being right, and
below a threshold the solver says "I don't know" (`known` is False).
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
from innerloop.data.protocols import Examples, Task, Tokens
from innerloop.errors import InputError
from innerloop.learn.evaluate import default_halt
from innerloop.noise import has_key
from innerloop.rules.symmetry import Views
from innerloop.solve.calibrate import RuleCalibration, calibrate_rule
from innerloop.solve.choose import RULES, Choice, Trajectories, choose
from innerloop.solve.engine import Engine, StepOutput
from innerloop.solve.exact import Constrain
from innerloop.solve.hybrid import need_exact, with_exact_fallback
from innerloop.solve.job import PuzzleJob
from innerloop.solve.nfe import CompiledLoop, compile_step, compiled_batch_sizes, in_float32, nfe_per_step
from innerloop.solve.options import Budget, EngineKey, Solution, SolveOptions
from innerloop.solve.rules import with_rules
from innerloop.solve.verify import Verifier, verifier_of
from innerloop.text import printable
from innerloop.width import Noisy

__all__ = ["Budget", "Solution", "SolveOptions", "Solver"]


class Solver:
    """A trained loop and its task, ready to answer.

    verify  a rule of your own, verify(question, answer) -> bool, besides those that the task knows
    constrain  your rules as a model for the exact solver, constrain(model, has, question); see solve.rules
    calibrations  of each rule, as `calibrate` returns it
    rows    trajectories stepped at once
    compile whether a step is compiled (solve.nfe.compile_step): for thousands of puzzles, or a GPU. It has no effect if
            the loop's blocks are compiled already
    """

    def __init__(
        self,
        loop: Any,
        task: Task,
        *,
        verify: Callable[..., Any] | None = None,
        constrain: Constrain | None = None,
        calibrations: dict[str, RuleCalibration] | None = None,
        rows: int = 64,
        compile: bool = False,
        device: torch.device | str = "cpu",
    ) -> None:
        self.loop, self.rows, self.device = loop, rows, torch.device(device)
        self.task: Any = with_rules(task, verify, constrain)
        self.verify: Verifier | None = verifier_of(self.task) if self.task.verifies else None
        self.calibrations = calibrations or {}
        self.compile = compile
        self._compiled: dict[EngineKey, CompiledLoop | None] = {}
        self.nfe_per_step = nfe_per_step(loop, task)

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
        watch: Callable[[int, int, StepOutput], None] | None = None,
        **options: Any,
    ) -> list[Solution]:
        """A Solution for each puzzle, in the order of the puzzles.

        puzzles  a text or a list of them, tokens (N, S) or (S,) in whole numbers of any type, or a PuzzleSet
        budget   its seconds include the exact solver
        exact    seconds of the exact solver for each puzzle that the model does not solve (solve/hybrid.py)
        done     called as done(i, solution) as soon as puzzle i is answered
        watch    called as watch(i, k, StepOutput) after every step of trajectory k of puzzle i
        Further keywords are fields of SolveOptions. Raises InputError for puzzles or options that this loop or task
        does not support.
        """
        start = time.monotonic()
        if not 0 <= exact < float("inf"):
            raise InputError(f"exact is {exact}: give the seconds that the exact solver may take a puzzle, or 0")
        if exact:
            need_exact(self.task)
        resolved = self.resolve(SolveOptions(depth, width, pick, **options))
        questions, ids = self.questions(puzzles)
        resolved.check(len(questions))
        max_nfe, seconds = (budget or Budget()).limits(len(questions))
        deadline = start + seconds
        engine = self.engine(resolved)
        views = self.views(resolved)
        jobs = [PuzzleJob(self, q, resolved, int(p), views) for q, p in zip(questions, ids, strict=True)]
        for i, job in enumerate(jobs):
            job.watch = None if watch is None else partial(watch, i)
        index = {id(job): i for i, job in enumerate(jobs)}
        solutions: list[Any] = [None] * len(jobs)
        for job in self.run_jobs(engine, jobs, max_nfe / self.nfe_per_step, deadline):
            solution, i = job.solution(), index[id(job)]
            seconds_left = min(exact, deadline - time.monotonic())
            if exact:
                seed = resolved.seed % 2**31
                solution = with_exact_fallback(self.task, job.question, solution, seconds_left, seed)
            solutions[i] = solution
            if done:
                done(i, solution)
        return solutions

    def run_jobs(
        self, engine: Engine, jobs: Sequence[PuzzleJob], max_steps: float, deadline: float
    ) -> Iterator[PuzzleJob]:
        """Yields each job when its answer is final, and all that are left after `max_steps` steps or at `deadline`.

        max_steps: over all trajectories; deadline: time.monotonic().
        """
        queue = deque(sorted(((k, job) for job in jobs for k in job.start_wave()), key=lambda pair: pair[0]))
        unfinished = {id(job): job for job in jobs}

        def close(job: PuzzleJob) -> PuzzleJob:
            del unfinished[id(job)]
            for ended in engine.cancel([j for j in job.jobs if j.owner[1] not in job.done]):
                job.record_done(ended)
            return job

        while unfinished:
            while queue and len(engine) < self.rows:
                k, job = queue.popleft()
                if id(job) in unfinished and k in job.pending:
                    engine.submit(job.make_job(k))
            all_ended = engine.tick()
            for ended in all_ended:  # all first: several trajectories of one puzzle may end at once
                ended.job.owner[0].record_done(ended)
            for job in (ended.job.owner[0] for ended in all_ended):
                if id(job) not in unfinished:
                    continue
                if job.finished:
                    yield close(job)
                else:
                    queue.extend((k, job) for k in job.start_wave())
            if engine.counters.steps >= max_steps or time.monotonic() >= deadline:
                yield from [close(job) for job in list(unfinished.values())]

    def questions(self, puzzles: Any) -> tuple[Tokens, NDArray[np.int64]]:
        """(tokens (N, S), identifiers (N,)) of `puzzles`. Raises InputError for puzzles this loop cannot take."""
        if isinstance(puzzles, str):
            puzzles = [puzzles]
        if len(puzzles.inputs if hasattr(puzzles, "inputs") else puzzles) == 0:
            raise InputError("there is no puzzle to solve: give at least one")
        if hasattr(puzzles, "inputs"):
            tokens = self.task.tokens(puzzles.inputs, "the puzzles")
            return tokens, self.check_identifiers(puzzles.puzzle, len(tokens))
        if isinstance(puzzles, Sequence) and all(isinstance(p, str) for p in puzzles):
            tokens = self.task.encode_many([p.replace("\r", "").replace("\n", "") for p in puzzles], "puzzles")
        else:
            tokens = self.task.tokens([puzzles] if np.ndim(puzzles[0]) == 0 else puzzles, "the puzzles")
        return tokens, np.zeros(len(tokens), np.int64)

    def check_identifiers(self, identifiers: Any, rows: int) -> NDArray[np.int64]:
        """Puzzle identifiers (rows,) int64. Raises InputError unless this loop was trained on each of them."""
        ids = np.asarray(identifiers)
        if ids.shape != (rows,) or ids.dtype.kind not in "iu":
            raise InputError(
                f"puzzle identifiers are {ids.dtype} {ids.shape} of {rows} puzzles: "
                f"give a whole number for each, ({rows},)"
            )
        config = getattr(getattr(self.loop, "c", None), "net", None)
        count = config.puzzles if config is not None and config.puzzle_emb_size else None
        if ids.min() < 0 or (count is not None and ids.max() >= count):
            allowed = "0 or more" if count is None else f"0 to {count - 1}, as this model was trained on"
            raise InputError(f"puzzle identifiers run from {ids.min()} to {ids.max()}: give {allowed}")
        return ids.astype(np.int64)

    # -- options for this loop and task --------------------------------------------------------------------------------
    def resolve(self, options: SolveOptions) -> SolveOptions:
        """The options with pick="auto" resolved. Raises InputError if this loop or task does not support them."""
        options.check()
        if options.pick == "auto":
            options = replace(options, pick=self.best_rule())
        if options.pick not in RULES:
            raise InputError(
                f'no selection rule is called "{printable(str(options.pick))}": '
                f"use one of {', '.join(self.rules)}, or auto"
            )
        if options.pick == "verified" and self.verify is None:
            verifier_of(self.task)  # raises, and says why there is none
        if options.pick not in self.rules:
            raise InputError(
                f'this loop has no head for the rule "{options.pick}": use one of {", ".join(self.rules)}, or auto'
            )
        guess = options.pick == "verified" and self.takes_guesses and not any(options.noise) and options.width > 1
        if options.guess and not (options.pick == "verified" and self.takes_guesses):
            raise InputError(
                f"guess needs the rule verified and a task that takes guesses, and here pick is {options.pick} and the "
                f"task {self.task.name}: leave it out"
            )
        options = replace(options, guess=guess if options.guess is None else options.guess)
        if options.width > 1 and not self.trajectories_differ(options):
            raise InputError(
                f"width {options.width} would run the same trajectory {options.width} times: {self.task.name} has no "
                "symmetries and the loop no noise of its own, so give noise, such as 0.3,0.3"
            )
        return options

    def trajectories_differ(self, options: SolveOptions) -> bool:
        """Whether trajectories differ from each other with these options."""
        if options.guess or (options.guess is None and options.pick in ("auto", "verified") and self.takes_guesses):
            return True
        if any(options.noise) or (options.views and self.task.views(1, np.random.default_rng(0)) is not None):
            return True
        return has_key(self.probe[0])

    @property
    def takes_guesses(self) -> bool:
        """Whether a verifier decides, and the task lets a cell be guessed."""
        return self.verify is not None and getattr(self.task, "takes_guesses", False)

    @property
    def has_halting_head(self) -> bool:
        """Whether the loop has a halting head."""
        return self.loop.read(self.probe[0]).q_halt is not None

    @cached_property
    def can_halt(self) -> bool:
        """Whether the loop's halting rule works, tried on one step."""
        first, question = self.probe
        with torch.no_grad():
            second = self.loop.step(first, question)
            try:
                default_halt(self.loop)(self.loop, first, second, torch.ones(1, dtype=torch.long, device=self.device))
            except InputError:  # it has no halting head
                return False
        return True

    @cached_property
    def rules(self) -> list[str]:
        """The rules of solve.choose that this loop (heads, halting) and task (verifier) support."""
        answer = self.loop.read(self.probe[0])
        missing = {"verified": self.verify is None, "q": answer.q_halt is None, "value": answer.value is None}
        missing["first"] = not self.can_halt
        return [rule for rule in RULES if not missing.get(rule)]

    @cached_property
    def probe(self) -> tuple[Any, Question]:
        """(initial state, its question of all tokens 1), to inspect which heads and noise the loop has."""
        tokens = torch.ones(1, int(np.prod(self.task.shape)), dtype=torch.long, device=self.device)
        question = Question(tokens, torch.zeros_like(tokens[:, 0]))
        with torch.no_grad():
            return self.loop.init(question), question

    def best_rule(self) -> str:
        """The rule of pick="auto": "verified" if there is a verifier, else the rule of highest calibrated accuracy.

        Of rules that are right as often, the one whose scores tell right from wrong answers best.
        """
        if self.verify is not None:
            return "verified"
        if not self.calibrations:
            raise InputError(
                "pick=auto needs a calibration if the task's rules are not known: calibrate first, or name a rule"
            )
        return max(self.calibrations.values(), key=lambda t: (t.accuracy, -np.nan_to_num(t.aurc, nan=1.0))).rule

    def confidence(self, options: SolveOptions, choice: Choice, valid: bool | None) -> float | None:
        """Probability that the choice is right: 1.0 if verified, else by calibration; None without one."""
        if valid:
            return 1.0
        if not np.isfinite(choice.score) or valid is False:
            return 0.0
        calibration = self.calibrations.get(options.pick)
        return None if calibration is None else calibration.curve(choice.score)

    def views(self, options: SolveOptions) -> Views | None:
        """A symmetry view per trajectory, the first the identity; None without symmetries, with guesses or if off."""
        if not options.views or options.guess or options.width == 1:
            return None
        views: Views | None = self.task.views(options.width, np.random.default_rng(options.seed))
        if views is not None:
            views.cells[0], views.tokens[0] = np.arange(views.cells.shape[1]), np.arange(views.tokens.shape[1])
        return views

    def engine(self, options: SolveOptions, **overrides: Any) -> Engine:
        """An engine for these options; `overrides` replace its other arguments."""
        loop = self.float32_loop if options.engine_key.deep else self.loop
        if options.engine_key.noisy:
            loop = Noisy(loop, *options.noise, options.slots, options.seed)
        arguments: dict[str, Any] = {"halt": default_halt(loop), "verify": self.verify, "device": self.device}
        if self.compile:
            if options.engine_key not in self._compiled:
                self._compiled[options.engine_key] = compile_step(loop)
            if (graph := self._compiled[options.engine_key]) is not None:
                loop, arguments["sizes"] = graph, compiled_batch_sizes(self.rows)
        return Engine(loop, self.rows, **arguments | overrides)

    @cached_property
    def float32_loop(self) -> Any:
        """The loop with its state in float32."""
        return in_float32(self.loop)

    # -- calibration --------------------------------------------------------------------------------------------------
    def calibrate(self, examples: Examples, rules: Sequence[str] = (), **options: Any) -> dict[str, RuleCalibration]:
        """Calibrate every selection rule of this loop on labelled `examples`; the result is stored in `calibrations`.

        An answer is right if the verifier accepts it, or, without a verifier, if it equals the label. `rules` are names
        of solve.choose.RULES; none: all that this loop and task support.
        """
        if unknown := [rule for rule in rules if rule not in RULES]:
            raise InputError(f'no selection rule is called "{printable(unknown[0])}": use one of {", ".join(RULES)}')
        trajectories = self.trajectories(examples, SolveOptions(pick="vote", **options))
        right = [
            self.is_right(q, label, t.answers)
            for q, label, t in zip(examples.inputs, examples.labels, trajectories, strict=True)
        ]
        calibrations = {}
        for rule in rules or [r for r in RULES if r != "verified"]:
            if np.isnan(RULES[rule](trajectories[0])).all() or (
                rule == "first" and not any(t.halted.any() for t in trajectories)
            ):
                continue
            choices = [choose(t, rule) for t in trajectories]
            outcome = np.array([r[c.winner] for r, c in zip(right, choices, strict=True)])
            calibrations[rule] = calibrate_rule(rule, np.array([c.score for c in choices]), outcome)
        self.calibrations = calibrations
        return calibrations

    def is_right(self, question: Tokens, label: Tokens, answers: Tokens) -> NDArray[np.bool_]:
        """bool (K,): whether each of K answers to one question is right."""
        if self.verify is not None:
            return self.verify(np.repeat(question[None], len(answers), 0), answers)
        return ((answers == label) | (label == 0)).all(1)  # type: ignore[no-any-return]

    def trajectories(self, examples: Examples, options: SolveOptions) -> list[Trajectories]:
        """All `width` trajectories of every puzzle, each run to its own end: for calibration and study."""
        options = replace(
            self.resolve(replace(options, pick=options.pick if options.pick != "verified" else "vote")), pick="residual"
        )
        engine, views = self.engine(options), self.views(options)
        questions, ids = self.questions(examples)
        jobs = [PuzzleJob(self, q, options, int(p), views) for q, p in zip(questions, ids, strict=True)]
        waiting = deque((job, k) for job in jobs for k in job.start_wave())
        while waiting or len(engine):
            while waiting and len(engine) < self.rows:
                job, k = waiting.popleft()
                engine.submit(job.make_job(k))
            for ended in engine.tick():
                ended.job.owner[0].record_done(ended)
        return [job.trajectories()[1] for job in jobs]
