"""A small model that solves most 4x4 Sudokus, and a real server over it: a process of its own, asked over HTTP."""

import os

import numpy as np
import pytest
import torch

from innerloop import cli, tasks
from innerloop.runs.folder import open_run

TINY = ["plan.steps=140", "plan.batch=16", "plan.check_every=70", "plan.save_every=70", "plan.compile=off"]
TINY += ["data.count=200", "data.holdout=40", "config.dtype=float32", "config.net.hidden_size=32"]


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    """Neighbours on this machine cost no time then; servers inherit it."""
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    if before is None:
        del os.environ["OMP_NUM_THREADS"]


@pytest.fixture(scope="session")
def run(made_once):
    """A trained run folder."""
    return made_once(make_run, "four")


def make_run(folder):
    assert cli.main(["train", "sudoku4_trm", "--out", str(folder), "--device", "cpu", "--set", *TINY]) == 0


@pytest.fixture(scope="session")
def opened(run):
    return open_run(run)


@pytest.fixture(scope="session")
def puzzles():
    """Texts of puzzles that it was not trained on, easy and hard, one of them wrong from the start."""
    task = tasks.get("sudoku", size=4, givens=(4, 7))
    found = [task.decode(q) for q in task.make(24, 12345).inputs]
    clash = np.array(list(found[0]))
    clash[:2] = "1"
    return [*found, "".join(clash)]
