"""Gradient rules of fixed points: exact identities of the implicit, the phantom and the truncated gradient."""

from __future__ import annotations

import gc
import weakref
from typing import NamedTuple

import pytest
import torch
import torchdeq
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from innerloop import grad
from innerloop.core import run_schedule, think
from innerloop.errors import InputError
from innerloop.learn.unroll import Unroll
from innerloop.parts.solvers import Anderson, Broyden, Picard

N = 12
TIGHT = {"tol": 1e-13, "limit": 400}


def draw(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def contraction(seed, norm, n=N):
    """A Gaussian matrix of that spectral norm."""
    w = draw(seed, n, n)
    return w * (norm / torch.linalg.matrix_norm(w, 2))


def rotation(seed, n=N):
    return torch.linalg.qr(draw(seed, n, n))[0]


def solved(f, z, rule, steps=500):
    return run_schedule(("f",) * steps, {"f": f}, z, rule)


def truncated(jacobian, g, rule, steps):
    """(n,) what a rule passes to an input x of z = J z + x, at the fixed point for x = 0, given the gradient g."""
    x = torch.zeros(1, len(g), dtype=torch.float64, requires_grad=True)
    z = solved(lambda z: z @ jacobian.T + x, torch.zeros_like(x), rule, steps)
    return torch.autograd.grad(z, x, g[None])[0][0]


def exact(jacobian, g):
    return torch.linalg.solve(torch.eye(len(g), dtype=torch.float64) - jacobian.T, g)


# -- the identities -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 2, 5, 17])
@pytest.mark.parametrize("tau", [1.0, 0.5, 0.3])
def test_k_terms_miss_the_adjoint_by_the_kth_power(k, tau):
    """v* - v_k = ((1 - tau) I + tau J')^k v*; with tau = 1 it is last(k) as well."""
    J, g = contraction(0, 0.8), draw(1, N)
    star = exact(J, g)
    power = torch.linalg.matrix_power((1 - tau) * torch.eye(N, dtype=torch.float64) + tau * J.T, k)
    rules = [grad.phantom(k, tau)] + [grad.last(k)] * (tau == 1)
    for rule in rules:
        assert torch.allclose(star - truncated(J, g, rule, 20), power @ star, rtol=0, atol=1e-12)


@pytest.mark.parametrize("s", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("k", [1, 2, 4])
def test_the_error_is_s_to_the_k_where_the_jacobian_is_s_times_a_rotation(s, k):
    J, g = s * rotation(2), draw(3, N)
    star = exact(J, g)
    assert (star - truncated(J, g, grad.last(k), 10)).norm() / star.norm() == pytest.approx(s**k, rel=1e-12)


@pytest.mark.parametrize(("s", "linear", "tanh"), [(0.1, 0.054, 0.036), (0.3, 0.164, 0.108), (0.5, 0.277, 0.179)])
def test_one_step_gradients_of_gaussian_maps(s, linear, tanh):
    """About s/2 for a linear map of spectral norm s, two thirds of that for tanh(W z + x); not s, the worst case."""
    n, found = 64, {"linear": 0.0, "tanh": 0.0}
    for seed in range(20):
        W, x, g = contraction(seed, s, n), draw(100 + seed, 1, n), draw(200 + seed, n)
        z = solved(lambda z, W=W, x=x: torch.tanh(z @ W.T + x), torch.zeros_like(x), grad.full, 100)
        for name, J in (("linear", W), ("tanh", (1 - z.T.square()) * W)):
            star = exact(J, g)
            found[name] += float((star - truncated(J, g, grad.last(1), 1)).norm() / star.norm()) / 20
    assert found["linear"] == pytest.approx(linear, rel=0.2)
    assert found["tanh"] == pytest.approx(tanh, rel=0.2)


# -- implicit differentiation ---------------------------------------------------------------------------------------


def leaves(seed=4, rows=3, n=N):
    W = contraction(seed, 0.9, n).requires_grad_()
    U, x = (0.3 * draw(seed + 1, n, n)).requires_grad_(), draw(seed + 2, rows, n).requires_grad_()
    return W, U, x


def tanh_map(W, U, x):
    return lambda z: torch.tanh(z @ W.T + x @ U.T)


@pytest.mark.parametrize("solver", [Picard, Anderson, Broyden])
def test_implicit_is_backpropagation_through_500_steps(solver):
    W, U, x = leaves()
    g, zero = draw(9, 3, N), torch.zeros(3, N, dtype=torch.float64)
    through = solved(tanh_map(W, U, x), zero, grad.full)
    around = solved(tanh_map(W, U, x), zero, grad.implicit(solver(**TIGHT)))
    assert torch.allclose(through, around, rtol=0, atol=1e-12)
    for a, b in zip(*(torch.autograd.grad(z, (W, U, x), g) for z in (through, around)), strict=True):
        assert torch.allclose(a, b, rtol=0, atol=1e-8)


def test_implicit_passes_gradcheck():
    W, U, x = leaves(rows=2, n=4)
    zero = torch.zeros(2, 4, dtype=torch.float64)
    run = lambda W, U, x: solved(tanh_map(W, U, x), zero, grad.implicit(Broyden(**TIGHT)))  # noqa: E731
    assert torch.autograd.gradcheck(run, (W, U, x))


def test_a_solver_for_the_backward_pass_is_asked_there_and_there_alone():
    asked = []

    def solver(name):
        return lambda *args: (asked.append(name), Picard(**TIGHT)(*args))[1]

    x = draw(5, 3, 4).requires_grad_()
    z = solved(lambda z: 0.5 * z + x, torch.zeros_like(x), grad.implicit(solver("forward"), solver("backward")))
    assert asked == ["forward"]
    assert torch.allclose(torch.autograd.grad(z.sum(), x)[0], torch.full_like(x, 2)) and asked[1:] == ["backward"]


@pytest.mark.parametrize("solver", ["fixed_point_iter", "anderson", "broyden"])
def test_outputs_and_gradients_agree_with_torchdeq(solver):
    W, U, x = leaves()
    g, zero = draw(9, 3, N), torch.zeros(3, N, dtype=torch.float64)
    theirs = torchdeq.get_deq(
        f_solver=solver, b_solver=solver, ift=True, f_tol=1e-11, b_tol=1e-11, f_max_iter=300, b_max_iter=300
    )
    ours = {"fixed_point_iter": Picard, "anderson": Anderson, "broyden": Broyden}[solver](**TIGHT)
    a = theirs.train()(tanh_map(W, U, x), zero)[0][-1]
    b = solved(tanh_map(W, U, x), zero, grad.implicit(ours))
    assert torch.allclose(a, b, rtol=0, atol=1e-9)
    for p, q in zip(*(torch.autograd.grad(z, (W, U, x), g) for z in (a, b)), strict=True):
        assert torch.allclose(p, q, rtol=0, atol=1e-8)


def test_phantom_gradients_agree_with_torchdeq():
    W, U, x = leaves()
    g, zero = draw(9, 3, N), torch.zeros(3, N, dtype=torch.float64)
    theirs = torchdeq.get_deq(ift=False, grad=5, tau=0.5, f_tol=1e-13, f_max_iter=500)
    a = theirs.train()(tanh_map(W, U, x), zero)[0][-1]
    b = solved(tanh_map(W, U, x), zero, grad.phantom(5, 0.5, Picard(**TIGHT)))
    for p, q in zip(*(torch.autograd.grad(z, (W, U, x), g) for z in (a, b)), strict=True):
        assert torch.allclose(p, q, rtol=0, atol=1e-9)


def saved(rule, steps):
    """Numbers kept for the backward pass."""
    W, U, x = leaves()
    kept = []
    with saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t):
        solved(tanh_map(W, U, x), torch.zeros(3, N, dtype=torch.float64), rule, steps)
    return sum(kept)


def test_memory_is_flat_in_iterations():
    rule = grad.implicit(Anderson(tol=0.0, warn=False))
    assert saved(rule, 50) == saved(rule, 5) < saved(grad.last(2), 50)
    assert saved(grad.phantom(2, 1.0), 50) == saved(grad.phantom(2, 1.0), 5)
    assert saved(grad.full, 50) > 9 * saved(grad.full, 5)


def test_the_graph_is_freed_without_a_garbage_collection():
    W, U, x = leaves()
    f, watch = tanh_map(W, U, x), []

    def update(z):
        watch[:] = [weakref.ref(z)]
        return f(z)

    gc.disable()
    try:
        z = solved(update, torch.zeros(3, N, dtype=torch.float64), grad.implicit(Picard(**TIGHT)))
        assert watch[0]() is not None
        z.sum().backward()
        del z
        assert watch[0]() is None
    finally:
        gc.enable()


# -- states with several slots --------------------------------------------------------------------------------------


class State(NamedTuple):
    a: Tensor  # (B, 2, 3)
    t: Tensor  # (B,) int64
    b: Tensor  # (B, 6)


def two_slots(rows=4):
    A, B, C = contraction(20, 0.5, 6), contraction(21, 0.4, 6), draw(22, rows, 6).requires_grad_()

    def update(s):
        a, b = s.a.flatten(1), s.b
        return State(torch.tanh(b @ A.T + C).view(-1, 2, 3), s.t + 1, torch.tanh(a @ B.T + 0.2 * b))

    f64 = torch.float64
    return update, State(torch.zeros(rows, 2, 3, dtype=f64), torch.arange(rows), torch.zeros(rows, 6, dtype=f64)), C


def test_every_floating_slot_is_solved_for_and_integers_see_one_update():
    update, s, C = two_slots()
    through, around = (solved(update, s, rule) for rule in (grad.full, grad.implicit(Anderson(**TIGHT))))
    assert torch.equal(around.t, torch.arange(4) + 1) and around.a.shape == (4, 2, 3)
    for slot in ("a", "b"):
        assert torch.allclose(getattr(through, slot), getattr(around, slot), rtol=0, atol=1e-12)
    total = lambda s: s.a.square().sum() + s.b.sum()  # noqa: E731
    p, q = (torch.autograd.grad(total(s), C)[0] for s in (through, around))
    assert torch.allclose(p, q, rtol=0, atol=1e-10)


def test_phantom_damps_floating_slots_and_leaves_integers_to_the_update():
    update, s, _ = two_slots()
    once, damped = update(s), solved(update, s, grad.phantom(1, 0.25), 1)
    assert torch.allclose(damped.a, 0.25 * once.a) and torch.equal(damped.t, s.t + 1)
    plain, bare = solved(update, s, grad.last(3), 7), solved(update, s, grad.phantom(3, 1.0), 7)
    assert torch.equal(plain.a, bare.a) and torch.equal(bare.t, s.t + 7)


def test_slots_keep_their_dtype():
    w = torch.full((), 0.5, requires_grad=True)
    z = solved(lambda z: (0.5 * z * w + 1).to(torch.bfloat16), torch.zeros(2, 3, dtype=torch.bfloat16),
               grad.implicit(Picard(tol=1e-2)))  # fmt: skip
    assert z.dtype == torch.bfloat16
    z.float().sum().backward()
    assert w.grad is not None and w.grad.item() == pytest.approx(6 * 0.5 * (4 / 3) / 0.75, rel=0.02)


def test_whole_thoughts_take_the_rules_too():
    class Loop:
        def init(self, x):
            return (torch.zeros_like(x),)

        def step(self, s, x):
            return (torch.tanh(0.5 * s[0] + x),)

        def read(self, s):
            return s[0]

    x = draw(5, 3, 4).requires_grad_()
    p, q = (
        torch.autograd.grad(think(Loop(), x, 200, grad=rule).answer.sum(), x)[0]
        for rule in (grad.full, grad.implicit(Picard(**TIGHT)))
    )
    assert torch.allclose(p, q, rtol=0, atol=1e-12)
    with torch.no_grad():
        assert torch.allclose(think(Loop(), x, 200, grad=grad.implicit(Picard(**TIGHT))).answer,
                              think(Loop(), x, 200).answer, rtol=0, atol=1e-12)  # fmt: skip


def test_what_does_not_depend_on_the_state_has_a_plain_gradient():
    x = draw(5, 3, 4).requires_grad_()
    z = solved(lambda z: x.square(), torch.zeros_like(x), grad.implicit(Picard(**TIGHT)))
    assert torch.allclose(torch.autograd.grad(z.sum(), x)[0], 2 * x)


# -- by name --------------------------------------------------------------------------------------------------------


def taped(rule, schedule):
    """How many of a schedule's updates a rule records."""
    marks = []
    rule(schedule, lambda name, s: marks.append(torch.is_grad_enabled()), None)
    return sum(marks), len(marks)


def test_rules_by_name_record_what_they_say():
    schedule = ("f",) * 8
    for text, count in (("full", 8), ("last(3)", 3), ("phantom(5, 0.5)", 5), ("phantom(2,1)", 2), ("last_cycle", 1)):
        assert taped(grad.rule_named(text), schedule) == (count, 8), text
    with pytest.raises(InputError, match="needs a solver"):
        grad.rule_named("implicit")
    for wrong in ("phantom(0, 1)", "phantom(3, 1.5)", "phantom(3)", "phantom(3, 0)", "implicit(3)"):
        with pytest.raises(InputError):
            grad.rule_named(wrong)
    assert Unroll(4, grad="phantom(2, 0.5)").grad == "phantom(2, 0.5)"
    with pytest.raises(InputError, match="needs a solver"):
        Unroll(4, grad="implicit")


def test_warmup_rises_in_equal_shares():
    counts = [taped(grad.warmup(2, 5, i / 8), ("f",) * 9)[0] for i in range(9)]
    assert counts == [2, 2, 3, 3, 4, 4, 5, 5, 5]
    with pytest.raises(InputError, match="does not rise"):
        grad.warmup(5, 2, 0.0)


def test_a_fixed_point_is_of_one_update():
    with pytest.raises(InputError, match="one update"):
        run_schedule(("a", "b"), {"a": lambda s: s, "b": lambda s: s}, torch.zeros(1, 1), grad.implicit(Picard()))
