"""Fixed-point solvers: exact on linear maps, example by example, and honest where they fail."""

from __future__ import annotations

import warnings

import pytest
import torch

from innerloop.errors import InputError
from innerloop.parts.solvers import SOLVERS, Anderson, Broyden, NotConverged, Picard, solver_named

ALL = pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS)


def draw(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def linear(norm, seed=0, n=30, rows=4):
    """A linear map of that spectral norm, and its fixed point."""
    w, b = draw(seed, n, n), draw(seed + 1, rows, n)
    w = w * (norm / torch.linalg.matrix_norm(w, 2))
    return lambda z: z @ w.T + b[: len(z)], torch.linalg.solve(torch.eye(n, dtype=w.dtype) - w, b.T).T


@ALL
def test_a_linear_map_is_solved_exactly(solver):
    f, star = linear(0.9)
    found = solver(tol=1e-13, limit=1000)(f, torch.zeros_like(star))
    assert torch.allclose(found.z, star, rtol=0, atol=1e-10)
    assert bool(found.converged.all()) and bool((found.residual <= 1e-13).all())


def test_anderson_needs_fewer_calls_than_picard():
    f, star = linear(0.9)
    few, many = (s(tol=1e-8, limit=500)(f, torch.zeros_like(star)).iterations for s in (Anderson, Picard))
    assert bool((few < many).all())
    symmetric = torch.diag(torch.linspace(-0.9, 0.9, 30, dtype=torch.float64))
    g = lambda z: z @ symmetric + 1  # noqa: E731
    few, many = (s(tol=1e-8, limit=500)(g, torch.zeros_like(star)).iterations for s in (Anderson, Picard))
    assert bool((2 * few < many).all())


def test_broyden_solves_what_does_not_contract():
    f, star = linear(3.0, n=10)
    found = Broyden(tol=1e-12, limit=100)(f, torch.zeros_like(star))
    assert bool(found.converged.all()) and torch.allclose(found.z, star, rtol=0, atol=1e-9)
    assert not bool(Picard(limit=100, warn=False)(f, torch.zeros_like(star)).converged.any())


def test_broyden_with_a_short_memory_starts_again():
    f, star = linear(0.9)
    found = Broyden(tol=1e-12, limit=1000, memory=5)(f, torch.zeros_like(star))
    assert torch.allclose(found.z, star, rtol=0, atol=1e-10)


@pytest.mark.parametrize("ridge", [0.0, 1e-12, 1e-4])
def test_a_singular_anderson_system_gets_a_larger_ridge(ridge):
    """Five differences in two dimensions cannot be independent; and a row that stands still has none."""
    f, star = linear(0.9, n=2)
    start = torch.zeros_like(star)
    start[1] = star[1]
    found = Anderson(tol=1e-13, limit=500, ridge=ridge)(f, start)
    assert torch.allclose(found.z, star, rtol=0, atol=1e-10)
    assert found.iterations[1] == 1


@ALL
def test_an_example_is_solved_alone_as_among_others(solver):
    """Examples stop after different numbers of calls; bit for bit the same, since f treats each alone."""
    rate, b = torch.linspace(0.1, 0.97, 6)[:, None], draw(1, 6, 20).float()
    f = lambda z, rate=rate, b=b: torch.tanh(rate * z.roll(1, 1) + b)  # noqa: E731
    together = solver(tol=1e-5, limit=200)(f, torch.zeros_like(b))
    assert len(together.iterations.unique()) > 2 and bool(together.converged.all())
    for i in range(6):
        single = solver(tol=1e-5, limit=200)(
            lambda z, i=i: f(z, rate[i : i + 1], b[i : i + 1]), torch.zeros_like(b[:1])
        )
        for whole, part in zip(together, single, strict=True):
            assert torch.equal(whole[i : i + 1], part)


@ALL
def test_a_diverging_example_hurts_no_other_and_leaves_its_best_iterate(solver):
    calm, b = torch.tensor([[0.5], [3.0]], dtype=torch.float64), draw(1, 2, 8)

    def f(z):
        wild = z.square().exp() * 10 + 1  # has no fixed point, and overflows
        return torch.where(calm < 1, calm * z + b, wild)

    with pytest.warns(NotConverged, match="best iterates"):
        found = solver(tol=1e-10, limit=60)(f, torch.zeros_like(b))
    assert found.converged.tolist() == [True, False]
    assert torch.allclose(found.z[0], 2 * b[0], rtol=0, atol=1e-8)
    assert bool(found.z.isfinite().all())
    assert float(found.residual[1]) == pytest.approx(
        float((f(found.z) - found.z)[1].norm() / f(found.z)[1].norm()), rel=1e-12
    )


@ALL
def test_the_best_iterate_is_kept_not_the_last(solver):
    """A map that comes near its fixed point 0 and is thrown away from it, again and again."""
    f = lambda z: torch.where(z.abs() < 0.1, z + 5, 0.3 * z)  # noqa: E731
    found = solver(tol=0.0, limit=15, warn=False)(f, torch.full((1, 3), 4.0, dtype=torch.float64))
    assert not bool(found.converged) and int(found.iterations) == 15
    assert float(found.residual) == pytest.approx(float((f(found.z) - found.z).norm() / f(found.z).norm()))


def test_the_warning_is_one_text_so_that_a_log_shows_it_once():
    f, star = linear(0.99)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("default")
        for limit in (2, 3, 4):
            Picard(limit=limit)(f, torch.zeros_like(star))
    assert [w.category for w in seen] == [NotConverged]
    Picard(limit=2, warn=False)(f, torch.zeros_like(star))


def test_the_caller_decides_what_is_recorded():
    w = torch.full((), 0.5, dtype=torch.float64, requires_grad=True)
    f = lambda z: w * z + 1  # noqa: E731
    for solver in SOLVERS.values():
        z = solver(tol=1e-12, limit=200)(f, torch.zeros(1, 3, dtype=torch.float64)).z
        assert z.requires_grad
        with torch.no_grad():
            assert not solver(tol=1e-12, limit=200)(f, torch.zeros(1, 3, dtype=torch.float64)).z.requires_grad


def test_solvers_by_name():
    assert solver_named("anderson", tol=0.5) == Anderson(tol=0.5)
    with pytest.raises(InputError, match="no solver"):
        solver_named("newton")
    with pytest.raises(InputError, match="limit of 1"):
        Picard(limit=0)
