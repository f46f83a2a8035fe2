"""Exact solving with OR-tools CP-SAT: a task's rules as a constraint model, optionally warm-started by a proposal.

    result = exact(task, question)                          # without a proposal
    result = exact(task, question, hint=answer)             # the model's answer as a hint
    result = exact(task, question, hint=answer, fixed=mask)  # a first attempt fixes the cells in mask

The rules come from the task: `domain` (what each cell can hold) and `constrain` (the rest), or from a function
constrain(model, has, question) of yours. Every answer has passed the verifier. CP-SAT is by Perron and Didier,
https://developers.google.com/optimization/cp/cp_solver; it comes with the extra [solve].
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from innerloop.data.protocols import Tokens
from innerloop.data.sets import token_dtype
from innerloop.errors import InputError
from innerloop.solve.verify import verifier_of
from innerloop.text import printable

__all__ = ["Constrain", "ExactResult", "ExactSolutions", "cp_sat", "exact", "solutions"]

Has = Callable[[int, int], Any]  # (cell, token) -> literal "this cell holds this token"
Constrain = Callable[[Any, Has, Tokens], Any]  # (model, has, question) -> objective to minimise, or None

# Conflict limit of a first search without presolve: presolve takes longer than the search of most questions.
QUICK_CONFLICTS = 2_000
FIXED_SHARE = 0.5  # share of the time limit for the attempt with fixed cells


class ExactResult(NamedTuple):
    """Result for one question."""

    answer: Tokens | None  # (S,), verified; None: none exists, or none was found in time
    status: str  # "optimal" | "feasible" (an answer, not proved best) | "infeasible" (proved) | "unknown" (out of time)
    seconds: float  # all of it, `build_seconds` included
    cost: float | None  # of the answer; None without an objective
    bound: float | None  # lower bound of the cost; None without an objective, or if cells were fixed
    branches: int  # decisions of the search
    restricted: bool  # found with fixed cells: with an objective, others may be better
    build_seconds: float  # seconds to build the CP-SAT model in Python


class ExactSolutions(NamedTuple):
    """Different answers to one question."""

    answers: Tokens  # (n, S), verified
    complete: bool  # proved: there are no others
    seconds: float


def exact(
    task: Any,
    question: Tokens,
    hint: Tokens | None = None,
    fixed: NDArray[np.bool_] | None = None,
    seconds: float = 10.0,
    seed: int = 0,
    workers: int = 1,
    *,
    constrain: Constrain | None = None,
    verify: Callable[..., Any] | None = None,
) -> ExactResult:
    """A valid answer to one question (S,); the best one if the task has an objective.

    hint       (S,) proposed answer. It may be wrong anywhere: it changes how long the search takes, and which of
               several equally good answers is found
    fixed       bool (S,): cells to fix at the hint's token for at most half of the time, except those that violate a
               rule (`wrong_cells`). If this finds no answer, the question is searched without fixed cells. With an
               objective an answer with fixed cells is only "feasible": leave `fixed` out for the best
    seconds    time limit of the call; seed, workers: of CP-SAT. One worker is deterministic unless time runs out; more
               are faster on hard questions and may find different answers
    constrain  a function of your own in place of the task's, for a task without an exact model (such as a grid)
    verify     an additional rule of yours, as in solve.verify
    Without an objective any answer is "optimal".
    Raises InputError for arrays that do not fit the task, limits out of range, a task without an exact model, missing
    OR-tools, or a model that contradicts the task's rules or its cost.
    """
    cp_sat()
    began = time.perf_counter()
    _check(task, question, hint, fixed, seconds, seed, workers)
    domain = _domain(task, question)
    branches, build_seconds = 0, 0.0
    if hint is not None and fixed is not None:
        fixed = fixed & ~task.wrong_cells(question, hint)
    for cells_fixed, allowed in _attempts(domain, hint, fixed):
        time_left = (seconds - (time.perf_counter() - began)) * (FIXED_SHARE if cells_fixed else 1)
        if not allowed.any(1).all():
            result = _SearchResult(None, "infeasible", None, None, 0, 0.0)
        else:
            result = _search(allowed, constrain or task.constrain, question, hint, time_left, seed, workers)
        branches, build_seconds = branches + result.branches, build_seconds + result.build_seconds
        if result.answer is not None:
            break
    answer, status, cost, bound, *_ = result
    if answer is not None:
        _verify(task, question, answer, cost, verify, constrain)
    if cells_fixed and answer is not None and cost is not None:
        status, bound = "feasible", None
    took = time.perf_counter() - began
    return ExactResult(answer, status, took, cost, bound, branches, cells_fixed and answer is not None, build_seconds)


def solutions(
    task: Any,
    question: Tokens,
    limit: int = 1000,
    seconds: float = 10.0,
    *,
    constrain: Constrain | None = None,
    verify: Callable[..., Any] | None = None,
) -> ExactSolutions:
    """All valid answers to one question (S,) of any cost, up to `limit` of them.

    Raises InputError as `exact` does, and for a limit below 1.
    """
    cp = cp_sat()
    began = time.perf_counter()
    _check(task, question, None, None, seconds, 0, 1)
    if limit < 1:
        raise InputError(f"limit={limit} allows no answer: give 1 or more.")
    cells = _Cells(cp, _domain(task, question))
    (constrain or task.constrain)(cells.model, cells.has, question)
    answers: dict[bytes, Tokens] = {}

    class Collect(cp.CpSolverSolutionCallback):  # type: ignore[misc, name-defined]
        def on_solution_callback(self) -> None:
            answer = cells.read(self.boolean_value)  # auxiliary variables may repeat an answer
            answers.setdefault(answer.tobytes(), answer)
            if len(answers) == limit:
                self.stop_search()

    solver = _solver(cp, seconds - (time.perf_counter() - began), 0, 1)
    solver.parameters.enumerate_all_solutions = True
    status = _status(solver, cells.model, Collect())
    for answer in answers.values():
        _verify(task, question, answer, None, verify, constrain)
    complete = status == "infeasible" or (status == "optimal" and len(answers) < limit)
    tokens = np.array(list(answers.values()), token_dtype(task.vocab)).reshape(-1, len(question))
    return ExactSolutions(tokens, complete, time.perf_counter() - began)


def cp_sat() -> Any:
    """The CP-SAT module. The first import takes about a second, so a server calls this at start."""
    try:
        from ortools.sat.python import cp_model
    except ImportError:
        raise InputError("the exact solver needs OR-tools: pip install 'innerloop[solve]'") from None
    return cp_model


@cache
def model_class() -> Any:
    """cp_model.CpModel without its per-instance CamelCase aliases, which take longer to add than many searches."""
    base = cp_sat().CpModel

    class CpModel(base):  # type: ignore[misc, valid-type]
        def _add_pre_pep8_methods(self) -> None: ...

    for name in dir(base):
        if name.startswith(("add_", "new_", "clear_")) or name in ("add", "clone", "minimize", "maximize", "validate"):
            words = "".join(word.capitalize() for word in name.split("_"))
            setattr(CpModel, words.replace("2d", "2D").replace("Xor", "XOr"), getattr(base, name))
    return CpModel


@cache
def boolean_model() -> Any:
    """A model of one Boolean variable, to copy its proto from."""
    model = model_class()()
    model.new_bool_var("")
    return model


# -- one model --------------------------------------------------------------------------------------------------------


class _SearchResult(NamedTuple):
    answer: Tokens | None
    status: str
    cost: float | None
    bound: float | None
    branches: int
    build_seconds: float


class _Cells:
    """A CP-SAT model of which tokens each cell may hold, without the task's other constraints.

    A cell with one token is a constant, with two tokens one variable and its negation, with more one variable per
    token: the fewer cells are open, the faster the model is built.
    """

    def __init__(self, cp: Any, allowed: NDArray[np.bool_]) -> None:
        self.model = model_class()()
        no, yes = self.model.new_constant(0), self.model.new_constant(1)
        vocab = allowed.shape[1]
        constants = [[yes if token == t else no for token in range(vocab)] for t in range(vocab)]
        self.answer = allowed.argmax(1).astype(token_dtype(vocab))
        self.literals: list[list[Any]] = [constants[token] for token in self.answer.tolist()]
        self.open: dict[int, list[int]] = {}  # cell -> the tokens it may hold
        counts = allowed.sum(1)
        variables = iter(self.booleans(cp, int(counts[counts > 1].sum() - (counts == 2).sum())))
        cells, tokens = np.nonzero(allowed & (counts > 1)[:, None])
        for cell, token in zip(cells.tolist(), tokens.tolist(), strict=True):
            self.open.setdefault(cell, []).append(token)
        if not counts.all():  # a cell without a token: no answer
            self.model.add_bool_or([])
        for cell, choices in self.open.items():
            row = self.literals[cell] = [no] * vocab
            if len(choices) == 2:
                first, second = choices
                row[first] = variable = next(variables)
                row[second] = variable.negated()
                continue
            for token in choices:
                row[token] = next(variables)
            self.model.add_exactly_one([row[token] for token in choices])

    def booleans(self, cp: Any, count: int) -> list[Any]:
        """New Boolean variables, all at once: one by one they take three times as long."""
        proto = self.model.proto
        first = len(proto.variables)
        proto.variables.extend([boolean_model().proto.variables[0]] * count)
        return [cp.IntVar(proto, first + i) for i in range(count)]

    def has(self, cell: int, token: int) -> Any:
        """The literal "this cell holds this token": a variable, its negation, or a constant."""
        return self.literals[cell][token]

    def add_hint(self, hint: Tokens) -> None:
        """Add the hint; cells whose hinted token is not in their domain are left out."""
        variables: list[int] = []
        values: list[int] = []
        for cell, tokens in self.open.items():
            if hint[cell] in tokens:
                tokens = tokens[: 1 if len(tokens) == 2 else len(tokens)]  # the negation needs no hint
                variables += [self.literals[cell][token].index for token in tokens]
                values += [int(token == hint[cell]) for token in tokens]
        self.model.proto.solution_hint.vars.extend(variables)  # add_hint, one by one, takes longer than the search
        self.model.proto.solution_hint.values.extend(values)

    def read(self, value: Callable[[Any], bool]) -> Tokens:
        """(S,) the answer, from the values of the literals."""
        answer = self.answer.copy()
        for cell, tokens in self.open.items():
            answer[cell] = next(token for token in tokens if value(self.literals[cell][token]))
        return answer


def _domain(task: Any, question: Tokens) -> NDArray[np.bool_]:
    domain: NDArray[np.bool_] = task.domain(question)
    if domain.shape != (len(question), task.vocab) or domain.dtype != bool:
        raise InputError(
            f"domain() of the task {task.name!r} returned {domain.dtype} {domain.shape}: "
            f"give bool ({len(question)}, {task.vocab})."
        )
    return domain


def _attempts(
    domain: NDArray[np.bool_], hint: Tokens | None, fixed: NDArray[np.bool_] | None
) -> Iterator[tuple[bool, NDArray[np.bool_]]]:
    """Yields (whether cells are fixed, allowed tokens (S, vocab)): with fixed cells, if any, then without."""
    if hint is not None and fixed is not None:
        cells = np.flatnonzero(fixed & (hint < domain.shape[1]))
        cells = cells[domain[cells, hint[cells]]]  # tokens outside the domain are not fixed
        if (domain[cells].sum(1) > 1).any():
            restricted = domain.copy()
            restricted[cells] = np.arange(domain.shape[1]) == hint[cells, None]
            yield True, restricted
    yield False, domain


def _search(
    allowed: NDArray[np.bool_],
    constrain: Constrain,
    question: Tokens,
    hint: Tokens | None,
    seconds: float,
    seed: int,
    workers: int,
) -> _SearchResult:
    """Build the model, solve it, read the answer."""
    began, cp = time.perf_counter(), cp_sat()
    cells = _Cells(cp, allowed)
    objective = constrain(cells.model, cells.has, question)
    if objective is not None:
        cells.model.minimize(objective)
    if hint is not None:
        cells.add_hint(hint)
    build_seconds = time.perf_counter() - began
    solver, status, branches = _run(cp, cells.model, seconds - build_seconds, seed, workers, objective is None)
    answer = cells.read(solver.boolean_value) if status in ("optimal", "feasible") else None
    cost = bound = None
    if objective is not None and answer is not None:
        cost, bound = solver.objective_value, solver.best_objective_bound
    return _SearchResult(answer, status, cost, bound, branches, build_seconds)


def _run(cp: Any, model: Any, seconds: float, seed: int, workers: int, any_answer: bool) -> tuple[Any, str, int]:
    """(solver, status, branches). Without an objective, one worker first searches briefly without presolve."""
    began, branches = time.perf_counter(), 0
    if any_answer and workers == 1:
        solver = _solver(cp, seconds, seed, 1)
        quick = solver.parameters
        quick.cp_model_presolve, quick.cp_model_probing_level = False, 0
        quick.symmetry_level, quick.linearization_level = 0, 0
        quick.max_number_of_conflicts = QUICK_CONFLICTS
        status, branches = _status(solver, model), solver.num_branches
        seconds -= time.perf_counter() - began
        if status != "unknown" or seconds <= 0:
            return solver, status, branches
    solver = _solver(cp, seconds, seed, workers)
    return solver, _status(solver, model), branches + solver.num_branches


def _solver(cp: Any, seconds: float, seed: int, workers: int) -> Any:
    solver = cp.CpSolver()
    solver.parameters.max_time_in_seconds = max(seconds, 0.0)
    solver.parameters.random_seed = seed
    solver.parameters.num_workers = workers
    solver.parameters.catch_sigint_signal = False  # Ctrl-C is left to the calling program
    return solver


def _status(solver: Any, model: Any, callback: Any = None) -> str:
    """Solve the model; the status in lower case."""
    status = str(solver.status_name(solver.solve(model, callback))).lower()
    if status == "model_invalid":
        raise InputError(f"constrain() makes a model that CP-SAT rejects: {model.validate().strip()}")
    return status


# -- checks -----------------------------------------------------------------------------------------------------------


def _check(task: Any, question: Any, hint: Any, fixed: Any, seconds: float, seed: int, workers: int) -> None:
    cells = task.shape[0] * task.shape[1]
    dtype = token_dtype(task.vocab)
    arguments = ((question, "the question", dtype), (hint, "the hint", dtype), (fixed, "fixed", bool))
    for array, what, expected in arguments:
        if array is not None and (getattr(array, "shape", None), getattr(array, "dtype", None)) != ((cells,), expected):
            given = f"{getattr(array, 'dtype', type(array).__name__)} {getattr(array, 'shape', '')}"
            raise InputError(
                f"{what} is {given.strip()}: {task.name} takes {np.dtype(expected)} ({cells},), one puzzle."
            )
    if fixed is not None and hint is None:
        raise InputError("fixed needs a hint, whose tokens its cells get: give both.")
    if question.max(initial=0) >= task.vocab:
        raise InputError(f"the question holds token {question.max()}; {task.name} has 0 to {task.vocab - 1}.")
    if not seconds > 0 or workers < 1 or not 0 <= seed < 2**31:
        raise InputError(
            f"seconds={seconds}, seed={seed}, workers={workers}: give seconds above 0, a seed from 0 to 2^31 - 1, "
            "and 1 worker or more."
        )


def _verify(
    task: Any,
    question: Tokens,
    answer: Tokens,
    cost: float | None,
    verify: Callable[..., Any] | None,
    constrain: Constrain | None,
) -> None:
    """Raise InputError if the constraint model allows an invalid answer, or minimises something other than the cost."""
    check = task.valid_batch if verify is None else verifier_of(task, verify)
    modelled = verify is None and constrain is None and getattr(task, "asks_model", False)
    if not modelled and not check(question[None], answer[None])[0]:
        model = "constrain() that was given" if constrain else f"exact model of the task {task.name!r}"
        raise InputError(
            f"the {model} allows an answer that the verifier refuses, such as {printable(task.decode(answer), 200)} to "
            f"{printable(task.decode(question), 200)}: constrain() is too lax, or rule() too strict."
        )
    true_cost = task.cost(question[None], answer[None]) if cost is not None and constrain is None else None
    if true_cost is not None and abs(true_cost[0] - cost) > 1e-6 * max(1.0, abs(true_cost[0])):
        raise InputError(
            f"the exact model of the task {task.name!r} minimises {cost:g} where the answer's cost is "
            f"{true_cost[0]:g}: let constrain() return the objective that cost() computes."
        )
