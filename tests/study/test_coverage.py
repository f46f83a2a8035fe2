"""Coverage against exact search and against the law of drawing with replacement."""

from functools import cache
from typing import NamedTuple

import numpy as np
import pytest
import torch

from innerloop.core import Answer, think
from innerloop.errors import InputError
from innerloop.learn.stream import to_batch
from innerloop.noise import key_of, salted, scramble, uniform
from innerloop.parts.config import NetConfig
from innerloop.runs.fit import fit_config
from innerloop.study.coverage import coverage, coverage_of, sample_answers
from innerloop.tasks import get
from innerloop.weights import gram, trm
from innerloop.width import Noisy

TINY = NetConfig(hidden_size=32, heads=2, layers=1, expansion=1.5, multiple_of=32, puzzle_emb_size=32)


class State(NamedTuple):
    inputs: torch.Tensor
    key: torch.Tensor


class Oracle:
    """A loop that knows every solution and says one of them at random; with `blunder`, now and then nonsense."""

    def __init__(self, task, blunder=0.0):
        self.task, self.blunder = task, blunder
        self.every = cache(lambda board: task.every(np.frombuffer(board, np.uint8), 1000))

    def init(self, x):
        return State(x.inputs, key_of(x))

    def step(self, s, x):
        return s

    def read(self, s):
        answers = []
        for question, u in zip(s.inputs.numpy().astype(np.uint8), uniform(scramble(s.key), 2), strict=True):
            every = self.every(question.tobytes())
            answers.append(every[int(u[0] * len(every))] if u[1] >= self.blunder else question)
        tokens = torch.from_numpy(np.stack(answers)).long()
        return Answer(torch.nn.functional.one_hot(tokens, self.task.vocab).float())


@pytest.fixture(scope="module")
def puzzles():
    task = get("queens", size=8, givens=(1, 2))
    s = task.make(60, 0)
    return task, s, np.array([task.solutions(q, 10**6) for q in s.inputs])


@pytest.mark.slow
def test_a_uniform_sampler_covers_what_the_law_says(puzzles):
    """n draws with replacement from m solutions find 1 - (1 - 1/m)^n of them."""
    task, s, m = puzzles
    assert m.min() >= 1 and m.max() > 10
    for row in coverage(Oracle(task), task, s, (1, 5, 20, 100), 1):
        want = (1 - (1 - 1 / m) ** row.samples).mean()
        assert row.coverage.value == pytest.approx(want, abs=0.04) and row.valid.value == 1.0
        assert row.coverage.low <= row.coverage.value <= row.coverage.high and row.coverage.n == 60
        assert row.ceiling == pytest.approx(np.minimum(1, row.samples / m).mean())
        assert row.coverage.value <= row.ceiling + 1e-12 and row.solutions == pytest.approx(m.mean())


@pytest.mark.slow
def test_invalid_samples_cover_nothing_and_are_counted(puzzles):
    task, s, _ = puzzles
    whole, half = (coverage(Oracle(task, b), task, s, (20,), 1)[0] for b in (0.0, 0.5))
    assert half.valid.value == pytest.approx(0.5, abs=0.06) and half.valid.low < half.valid.value < half.valid.high
    assert half.coverage.value < whole.coverage.value - 0.05
    (never,) = coverage(Oracle(task, 1.0), task, s, (20,), 1)
    assert never.coverage.value == 0 and never.valid.value == 0 and never.answers == 1


def test_the_tally_against_sets(puzzles):
    task, s, m = puzzles
    rng = np.random.default_rng(0)
    answers = np.stack([task.every(q, 100)[rng.integers(k, size=6)] for q, k in zip(s.inputs, m, strict=True)])
    answers[:, 5] = 1  # an empty board
    got = coverage_of(task, s.inputs, answers, m)
    solved = [{tuple(a) for a in task.every(q, 100)} for q in s.inputs]
    found = [len({tuple(a) for a in rows} & every) for rows, every in zip(answers, solved, strict=True)]
    assert got.coverage.value == pytest.approx(np.mean(np.array(found) / m)) and got.valid.value == pytest.approx(5 / 6)
    assert got.answers == pytest.approx(np.mean([len({tuple(a) for a in rows}) for rows in answers]))


def test_a_deterministic_loop_says_one_thing(puzzles):
    task, s, m = puzzles
    torch.manual_seed(0)
    loop = trm.TRM(trm.Config(fit_config(TINY, task, 1), cycles=1, thoughts=1, dtype="float32")).eval()
    one, many = coverage(loop, task, s, (1, 20), 2)
    assert one.answers == many.answers == 1 and one.coverage.value == many.coverage.value <= (1 / m).mean()
    answers = sample_answers(Noisy(loop, 3.0, 3.0, ("z",)), s, 6, 2)
    assert np.mean([len(np.unique(a, axis=0)) for a in answers]) > 1.5


def test_samples_do_not_depend_on_how_they_are_batched(puzzles):
    task, s, _ = puzzles
    torch.manual_seed(0)
    loop = gram.GRAM(gram.Config(fit_config(TINY, task, 1), cycles=1, thoughts=1, dtype="float32")).eval()
    few = s.take(np.arange(7))
    a, b, c = (sample_answers(loop, few, 4, 2, batch=n) for n in (256, 10, 3))
    assert a.shape == (7, 4, 64) and (a == b).mean() > 0.999 and (a == c).mean() > 0.999
    question = to_batch(few.inputs, few.labels, few.puzzle, "cpu").question
    with torch.no_grad():
        third = think(loop, question, 2, state=salted(loop.init(question), 2)).answer.logits.argmax(-1).numpy()
    assert (a[:, 2] == third).mean() > 0.999


def test_sudoku_has_coverage_too_by_counting(real_data):
    from innerloop.data.opening import open_set

    path = real_data / "sudoku9_multi.jsonl.gz"
    if not path.exists():
        pytest.skip(f"{path.name} is not in shared/data")
    task, s = open_set(path, limit=20)
    total = np.array([task.solutions(q, 1000) for q in s.inputs])
    got = coverage_of(task, s.inputs, s.labels[:, None], total)
    assert got.coverage.value == pytest.approx((1 / total).mean()) and total.min() >= 2


def test_what_makes_no_sense_is_refused(puzzles):
    task, s, _ = puzzles
    with pytest.raises(InputError, match="find nothing"):
        coverage(Oracle(task), task, s, (0,), 1)
    bad = task.as_set(np.full((1, 64), 2, np.uint8), s.labels[:1])
    with pytest.raises(InputError, match="0 solutions"):
        coverage(Oracle(task), task, bad, (1,), 1)
    maze = get("maze", size=10)
    with pytest.raises(InputError, match="no exact search"):
        coverage(Oracle(maze), maze, maze.make(1, 0), (1,), 1)
