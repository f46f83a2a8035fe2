"""Mazes: a shortest path, found by letting information travel cell by cell."""

from __future__ import annotations

from dataclasses import replace

from innerloop.recipes.run import Data, Run
from innerloop.recipes.sudoku import CALM, QUICK, SMALL
from innerloop.weights import trm

# Eight calls a step, each of which moves information by one cell; all of them on the tape.
LOCAL = replace(SMALL, width=64, mix="conv")
LOCAL_TRM = trm.Config(LOCAL, cycles=1, thoughts=7, dtype="float32")


def maze11() -> Run:
    """Perfect 11x11 mazes, generated."""
    halting = replace(CALM, max_steps=8)
    plan = replace(QUICK, steps=2500, lr=2e-3, ema=0.998, halting=halting, depths=(8,), check_every=250, save_every=250)
    data = Data("maze", {"size": 11, "kind": "perfect"}, count=10_000, holdout=300)
    return Run("maze11", "trm", LOCAL_TRM, data, plan, about="11x11 mazes with one path, in minutes")


def maze_hard() -> Run:
    """Maze-Hard 30x30 from its file, on a CPU."""
    plan = replace(QUICK, steps=5000, batch=8, lr=1e-3, ema=0.998, check_every=1000, save_every=250)
    config = replace(LOCAL_TRM, dtype="bfloat16")
    return Run("maze_hard", "trm", config, Data("maze", {}, holdout=100), plan, about="30x30 Maze-Hard from a file")
