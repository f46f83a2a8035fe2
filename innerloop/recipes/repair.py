"""Recipes for repairing rosters and timetables after an absence, with few changes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from innerloop.recipes.sudoku import QUICK, SMALL, SPREAD
from innerloop.runs.run import Data, Run
from innerloop.weights import trm

# Messages along rows, columns and the days of one person; the grid names its days, so no learned places are needed.
UNITS = trm.Config(replace(SMALL, hidden_size=64), cycles=1, thoughts=5)


def _repair(name: str, options: dict[str, Any], about: str, steps: int = 6000) -> Run:
    plan = replace(
        QUICK,
        steps=steps,
        ema=0.998,
        halting=replace(SPREAD, max_steps=8),
        depths=(8,),
        check_every=500,
        save_every=250,
    )
    task = name.partition("_")[0]
    return Run(name, "trm", UNITS, Data(task, options, count=20_000, holdout=300), plan, about=about)


def roster_small() -> Run:
    """Shift rosters of 6 people, 5 days and 2 shifts, repaired after an absence."""
    return _repair("roster_small", {"staff": 6, "days": 5, "shifts": "EN"}, "roster repair, 6 people, 5 days")


def roster() -> Run:
    """Shift rosters of 10 people, a week and 3 shifts, repaired."""
    return _repair("roster", {}, "roster repair, 10 people, 7 days")


def roster_large() -> Run:
    """Shift rosters of 16 people, a fortnight and 2 shifts, repaired."""
    return _repair("roster_large", {"staff": 16, "days": 14, "shifts": "DN"}, "roster repair, 16 people, 14 days")


def timetable_small() -> Run:
    """Timetables of 5 teachers and 4 classes over 2 days, repaired after an absence."""
    options = {"teachers": 5, "classes": 4, "days": 2, "periods": 3, "absences": (1, 1)}
    return _repair("timetable_small", options, "timetable repair, 5 teachers, 2 days", 12_000)


def timetable() -> Run:
    """Timetables of the task's default size, repaired."""
    return _repair("timetable", {}, "timetable repair, default size", 12_000)


def timetable_large() -> Run:
    """Timetables of 10 teachers and 7 classes over a week, repaired."""
    options = {"teachers": 10, "classes": 7, "days": 5, "periods": 4, "rooms": 2, "absences": (1, 3)}
    return _repair("timetable_large", options, "timetable repair, 10 teachers, 5 days")
