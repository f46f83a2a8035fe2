"""Recipes for any fixed-size puzzle from a file, with rules on neighbours, rows and columns, the same everywhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from innerloop.recipes.sudoku import LONG, MIXED, QUICK, SMALL, SPREAD, sized
from innerloop.runs.run import Data, Run
from innerloop.tasks.grid import Grid
from innerloop.weights import trm

PLAIN = replace(SMALL, hidden_size=128, block="attention", positions="learned", prefix=1, pool="first")


ALL = Data("", {}, count=0, holdout=0)  # of a file, of which a tenth is to validate on
CHANNELS = 32  # of a place; where the names of symbols mean nothing, of each symbol


def grid() -> Run:
    """Your own puzzle: `innerloop train grid --data FILE.csv`."""
    plan = replace(LONG, steps=12_000, halting=replace(MIXED, max_steps=8), depths=(8,), check_every=500, patience=8)
    return Run("grid", "orbit", sized(CHANNELS), ALL, plan, about="any fixed-size puzzle from your file")


def changes_for(task: Grid, symmetries: Sequence[str]) -> list[str]:
    """What to change in the recipe `grid` where these symmetries are told: its width, if symbols are only names."""
    symbols = task.vocab - 1 - bool(task.blank)
    return [f"config.net.hidden_size={CHANNELS * symbols}"] if "names" in symmetries else []


def grid_attention() -> Run:
    """The same by TRM's recursion over attention with learned places, which presumes nothing."""
    plan = replace(QUICK, steps=5000, lr=1e-3, warmup=200, ema=0.998, halting=replace(SPREAD, max_steps=8), depths=(8,))
    config = trm.Config(PLAIN, cycles=1, thoughts=5)
    return Run("grid_attention", "trm", config, ALL, plan, about="the same by attention, which presumes nothing")
