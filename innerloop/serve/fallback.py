"""Exact solver (OR-tools CP-SAT) for puzzles that a model does not know, in its own thread pool."""

from __future__ import annotations

import asyncio
import math
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from innerloop.data.protocols import Tokens
from innerloop.solve.engine import QueueFull
from innerloop.solve.exact import cp_sat
from innerloop.solve.hybrid import with_exact_fallback
from innerloop.solve.options import Solution

__all__ = ["Fallback"]

THREADS = 2
MAX_REQUESTS = 64  # requests that may wait for it or run at once


class Fallback:
    """Solves puzzles that the model does not know by OR-tools CP-SAT, with the model's answer as a hint."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(THREADS, "innerloop-exact")
        self._active = 0
        self._latest_deadline = math.inf  # time.monotonic() at which all must be done
        self._mean_seconds = 1.0  # of a puzzle, waiting for a thread included; exponential moving average

    def warm(self) -> None:
        """Import OR-tools, which takes about a second, before the first request."""
        self._pool.submit(cp_sat)

    def acquire(self) -> None:
        """Reserve a slot for a request that may need the exact solver. Raises QueueFull at MAX_REQUESTS."""
        if self._active >= MAX_REQUESTS:
            raise QueueFull(f"{MAX_REQUESTS} requests that may need the exact solver are active: try again later")
        self._active += 1

    def release(self) -> None:
        self._active -= 1

    def retry_after(self, limit: float) -> float:
        """Estimated seconds until an active request is done, from 1 to `limit`."""
        return min(max(1.0, self._mean_seconds), limit)

    def limit_deadlines(self, deadline: float) -> None:
        """Cap the deadline of every later call at `deadline` (time.monotonic())."""
        self._latest_deadline = min(self._latest_deadline, deadline)

    async def solve_unknown(
        self, task: Any, question: Tokens, solution: Solution, deadline: float, seed: int = 0
    ) -> Solution:
        """`solution` where it is known, else the exact solver's result by `deadline` (time.monotonic())."""
        if solution.known:
            return solution

        def remaining() -> float:
            return min(deadline, self._latest_deadline) - time.monotonic()

        began = time.monotonic()
        improved = await asyncio.get_running_loop().run_in_executor(
            self._pool, lambda: with_exact_fallback(task, question, solution, remaining(), seed)
        )
        self._mean_seconds += 0.1 * (time.monotonic() - began - self._mean_seconds)
        return improved
