"""Orbit's blocks compiled on a CPU: the same values and gradients as the plain twin, and when they stand aside."""

import os
import shutil
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from innerloop import grad
from innerloop.errors import InputError
from innerloop.learn.compile import compile_blocks
from innerloop.parts import fused
from innerloop.parts.config import NetConfig
from innerloop.parts.layers import Linear
from innerloop.parts.mixers import Net
from innerloop.parts.orbits import OrbitBlock

pytestmark = pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")), reason="no C++ compiler")

NONE = replace(
    NetConfig(), layers=1, block="orbit", positions="none", prefix=0, puzzle_emb_size=0, multiple_of=8, heads=2
)
LINES = (((0, 1, 2), (3, 4, 5)), ((0, 3), (1, 4), (2, 5), (0, 4)))
SIZES = {
    "symbols and lines": replace(NONE, seq=6, rows=2, vocab=7, symbols=((1, 2, 3),), hidden_size=48, orbits=LINES),
    "eight lanes": replace(NONE, seq=6, rows=2, vocab=7, symbols=((1, 2, 3),), hidden_size=24, orbits=LINES),
    "lines alone": replace(NONE, seq=6, rows=2, vocab=4, hidden_size=16, orbits=LINES),
    "cells about it": replace(NONE, seq=12, rows=3, vocab=4, hidden_size=32, local=True),
    "all, and a prefix": replace(
        NONE, seq=6, rows=2, vocab=7, prefix=2, symbols=((1, 2, 3, 4, 5),), hidden_size=80, orbits=LINES, local=True
    ),
    "row and column": replace(NONE, seq=12, rows=3, vocab=4, hidden_size=32, local=True, along=True),
    "all along": replace(
        NONE,
        seq=15,
        rows=5,
        vocab=7,
        prefix=2,
        symbols=((1, 2, 3, 4, 5),),
        hidden_size=80,
        orbits=LINES,
        local=True,
        along=True,
    ),
    "many symbols": replace(NONE, seq=6, rows=2, vocab=60, symbols=(tuple(range(1, 56)),), hidden_size=440, local=True),
    "two blocks": replace(NONE, seq=6, rows=2, vocab=4, hidden_size=16, layers=2, orbits=LINES),
    "odd widths": replace(NONE, seq=6, rows=2, vocab=4, hidden_size=40, expansion=2.0, orbits=LINES),
}


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def made(name, batch=5):
    torch.manual_seed(0)
    config = SIZES[name]
    net = Net(config)
    h, e, dz = torch.randn(3, batch, config.length, config.hidden_size)
    return net, h.requires_grad_(), e.requires_grad_(), dz


def gradients(net, h, e, dz, rounds=3):
    z = net.iterate(h, e, rounds)
    return z.detach(), torch.autograd.grad(z, [h, e, *net.parameters()], dz)


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("many", [1, 3])
def test_the_same_values_and_gradients_as_the_plain_twin(name, many, threads):
    threads(many)
    net, h, e, dz = made(name)
    assert fused.supports(net.blocks, h)
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
        turned = net.iterate(h.mT.contiguous().mT, e[:1], 2)
        assert (turned == net.iterate(h, e[:1].expand_as(e).contiguous(), 2)).all()


def test_a_thread_of_its_own_where_torch_brings_no_openmp(monkeypatch, threads):
    threads(2)
    net, h, e, dz = made("symbols and lines")
    z, grads = gradients(net, h, e, dz)
    monkeypatch.setattr(fused, "openmp_entry", lambda: None)
    again, same = gradients(net, h, e, dz)
    assert (again == z).all() and all((a == b).all() for a, b in zip(same, grads, strict=True))


def test_a_gradient_of_a_gradient_is_the_plain_one():
    net, h, e, dz = made("two blocks")
    weights = list(net.parameters())

    def twice():
        first = torch.autograd.grad(net.iterate(h, e, 2), [h, weights[0]], dz, create_graph=True)
        return torch.autograd.grad(sum(g.square().sum() for g in first), [h, e, *weights])

    got = twice()
    with fused.plain():
        due = twice()
    assert all((a - b).norm() < 1e-4 * b.norm() for a, b in zip(got, due, strict=True))


def test_the_plain_twin_serves_what_it_cannot():
    net, h, e, _ = made("symbols and lines")
    assert not fused.supports(net.blocks, h.bfloat16()) and not fused.supports(net.blocks, h.to("meta"))
    with FlopCounterMode(display=False) as counter:
        net.iterate(h, e, 1)
    assert counter.get_total_flops() > 0, "operations can be counted"
    along = torch.func.jvp(lambda x: net(x), (h.detach(),), (torch.ones_like(h),))[1]
    near = (net(h + 1e-2) - net(h - 1e-2)) / 2e-2
    assert (along - near).norm() < 0.02 * near.norm()
    assert torch.func.vmap(net)(h[:, None]).shape == (5, 1, *h.shape[1:])
    kept = net.iterate(h, e, 3, grad.last(1))
    assert (kept - net.iterate(h, e, 3)).abs().max() < 1e-5
    far = Net(replace(SIZES["lines alone"], positions="learned"))
    assert not fused.supports(far.blocks, h) and not fused.supports(Net(replace(NONE, block="attention")).blocks, h)
    assert not fused.supports(Net(replace(SIZES["lines alone"], norm="sandwich")).blocks, h)
    for name in ("forward", "plain", "aggregate", "gated"):
        other = type("Other", (OrbitBlock,), {name: lambda *args: args[-1]})(SIZES["lines alone"])
        assert not fused.supports([other], h), f"a block with another {name} is not what was compiled"


def outcome(call):
    """What a call gives, or how it fails."""
    try:
        return call()
    except Exception as error:
        return type(error), str(error)


def doubled(net):
    net.blocks[0].out.double()


def grown(net):
    own = net.blocks[0].self_proj
    own.weight = torch.nn.Parameter(torch.cat([own.weight, own.weight]))


def shared(net):
    net.blocks[0].messages["lines"].kinds[1].encode.weight = net.blocks[0].messages["lines"].kinds[0].encode.weight


def hooked(net):
    net.blocks[0].out.register_forward_hook(lambda m, args, z: 2 * z)


def patched(net):
    net.blocks[0].self_proj.forward = lambda x: torch.nn.functional.linear(x, 2 * net.blocks[0].self_proj.weight)


def parametrized(net):
    torch.nn.utils.parametrizations.weight_norm(net.blocks[0].self_proj)


def replaced(net):
    net.blocks[0].messages["lines"].kinds[0].decode = torch.nn.Linear(48, 96)


WRONG = {  # shape of h, shape of e, and what is done to the net before
    "too many places": ((2, 4000, 48), (2, 4000, 48), None),
    "a place too few": ((2, 5, 48), (1, 5, 48), None),
    "a place too many": ((2, 7, 48), (2, 7, 48), None),
    "narrower": ((2, 6, 32), (2, 6, 32), None),
    "a channel too few": ((2, 6, 47), (2, 6, 47), None),
    "wider": ((2, 6, 96), (2, 6, 96), None),
    "no batch": ((6, 48), (6, 48), None),
    "a fourth axis": ((2, 1, 6, 48), (2, 1, 6, 48), None),
    "e of other places": ((2, 6, 48), (2, 5, 48), None),
    "e of other width": ((2, 6, 48), (2, 6, 24), None),
    "e of more examples": ((1, 6, 48), (3, 6, 48), None),
    "e of one number": ((2, 6, 48), (), None),
    "no example": ((0, 6, 48), (0, 6, 48), None),
    "one weight in float64": ((2, 6, 48), (2, 6, 48), doubled),
    "one weight too large": ((2, 6, 48), (2, 6, 48), grown),
    "one weight twice": ((2, 6, 48), (2, 6, 48), shared),
    "a hook on a part": ((2, 6, 48), (2, 6, 48), hooked),
    "a part's forward replaced": ((2, 6, 48), (2, 6, 48), patched),
    "a weight computed of others": ((2, 6, 48), (2, 6, 48), parametrized),
    "another part in its place": ((2, 6, 48), (2, 6, 48), replaced),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_does_not_fit_gives_what_the_plain_twin_gives(name):
    """Each of these read or wrote past its memory once, or gave a number that nobody computed."""
    shape, other, change = WRONG[name]
    net = made("symbols and lines")[0]
    if change:
        change(net)
    h, e = torch.randn(shape), torch.randn(other)
    for call in (lambda: net.iterate(h, e, 2), lambda: net.blocks[0](h), lambda: net(h, e)):
        got = outcome(call)
        with fused.plain():
            due = outcome(call)
        if isinstance(due, torch.Tensor):
            assert got.shape == due.shape and got.dtype == due.dtype
            assert torch.allclose(got, due, atol=2e-5)
        else:
            assert got == due


@pytest.mark.parametrize("name", ["h", "e"])
@pytest.mark.parametrize("kind", [torch.float64, torch.bfloat16, torch.int64])
def test_inputs_of_another_dtype_are_the_plain_twins(name, kind):
    net, h, e, _ = made("symbols and lines")
    with torch.no_grad():
        given = {"h": h.detach(), "e": e.detach()}
        given[name] = given[name].to(kind)
        got = outcome(lambda: net.iterate(given["h"], given["e"], 2))
        with fused.plain():
            due = outcome(lambda: net.iterate(given["h"], given["e"], 2))
    if isinstance(due, torch.Tensor):
        assert got.dtype is due.dtype and torch.allclose(got, due, atol=2e-5)
    else:
        assert got == due


@pytest.mark.parametrize("rounds", [0, -1])
def test_no_call_at_all_is_refused_by_both(rounds):
    net, h, e, _ = made("symbols and lines")
    for allowed in (True, False):
        with nullcontext() if allowed else fused.plain(), pytest.raises(InputError, match=f"{rounds} times"):
            net.iterate(h, e, rounds)
    assert fused.loop(net.blocks, h, e, rounds) is None


def test_weights_and_gradients_in_any_layout(threads):
    """Transposed weights, a state of negated memory, a gradient that is a view: same values, same gradients."""
    net, h, e, dz = made("all, and a prefix")
    z, grads = gradients(net, h, e, dz)
    for part in net.blocks[0].modules():
        if isinstance(part, Linear):
            part.weight = torch.nn.Parameter(part.weight.detach().T.contiguous().T)
    assert not net.blocks[0].self_proj.weight.is_contiguous() and fused.supports(net.blocks, h, e)
    again, same = gradients(net, h, e, dz.mT.contiguous().mT)
    assert torch.equal(again, z) and all(torch.equal(a, b) for a, b in zip(same, grads, strict=True))
    turned = torch.complex(torch.zeros_like(h), -h.detach()).conj().imag
    assert turned.is_neg() and (net.iterate(turned, e, 3) - z).abs().max() < 1e-5


@pytest.mark.slow
def test_where_memory_ends_an_error_says_so():
    """In a process of its own: a null pointer ended it."""
    code = """
import resource, torch
from dataclasses import replace
from innerloop.parts import fused
from tests.parts.test_fused import SIZES, Net
net = Net(replace(SIZES["cells about it"], symbols=((1,),), seq=300_000, rows=1000))
h = torch.zeros(1, 300_000, 32)
with torch.no_grad():
    assert fused.supports(net.blocks, h)
    used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 200_000_000, -1))
    try:
        fused.loop(net.blocks, h, None, 1)
    except RuntimeError as error:
        print("said:", error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.returncode == 0 and "compiled blocks need room" in done.stdout, (done.returncode, done.stderr[-500:])


# -- the cache --------------------------------------------------------------------------------------------------------


SHAPE = OrbitBlock(SIZES["lines alone"]).shape


@pytest.fixture
def cache(monkeypatch, tmp_path):
    """An empty cache of this test's own, nothing loaded, and a compiler that is quick: it has only one answer."""
    answer, compiler = fused.library(*SHAPE)._name, tmp_path / "compiler"
    compiler.write_text(f'#!/bin/sh\nwhile [ "$1" != -o ]; do shift; done\ncp {answer} "$2"\n')
    compiler.chmod(0o755)
    monkeypatch.setattr(shutil, "which", lambda name: str(compiler))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    fused.library.cache_clear()
    yield tmp_path / "innerloop"
    monkeypatch.undo()
    fused.library.cache_clear()


def test_without_a_compiler_or_with_a_broken_one_blocks_are_plain(cache, monkeypatch):
    net, h, _, _ = made("symbols and lines")
    with fused.plain():
        want = net(h)
    for compiler, said in ((None, None), ("false", "not compiled")):
        fused.library.cache_clear()
        monkeypatch.setattr(shutil, "which", lambda name, at=compiler: at)
        with warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("always")
            assert (net(h) == want).all()
        assert [said in str(w.message) for w in heard] == ([True] if said else [])
    monkeypatch.undo()
    fused.library.cache_clear()
    monkeypatch.setenv(fused.SWITCH, "0")
    assert not fused.supports(net.blocks, h)
    monkeypatch.delenv(fused.SWITCH)
    fused.library.cache_clear()
    assert fused.supports(net.blocks, h)


def test_what_is_compiled_is_kept_and_nothing_else(cache):
    assert fused.library(*SHAPE) is not None
    (lib,) = cache.iterdir()
    stamp = lib.stat().st_mtime_ns
    fused.library.cache_clear()
    assert fused.library(*SHAPE) is not None and lib.stat().st_mtime_ns == stamp
    assert fused.library(1, 12, 8) is None, "no vector holds twelve channels evenly"


@pytest.mark.parametrize("damage", ["cut short", "a bit turned", "empty"])
def test_a_damaged_library_is_compiled_anew(cache, damage):
    """A library cut short ended every process that used it, with SIGBUS: it is checked before it is loaded."""
    assert fused.library(*SHAPE) is not None
    (lib,) = cache.iterdir()
    good = lib.read_bytes()
    turned = bytearray(good)
    turned[len(good) // 2] ^= 1
    lib.unlink()  # not written over: this process uses it
    lib.write_bytes({"cut short": good[:4096], "a bit turned": bytes(turned), "empty": b""}[damage])
    fused.library.cache_clear()
    assert fused.library(*SHAPE) is not None
    (again,) = cache.iterdir()
    assert again.read_bytes() == good


@pytest.mark.parametrize("why", ["no home", "a file in its place", "a pipe of that name"])
def test_without_a_place_to_keep_it_blocks_are_compiled_all_the_same(cache, monkeypatch, why):
    if why == "no home":
        monkeypatch.delenv("XDG_CACHE_HOME")
        monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home directory")))
    elif why == "a file in its place":
        cache.write_text("")
    else:
        fused.library(*SHAPE)
        (lib,) = cache.iterdir()
        lib.unlink()
        os.mkfifo(lib)
        fused.library.cache_clear()
    with pytest.warns(UserWarning, match="not kept.*XDG_CACHE_HOME"):
        net, h, _, _ = made("lines alone")
        got = net(h)
    with fused.plain():
        assert (got - net(h)).abs().max() < 1e-5 and fused.library.cache_info().currsize == 1


def test_several_may_build_at_once(cache):
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda _: fused.library.__wrapped__(*SHAPE), range(3)))
    assert all(found) and all(fused.cached_library(cache, p.stem.rpartition("-")[0]) for p in cache.iterdir())
    assert all(p.suffix == ".so" for p in cache.iterdir()), "nothing half written is left"


def test_training_says_what_its_blocks_run_as(monkeypatch):
    loop = torch.nn.Module()
    loop.net, loop.dtype = Net(SIZES["lines alone"]), torch.float32
    cpu = torch.device("cpu")
    assert "one compiled region" in compile_blocks(loop, "auto", cpu, 1000)
    monkeypatch.setattr(fused, "library", lambda *shape: None)
    assert "torch.compile is off" in compile_blocks(loop, "auto", cpu, 1000)
