"""One puzzle in the engine: what its trajectories see, and what comes back of it."""

import numpy as np

from innerloop.rules.symmetry import Views
from innerloop.solve.engine import StepOutput
from innerloop.solve.job import PuzzleJob
from innerloop.solve.options import SolveOptions


def test_what_a_trajectory_finds_in_its_view_comes_back_cell_by_cell():
    """Answer and certainty alike, also where doing a symmetry twice does not undo it."""
    question, nan = np.array([1, 2, 3, 4], np.uint8), float("nan")
    views = Views(np.array([[0, 1, 2, 3], [1, 2, 0, 3]]), np.array([[0, 1, 2, 3, 4], [0, 2, 3, 4, 1]], np.uint8))
    job = PuzzleJob(None, question, SolveOptions(width=2), views=views)
    seen = job.question_of(1)
    assert seen.tolist() == [3, 4, 2, 1]
    certainty = np.array([0.2, 0.3, 0.1, 0.4], np.float32)  # of cells 1, 2, 0 and 3
    back = job.in_original_view(1, StepOutput(1, seen, certainty, nan, nan, nan, None))
    assert back.answer.tolist() == question.tolist()
    assert back.certainty.tolist() == certainty[[2, 0, 1, 3]].tolist()
