"""How many files of the package one solved puzzle and one training step enter: what a reader has to open."""

import sys
from pathlib import Path

import torch

import innerloop
from innerloop import tasks
from innerloop.learn.plan import Plan
from innerloop.learn.train import Trainer

HOME = Path(innerloop.__file__).parent


def entered(act):
    """The files of which a function runs in `act`; what only defines things when it is imported does not count."""
    found = set()

    def see(frame, event, _):
        if event == "call" and frame.f_code.co_name != "<module>":
            found.add(frame.f_code.co_filename)

    sys.setprofile(see)
    try:
        act()
    finally:
        sys.setprofile(None)
    return sorted(str(Path(f).relative_to(HOME)) for f in found if f.startswith(str(HOME)))


def test_one_solved_puzzle_enters_few_files():
    solver = innerloop.open_solver("demo-sudoku4")
    files = entered(lambda: solver.solve("1.3.34.2.1.34.2."))
    assert "weights/orbit.py" in files and len(files) <= 25, files


def test_one_training_step_enters_few_files(tmp_path):
    opened = innerloop.open_run("demo-sudoku4")
    examples = tasks.get("sudoku", size=4).make(64, 0)
    with torch.random.fork_rng(devices=[]):
        trainer = Trainer(opened.loop, opened.task, examples, Plan(batch=8), tmp_path, live=False)
        trainer.train_step()  # what is made once
        files = entered(trainer.train_step)
    assert "weights/orbit.py" in files and len(files) <= 19, files
