"""Deep Equilibrium Model: what a step solves, what it costs, and by which gradients it learns."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from innerloop.core import Question, think
from innerloop.errors import InputError
from innerloop.halt import residual
from innerloop.learn.supervise import Batch
from innerloop.learn.unroll import Unroll, unrolled_step
from innerloop.parts.config import NetConfig
from innerloop.study.contract import CHECKS, Subject, sample_question
from innerloop.weights.deq import DEQ, Config

TINY = NetConfig(
    vocab=6, seq=16, rows=4, hidden_size=32, heads=2, layers=1, expansion=2.0, multiple_of=32, puzzle_emb_size=32
)
QUESTION = sample_question()
BASE = Config(TINY)


def deq(seed=0, **how):
    torch.manual_seed(seed)
    return DEQ(replace(BASE, **how))


def calls_of(loop, x=QUESTION):
    """(taped, untaped) calls of the net in one step."""
    calls = {True: 0, False: 0}

    def count(*_):
        calls[torch.is_grad_enabled()] += 1

    hook = loop.net.register_forward_hook(count)
    loop.step(loop.init(x), x)
    hook.remove()
    return calls[True], calls[False]


def gradient(loop, depth=1):
    logits = think(loop, QUESTION, depth).answer.logits
    grads = torch.autograd.grad(logits.square().mean(), [*loop.net.parameters(), loop.embed.tokens.weight])
    return torch.cat([g.flatten() for g in grads])


@pytest.mark.parametrize("solver", ["picard", "anderson", "broyden"])
def test_a_step_ends_at_the_fixed_point_and_says_how_near(solver):
    loop = deq(solver=solver, iterations=100, tol=1e-5)
    with torch.no_grad():
        s = loop.step(loop.init(QUESTION), QUESTION)
        on = loop.net(s.z, loop.embed(QUESTION, torch.float32))
    assert bool((s.residual <= 1e-5).all()) and bool((residual(s.z, on) <= 1e-5).all())
    other = deq(solver="picard", iterations=200, tol=1e-6)
    assert torch.allclose(s.z, other.step(other.init(QUESTION), QUESTION).z, atol=1e-3)


def test_a_solve_goes_on_from_the_state_and_solved_examples_cost_no_more():
    loop = deq(iterations=4)
    with torch.no_grad():
        states = think(loop, QUESTION, 8, record=lambda _, s: s).trace
    left = torch.stack([s.residual for s in states])
    assert bool((left[0] > loop.c.tol).any()) and bool((left[-1] <= loop.c.tol).all())
    calls = torch.stack([s.calls for s in states])
    assert bool((calls[0] >= 4).all()) and torch.equal(calls[-1], calls[-2])
    assert bool((calls.diff(dim=0) >= 0).all()) and int(calls[-1].min()) < int(calls[-1].max())


def test_solving_takes_fewer_calls_than_iterating():
    calls = {}
    for solver in ("picard", "anderson", "broyden"):
        loop = deq(solver=solver, iterations=100, tol=1e-5)
        with torch.no_grad():
            calls[solver] = float(loop.step(loop.init(QUESTION), QUESTION).calls.float().mean())
    assert calls["anderson"] < 0.7 * calls["picard"] and calls["broyden"] < 0.7 * calls["picard"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("grad", "taped"), [("implicit", 1), ("phantom(5, 0.5)", 5), ("phantom(1, 1)", 1), ("last(1)", 1), ("full", 24)]
)
def test_each_tape_records_what_it_says(grad, taped):
    loop = deq(grad=grad)
    on, off = calls_of(loop)
    assert on == taped and off <= loop.c.iterations
    for check in ("gradients", "taped calls", "batch independence"):
        CHECKS[check](Subject(grad, lambda: DEQ(replace(BASE, grad=grad)), QUESTION))


@pytest.mark.parametrize("solver", ["picard", "anderson", "broyden"])
def test_the_implicit_gradient_is_that_of_all_steps(solver):
    through = gradient(deq(grad="full", iterations=120))
    around = gradient(deq(solver=solver, iterations=120, tol=2e-6))
    assert float((through - around).norm() / through.norm()) < 1e-3
    one = gradient(deq(grad="last(1)", iterations=120))
    assert float((through - one).norm() / through.norm()) > 0.05


def test_the_regulariser_estimates_the_jacobians_norm():
    """The mean over v of |v'J|^2 / n is |J|_F^2 / n, by the whole Jacobian of a small net."""
    torch.manual_seed(0)
    size = NetConfig(
        vocab=3,
        seq=2,
        rows=1,
        hidden_size=4,
        heads=1,
        layers=1,
        expansion=1.0,
        multiple_of=4,
        prefix=0,
        puzzle_emb_size=0,
    )
    loop = DEQ(Config(size, jacobian=1.0))
    x = Question(torch.tensor([[1, 2]]), torch.zeros(1, dtype=torch.long))
    z, e = torch.randn(1, 2, 4), loop.embed(x, torch.float32)
    J = torch.autograd.functional.jacobian(lambda z: loop.net(z, e), z).reshape(8, 8)
    draws = 4000
    many = lambda t: t.expand(draws, -1, -1)  # noqa: E731
    found = loop.roughness(many(z), many(e), torch.arange(draws))
    assert float(found.detach().mean()) == pytest.approx(float(J.square().sum()) / 8, rel=0.05)


@pytest.mark.slow
def test_the_regulariser_is_a_loss_that_makes_the_map_calmer():
    loop = deq(jacobian=1.0)
    x, optimizer = QUESTION, torch.optim.Adam(loop.net.parameters(), lr=1e-3)
    rough = []
    for _ in range(30):
        s = loop.step(loop.init(x), x)
        loss = loop.terms(s)["jacobian_loss"]
        assert loss.shape == (6,)
        rough.append(float(loss.detach().mean()))
        optimizer.zero_grad()
        loss.mean().backward()
        optimizer.step()
    assert rough[-1] < 0.7 * rough[0]
    with torch.no_grad():
        assert bool((loop.step(loop.init(x), x).rough == 0).all())
    assert deq().terms(s) == {}


@pytest.mark.slow
def test_the_regularised_loop_keeps_the_contract():
    for name, check in CHECKS.items():
        if name != "taped calls":  # it takes one call more
            check(Subject("deq", lambda: DEQ(replace(BASE, jacobian=0.5)), QUESTION))


def test_the_probe_is_each_examples_own_and_moves_on():
    loop = deq(jacobian=1.0)
    first = loop.step(loop.init(QUESTION), QUESTION)
    again = loop.step(first, QUESTION)
    assert not bool((first.rough == again.rough).any())
    alone = Question(QUESTION.inputs[2:3], QUESTION.puzzle[2:3])
    assert torch.allclose(loop.step(loop.init(alone), alone).rough, first.rough[2:3], rtol=1e-4)


def test_long_questions_can_be_regularised_where_attention_is_fused():
    size = replace(TINY, seq=289, rows=17)
    loop, x = DEQ(Config(size, iterations=2, jacobian=1.0)), sample_question(2, seq=289)
    s = loop.step(loop.init(x), x)
    loop.terms(s)["jacobian_loss"].sum().backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in loop.net.parameters())


def test_compiled_blocks_are_differentiated_as_written(monkeypatch):
    """A compiled graph may be pulled once and not twice; a stand-in says whether it would have been."""
    import torch._dynamo  # what compiling loads

    stances = []
    keep = torch.compiler.set_stance
    monkeypatch.setattr(torch.compiler, "set_stance", lambda s: stances.append(s) or keep(s))
    loop = deq(jacobian=1.0)
    loop.step(loop.init(QUESTION), QUESTION)
    assert stances == ["force_eager"] * 2 and torch._dynamo is not None


@pytest.mark.slow
def test_it_learns_by_each_gradient():
    """To copy, and to say the token to the left: forty whole thoughts, one solve each."""
    inputs = sample_question(16).inputs
    labels = inputs.roll(1, 1).where(torch.arange(16) % 2 == 0, inputs)
    batch = Batch(Question(inputs, torch.zeros(16, dtype=torch.long)), labels)
    for grad in ("implicit", "phantom(5, 0.5)", "phantom(1, 1)"):
        loop = deq(grad=grad, iterations=8)
        optimizer = torch.optim.AdamW([p for n, p in loop.named_parameters() if "puzzles" not in n], lr=3e-3)
        losses = []
        for _ in range(40):
            out = unrolled_step(loop.train(), batch, Unroll(1), 1, None, "softmax")
            loss = out.losses["lm_loss"] / 16
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(loop.net.parameters(), 1.0)
            optimizer.step()
            losses.append(float(loss.detach()))
        assert losses[-1] < 0.5 * losses[0], (grad, losses[0], losses[-1])


def test_wrong_configurations_say_so():
    for how in ({"solver": "newton"}, {"grad": "implicit(3)"}, {"iterations": 0}, {"tol": -1.0}, {"dtype": "float16"}):
        with pytest.raises(InputError):
            deq(**how)


def test_bfloat16_solves_to_its_grain_and_learns():
    loop = deq(dtype="bfloat16", tol=2e-2)
    s = loop.step(loop.init(QUESTION), QUESTION)
    assert s.z.dtype == torch.bfloat16 and bool((s.residual <= 2e-2).all())
    loop.read(s).logits.float().square().mean().backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in loop.net.parameters())
