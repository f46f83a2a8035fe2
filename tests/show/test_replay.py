"""A thought in plain JSON ends as the solver answers, and a report of a run tells thoughts and measures."""

import json

import numpy as np
import pytest
import torch

from innerloop import cli, tasks
from innerloop.cli.inputs import open_run
from innerloop.show import described, report
from innerloop.solve.options import SolveOptions
from innerloop.solve.solver import Solver

SMALL = ["plan.steps=60", "plan.batch=16", "plan.check_every=60", "plan.save_every=60", "plan.compile=off"]
SMALL += ["data.count=100", "data.holdout=20", "config.dtype=float32", "config.net.hidden_size=32"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("thought") / "four"
    assert cli.main(["train", "sudoku4", "--out", str(folder), "--device", "cpu", "--set", *SMALL]) == 0
    return folder


@pytest.fixture(scope="module")
def opened(run):
    return open_run(run)


@pytest.fixture(scope="module")
def puzzles():
    return tasks.get("sudoku", size=4, givens=(4, 9)).make(6, 77)


@pytest.mark.parametrize(
    "dials",
    [
        SolveOptions(10, 1, "verified"),
        SolveOptions(10, 4, "verified", seed=1),
        SolveOptions(10, 4, "verified", guess=False, seed=1),
        pytest.param(SolveOptions(30, 2, "first"), marks=pytest.mark.slow),
        SolveOptions(10, 3, "vote", noise=(0.3, 0.1), halting=True),
        SolveOptions(10, 3, "residual", views=False, noise=(0.3, 0.0)),
    ],
    ids=str,
)
def test_a_thought_ends_as_the_solver_answers(opened, puzzles, dials):
    solver = Solver(opened.loop, opened.task)
    how = {name: getattr(dials, name) for name in ("noise", "views", "guess", "halting", "seed")}
    alone = solver.solve(puzzles, dials.depth, dials.width, dials.pick, **how)
    for i, wanted in enumerate(alone):
        told = report.replay_json(solver, puzzles, i, dials)
        found = told["done"]["solution"]
        for name in ("known", "valid", "steps", "trajectory", "width", "why", "confidence"):
            assert found[name] == getattr(wanted, name), name
        # Rows of a wave that can no longer win may be stepped once more before they leave the engine.
        assert 0 <= wanted.nfe - found["nfe"] <= (dials.pick == "verified") * (dials.width - 1) * solver.nfe_per_step
        assert found["answer"] == wanted.text and 0 < found["seconds"] < 60
        steps = [(s["trajectory"], s["step"]) for s in told["steps"]]
        assert sorted(steps) == [(k, t) for k in range(dials.width) for t in range(1, dials.depth + 1)]
        halts = [next((s["step"] for s in told["steps"] if s["trajectory"] == k and s["would_halt"]), None)
                 for k in range(dials.width)]  # fmt: skip
        assert told["done"]["halts"] == halts and len(told["done"]["scores"]) == dials.width
        json.dumps(told, allow_nan=False)


def test_a_loop_without_a_halting_head_stops_nowhere(opened, puzzles):
    class Headless(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.loop = opened.loop

        def init(self, x):
            return self.loop.init(x)

        def step(self, s, x):
            return self.loop.step(s, x)

        def read(self, s):
            return self.loop.read(s)._replace(q_halt=None)

    told = report.replay_json(Solver(Headless(), opened.task), puzzles, 0, SolveOptions(4, 2, "vote"))
    assert told["done"]["halts"] == [None, None] and told["steps"][0]["confidence"] is None


def test_curves_of_what_other_verbs_left(opened):
    row = dict.fromkeys(described.CURVE_FIELDS, 1) | {"valid": None, "halting": False}
    slot = {"corrected": None, "plain": 2.5, "low": float("nan"), "high": 3.0, "effective_rank": 2.0}
    studied = {"dimension": {"trained": {"z": [{}, slot], "none": []}}}
    found = described.curves_json({"rows": [row, {"depth": 8}]}, studied, Solver(opened.loop, opened.task))
    assert found["depth"] == [row] and found["trust"] == []
    assert found["modules"] == [
        {"slot": "z", "participation_ratio": 2.5, "low": None, "high": 3.0, "effective_rank": 2.0}
    ]


def test_a_report_of_a_calibrated_run(run, opened):
    assert cli.main(["calibrate", str(run), "--depth", "2", "--width", "2", "--device", "cpu"]) == 0
    try:
        assert cli.main(["report", str(run), "--depth", "4"]) == 0
    finally:
        (run / "calibration.json").unlink()
    text = (run / "report.html").read_text()
    model = json.loads(text.partition('id="data">')[2].partition("</script>")[0])["model"]
    assert model["calibrated"] and {"vote", "q"} <= {t["rule"] for t in model["curves"]["trust"]}
    assert len(model["curves"]["halting"]) == 20 and model["system"] == opened.run.system
    assert np.isfinite([h["steps"] for h in model["curves"]["halting"]]).all()
