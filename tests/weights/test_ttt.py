"""The loop whose state is fast weights: what it carries, what a pass can know, and that it learns to think."""

from dataclasses import replace

import pytest
import torch

from innerloop.core import Question, think
from innerloop.learn.evaluate import evaluate
from innerloop.learn.train import train
from innerloop.learn.unroll import Unroll
from innerloop.recipes.sudoku import QUICK, SMALL
from innerloop.runs.fit import build, unseen_puzzles
from innerloop.runs.run import Data, Run
from innerloop.weights.ttt import Config, FastLoop

TINY = replace(SMALL, vocab=6, seq=16, rows=4, hidden_size=32, heads=2, block="conv")


def made(dtype="float32"):
    torch.manual_seed(0)
    return FastLoop(Config(TINY, dtype=dtype))


def asked(rows=4):
    draw = torch.Generator().manual_seed(0)
    return Question(torch.randint(1, 6, (rows, 16), generator=draw), torch.zeros(rows, dtype=torch.long))


def test_a_step_is_a_pass_of_the_memory_that_goes_on_where_the_last_one_ended():
    loop, x = made(), asked()
    x_BLD, s = loop.embed(x, torch.float32), loop.init(x)
    for _ in range(3):
        read, w = loop.memory.scan(s.y + x_BLD, s.w)
        s = loop.step(s, x)
        assert torch.equal(s.w, w) and torch.equal(s.y, loop.net(x_BLD, read))
    anew = loop.step(s._replace(w=loop.memory.start(4)), x)
    assert (anew.y - loop.step(s, x).y).abs().max() > 1e-3  # what W has learned is seen in the answer


def test_every_example_has_a_memory_of_its_own():
    loop, x = made(), asked()
    w = think(loop, x, 3).state.w
    assert w.shape == (4, 2, 17, 16) and (w[0] - w[1]).abs().max() > 1e-3
    assert torch.allclose(think(loop, Question(x.inputs[2:3], x.puzzle[2:3]), 3).state.w, w[2:3], atol=1e-6)


def test_the_first_pass_is_causal_and_the_second_knows_it_all():
    loop, x = made(), asked(1)
    other = x._replace(inputs=torch.where(torch.arange(16) == 15, x.inputs % 5 + 1, x.inputs))
    reads = []
    for q in (x, other):
        x_BLD, w = loop.embed(q, torch.float32), loop.memory.start(1)
        first, w = loop.memory.scan(x_BLD, w)
        reads.append((first, loop.memory.scan(x_BLD, w)[0]))
    (a1, a2), (b1, b2) = reads
    assert torch.equal(a1[:, :15], b1[:, :15]) and ((a2 - b2).abs().amax((0, 2)) > 1e-6).all()


@pytest.mark.slow
def test_the_memory_is_float32_and_stays_bounded():
    loop, x = made("bfloat16"), asked()
    with torch.no_grad():
        state = think(loop, x, 200).state
    assert state.w.dtype == torch.float32 and state.y.dtype == torch.bfloat16
    assert state.w.abs().max() < 50 and state.y.isfinite().all()


@pytest.mark.slow
def test_it_learns_sudoku_and_thinks_deeper_than_it_was_taught(tmp_path):
    unroll = Unroll(depth=6)
    plan = replace(QUICK, steps=140, lr=3e-3, warmup=20, ema=0.98, unroll=unroll, compile="off", save_every=10**6)
    data = Data("sudoku", {"size": 4, "givens": (4, 6)}, count=240)
    built = build(Run("ttt4", "ttt", Config(replace(SMALL, hidden_size=32, heads=2), dtype="float32"), data, plan))
    train(built.loop, built.task, built.train, plan, tmp_path, seed=0, live=False)
    test = unseen_puzzles(built.task, built.train, data, 300)
    shallow, trained, deep = evaluate(built.loop.eval(), built.task, test, (1, 6, 24))
    print("exact at 1, 6, 24 steps:", shallow.exact, trained.exact, deep.exact, "of", len(test))
    assert shallow.exact < 0.3 and trained.exact > 0.6 and deep.exact > trained.exact - 0.1
