"""Orbit's blocks compiled on a CPU: the same values and gradients as the plain twin, and when they stand aside."""

import shutil
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from innerloop import grad
from innerloop.learn.compile import compile_blocks
from innerloop.parts import fused
from innerloop.parts.mixers import Net
from innerloop.parts.orbits import OrbitBlock
from innerloop.parts.size import Size

pytestmark = pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")), reason="no C++ compiler")

NONE = replace(Size(), layers=1, mix="orbit", positions="none", prefix=0, puzzle_width=0, multiple=8, heads=2)
LINES = (((0, 1, 2), (3, 4, 5)), ((0, 3), (1, 4), (2, 5), (0, 4)))
SIZES = {
    "symbols and lines": replace(NONE, seq=6, rows=2, vocab=7, symbols=((1, 2, 3),), width=48, orbits=LINES),
    "eight lanes": replace(NONE, seq=6, rows=2, vocab=7, symbols=((1, 2, 3),), width=24, orbits=LINES),
    "lines alone": replace(NONE, seq=6, rows=2, vocab=4, width=16, orbits=LINES),
    "cells about it": replace(NONE, seq=12, rows=3, vocab=4, width=32, local=True),
    "all, and a prefix": replace(
        NONE, seq=6, rows=2, vocab=7, prefix=2, symbols=((1, 2, 3, 4, 5),), width=80, orbits=LINES, local=True
    ),
    "many symbols": replace(NONE, seq=6, rows=2, vocab=60, symbols=(tuple(range(1, 56)),), width=440, local=True),
    "two blocks": replace(NONE, seq=6, rows=2, vocab=4, width=16, layers=2, orbits=LINES),
    "odd widths": replace(NONE, seq=6, rows=2, vocab=4, width=40, expansion=2.0, orbits=LINES),
}


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def made(name, batch=5):
    torch.manual_seed(0)
    size = SIZES[name]
    net = Net(size)
    h, e, dz = torch.randn(3, batch, size.length, size.width)
    return net, h.requires_grad_(), e.requires_grad_(), dz


def gradients(net, h, e, dz, rounds=3):
    z = net.again(h, e, rounds)
    return z.detach(), torch.autograd.grad(z, [h, e, *net.parameters()], dz)


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("many", [1, 3])
def test_the_same_values_and_gradients_as_the_plain_twin(name, many, threads):
    threads(many)
    net, h, e, dz = made(name)
    assert fused.serves(net.blocks, h)
    z, grads = gradients(net, h, e, dz)
    with fused.plain():
        want, wants = gradients(net, h, e, dz)
    assert (z - want).abs().max() < 2e-5 and (want.abs() > 0.1).any()
    for got, due in zip(grads, wants, strict=True):
        assert got.shape == due.shape and (got - due).norm() < 1e-4 * due.norm()
    again, same = gradients(net, h, e, dz)
    assert (again == z).all() and all((a == b).all() for a, b in zip(same, grads, strict=True)), "bit by bit"


def test_one_call_is_a_loop_of_one_and_needs_no_gradient():
    net, h, _, _ = made("symbols and lines")
    with torch.no_grad():
        one, loop = net(h), fused.loop(net.blocks, h, None, 1)
        with fused.plain():
            plain = net(h)
    assert (one == loop).all() and (one - plain).abs().max() < 1e-5
    assert (net(h[2:3]) == one[2:3]).all(), "a puzzle does not depend on its batch"


def test_states_and_questions_that_are_views_or_broadcast():
    net, h, e, _ = made("symbols and lines")
    with torch.no_grad():
        turned = net.again(h.mT.contiguous().mT, e[:1], 2)
        assert (turned == net.again(h, e[:1].expand_as(e).contiguous(), 2)).all()


def test_a_thread_of_its_own_where_torch_brings_no_openmp(monkeypatch, threads):
    threads(2)
    net, h, e, dz = made("symbols and lines")
    z, grads = gradients(net, h, e, dz)
    monkeypatch.setattr(fused, "team", lambda: None)
    again, same = gradients(net, h, e, dz)
    assert (again == z).all() and all((a == b).all() for a, b in zip(same, grads, strict=True))


def test_a_gradient_of_a_gradient_is_the_plain_one():
    net, h, e, dz = made("two blocks")
    weights = list(net.parameters())

    def twice():
        first = torch.autograd.grad(net.again(h, e, 2), [h, weights[0]], dz, create_graph=True)
        return torch.autograd.grad(sum(g.square().sum() for g in first), [h, e, *weights])

    got = twice()
    with fused.plain():
        due = twice()
    assert all((a - b).norm() < 1e-4 * b.norm() for a, b in zip(got, due, strict=True))


def test_the_plain_twin_serves_what_it_cannot():
    net, h, e, _ = made("symbols and lines")
    assert not fused.serves(net.blocks, h.bfloat16()) and not fused.serves(net.blocks, h.to("meta"))
    with FlopCounterMode(display=False) as counter:
        net.again(h, e, 1)
    assert counter.get_total_flops() > 0, "operations can be counted"
    along = torch.func.jvp(lambda x: net(x), (h.detach(),), (torch.ones_like(h),))[1]
    near = (net(h + 1e-2) - net(h - 1e-2)) / 2e-2
    assert (along - near).norm() < 0.02 * near.norm()
    assert torch.func.vmap(net)(h[:, None]).shape == (5, 1, *h.shape[1:])
    kept = net.again(h, e, 3, grad.last(1))
    assert (kept - net.again(h, e, 3)).abs().max() < 1e-5
    far = Net(replace(SIZES["lines alone"], positions="learned"))
    assert not fused.serves(far.blocks, h) and not fused.serves(Net(replace(NONE, mix="attention")).blocks, h)
    assert not fused.serves(Net(replace(SIZES["lines alone"], norm="sandwich")).blocks, h)
    for name in ("forward", "plain", "listen", "gated"):
        other = type("Other", (OrbitBlock,), {name: lambda *args: args[-1]})(SIZES["lines alone"])
        assert not fused.serves([other], h), f"a block with another {name} is not what was compiled"


def test_without_a_compiler_or_with_a_broken_one_blocks_are_plain(monkeypatch, tmp_path):
    net, h, _, _ = made("symbols and lines")
    with fused.plain():
        want = net(h)
    for compiler, folder, said in (
        (None, tmp_path, None),
        ("false", tmp_path, "not compiled"),
        ("g++", "/proc", "/proc"),
    ):
        fused.library.cache_clear()
        monkeypatch.setattr(fused, "folder", lambda at=folder: Path(at))
        monkeypatch.setattr(shutil, "which", lambda name, at=compiler: at)
        with warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("always")
            assert (net(h) == want).all()
        assert [said in str(w.message) for w in heard] == ([True] if said else [])
    monkeypatch.undo()
    fused.library.cache_clear()
    monkeypatch.setenv(fused.SWITCH, "0")
    assert not fused.serves(net.blocks, h)
    monkeypatch.delenv(fused.SWITCH)
    fused.library.cache_clear()
    assert fused.serves(net.blocks, h)


def test_what_is_compiled_is_kept_and_nothing_else(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    fused.library.cache_clear()
    assert fused.library(1, 8, 8) is not None
    (made,) = (tmp_path / "innerloop").iterdir()
    stamp = made.stat().st_mtime_ns
    fused.library.cache_clear()
    assert fused.library(1, 8, 8) is not None and made.stat().st_mtime_ns == stamp
    assert fused.library(1, 12, 8) is None, "no vector holds twelve channels evenly"
    fused.library.cache_clear()


def test_training_says_what_its_blocks_run_as(monkeypatch):
    loop = torch.nn.Module()
    loop.net, loop.dtype = Net(SIZES["lines alone"]), torch.float32
    cpu = torch.device("cpu")
    assert "one compiled region" in compile_blocks(loop, "auto", cpu, 1000)
    monkeypatch.setattr(fused, "library", lambda *shape: None)
    assert "torch.compile is off" in compile_blocks(loop, "auto", cpu, 1000)
