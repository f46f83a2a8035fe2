"""Continuous time: integrators of known orders, the adjoint gradient, and the loop that steps by them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torchdiffeq
from torch.autograd.graph import saved_tensors_hooks

from innerloop.core import think
from innerloop.errors import InputError
from innerloop.parts.config import NetConfig
from innerloop.parts.ode import adjoint, dormand_prince, integrate
from innerloop.study.contract import CHECKS, Subject, sample_question
from innerloop.weights.node import NODE, Config

TINY = NetConfig(
    vocab=6, seq=16, rows=4, hidden_size=32, heads=2, layers=1, expansion=2.0, multiple_of=32, puzzle_emb_size=32
)
QUESTION = sample_question()
BASE = Config(TINY, dtype="float32")


def draw(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def linear(seed=0, n=5, rows=3):
    """dz/dt = A z, a first state, and the flow over one unit of time."""
    A = 0.7 * draw(seed, n, n)
    return (lambda t, z: z @ A.T), draw(seed + 1, rows, n), lambda z, time=1.0: z @ torch.matrix_exp(time * A).T


def field(seed=0, n=5, rows=3):
    """A nonlinear field that depends on time and on two tensors, and a first state."""
    W, b = (0.8 * draw(seed, n, n)).requires_grad_(), draw(seed + 1, rows, n).requires_grad_()
    return (lambda t, z: torch.tanh(z @ W.T + b) - z * torch.cos(t)[:, None]), draw(seed + 2, rows, n), (W, b)


# -- the integrators --------------------------------------------------------------------------------------------------


def test_a_linear_equation_is_the_matrix_exponential():
    f, z, flow = linear()
    assert torch.allclose(integrate(f, z, 0.0, 1.0, 200), flow(z), rtol=0, atol=1e-9)
    assert torch.allclose(integrate(f, z, 0.0, 2.5, 500), flow(z, 2.5), rtol=1e-8, atol=1e-8)
    path = dormand_prince(f, z, 0.0, 1.0, rtol=1e-10, atol=1e-12)
    assert torch.allclose(path.z, flow(z), rtol=0, atol=1e-8)
    assert torch.allclose(integrate(f, flow(z), 1.0, 0.0, 200), z, rtol=0, atol=1e-9)


@pytest.mark.parametrize(("method", "order"), [("euler", 1), ("rk4", 4)])
def test_errors_fall_by_the_methods_order(method, order):
    f, z, flow = linear()
    far, near = ((integrate(f, z, 0.0, 1.0, n, method) - flow(z)).norm() for n in (16, 32))
    assert float(torch.log2(far / near)) == pytest.approx(order, abs=0.2)


def test_two_half_steps_of_the_flow_are_one():
    f, z, _ = field()
    half = dormand_prince(f, z, 0.0, 0.5, rtol=1e-10, atol=1e-12).z
    split = dormand_prince(f, half, 0.5, 1.0, rtol=1e-10, atol=1e-12).z
    assert torch.allclose(split, dormand_prince(f, z, 0.0, 1.0, rtol=1e-10, atol=1e-12).z, rtol=0, atol=1e-8)


def test_the_integrators_agree_with_torchdiffeq():
    f, z, _ = field()
    with torch.no_grad():
        theirs = torchdiffeq.odeint(
            lambda t, z: f(t.expand(len(z)), z), z, torch.tensor([0.0, 2.0]).double(), rtol=1e-10, atol=1e-12
        )[-1]
        assert torch.allclose(dormand_prince(f, z, 0.0, 2.0, rtol=1e-10, atol=1e-12).z, theirs, rtol=0, atol=1e-8)
        assert torch.allclose(integrate(f, z, 0.0, 2.0, 200), theirs, rtol=0, atol=1e-8)


@pytest.mark.slow
def test_every_example_takes_steps_of_its_own_size():
    """Rotations of different speed: fast ones take more steps, and none changes another's path."""
    speed, z = torch.tensor([0.1, 1.0, 10.0], dtype=torch.float64), draw(0, 3, 2)
    turn = lambda speed: lambda t, z: speed[:, None] * torch.stack((-z[:, 1], z[:, 0]), 1)  # noqa: E731
    path = dormand_prince(turn(speed), z, 0.0, 3.0, rtol=1e-8, atol=1e-10)
    assert path.steps.diff().gt(0).all() and bool((path.tries >= path.steps).all())
    for i in range(3):
        alone = dormand_prince(turn(speed[i : i + 1]), z[i : i + 1], 0.0, 3.0, rtol=1e-8, atol=1e-10)
        assert all(torch.equal(a, b[i : i + 1]) for a, b in zip(alone, path, strict=True))
        c, s = torch.cos(3 * speed[i]), torch.sin(3 * speed[i])
        want = torch.stack((c * z[i, 0] - s * z[i, 1], s * z[i, 0] + c * z[i, 1]))
        assert torch.allclose(path.z[i], want, rtol=0, atol=1e-6)


def test_the_adaptive_path_is_differentiable():
    f, z, theta = field()
    one, two = dormand_prince(f, z, 0.0, 1.0, 1e-10, 1e-12).z, integrate(f, z, 0.0, 1.0, 100)
    for a, b in zip(*(torch.autograd.grad(end.square().sum(), theta) for end in (one, two)), strict=True):
        assert torch.allclose(a, b, rtol=0, atol=1e-7)


def test_what_cannot_be_integrated_says_so():
    z = torch.ones(2, 1, dtype=torch.float64)
    with pytest.raises(InputError, match="did not reach"):
        dormand_prince(lambda t, z: z.square(), z, 0.0, 2.0, limit=200)  # leaves for infinity at t = 1
    with pytest.raises(InputError, match="euler or rk4"):
        integrate(lambda t, z: z, z, 0.0, 1.0, 1, "heun")
    with pytest.raises(InputError, match="1 or more"):
        integrate(lambda t, z: z, z, 0.0, 1.0, 0)


# -- the adjoint ------------------------------------------------------------------------------------------------------


def gradients(end, z, theta):
    return torch.autograd.grad(end.square().sum(), (z, *theta))


def test_the_adjoint_gradient_is_the_direct_one():
    f, z, theta = field()
    z.requires_grad_()
    direct = gradients(integrate(f, z, 0.0, 1.0, 20), z, theta)
    around = gradients(adjoint(f, z, theta, 0.0, 1.0, 20), z, theta)
    for a, b in zip(direct, around, strict=True):
        assert torch.allclose(a, b, rtol=1e-4, atol=1e-6)
    coarse = gradients(adjoint(f, z, theta, 0.0, 1.0, 2, "euler"), z, theta)
    assert not torch.allclose(direct[1], coarse[1], rtol=1e-2)


def test_the_adjoint_gradient_agrees_with_torchdiffeq():
    f, z, theta = field()
    z.requires_grad_()
    theirs = torchdiffeq.odeint_adjoint(
        lambda t, z: f(t.expand(len(z)), z), z, torch.tensor([0.0, 1.0]).double(),
        rtol=1e-10, atol=1e-12, adjoint_params=theta,
    )[-1]  # fmt: skip
    ours = adjoint(f, z, theta, 0.0, 1.0, 50)
    assert torch.allclose(ours, theirs, rtol=0, atol=1e-7)
    for a, b in zip(gradients(ours, z, theta), gradients(theirs, z, theta), strict=True):
        assert torch.allclose(a, b, rtol=1e-6, atol=1e-7)


def test_the_adjoint_reaches_what_the_field_closes_over():
    """Gradients flow on through a tensor that was itself computed, and those nobody wants are not asked for."""
    W = (0.5 * draw(0, 4, 4)).requires_grad_()
    frozen, z = draw(1, 4), draw(2, 3, 4)

    def run(how):
        made = torch.tanh(W)
        f = lambda t, z: torch.sin(z @ made.T + frozen)  # noqa: E731
        end = how(f, z, made)
        return torch.autograd.grad(end.sum(), W)[0]

    direct = run(lambda f, z, made: integrate(f, z, 0.0, 1.0, 20))
    around = run(lambda f, z, made: adjoint(f, z, (made, frozen), 0.0, 1.0, 20))
    assert torch.allclose(direct, around, rtol=1e-5, atol=1e-7)


# -- the loop ---------------------------------------------------------------------------------------------------------


def node(seed=0, **how):
    torch.manual_seed(seed)
    return NODE(replace(BASE, **how))


def loss(loop, depth=2):
    return think(loop, QUESTION, depth).answer.logits.square().mean()


@pytest.mark.slow
def test_the_loops_adjoint_gradient_is_the_direct_one():
    wanted = lambda loop: [*loop.net.parameters(), loop.embed.tokens.weight]  # noqa: E731
    direct, around = node(steps=8), node(steps=8, grad="adjoint")
    a, b = (torch.cat([g.flatten() for g in torch.autograd.grad(loss(m), wanted(m))]) for m in (direct, around))
    assert float((a - b).norm() / a.norm()) < 1e-3
    finer = [node(steps=n, grad="adjoint") for n in (1, 4)]
    off = [float((torch.cat([g.flatten() for g in torch.autograd.grad(loss(m), wanted(m))]) - a).norm()) for m in finer]
    assert off[1] < 0.2 * off[0]


def test_the_adjoint_keeps_nothing_of_the_way():
    def kept(**how):
        loop, numbers = node(**how), []
        with saved_tensors_hooks(lambda t: numbers.append(t.numel()) or t, lambda t: t):
            loop.step(loop.init(QUESTION), QUESTION)
        return sum(numbers)

    assert kept(steps=2, grad="adjoint") == kept(steps=16, grad="adjoint") < 0.1 * kept(steps=2)
    assert kept(steps=16) > 6 * kept(steps=2)


def test_finer_steps_think_the_same_thought():
    with torch.no_grad():
        ends = [think(node(steps=n), QUESTION, 3).state.z for n in (2, 4, 32)]
        off = [float((z - ends[-1]).abs().max()) for z in ends]
        euler = float((think(node(steps=32, method="euler"), QUESTION, 3).state.z - ends[-1]).abs().max())
    assert off[1] < 0.2 * off[0] and off[1] < 1e-2 and euler < 0.1


@pytest.mark.slow
def test_the_state_stays_bounded():
    with torch.no_grad():
        z = think(node(), QUESTION, 100).state.z
    assert float(z.square().mean(-1).sqrt().max()) <= 1.01


@pytest.mark.slow
@pytest.mark.parametrize("how", [{"grad": "adjoint"}, {"method": "euler"}, {"grad": "last(1)"}])
def test_its_variants_keep_the_contract(how):
    for name, check in CHECKS.items():
        if name != "taped calls" or how.get("grad") != "adjoint":  # which records none until the way back
            check(Subject("node", lambda: NODE(replace(BASE, **how)), QUESTION))


def test_wrong_configurations_say_so():
    for how in ({"method": "heun"}, {"steps": 0}, {"grad": "implicit"}, {"grad": "around"}):
        with pytest.raises(InputError):
            node(**how)
