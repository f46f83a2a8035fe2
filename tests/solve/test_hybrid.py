"""The exact solver behind the model: what it is told of the model's answer."""

from types import SimpleNamespace

import numpy as np
import pytest

from innerloop.solve import hybrid
from innerloop.solve.options import Solution


@pytest.mark.parametrize("objective", [False, True])
def test_cells_are_held_only_where_all_answers_are_as_good(objective, monkeypatch):
    """Where answers cost differently, a certain cell may be wrong for the best of them: it is a hint, no more."""
    asked = []

    def exact(task, question, hint, fixed, seconds, seed):
        asked.append((hint, fixed))
        return SimpleNamespace(answer=None, status="unknown", seconds=0.0)

    monkeypatch.setattr(hybrid, "exact", exact)
    answer, certainty = np.array([2, 3], np.uint8), np.array([0.95, 0.5], np.float32)
    model = Solution(False, answer, "23", False, 0.0, "verified", "none is valid", "model", 0, 1, 4, 4, 0.1, certainty)
    task = SimpleNamespace(has_objective=objective)
    found = hybrid.with_exact_fallback(task, np.array([1, 1], np.uint8), model, 1.0)
    ((hint, fixed),) = asked
    assert not found.known and hint.tolist() == [2, 3]
    assert fixed is None if objective else fixed.tolist() == [True, False]
