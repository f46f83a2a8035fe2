"""Any fixed-size puzzle from a file: attention with learned places, which presumes nothing about its rules."""

from __future__ import annotations

from dataclasses import replace

from innerloop.recipes.run import Data, Run
from innerloop.recipes.sudoku import CALM, QUICK, SMALL
from innerloop.weights import trm

PLAIN = replace(SMALL, width=128, mix="attention", positions="learned", prefix=1, pool="first")


def grid() -> Run:
    """Your own puzzle: `innerloop train grid --data my.csv`."""
    plan = replace(QUICK, steps=5000, lr=1e-3, warmup=200, ema=0.998, halting=replace(CALM, max_steps=8), depths=(8,))
    config = trm.Config(PLAIN, cycles=1, thoughts=5)
    return Run("grid", "trm", config, Data("", {}), plan, about="any fixed-size puzzle from your file")
