"""Mazes: a shortest path, found by letting information travel cell by cell."""

from __future__ import annotations

from dataclasses import replace

from innerloop.recipes.sudoku import FAST, LONG, MIXED, sized
from innerloop.runs.run import Data, Run

# Eight calls a step, each of which moves information by one cell; all of them on the tape.
LOCAL = replace(sized(32), rounds=8)


def maze11() -> Run:
    """Perfect 11x11 mazes, generated."""
    halting = replace(MIXED, max_steps=8)
    plan = replace(FAST, steps=2000, ema=0.99, halting=halting, depths=(8,), check_every=250, save_every=250)
    data = Data("maze", {"size": 11, "kind": "perfect"}, count=10_000, holdout=300)
    return Run("maze11", "orbit", LOCAL, data, plan, about="11x11 mazes with one path, in half a minute")


def maze_hard() -> Run:
    """Maze-Hard 30x30 from its file, on a CPU."""
    plan = replace(LONG, steps=6000, check_every=500, save_every=250)
    return Run("maze_hard", "orbit", LOCAL, Data("maze", {}, holdout=100), plan, about="30x30 Maze-Hard from a file")
