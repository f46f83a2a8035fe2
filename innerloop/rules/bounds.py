"""Limits of an exact search in nodes and seconds, since searches are exponential in the worst case."""

from __future__ import annotations

import math
import time

from innerloop.errors import InputError

__all__ = ["SearchBound", "Undecided"]

NODES_PER_CLOCK_CHECK = 64  # nodes between two checks of the clock


class Undecided(InputError):
    """A search reached its bound before it was done: its result is unknown."""


class SearchBound:
    """The budget of one search. A search calls `node` for each node it enters, which raises Undecided at the bound."""

    def __init__(self, nodes: float = math.inf, seconds: float = math.inf) -> None:
        self.nodes, self.seen, self.until = nodes, 0, time.monotonic() + seconds

    def node(self) -> None:
        """Enter one node. Raises Undecided."""
        self.seen += 1
        if self.seen > self.nodes or (self.seen % NODES_PER_CLOCK_CHECK == 0 and time.monotonic() > self.until):
            raise Undecided(f"the search was not done within its bound, after {self.seen - 1} nodes")
