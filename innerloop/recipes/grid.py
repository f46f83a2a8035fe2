"""Recipes for any fixed-size puzzle from a file, with rules on neighbours, rows and columns, the same everywhere."""

from __future__ import annotations

from dataclasses import replace

from innerloop.recipes.sudoku import LONG, MIXED, QUICK, SMALL, SPREAD, sized
from innerloop.runs.run import Data, Run
from innerloop.weights import trm

PLAIN = replace(SMALL, hidden_size=128, block="attention", positions="learned", prefix=1, pool="first")


def grid() -> Run:
    """Your own puzzle: `innerloop train grid --data FILE.csv`."""
    plan = replace(
        LONG, steps=12_000, batch=32, halting=replace(MIXED, max_steps=8), depths=(8,), check_every=500, patience=8
    )
    return Run("grid", "orbit", sized(64), Data("", {}), plan, about="any fixed-size puzzle from your file")


def grid_attention() -> Run:
    """The same by TRM's recursion over attention with learned places, which presumes nothing."""
    plan = replace(QUICK, steps=5000, lr=1e-3, warmup=200, ema=0.998, halting=replace(SPREAD, max_steps=8), depths=(8,))
    config = trm.Config(PLAIN, cycles=1, thoughts=5)
    return Run(
        "grid_attention", "trm", config, Data("", {}), plan, about="the same by attention, which presumes nothing"
    )
