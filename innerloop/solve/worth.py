"""Is a model worth having before an exact solver? Every way to solve, measured on the same puzzles, and what follows.

    rows = compare(solver, inputs, how, at_once, limit=30)      # one row a method, as WAYS
    print(advice(rows))

  solver            CP-SAT alone, no proposal
  model             one trajectory to the trained depth, its answer is trusted
  verified          up to `width` trajectories, the first valid answer; else "I don't know"
  hybrid            the same, and CP-SAT where nothing is valid, started from the guess
  hybrid, no hints  the same, but CP-SAT is not told of the guess

Latencies are of one puzzle at a time, the throughput is of all together: the model in batches, CP-SAT one by one. The
methods take turns, of fifty puzzles at most: all meet the same noise of the machine, and each finds the caches as it
left them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from innerloop.data.protocols import Tokens
from innerloop.interval import wilson
from innerloop.solve.exact import exact
from innerloop.solve.hybrid import has_exact, with_exact_fallback
from innerloop.solve.solver import Solver

__all__ = ["METHODS", "advice", "compare", "ways"]

TURN, TURNS = 50, 10  # puzzles that one method answers before the next has its turn: at most, and turns at least
METHODS = ("solver", "model", "verified", "hybrid", "hybrid, no hints")
MARGIN = 1.1  # how many times faster a model has to be, to be worth one more part to train and keep
Right = NDArray[np.bool_]


def ways(solver: Solver) -> tuple[str, ...]:
    """The methods that this solver's task allows, without the comparison of hints."""
    exact_model, verifies = has_exact(solver.task), solver.verify is not None
    allowed = {"solver": exact_model, "model": True, "verified": verifies, "hybrid": exact_model and verifies}
    return tuple(method for method, there in allowed.items() if there)


class Answered:
    """What one method answered to every puzzle."""

    def __init__(self) -> None:
        self.answers: list[Tokens | None] = []
        self.seconds: list[float] = []
        self.calls = 0  # of the exact solver
        self.together: dict[str, Any] = {}  # what became of all puzzles at once


def compare(
    solver: Solver,
    inputs: Tokens,
    how: Mapping[str, dict[str, Any]],
    at_once: Mapping[str, dict[str, Any]],
    limit: float,
    labels: Tokens | None = None,
    warm_up: bool = False,
) -> list[dict[str, Any]]:
    """One row a method: % valid with its interval, calls of the exact solver, latency, throughput, cost.

    inputs   (N, S) questions
    how      the methods to compare, and options of Solver.solve of each for one puzzle; at_once: likewise for all
    limit    seconds of the exact solver for one puzzle
    labels   (N, S): what is right where the solver has no verifier
    warm_up  run all once before the clock does, as for compiled steps
    """
    said = {method: Answered() for method in how}
    proved = np.zeros(len(inputs), bool)
    for method in how:
        one(method, solver, inputs[0], how[method], limit)  # the first call pays for what all share
    count, turn = len(inputs), min(TURN, max(1, len(inputs) // TURNS))
    turns = [(m, i) for k in range(0, count, turn) for m in how for i in range(k, min(k + turn, count))]
    for method, i in turns:
        began = time.perf_counter()
        answer, asked, best = one(method, solver, inputs[i], how[method], limit)
        said[method].seconds.append(time.perf_counter() - began)
        said[method].answers.append(answer)
        said[method].calls += asked
        proved[i] |= best
    for method in [m for m in ("model", "verified") if m in how] if warm_up else ():
        solver.solve(inputs, **at_once[method])
    for method in how:
        said[method].together = together(method, solver, inputs, at_once[method], limit, labels)
    best_cost = costs(solver, inputs, said["solver"].answers, labels) if "solver" in said else None
    return [row(solver, inputs, name, s, labels, best_cost, proved) for name, s in said.items()]


def one(method: str, solver: Solver, question: Tokens, how: dict[str, Any], limit: float) -> tuple[Any, bool, bool]:
    """(answer or None, whether the exact solver was asked, whether the answer is proved best) to one puzzle."""
    if method == "solver":
        result = exact(solver.task, question, seconds=limit)
        return result.answer, True, result.status == "optimal"
    found = solver.solve(question, **how)[0]
    if method == "model":
        return found.answer, False, False
    if method == "verified" or found.known:
        return found.answer if found.known else None, False, False
    found = with_exact_fallback(solver.task, question, found, limit, hints=method == "hybrid")
    return found.answer if found.known else None, True, False


def together(
    method: str, solver: Solver, inputs: Tokens, how: dict[str, Any], limit: float, labels: Tokens | None
) -> dict[str, Any]:
    """All puzzles at once: how many a second, how many answers are valid, how often the exact solver was asked."""
    began, asked = time.perf_counter(), 0
    answers: list[Tokens | None]
    if method == "solver":
        answers, asked = [exact(solver.task, q, seconds=limit).answer for q in inputs], len(inputs)
    else:
        found = solver.solve(inputs, **how)
        if method.startswith("hybrid"):
            asked, hints = sum(not f.known for f in found), method == "hybrid"
            pairs = zip(inputs, found, strict=True)
            found = [f if f.known else with_exact_fallback(solver.task, q, f, limit, hints=hints) for q, f in pairs]
        answers = [f.answer if f.known or method == "model" else None for f in found]
    seconds = time.perf_counter() - began
    _, valid = judged(solver, inputs, answers, labels)
    return {"per_second": len(inputs) / seconds, "together_valid": float(valid.mean()), "together_calls": int(asked)}


def judged(
    solver: Solver, inputs: Tokens, answers: Sequence[Tokens | None], labels: Tokens | None
) -> tuple[Tokens, Right]:
    """(N, S) answers, the question where there is none, and (N,) whether each is there and right."""
    filled = np.stack([q if a is None else a for q, a in zip(inputs, answers, strict=True)])
    there = np.array([a is not None for a in answers])
    verify: Callable[[Tokens, Tokens], Right] | None = solver.verify
    if verify is not None:
        return filled, verify(inputs, filled) & there
    assert labels is not None
    return filled, ((filled == labels) | (labels == 0)).all(1) & there


def costs(
    solver: Solver, inputs: Tokens, answers: Sequence[Tokens | None], labels: Tokens | None
) -> NDArray[np.float64] | None:
    """(N,) cost of each answer, NaN where there is none; None where the task has no objective."""
    filled, valid = judged(solver, inputs, answers, labels)
    known = solver.task.cost(inputs, filled)
    return None if known is None else np.where(valid, known, np.nan)


def row(
    solver: Solver, inputs: Tokens, method: str, said: Answered, labels: Tokens | None, best: Any, proved: Right
) -> dict[str, Any]:
    """What is told of one method. `gap`: cost of valid answers above the best, where the solver alone proved one."""
    _, valid = judged(solver, inputs, said.answers, labels)
    low, high = wilson(float(valid.sum()), len(inputs))
    p50, p99 = np.quantile(said.seconds, [0.5, 0.99]) * 1000
    made = {"method": method, "valid": float(valid.mean()), "low": low, "high": high, "solver_calls": said.calls}
    made |= {"p50_ms": float(p50), "p99_ms": float(p99), "mean_ms": float(np.mean(said.seconds) * 1000)}
    made |= said.together
    if best is not None:
        gaps = (costs(solver, inputs, said.answers, labels) - best)[valid & proved]
        made |= {"gap": float(gaps.mean()), "best": float((gaps == 0).mean()), "compared": len(gaps)}
        made["best_cost"] = float(np.nanmean(best))
    return made


# -- what follows -----------------------------------------------------------------------------------------------------


def advice(rows: Sequence[Mapping[str, Any]]) -> str:
    """A sentence or two that say which method to use, from the rows of `compare`.

    A model counts as faster where it answers as much as CP-SAT alone in less than 1 / MARGIN of the time.
    """
    by = {r["method"]: r for r in rows}
    if "solver" not in by:
        return without_solver(by)
    alone = by["solver"]
    rivals = [by[m] for m in ("verified", "hybrid") if m in by]
    single = [r for r in rivals if r["valid"] >= alone["valid"]]
    whole = [r for r in rivals if r["together_valid"] >= alone["together_valid"]]
    soon = min(single, key=lambda r: r["p50_ms"], default=alone)
    many = max(whole, key=lambda r: r["per_second"], default=alone)
    sooner = soon["p50_ms"] * MARGIN < alone["p50_ms"]
    more = many["per_second"] > MARGIN * alone["per_second"]
    latency = f"{soon['p50_ms']:.1f} against {alone['p50_ms']:.1f} ms at the median"
    rate = f"{many['per_second']:,.0f} against {alone['per_second']:,.0f} a second"
    tail = soon["p99_ms"] > MARGIN * alone["p99_ms"]
    slow = f"; its slowest in a hundred takes {soon['p99_ms']:.0f} against {alone['p99_ms']:.0f} ms" if tail else ""
    if sooner and more:
        other = "" if soon is many else f" by {NAMES[many['method']]}"
        return f"Use {NAMES[soon['method']]}: {latency} of CP-SAT alone{slow}; for many at once {rate}{other}."
    if sooner:
        return f"For one puzzle at a time use {NAMES[soon['method']]}: {latency}{slow}; for many CP-SAT alone ({rate})."
    if more:
        return (
            f"For one puzzle at a time use CP-SAT alone ({latency} with the model before it); for many at once "
            f"{NAMES[many['method']]}: {rate}."
        )
    lack = "" if single else ", and with the model fewer puzzles are answered"
    return (
        f"Use CP-SAT alone: it answers {alone['valid']:.1%} of these puzzles, {alone['p50_ms']:.1f} ms at the median, "
        f"{alone['per_second']:,.0f} a second; the model before it makes that no faster{lack}."
    )


NAMES = {"verified": "the model with its verifier", "hybrid": "the model with CP-SAT behind it"}


def without_solver(by: Mapping[str, Mapping[str, Any]]) -> str:
    """The same where no exact model of the rules is known."""
    model = by["model"]
    if "verified" in by:
        kept = by["verified"]
        return (
            f"No exact solver is at hand for this puzzle: the model with its verifier answers {kept['valid']:.1%}, "
            f'{kept["p50_ms"]:.1f} ms at the median, {kept["per_second"]:,.0f} a second, and says "I don\'t know" to '
            "the rest."
        )
    return (
        f"Neither rules nor an exact solver are known for this puzzle: {model['valid']:.1%} of the model's answers are "
        f"those of the file, {model['p50_ms']:.1f} ms at the median, and nothing tells which; innerloop calibrate says "
        "how far to trust one."
    )
