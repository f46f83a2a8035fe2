"""Compares a model, its verifier and the exact solver on the same puzzles, and says which to use.

    rows = compare(solver, inputs, single, batch, limit=30)      # one row a method
    print(advice(rows))

  solver            CP-SAT alone
  model             one trajectory to the trained depth, its answer is trusted
  verified          up to `width` trajectories, the first valid answer; else "I don't know"
  hybrid            the same, and CP-SAT where nothing is valid, with the model's answer as a hint
  hybrid, no hints  the same, without the hint

Latency is of one puzzle at a time. Throughput is of all puzzles: the model in batches, CP-SAT one by one. For latency
the methods alternate in blocks of puzzles, so that all of them run under the same load of the machine.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from innerloop.data.protocols import Tokens
from innerloop.errors import InputError
from innerloop.interval import wilson
from innerloop.solve.exact import exact
from innerloop.solve.hybrid import has_exact, with_exact_fallback
from innerloop.solve.solver import Solver

__all__ = ["METHODS", "advice", "compare", "methods_for"]

METHODS = ("solver", "model", "verified", "hybrid", "hybrid, no hints")
MAX_BLOCK, MIN_BLOCKS = 50, 10  # most puzzles of a method before the next one; fewest blocks of a method
MARGIN = 1.1  # speed-up over CP-SAT alone from which the model is recommended
Bools = NDArray[np.bool_]
Options = Mapping[str, dict[str, Any]]  # of Solver.solve, by method


def methods_for(solver: Solver) -> tuple[str, ...]:
    """The methods that this solver's task allows, without the comparison of hints."""
    exact_model, verifies = has_exact(solver.task), solver.verify is not None
    allowed = {"solver": exact_model, "model": True, "verified": verifies, "hybrid": exact_model and verifies}
    return tuple(method for method, ok in allowed.items() if ok)


class Measured:
    """Answers of one method to all puzzles, in their order."""

    def __init__(self) -> None:
        self.answers: list[Tokens | None] = []
        self.seconds: list[float] = []
        self.solver_calls = 0
        self.batch: dict[str, Any] = {}  # what `solve_all` returned


def compare(
    solver: Solver,
    inputs: Tokens,
    single: Options,
    batch: Options,
    limit: float,
    labels: Tokens | None = None,
    warm_up: bool = False,
) -> list[dict[str, Any]]:
    """Measure the methods that are the keys of `single`; one row for each, in their order.

    inputs   (N, S) questions
    single   options of Solver.solve for one puzzle at a time; batch: for all at once
    limit    seconds of the exact solver for one puzzle
    labels   (N, S): the right answers, needed where the solver has no verifier
    warm_up  run the batch once without measuring it, as compiled steps need

    A row: method; valid, low, high: share of valid answers with its 95 % Wilson interval; solver_calls; p50_ms, p99_ms,
    mean_ms: latency; per_second, together_valid, together_calls: throughput, share valid and solver calls of the batch.
    With an objective and the method "solver" also gap: mean cost above the solver's, and best: share without a gap,
    both over the `compared` puzzles whose best cost is proved (None without any); best_cost: mean cost of the solver.
    Raises InputError if there is neither a verifier nor labels.
    """
    if solver.verify is None and labels is None:
        raise InputError("nothing tells which answers are right: give a solver with a verifier, or labels")
    measured = {method: Measured() for method in single}
    proved = np.zeros(len(inputs), bool)
    for method in single:
        solve_one(method, solver, inputs[0], single[method], limit)  # the first call also loads what all share
    count, block = len(inputs), min(MAX_BLOCK, max(1, len(inputs) // MIN_BLOCKS))
    order = [(m, i) for k in range(0, count, block) for m in single for i in range(k, min(k + block, count))]
    for method, i in order:
        began = time.perf_counter()
        answer, called, optimal = solve_one(method, solver, inputs[i], single[method], limit)
        measured[method].seconds.append(time.perf_counter() - began)
        measured[method].answers.append(answer)
        measured[method].solver_calls += called
        proved[i] |= optimal
    for method in [m for m in ("model", "verified") if m in single] if warm_up else ():
        solver.solve(inputs, **batch[method])
    for method in single:
        measured[method].batch = solve_all(method, solver, inputs, batch[method], limit, labels)
    best_cost = costs(solver, inputs, measured["solver"].answers, labels) if "solver" in measured else None
    return [row(solver, inputs, name, m, labels, best_cost, proved) for name, m in measured.items()]


def solve_one(
    method: str, solver: Solver, question: Tokens, options: dict[str, Any], limit: float
) -> tuple[Tokens | None, bool, bool]:
    """(answer to one puzzle (S,) or None, whether the exact solver was called, whether it proved the answer best)."""
    if method == "solver":
        result = exact(solver.task, question, seconds=limit)
        return result.answer, True, result.status == "optimal"
    solution = solver.solve(question, **options)[0]
    if method == "model":
        return solution.answer, False, False
    if method == "verified" or solution.known:
        return solution.answer if solution.known else None, False, False
    solution = with_exact_fallback(solver.task, question, solution, limit, hints=method == "hybrid")
    return solution.answer if solution.known else None, True, False


def solve_all(
    method: str, solver: Solver, inputs: Tokens, options: dict[str, Any], limit: float, labels: Tokens | None
) -> dict[str, Any]:
    """Throughput, share of valid answers and calls of the exact solver, for all puzzles at once."""
    began, calls = time.perf_counter(), 0
    answers: list[Tokens | None]
    if method == "solver":
        answers, calls = [exact(solver.task, q, seconds=limit).answer for q in inputs], len(inputs)
    else:
        solutions = solver.solve(inputs, **options)
        if method.startswith("hybrid"):
            calls, hints = sum(not s.known for s in solutions), method == "hybrid"
            pairs = zip(inputs, solutions, strict=True)
            solutions = [s if s.known else with_exact_fallback(solver.task, q, s, limit, hints=hints) for q, s in pairs]
        answers = [s.answer if s.known or method == "model" else None for s in solutions]
    seconds = time.perf_counter() - began
    _, valid = verified(solver, inputs, answers, labels)
    return {"per_second": len(inputs) / seconds, "together_valid": float(valid.mean()), "together_calls": int(calls)}


def verified(
    solver: Solver, inputs: Tokens, answers: Sequence[Tokens | None], labels: Tokens | None
) -> tuple[Tokens, Bools]:
    """(N, S) answers, the question where there is none, and bool (N,): there is one and it is right."""
    filled = np.stack([q if a is None else a for q, a in zip(inputs, answers, strict=True)])
    answered = np.array([a is not None for a in answers])
    verify: Callable[[Tokens, Tokens], Bools] | None = solver.verify
    if verify is not None:
        return filled, verify(inputs, filled) & answered
    return filled, ((filled == labels) | (labels == 0)).all(1) & answered  # type: ignore[union-attr]


def costs(
    solver: Solver, inputs: Tokens, answers: Sequence[Tokens | None], labels: Tokens | None
) -> NDArray[np.float64] | None:
    """(N,) cost of each answer, NaN where there is none; None where the task has no objective."""
    filled, valid = verified(solver, inputs, answers, labels)
    cost = solver.task.cost(inputs, filled)
    return None if cost is None else np.where(valid, cost, np.nan)


def row(
    solver: Solver, inputs: Tokens, method: str, m: Measured, labels: Tokens | None, best_cost: Any, proved: Bools
) -> dict[str, Any]:
    """Metrics of one method, as `compare` documents them."""
    _, valid = verified(solver, inputs, m.answers, labels)
    low, high = wilson(float(valid.sum()), len(inputs))
    p50, p99 = np.quantile(m.seconds, [0.5, 0.99]) * 1000
    metrics = {"method": method, "valid": float(valid.mean()), "low": low, "high": high, "solver_calls": m.solver_calls}
    metrics |= {"p50_ms": float(p50), "p99_ms": float(p99), "mean_ms": float(np.mean(m.seconds) * 1000)}
    metrics |= m.batch
    if best_cost is not None:
        gaps = (costs(solver, inputs, m.answers, labels) - best_cost)[valid & proved]
        mean = (
            {"gap": float(gaps.mean()), "best": float((gaps == 0).mean())} if len(gaps) else {"gap": None, "best": None}
        )
        metrics |= mean | {"compared": len(gaps), "best_cost": float(np.nanmean(best_cost)) if valid.any() else None}
    return metrics


# -- what follows -----------------------------------------------------------------------------------------------------

NAMES = {"verified": "the model with its verifier", "hybrid": "the model with CP-SAT behind it"}


def advice(rows: Sequence[Mapping[str, Any]]) -> str:
    """A sentence or two that say which method to use, from the rows of `compare`.

    A model counts as faster where it answers as much as CP-SAT alone in less than 1 / MARGIN of the time.
    """
    by_method = {r["method"]: r for r in rows}
    if "solver" not in by_method:
        return without_solver(by_method)
    alone = by_method["solver"]
    models = [by_method[m] for m in ("verified", "hybrid") if m in by_method]
    as_good = [r for r in models if r["valid"] >= alone["valid"]]
    as_good_in_batch = [r for r in models if r["together_valid"] >= alone["together_valid"]]
    if not as_good and not as_good_in_batch:
        return f"{use_solver(alone)}; with the model before it fewer puzzles are answered."
    single = min(as_good, key=lambda r: r["p50_ms"], default=None)
    batch = max(as_good_in_batch, key=lambda r: r["per_second"], default=None)
    latency = "" if single is None else f"{single['p50_ms']:.1f} against {alone['p50_ms']:.1f} ms at the median"
    rate = "" if batch is None else f"{batch['per_second']:,.0f} against {alone['per_second']:,.0f} a second"
    faster_single = single is not None and single["p50_ms"] * MARGIN < alone["p50_ms"]
    faster_batch = batch is not None and batch["per_second"] > MARGIN * alone["per_second"]
    if single is not None and faster_single:
        slow_tail = single["p99_ms"] > MARGIN * alone["p99_ms"]
        tail = f"; its slowest in a hundred takes {single['p99_ms']:.0f} against {alone['p99_ms']:.0f} ms"
        tail = tail if slow_tail else ""
        if batch is not None and faster_batch:
            other = "" if single is batch else f" by {NAMES[batch['method']]}"
            return f"Use {NAMES[single['method']]}: {latency} of CP-SAT alone{tail}; for many at once {rate}{other}."
        why = f" ({rate} with the model before it)" if rate else ", which answers more of them"
        use = f"For one puzzle at a time use {NAMES[single['method']]}: {latency}{tail}"
        return f"{use}; for many at once CP-SAT alone{why}."
    if batch is not None and faster_batch:
        why = f" ({latency} with the model before it)" if latency else ", which answers more of them"
        return f"For one puzzle at a time use CP-SAT alone{why}; for many at once {NAMES[batch['method']]}: {rate}."
    return f"{use_solver(alone)}; the model before it makes that no faster."


def use_solver(alone: Mapping[str, Any]) -> str:
    """That CP-SAT alone is best, with its row's numbers; without the full stop."""
    return (
        f"Use CP-SAT alone: it answers {alone['valid']:.1%} of these puzzles, {alone['p50_ms']:.1f} ms at the median, "
        f"{alone['per_second']:,.0f} a second"
    )


def without_solver(by_method: Mapping[str, Mapping[str, Any]]) -> str:
    """The same where no exact model of the rules is known."""
    model = by_method["model"]
    if "verified" in by_method:
        checked = by_method["verified"]
        return (
            f"No exact solver is at hand for this puzzle: the model with its verifier answers {checked['valid']:.1%}, "
            f"{checked['p50_ms']:.1f} ms at the median, {checked['per_second']:,.0f} a second, and says "
            '"I don\'t know" to the rest.'
        )
    return (
        f"Neither rules nor an exact solver are known for this puzzle: {model['valid']:.1%} of the model's answers are "
        f"those of the file, {model['p50_ms']:.1f} ms at the median, and nothing tells which; innerloop calibrate says "
        "how far to trust one."
    )
