"""What the pages say by difficulty: a fall with depth is named, and nothing is said that was not measured."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

import difficulty_page
import numpy as np
import trajectories


def measured(exact_16, exact_256, lost, won):
    rows = [
        {"level": "all", "depth": d, "puzzles": 9, "exact": e, "low": 0, "high": 1}
        for d, e in ((16, exact_16), (256, exact_256))
    ]
    levels = {"singles": 0.5, "subsets": 0.25, "beyond": 0.25}
    return {"rows": [{"set": "x", "puzzles": 9, "levels": levels, "rows": rows, "lost_and_won": [lost, won]}]}


def test_a_fall_with_depth_is_named():
    up = difficulty_page.short(measured(0.5, 0.6, 1, 2))
    assert up[-1] == "No set falls from depth 16 to 256: of 9 puzzles 2 are solved only at 256, and 1 only at 16."
    assert "| `x` | 9 | 50% | 25% | 25% | 50.0 (0 to 100) | 60.0 (0 to 100) |" in up
    assert difficulty_page.short(measured(0.6, 0.5, 2, 1))[-1].startswith("Accuracy falls from depth 16 to 256 on x:")
    assert "Not measured yet:" in difficulty_page.short(None)
    assert "not measured" in difficulty_page.width(None)[0]


def test_equal_steps_are_shared_out_between_trajectories():
    """Every width has trajectories as long as its share, and is charged only for what ran before a valid answer."""
    plan = trajectories.plans(256, 16)
    assert [plan[w - 1] for w in (1, 2, 4, 8, 16)] == [256, 128, 64, 32, 16]
    never = trajectories.NEVER
    found = trajectories.whole(np.array([5, never]), np.array([1]), np.array([[never, 10, never, never]]))
    row = trajectories.row(found, 64, 4, calls=6)
    assert row["accuracy"] == 1 and row["nfe"] == 6 * (5 + (64 + 3 * 10)) / 2
    assert trajectories.row(found, 256, 1, calls=6)["accuracy"] == 0.5
