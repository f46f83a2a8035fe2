"""Scheduler: the threads that write with one loop share one batch, as the requests of a server do.

    scheduler = Scheduler(rows);   done = scheduler.run(jobs)        # from any number of threads at once

There is no thread of its own: one of those that wait runs the batch until its own jobs have ended, then another does.
What a tick costs is charged to nobody here, as a batch holds jobs of many: who submits a job charges for it.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextvars import Context
from typing import Any

from innerloop.rows import Done, Rows

__all__ = ["Scheduler"]


class Scheduler:
    """See the module docstring; rows: an innerloop.rows.Rows that nobody else uses."""

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        self._changed = threading.Condition()
        self._new: list[Any] = []  # jobs that are not submitted yet
        self._cancelled: list[Any] = []  # jobs that are to end at the next tick
        self._done: dict[int, Done] = {}  # by id of the job, until it is fetched
        self._dropped: set[int] = set()  # ids of cancelled jobs that nobody will fetch
        self._running = False

    def run(self, jobs: Sequence[Any]) -> list[Done]:
        """The ends of these jobs, in their order. Raises what a step raises, and drops these jobs; others stay."""
        wanted = {id(job) for job in jobs}
        with self._changed:
            self._new += jobs
        while True:
            with self._changed:
                while self._running and not wanted <= self._done.keys():
                    self._changed.wait()
                if wanted <= self._done.keys():
                    return [self._done.pop(id(job)) for job in jobs]
                self._running = True
            try:
                Context().run(self._run_until, wanted)
            except BaseException:
                self._drop(jobs)
                raise
            finally:
                with self._changed:
                    self._running = False
                    self._changed.notify_all()

    def cancel(self, jobs: Sequence[Any]) -> None:
        """End these jobs with what they have; those that have ended are ignored."""
        with self._changed:
            self._cancelled += jobs

    def _drop(self, jobs: Sequence[Any]) -> None:
        """Cancel these jobs, whose ends nobody waits for any more."""
        with self._changed:
            ids = {id(job) for job in jobs}
            self._cancelled += [job for job in jobs if id(job) not in self._done]
            self._dropped |= ids - self._done.keys()
            self._done = {key: done for key, done in self._done.items() if key not in ids}

    def _run_until(self, wanted: set[int]) -> None:
        """Tick until these jobs have ended."""
        while True:
            with self._changed:
                fresh, self._new = self._new, []
                cancelled, self._cancelled = self._cancelled, []
            for job in fresh:
                self.rows.submit(job)
            ended = self.rows.cancel(cancelled) + self.rows.tick()
            if ended:
                with self._changed:
                    self._done |= {id(done.job): done for done in ended if id(done.job) not in self._dropped}
                    self._dropped -= {id(done.job) for done in ended}
                    self._changed.notify_all()
                    if wanted <= self._done.keys():
                        return
