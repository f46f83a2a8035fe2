"""What thinking costs: counted where it is done, and the same whichever kernel did it."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from innerloop import tasks
from innerloop.core import Answer, Question, think
from innerloop.errors import InputError
from innerloop.halt import converged, residual, spent
from innerloop.learn.evaluate import NfeCounter, evaluate, score_set
from innerloop.ledger import Ledger, charge, count_flops, counting
from innerloop.parts import fused
from innerloop.rows import CachedRead
from innerloop.runs.fit import fit_config
from innerloop.solve.nfe import CompiledLoop, nfe_per_step
from innerloop.solve.solver import Budget, Solver
from innerloop.weights import deq, hrm, orbit, trm
from innerloop.width import Noisy

SUDOKU = tasks.get("sudoku", size=4, givens=(4, 8))
ROUNDS = 6
twins = pytest.mark.parametrize("kernel", [nullcontext, fused.plain], ids=["fused", "plain"])
compiler = pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")), reason="no C++ compiler")


@pytest.fixture(scope="module")
def loop():
    """Orbit on 4x4 Sudoku, untrained: its block is compiled where there is a compiler."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        size = fit_config(
            replace(orbit.Config().net, hidden_size=64), SUDOKU, 1
        )  # a shape that is in the cache already
        return orbit.Orbit(orbit.Config(size, rounds=ROUNDS)).eval()


@pytest.fixture(scope="module")
def examples():
    return SUDOKU.make(5, 0)


@pytest.fixture
def x(examples):
    return Question(torch.from_numpy(examples.inputs.astype("int64")), torch.zeros(5, dtype=torch.long))


class Count(NamedTuple):
    n: torch.Tensor


class Plain:
    """A loop without a net of ours."""

    def init(self, x):
        return Count(torch.zeros(len(x.inputs)))

    def step(self, s, x):
        return Count(s.n + 1)

    def read(self, s):
        return Answer(s.n[:, None, None].expand(-1, 16, 6))


def cost(loop, x, depth=3, flops=False, **how):
    with torch.no_grad(), counting(flops=flops) as spent_here:
        think(loop, x, depth, **how)
    return spent_here


def test_ledgers_add_up():
    a, b = Ledger(nfe=2, seconds=3, serial_steps=1, money=0.5), Ledger(nfe=5, seconds=2, serial_steps=4)
    assert a + b == Ledger(nfe=7, seconds=5, serial_steps=5, money=0.5)
    assert a | b == Ledger(nfe=7, seconds=3, serial_steps=4, money=0.5)


def test_what_is_counted_is_counted_by_everybody_who_asked_and_nobody_else():
    with counting() as outer:
        charge(actions=1)
        with counting() as inner:
            charge(actions=2, tokens_in=7)
        with ThreadPoolExecutor(1) as other:
            other.submit(charge, actions=100).result()
        with pytest.raises(KeyError), counting(outer):
            raise KeyError
    charge(actions=50)
    assert (outer.actions, outer.tokens_in, inner.actions) == (3, 7, 2)
    assert outer.seconds >= inner.seconds > 0
    with pytest.raises(AttributeError), counting():
        charge(nonsense=1)


@twins
def test_a_thought_costs_the_same_on_every_path(loop, x, kernel):
    with kernel():
        found = cost(loop, x)
    assert (found.nfe, found.serial_steps, found.calls) == (5 * 3 * ROUNDS, 3, 5)
    with FlopCounterMode(display=False):  # takes the plain twin by itself
        assert cost(loop, x).nfe == found.nfe


@pytest.mark.slow
@twins
def test_flops_are_those_of_the_plain_operations(x, kernel):
    """Those of evaluation, of a batch as of its rows, noisy or not; and a loop in training stays there."""
    with torch.random.fork_rng(devices=[]):
        size = fit_config(replace(orbit.Config().net, hidden_size=64), SUDOKU, 1)
        loop = orbit.Orbit(orbit.Config(size, rounds=ROUNDS)).train()
        first, plain = loop.init(x), loop.eval()
        with fused.plain(), torch.no_grad():
            step = count_flops(lambda: plain.step(first, x))
        loop.train()
        with kernel():
            wrapped = (loop, Noisy(loop, 0.1), CachedRead(NfeCounter(loop)))
            found = [cost(each, x, flops=True).flops for each in wrapped]
            with counting(flops=True) as ledger:
                (row,) = evaluate(loop, SUDOKU, SUDOKU.make(5, 0), (3,), batch=2)
    assert found == [3 * step] * 3 and step > 0 and row.nfe == 3 * ROUNDS
    with torch.no_grad(), counting(flops=True) as limited:
        assert think(loop, x, 9, halt=spent(limited, flops=2 * step)).steps == 2
    assert cost(loop, x).flops == 0, "nobody asked"
    assert ledger.serial_steps == 9, "three batches of three steps"
    assert ledger.flops == 3 * step and ledger.nfe == 5 * 3 * ROUNDS and loop.training and loop.net.training


def test_what_a_thought_asks_others_is_a_sub_call(loop, x):
    class Asks(Plain):
        def __init__(self, other):
            self.other = other

        def step(self, s, x):
            think(self.other, x, 2)
            return super().step(s, x)

    found = cost(Asks(Asks(loop)), x, 3)
    assert (found.calls, found.sub_calls) == (5 + 15 + 30, 15 + 30)
    assert found.nfe == 30 * 2 * ROUNDS and cost(loop, x).sub_calls == 0


@compiler
def test_the_compiled_region_is_what_was_counted(loop, x, monkeypatch):
    """Proof that the test above looks at two paths."""
    runs = []
    keep = fused.forward
    monkeypatch.setattr(fused, "forward", lambda *args, **how: runs.append(1) or keep(*args, **how))
    cost(loop, x)
    assert len(runs) == 3
    with fused.plain():
        cost(loop, x)
    assert len(runs) == 3


@pytest.mark.slow
def test_a_compiled_step_costs_the_same(loop, x, monkeypatch):
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager", fullgraph=True))
    step = CompiledLoop(loop)
    found = [cost(step, x, flops=True) for _ in range(2)]
    flops = cost(loop, x, flops=True).flops
    assert [(c.nfe, c.serial_steps, c.flops) for c in found] == [(5 * 3 * ROUNDS, 3, flops)] * 2
    bare = CompiledLoop(Plain())
    assert [cost(bare, x).nfe for _ in range(2)] == [5 * 3] * 2


@pytest.mark.slow
def test_gradients_and_transforms_go_on_as_before(loop, x):
    s = loop.init(x)
    with counting() as spent_here:
        loop.step(s, x).h.sum().backward()
        torch.func.vmap(loop.net)(s.h[:, None])
        exported = torch.export.export(loop.net, (s.h,), dynamic_shapes=(({0: torch.export.Dim("rows", min=2)},),))
    assert loop.net.blocks[0].self_proj.weight.grad is not None and spent_here.nfe >= 5 * ROUNDS
    loop.zero_grad(set_to_none=True)
    assert exported.module()(s.h[:3]).shape[0] == 3, "the number of rows stays free"


@twins
def test_the_price_of_a_step(loop, kernel):
    with kernel():
        assert nfe_per_step(loop, SUDOKU) == ROUNDS
    size = fit_config(replace(orbit.Config().net, hidden_size=32, block="units"), SUDOKU, 1)
    assert nfe_per_step(trm.TRM(trm.Config(size, cycles=2, thoughts=3, dtype="float32")), SUDOKU) == 8
    assert nfe_per_step(hrm.HRM(hrm.Config(size, cycles=2, low_cycles=2, dtype="float32")), SUDOKU) == 6
    assert nfe_per_step(Plain(), SUDOKU) == 1
    assert 1 < nfe_per_step(deq.DEQ(deq.Config(size, iterations=4, tol=1e-9)), SUDOKU) <= 5


@twins
def test_evaluation_counts_block_calls(loop, examples, kernel):
    with kernel():
        rows = evaluate(loop, SUDOKU, examples, (1, 4), (1, 2), batch=2)
    assert [(r.depth, r.width, r.steps, r.nfe) for r in rows] == [
        (1, 1, 1, ROUNDS), (4, 1, 4, 4 * ROUNDS), (1, 2, 1, 2 * ROUNDS), (4, 2, 4, 8 * ROUNDS)
    ]  # fmt: skip


def test_each_trajectory_counts_its_own_steps(loop, examples, x):
    """Not the winner's steps, times the width."""
    with torch.no_grad():
        first = loop.step(loop.init(x), x)
        calm = converged(float(residual(first, loop.step(first, x)).median()))
    alone = [score_set(loop, SUDOKU, examples, 9, 1, True, halt=calm, batch=n).nfe for n in (1, 2, 5)]
    assert all((n == alone[0]).all() for n in alone) and len(set(alone[0])) > 1, "batch mates cost nothing"
    both = score_set(loop, SUDOKU, examples, 9, 2, True, "first", halt=calm)
    assert (both.nfe > alone[0]).all() and (both.steps * ROUNDS <= alone[0]).all()
    assert (both.nfe != 2 * ROUNDS * both.steps).any()


@twins
def test_a_budget_of_the_solver_is_in_block_calls(loop, examples, kernel):
    with kernel():
        solver = Solver(loop, SUDOKU, rows=2)
        few = solver.solve(examples, 8, pick="verified", budget=Budget(nfe=2 * ROUNDS))
        with counting() as spent_here:
            all_ = solver.solve(examples, 4, pick="q")
    assert 5 * 2 * ROUNDS <= sum(s.nfe for s in few) <= (5 * 2 + 2) * ROUNDS
    assert [s.nfe for s in all_] == [4 * ROUNDS] * 5 and spent_here.nfe == 5 * 4 * ROUNDS


@twins
def test_a_thought_ends_when_its_budget_is_spent(loop, x, kernel):
    with kernel(), torch.no_grad():
        with counting() as ledger:
            thought = think(loop, x, 100, halt=spent(ledger, nfe=5 * 3 * ROUNDS, money=1))
        assert thought.steps == 3 and ledger.nfe == 5 * 3 * ROUNDS
        with counting(ledger):  # what is spent stays spent
            assert think(loop, x, 100, halt=spent(ledger, nfe=5 * 3 * ROUNDS)).steps == 1
        with counting() as ledger:
            assert think(Plain(), x, 10**6, halt=spent(ledger, seconds=0.01)).steps < 10**6
            assert think(Plain(), x, 50, halt=spent(ledger, serial_steps=ledger.serial_steps + 7)).steps == 7


def test_an_evaluation_ends_when_its_budget_is_spent(loop, examples):
    with counting() as ledger:
        rule = spent(ledger, nfe=5 * 4 * ROUNDS)
        (row,) = evaluate(loop, SUDOKU, examples, (50,), halting=(True,), halt=rule)
    assert (row.steps, row.nfe) == (4, 4 * ROUNDS)


@pytest.mark.parametrize(
    ("limits", "said"), [({}, "no limit"), ({"nfes": 1}, "no nfes: it has calls"), ({"nfe": 0}, "allows no step")]
)
def test_a_budget_that_means_nothing_is_refused(limits, said):
    with pytest.raises(InputError, match=said):
        spent(Ledger(), **limits)


def test_a_limit_of_flops_needs_a_ledger_of_flops(x):
    with counting() as ledger, pytest.raises(InputError, match="flops=True"):
        think(Plain(), x, 2, halt=spent(ledger, flops=1))
