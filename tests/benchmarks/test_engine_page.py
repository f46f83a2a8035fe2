"""What the pages say of the engine: the first sentence names what does not pay, and nothing is said unmeasured."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

import engine_page
import table

ROW = {
    "accuracy": 1.0,
    "mean_steps": 2.0,
    "ideal": 1.5,
    "occupancy": 0.9,
    "puzzles_per_s": 9.0,
    "low": 8.0,
    "high": 9.5,
}
CHOSEN = {
    "fixed_depth": 3, "rounds": 14, "rounds_of_a_step": 6, "verified": {"looks": 2},
    "continuous": {"looks": 3, "rule": "sure", "level": 0.9},
}  # fmt: skip


def value(**gains):
    rows = [ROW | {"policy": k, "against_fixed": v, "against_full": 2 * v} for k, v in gains.items()]
    said = {"run": "demo-x", "data": "made", "batch": 64, "depth": 16, "slack": 0.005, "chosen": CHOSEN, "rows": rows}
    born = {"command": "c", "commit": "d", "seeds": [1], "torch": "t", "device": "cpu", "threads": 1}
    return said | {"test_puzzles": 300, "validation_puzzles": 200, "arrivals": [], "born": born}


def test_what_does_not_pay_is_said_first():
    lines = engine_page.paragraph([value(fixed=1.0, rounds=1.05, continuous=0.77, verified=2.5)])
    assert "does not pay: continuous batching by depth on `demo-x` (0.77x)." in lines[0]
    assert "This pays: continuous, until a verifier agrees on `demo-x` (2.50x)" in lines[1]
    slower = value(continuous=1.5)
    slower["rows"][0]["against_rounds"] = 1.02  # a fixed number of rounds is the stronger rival
    assert "(1.02x)" in engine_page.paragraph([slower])[0]
    assert "verif" not in lines[0] and "All of it pays" in engine_page.paragraph([value(continuous=1.4)])[0]


def test_without_a_result_there_is_the_command_and_no_number():
    text = "\n".join(engine_page.paragraph([]))
    assert "not measured" in text and "benchmarks/engine.py demo-sudoku9" in text and "x)" not in text


def test_the_section_names_the_rule_as_the_library_does():
    text = "\n".join(table.batching("engine_x", value(fixed=1.0, continuous=0.77)))
    assert "confident_and_unchanged(0.9), looked at 3 times a step, verified 2 times a step" in text
    assert "best fixed depth 3, best fixed number of rounds 14 (6 are a step)" in text
