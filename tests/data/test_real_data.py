"""Published and generated sets that people use: they parse, and their labels pass this library's own checks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from innerloop.data.leakage import leakage
from innerloop.data.opening import open_set
from innerloop.tasks.maze import Maze
from innerloop.tasks.sudoku import Sudoku

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
pytestmark = pytest.mark.skipif(
    not DATA.is_dir(), reason="the folder shared/data with the real puzzle sets is not here"
)

SETS = {
    "sudoku9_extreme_hf1k_train.csv": ("sudoku", 9),
    "sudoku9_hard_test.csv": ("sudoku", 9),
    "sudoku9_17clue.csv": ("sudoku", 9),
    "sudoku9_multi.jsonl.gz": ("sudoku", 9),
    "sgt_sudoku4_test.jsonl.gz": ("sudoku", 4),
    "sgt_sudoku6_test.jsonl.gz": ("sudoku", 6),
    "maze30_hard_test.csv.gz": ("maze", 30),
    "rg_nqueens8.jsonl.gz": ("queens", 8),
    "rg_nqueens10.jsonl.gz": ("queens", 10),
    "sgt_binairo8_test.jsonl.gz": ("grid", 8),
    "arc_agi1_evaluation_public.json.gz": ("arc", 30),
    "arc_agi2_training.json.gz": ("arc", 30),
}


def need(name: str) -> Path:
    if not (DATA / name).exists():
        pytest.skip(f"{name} is not in shared/data")
    return DATA / name


@pytest.mark.slow
@pytest.mark.parametrize("name", SETS)
def test_real_sets_parse_and_their_labels_are_valid(name: str) -> None:
    task, s = open_set(need(name), limit=300)
    assert (task.name, task.shape[0]) == SETS[name] and len(s) == 300
    exact, token, valid = task.score_batch(s.inputs, s.labels, s.labels)
    assert exact.all() and (token == 1).all() and valid.all()
    turned = task.augment(s.inputs, s.labels, np.random.default_rng(0))
    assert task.valid_batch(*turned).all()
    assert task.canonical_batch(turned[0]) == task.canonical_batch(s.inputs)


@pytest.mark.slow
def test_real_sudokus_are_unique_where_they_should_be() -> None:
    task, s = open_set(need("sudoku9_hard_test.csv"), limit=25)
    assert isinstance(task, Sudoku)
    for question, label in zip(s.inputs, s.labels, strict=True):
        assert task.solutions(question) == 1 and np.array_equal(task.solve(question), label)
    task, s = open_set(need("sudoku9_multi.jsonl.gz"), limit=25)
    assert isinstance(task, Sudoku) and all(task.solutions(q) == 2 for q in s.inputs)


def test_published_mazes_have_their_published_length() -> None:
    task, s = open_set(need("maze30_hard_test.csv.gz"), limit=100)
    assert isinstance(task, Maze) and np.array_equal((s.labels == 5).sum(1) + 2, s.rating)
    assert (s.rating >= 110).all()


@pytest.mark.slow
def test_keys_of_14000_real_sudokus_never_collide() -> None:
    """These files share no class of puzzles, so every key must be its own."""
    names = ["sudoku9_17clue.csv", "sudoku9_hard_test.csv", "sudoku9_easy_test.csv", "sudoku9_medium_test.csv"]
    keys: list[bytes] = []
    for name in names:
        task, s = open_set(need(name))
        keys += task.canonical_batch(s.inputs)
    assert len(set(keys)) == len(keys) == 14000


@pytest.mark.slow
def test_no_leak_between_published_train_and_test() -> None:
    task, train = open_set(need("maze30_hard_train.csv.gz"))
    assert leakage(train, open_set(need("maze30_hard_test.csv.gz"))[1], task).count == 0
    task, train = open_set(need("sudoku9_hard_train.csv"))
    test = open_set(need("sudoku9_hfmatched_test.csv"))[1]
    assert leakage(train, test, task).count == 0
    # hfmatched is a subset of its siblings by design: a detector that finds nothing there finds nothing anywhere.
    assert leakage(open_set(need("sudoku9_hard_test.csv"))[1], test, task).count > 100
