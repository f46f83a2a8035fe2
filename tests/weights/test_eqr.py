"""EqR: its step against its definition, TRM inside it, random starts, and choice by residual."""

import pytest
import torch

from innerloop.core import Question, think
from innerloop.errors import InputError
from innerloop.halt import residual
from innerloop.learn.evaluate import evaluate
from innerloop.noise import normal, salted, scramble
from innerloop.parts.config import NetConfig
from innerloop.runs.fit import fit_config
from innerloop.tasks import get
from innerloop.weights import trm
from innerloop.weights.eqr import Config, EqR
from innerloop.width import lowest_residual, think_wide

TINY = NetConfig(
    vocab=6, seq=16, rows=4, hidden_size=32, heads=2, layers=1, expansion=2.0, multiple_of=32, puzzle_emb_size=32
)


def made(**changes):
    torch.manual_seed(0)
    return EqR(Config(TINY, **({"dtype": "float32", "cycles": 2, "thoughts": 3} | changes))).eval()


def asked(rows=4):
    inputs = torch.randint(1, 6, (rows, 16), generator=torch.Generator().manual_seed(1))
    return Question(inputs, torch.zeros(rows, dtype=torch.long))


@torch.no_grad()
def test_undamped_and_without_noise_it_is_trm():
    x, loop = asked(), made(damping=1.0, noise=0.0)
    plain = trm.TRM(trm.Config(TINY, cycles=2, thoughts=3, dtype="float32"))
    plain.load_state_dict(loop.state_dict(), strict=False)
    s = loop.step(loop.init(x), x)
    new, want = loop.step(s, x), plain.step(trm.State(s.y, s.z), x)
    assert torch.equal(new.y, want.y) and torch.equal(new.z, want.z)


@torch.no_grad()
def test_an_update_is_damped_and_shaken_as_defined():
    x, loop = asked(), made(cycles=1, thoughts=1, damping=0.7, noise=0.2)
    s = loop.step(loop.init(x), x)
    new, x_BLD, key = loop.step(s, x), loop.embed(x, torch.float32), scramble(scramble(s.key + 1) + 1)
    z = 0.3 * s.z + 0.7 * loop.net(s.z, s.y + x_BLD) + 0.2 * normal(key, 17, 32)
    y = 0.3 * s.y + 0.7 * loop.net(s.y, z) + 0.2 * normal(scramble(key + 1), 17, 32)
    assert torch.allclose(new.z, z, atol=1e-6) and torch.allclose(new.y, y, atol=1e-6)
    assert torch.allclose(new.residual[:, 0], residual((s.y, s.z), (new.y, new.z)))


@torch.no_grad()
def test_the_start_is_a_standard_normal_of_the_salted_key():
    x, loop = asked(64), made()
    fresh = loop.init(x)
    starts = [loop.started(salted(fresh, i)) for i in range(3)]
    for s in starts:
        for slot in (s.y, s.z):
            assert abs(slot.mean()) < 0.02 and abs(slot.std() - 1) < 0.02
        assert abs((s.y * s.z).mean()) < 0.02
    assert abs((starts[0].y * starts[1].y).mean()) < 0.02
    again = loop.started(salted(loop.init(Question(x.inputs[5:6], x.puzzle[5:6])), 2))
    assert torch.equal(again.y[0], starts[2].y[5])


@torch.no_grad()
def test_only_rows_that_took_no_step_are_drawn():
    x, loop = asked(), made()
    s = loop.step(loop.init(x), x)
    mixed = s._replace(steps=torch.tensor([0, 1, 0, 1]))
    started = loop.started(mixed)
    assert torch.equal(started.y[1::2], s.y[1::2]) and (started.y[::2] != s.y[::2]).any((1, 2)).all()
    assert loop.step(s, x).steps.tolist() == [2] * 4


@pytest.mark.slow
@torch.no_grad()
def test_a_damped_loop_without_noise_settles_closer_than_a_noisy_one():
    x = asked(16)
    still, shaken = (think(made(noise=n, damping=0.5), x, 24).state.residual.mean().item() for n in (0.0, 0.3))
    assert still < 0.5 * shaken


@torch.no_grad()
def test_the_steadiest_trajectory_is_chosen_row_by_row():
    x, loop = asked(), made(noise=0.1)
    every = [think(loop, x, 3, state=salted(loop.init(x), i)) for i in range(6)]
    chosen = think_wide(loop, x, 6, lowest_residual, 3)
    moved = torch.stack([t.state.residual[:, 0] for t in every])
    assert torch.equal(chosen.state.residual[:, 0], moved.min(0).values)
    winner = moved.argmin(0)
    assert len(winner.unique()) > 1
    for row, i in enumerate(winner.tolist()):
        assert torch.equal(chosen.answer.logits[row], every[i].answer.logits[row])


def test_it_is_evaluated_wide_without_further_noise():
    task = get("sudoku", size=4)
    loop = EqR(Config(fit_config(TINY, task, 1), cycles=1, thoughts=1, dtype="float32")).eval()
    rows = evaluate(loop, task, task.make(5, 0), (2,), (1, 3), pick="residual")
    assert [r.pick for r in rows] == ["-", "residual"] and rows[1].nfe == 6 * len(loop.schedule)
    plain = trm.TRM(trm.Config(fit_config(TINY, task, 1), cycles=1, thoughts=1, dtype="float32"))
    with pytest.raises(InputError, match="no field `residual`"):
        evaluate(plain, task, task.make(5, 0), (2,), (3,), pick="residual", noise=(1.0, 0.0))
