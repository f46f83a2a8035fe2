"""Sudoku: from a 4x4 that a laptop learns in seconds to Sudoku-Extreme."""

from __future__ import annotations

from dataclasses import replace

from innerloop.learn.plan import Plan
from innerloop.learn.supervise import Halting
from innerloop.parts.size import Size
from innerloop.recipes.run import Data, Run
from innerloop.weights import trm

# A small net over rows, columns and boxes; halting off and lives spread, so that every depth up to 16 is trained.
SMALL = Size(
    width=96, heads=4, layers=1, expansion=3.0, multiple=32, mix="units", positions="none", prefix=0, puzzle_width=0
)
CALM = Halting(max_steps=8, learned=False, explore=0.0, spread=True)
QUICK = Plan(
    steps=300,
    batch=32,
    optimizer="adamw",
    lr=2e-3,
    weight_decay=0.1,
    warmup=20,
    ema=0.99,
    loss="softmax",
    halting=CALM,
    check_every=100,
    save_every=500,
    depths=(8,),
)


def sudoku4() -> Run:
    data = Data("sudoku", {"size": 4}, count=200, holdout=500)
    return Run("sudoku4", "trm", trm.Config(SMALL, cycles=2, thoughts=2), data, QUICK, about="4x4 Sudoku in seconds")


def sudoku6() -> Run:
    data = Data("sudoku", {"size": 6}, count=2000, holdout=500)
    plan = replace(QUICK, steps=600)
    return Run("sudoku6", "trm", trm.Config(SMALL, cycles=2, thoughts=2), data, plan, about="6x6 in half a minute")


def demo() -> Run:
    data = Data("sudoku", {"size": 9, "givens": (35, 45)}, count=2000, holdout=500)
    plan = replace(QUICK, steps=1600, check_every=200)
    return Run("demo", "trm", trm.Config(SMALL, cycles=2, thoughts=2), data, plan, about="9x9 Sudoku in two minutes")
