"""Tokens beyond a byte: a task and examples of one's own, 40,000 tokens, through learning, evaluation and solving."""

import numpy as np
import pytest
import torch

from innerloop.core import Answer
from innerloop.data.arrays import read_arrays, write_npz
from innerloop.data.sets import PuzzleSet
from innerloop.errors import InputError
from innerloop.learn.evaluate import evaluate, score_set
from innerloop.learn.plan import Plan
from innerloop.learn.supervise import HaltingConfig
from innerloop.learn.train import Trainer
from innerloop.parts.config import NetConfig
from innerloop.solve.solver import Solver
from innerloop.weights import trm

VOCAB, SIZE = 40_000, 4


class Next:
    """The answer is each token plus one. It subclasses nothing of ours."""

    name, shape, vocab, verifies = "next", (1, SIZE), VOCAB, True

    def valid_batch(self, inputs, answers):
        return (answers == inputs.astype(int) % (VOCAB - 1) + 1).all(1)

    def score_batch(self, inputs, answers, labels):
        right = answers == labels
        return right.all(1), right.mean(1), self.valid_batch(inputs, answers)

    def augment(self, inputs, labels, rng):
        turned = rng.permutation(SIZE)
        return inputs[:, turned], labels[:, turned]

    def views(self, count, rng):
        return None

    def tokens(self, values, what):
        return np.asarray(values)

    def encode_many(self, texts, where=""):
        return np.array([[int(word) for word in text.split()] for text in texts])

    def decode(self, tokens):
        return " ".join(map(str, tokens))


class Rows:
    """Examples that subclass nothing of ours either."""

    def __init__(self, inputs):
        self.inputs, self.labels = inputs, (inputs.astype(int) % (VOCAB - 1) + 1).astype(inputs.dtype)
        self.puzzle = np.zeros(len(inputs), np.int64)
        self.group, self.rating, self.identifiers = np.arange(len(inputs)), np.full(len(inputs), np.nan), ("none",)

    def __len__(self):
        return len(self.inputs)

    def take(self, index):
        return Rows(self.inputs[index])


class Known:
    """A loop that has learned the task: it counts down to the right answer in two steps."""

    def init(self, x):
        return (x.inputs, torch.zeros_like(x.puzzle))

    def step(self, s, x):
        return (torch.where(s[1][:, None] == 1, x.inputs % (VOCAB - 1) + 1, s[0]), s[1] + 1)

    def read(self, s):
        return Answer(torch.nn.functional.one_hot(s[0], VOCAB).float())


def words(dtype, rows=6):
    words = np.random.default_rng(0).integers(1, VOCAB, (rows, SIZE))
    words[0] = VOCAB - 1, 255, 256, 257
    return Rows(words.astype(dtype))


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "device_steps"), [(np.uint16, "on"), (np.int32, "off")])
def test_training_sees_every_token_as_it_is(tmp_path, dtype, device_steps):
    size = NetConfig(
        vocab=VOCAB, seq=SIZE, rows=1, hidden_size=16, heads=2, layers=1, block="attention", puzzle_emb_size=0
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        loop = trm.TRM(trm.Config(size, cycles=1, thoughts=1, dtype="float32"))
    seen = []
    step = loop.step
    loop.step = lambda s, x: seen.append(x.inputs) or step(s, x)
    rows = words(dtype)
    plan = Plan(
        steps=3, batch=6, depths=(1,), device_steps=device_steps, halting=HaltingConfig(max_steps=2), check_every=3
    )
    trainer = Trainer(loop, Next(), rows, plan, tmp_path, validation=rows, live=False)
    result = trainer.run()
    assert result.steps == 3 and not result.stopped and result.best["exact"] >= 0
    assert {int(t) for x in seen for t in x.flatten()} == {int(t) for t in rows.inputs.flatten()}


@pytest.mark.parametrize("dtype", [np.uint16, np.int32])
def test_evaluation_and_solver_know_what_a_byte_would_wrap(dtype):
    rows = words(dtype)
    shallow, deep = evaluate(Known(), Next(), rows, (1, 2), batch=4)
    assert (shallow.exact, deep.exact, deep.valid, deep.token) == (0, 1, 1, 1)
    assert (score_set(Known(), Next(), rows, 2).answers == rows.labels).all()
    solver = Solver(Known(), Next(), rows=4)
    for asked in (rows, rows.inputs, [Next().decode(q) for q in rows.inputs]):
        found = solver.solve(asked, 5, pick="verified")
        assert all(s.known and s.steps == 2 for s in found)
        assert [s.text for s in found] == [Next().decode(label) for label in rows.labels]


def test_a_set_of_words_comes_back_from_its_file_and_bytes_stay_bytes(tmp_path):
    for vocab, dtype in ((VOCAB, np.int32), (256, np.uint8)):
        rows = words(np.int64).inputs % vocab
        s = PuzzleSet(rows, rows, vocab=vocab, shape=(1, SIZE), task="grid")
        write_npz(tmp_path / "a.npz", s)
        again, _ = read_arrays(tmp_path / "a.npz")
        assert again.inputs.dtype == np.load(tmp_path / "a.npz")["inputs"].dtype == dtype
        assert (again.inputs == rows).all()
    with pytest.raises(InputError, match=r"outside the vocabulary 0\.\.39998"):
        PuzzleSet(words(np.int64).inputs, words(np.int64).inputs, vocab=VOCAB - 1, shape=(1, SIZE))
    with pytest.raises(InputError, match="65535"):
        PuzzleSet([[65_536] * SIZE], [[1] * SIZE], vocab=VOCAB, shape=(1, SIZE))
    with pytest.raises(InputError, match="65,536 tokens"):
        PuzzleSet([[1] * SIZE], [[1] * SIZE], vocab=65_537, shape=(1, SIZE))
