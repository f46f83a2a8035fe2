"""A trained run as a solver: its loop and task, with what calibration found about its confidence."""

from __future__ import annotations

from typing import Any

from innerloop.runs.folder import OpenedRun
from innerloop.runs.single import read_attached
from innerloop.solve.calibrate import from_file
from innerloop.solve.solver import Solver

__all__ = ["CALIBRATION", "solver_of"]

CALIBRATION = "calibration.json"  # in a run's folder


def solver_of(opened: OpenedRun, **how: Any) -> Solver:
    """The solver of a trained run; `how` are further arguments of Solver."""
    trusts = from_file(read_attached(opened, CALIBRATION))
    device = next(opened.loop.parameters()).device
    return Solver(opened.loop, opened.task, **{"calibrations": trusts, "device": device} | how)
