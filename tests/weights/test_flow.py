"""Flow reasoning: the straight line and its integrator, the carry that no gradient enters, and what forcing buys."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from innerloop.core import Answer, Question, think
from innerloop.errors import InputError
from innerloop.learn.evaluate import evaluate
from innerloop.learn.train import train
from innerloop.learn.unroll import Unroll
from innerloop.noise import normal, salted, uniform
from innerloop.recipes.sudoku import QUICK, SMALL
from innerloop.runs.fit import build, unseen_puzzles
from innerloop.runs.run import Data, Run
from innerloop.weights.flow import Config, Flow, blend, still

TINY = replace(SMALL, vocab=6, seq=16, rows=4, hidden_size=32, heads=2, block="attention", prefix=1, puzzle_emb_size=32)


def made(**how):
    torch.manual_seed(0)
    return Flow(Config(TINY, dtype="float32", **{"rollout": 3, **how}))


def asked(rows=5, target=False):
    draw = torch.Generator().manual_seed(0)
    inputs, answer = (torch.randint(1, 6, (rows, 16), generator=draw) for _ in range(2))
    return Question(inputs, torch.zeros(rows, dtype=torch.long), answer if target else None)


def at(value, rows):
    return torch.full((rows,), value, dtype=torch.float64)


def test_the_interpolant_ends_at_noise_and_at_the_answer():
    noise, y = torch.randn(3, 4, 5).double(), F.one_hot(torch.randint(5, (3, 4)), 5).double()
    assert torch.equal(blend(noise, y, at(0.0, 3)), noise) and torch.equal(blend(noise, y, at(1.0, 3)), y)
    assert torch.allclose(blend(noise, y, at(0.25, 3)), 0.75 * noise + 0.25 * y, atol=1e-15)


@pytest.mark.parametrize("steps", [1, 2, 7, 50])
def test_with_an_oracle_euler_reaches_the_answer_exactly_in_any_number_of_steps(steps):
    noise, y = torch.randn(3, 4, 5).double(), F.one_hot(torch.randint(5, (3, 4)), 5).double()
    x = noise
    for i in range(steps):
        now, then = at(i / steps, 3), at((i + 1) / steps, 3)
        velocity = (y - x) / (1 - now)[:, None, None]
        new = blend(x, y, (then - now) / (1 - now))
        assert torch.allclose(new, x + (then - now)[:, None, None] * velocity, atol=1e-12)
        x = new
        assert torch.allclose(x, blend(noise, y, then), atol=1e-12)
    assert torch.equal(x, y)


class Oracle(nn.Module):
    """A head that knows."""

    def __init__(self, answer):
        super().__init__()
        self.answer = answer

    def forward(self, z):
        return Answer(1e4 * F.one_hot(self.answer, 6).float(), z.new_zeros(len(z)))


def test_a_thought_walks_time_on_its_grid_then_holds():
    loop, x = made(grid=4, hold=0.8), asked()
    answer = torch.randint(6, (5, 16))
    loop.heads, y = Oracle(answer), F.one_hot(answer, 6).float()
    s, noise = loop.init(x), normal(loop.init(x).key, 16, 6)
    for k in range(1, 8):
        old, s = s, loop.step(s, x)
        assert torch.allclose(s.x, blend(noise, y, torch.full((5,), 0.8 * min(k, 4) / 4)), atol=1e-6)
        assert torch.equal(s.s, y) and (k == 1 or not s.r.any())
    assert torch.equal(s.x, old.x)
    held = made(hold=0.0)
    assert torch.equal(think(held, x, 5).state.x, noise)  # time never begins: only the carry moves


def test_the_residual_is_the_symmetric_divergence_of_two_predictions():
    loop, x = made(), asked()
    old = loop.step(loop.init(x), x)
    new = loop.step(old, x)
    p, q = new.s, old.s
    want = (p * (p / q).log()).sum(-1) + (q * (q / p).log()).sum(-1)
    assert torch.allclose(new.r, want.mean(-1), atol=1e-5)
    uniform_p = torch.full_like(p, 1 / 6)
    first = (q * (q / uniform_p).log()).sum(-1) + (uniform_p * (uniform_p / q).log()).sum(-1)
    assert torch.allclose(old.r, first.mean(-1), atol=1e-5)


def test_an_example_halts_when_its_prediction_is_still():
    loop, x = made(grid=2, hold=0.2), asked(40)
    with torch.no_grad():
        loop.carry.weight.mul_(0.1)  # an untrained loop need not settle: a weak carry does
        thought = think(loop, x, 60, halt=still(3e-5))
    assert (thought.state.r < 3e-5).all() and len(thought.steps.unique()) > 1 and thought.steps.max() < 60


def test_the_first_step_is_that_of_a_loop_without_a_carry():
    loop, plain = made(), made(forcing=0.0)
    x = asked()
    a, b = loop.step(loop.init(x), x), plain.step(plain.init(x), x)
    assert torch.equal(a.h, b.h) and torch.equal(a.s, b.s)
    assert (loop.step(a, x).h - plain.step(b, x).h).abs().max() > 1e-3


def test_an_example_that_is_not_forced_learns_as_in_a_plain_flow():
    loop, plain, x = made(), made(forcing=0.0), asked(64, target=True)
    a, b = loop.step(loop.init(x), x), plain.step(plain.init(x), x)
    forced = uniform(loop.init(x).key, 3)[:, 2] < 0.5
    assert 16 < forced.sum() < 48
    same = (a.h - b.h).abs().amax((1, 2)) < 1e-6
    assert torch.equal(same, ~forced)


def carries(loop, x):
    """What a training step gives the carry's map, call by call: (taped, input)."""
    calls = []
    hook = loop.carry.register_forward_pre_hook(lambda m, a: calls.append((torch.is_grad_enabled(), a[0])))
    state = loop.step(loop.init(x), x)
    hook.remove()
    return calls, state


def test_no_gradient_enters_the_carry():
    """The tape holds one call of D, whose carry is a constant; so the gradient is that of D at that constant."""
    loop, x = made(forcing=1.0), asked(target=True)
    calls, state = carries(loop, x)
    assert [taped for taped, _ in calls] == [False] * 3 + [True]
    assert not any(s.requires_grad for _, s in calls)
    assert not calls[0][1].any() and calls[3][1].abs().sum() > 0
    wrt = [p for p in loop.parameters() if p.ndim > 1 and p is not loop.heads.q.weight]
    mine = torch.autograd.grad(loop.read(state).logits.square().sum(), wrt, allow_unused=True)
    t = uniform(loop.init(x).key, 3)[:, 0]
    again = loop.init(x)._replace(x=state.x.detach(), s=calls[3][1])
    alone = loop.move(again, loop.embed(x, torch.float32), t, t)
    want = torch.autograd.grad(loop.read(alone).logits.square().sum(), wrt, allow_unused=True)
    for a, b in zip(mine, want, strict=True):
        a, b = (g.to_dense() if g is not None and g.is_sparse else g for g in (a, b))
        assert (a is None and b is None) or torch.allclose(a, b, atol=1e-4)


def test_the_carry_of_training_is_what_the_integrator_predicts():
    """From x_t0 on, in `rollout` steps that end where time is t, without looking at the answer again."""
    loop, x = made(forcing=1.0, rollout=4), asked(target=True)
    calls, state = carries(loop, x)
    t, share, _ = uniform(loop.init(x).key, 3).unbind(1)
    y, e = F.one_hot(x.target, 6).float(), loop.embed(x, torch.float32)
    noise = (state.x - t[:, None, None] * y) / (1 - t)[:, None, None]
    s, t0 = loop.init(x)._replace(x=blend(noise, y, t * share)), t * share
    for i in range(4):
        s = loop.move(s, e, t0 + (t - t0) * i / 4, t0 + (t - t0) * (i + 1) / 4)
    assert torch.allclose(s.s, calls[4][1], atol=1e-3)
    assert torch.allclose(noise.std(), torch.tensor(1.0), atol=0.1)


def test_restarts_begin_at_other_noise():
    loop, x = made(), asked(2)
    first = [loop.step(salted(loop.init(x), salt), x) for salt in (0, 0, 1)]
    assert torch.equal(first[0].h, first[1].h) and (first[0].x - first[2].x).abs().max() > 0.1


def test_bad_configurations_say_so():
    for bad in ({"grid": 0}, {"rollout": 0}, {"hold": 1.0}, {"forcing": 1.5}):
        with pytest.raises(InputError, match="but must be"):
            made(**bad)


@pytest.mark.slow
def test_forcing_is_what_makes_a_flow_reason(tmp_path):
    """benchmarks/flow_residual.py measures more of it, over seeds."""
    exact = {}
    for forcing in (0.0, 0.5):
        plan = replace(QUICK, steps=150, batch=64, warmup=20, ema=0.98, unroll=Unroll(depth=1), compile="off")
        data = Data("sudoku", {"size": 4, "givens": (4, 8)}, count=240)
        config = Config(replace(SMALL, hidden_size=32, heads=2), forcing=forcing, rollout=3, dtype="float32")
        built = build(Run("flow4", "flow", config, data, plan))
        train(built.loop, built.task, built.train, plan, tmp_path / str(forcing), seed=0, live=False)
        test = unseen_puzzles(built.task, built.train, data, 300)
        (row,) = evaluate(built.loop.eval(), built.task, test, (16,))
        exact[forcing] = row.exact
    print("exact without and with forcing:", exact)
    assert exact[0.5] > 0.4 and exact[0.0] < 0.5 * exact[0.5]
