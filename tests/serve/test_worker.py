"""The thread in which a model thinks: answers as alone, in turn, in time, and none that outlive their asker."""

import threading
import time

import numpy as np
import pytest
import torch

from innerloop.serve.work import EngineFactory, Work, queue_key
from innerloop.serve.worker import MAX_IDLE_ENGINES, MAX_NOISY_ENGINES, QueueFull, Worker, WorkerClosed
from innerloop.solve.engine import Engine
from innerloop.solve.job import PuzzleJob
from innerloop.solve.options import Budget, SolveOptions
from innerloop.solve.solver import Solver


class Desk:
    """A worker over a solver, and whoever waits for it."""

    def __init__(self, solver, queue=10_000, make=None, on_step=lambda steps, rows: None):
        self.solver, self.worker = solver, Worker(queue)
        assert solver.rules  # made once from two steps of the loop, which are not those of any request
        solver.loop.steps = 0
        self.engine_factory = EngineFactory(make or solver.engine, on_step)
        self.finished = []  # in the order in which they ended

    def make_work(self, texts, d, **how):
        d = self.solver.resolve(d)
        views = self.solver.views(d)
        puzzle_jobs = [PuzzleJob(self.solver, q, d, 0, views) for q in self.solver.questions(texts)[0]]
        done = threading.Event()

        def end():
            self.finished.append(work)
            done.set()

        work = Work(puzzle_jobs, self.engine_factory, end, **how)
        work.done = done
        return work

    def first(self, one, other):
        """Whether one request ended before another; both must."""
        assert one.done.wait(120) and other.done.wait(120)
        return self.finished.index(one) < self.finished.index(other)

    def submit(self, texts, d, **how):
        work = self.make_work(texts, d, **how)
        self.worker.submit(work)
        return work

    def ask(self, texts, d, **how):
        work = self.submit(texts, d, **how)
        assert work.done.wait(60)
        return work.solutions


@pytest.fixture
def solver(opened):
    return Solver(opened.loop, opened.task, rows=16)


@pytest.fixture
def desk(solver):
    made = Desk(solver)
    yield made
    made.worker.close()
    made.worker.limit_deadlines()
    made.worker.thread.join(30)
    assert not made.worker.thread.is_alive()


class Slow(torch.nn.Module):
    """A loop whose every step takes its time or waits for `gate`, and which fails at a step if told to."""

    def __init__(self, loop, seconds=0.0, fails_at=None):
        super().__init__()
        self.loop, self.seconds, self.fails_at, self.steps = loop, seconds, fails_at, 0
        self.gate = threading.Event()
        self.gate.set()

    def init(self, x):
        return self.loop.init(x)

    def step(self, s, x):
        self.steps += 1
        assert self.gate.wait(120)
        time.sleep(self.seconds)
        if self.steps == self.fails_at:
            raise RuntimeError("out of luck")
        return self.loop.step(s, x)

    def read(self, s):
        return self.loop.read(s)


def texts_of(solutions):
    return [s.text for s in solutions]


DIALS = [
    SolveOptions(12, 1, "residual"),
    SolveOptions(12, 4, "vote"),
    SolveOptions(12, 3, "q", noise=(0.3, 0.1), seed=5),
    SolveOptions(12, 3, "q", noise=(0.3, 0.1), seed=6),
    SolveOptions(300, 1, "verified"),
    SolveOptions(12, 6, "verified", views=True, seed=2),
    SolveOptions(20, 1, "certainty", halting=True),
]


@pytest.mark.slow
def test_answers_are_those_of_the_solver_alone_whoever_else_is_there(desk, puzzles):
    """All kinds of dials at once, in several engines, against one call each of Solver.solve."""
    puzzles = puzzles[-10:]
    works = [desk.submit(puzzles, d) for d in DIALS]
    for d, work in zip(DIALS, works, strict=True):
        assert work.done.wait(120)
        alone = desk.solver.solve(puzzles, d.depth, d.width, d.pick, noise=d.noise, seed=d.seed, halting=d.halting)
        for mine, other in zip(work.solutions, alone, strict=True):
            assert mine.known == other.known and mine.valid == other.valid
            if (
                d.pick != "verified" or mine.valid
            ):  # which of several invalid ones is the best guess depends on the order
                assert mine.text == other.text
            if d.width == 1:
                assert mine.steps == other.steps and mine.nfe == other.nfe
    assert desk.worker.in_flight == 0


def test_one_engine_serves_what_agrees_in_noise_seed_and_precision():
    one, other = EngineFactory(lambda d: None), EngineFactory(lambda d: None)
    same = {
        queue_key(one, SolveOptions(8, 1, "vote", seed=3)),
        queue_key(one, SolveOptions(64, 9, "q", seed=4, views=False)),
    }
    assert len(same) == 1
    noisy = {queue_key(one, SolveOptions(8, 2, noise=(0.1, 0.0), seed=s)) for s in (1, 2)}
    assert len(noisy | same) == 3
    assert queue_key(one, SolveOptions(256)) != queue_key(one, SolveOptions(255))
    assert queue_key(one, SolveOptions(8)) != queue_key(other, SolveOptions(8))


def test_more_kinds_of_noise_than_engines_are_all_served(opened, puzzles):
    loop, most = Slow(opened.loop), []
    desk = Desk(Solver(loop, opened.task), on_step=lambda *_: most.append(len(desk.worker._engine_queues)))
    loop.gate.clear()
    works = [
        desk.submit(puzzles[:2], SolveOptions(8, 1, "q", noise=(0.2, 0.2), seed=s))
        for s in range(2 * MAX_NOISY_ENGINES)
    ]
    loop.gate.set()
    assert all(work.done.wait(60) for work in works)
    assert MAX_NOISY_ENGINES <= max(most) < MAX_NOISY_ENGINES + MAX_IDLE_ENGINES
    alone = desk.solver.solve(puzzles[:2], 8, 1, "q", noise=(0.2, 0.2), seed=7)
    assert texts_of(works[7].solutions) == texts_of(alone)


def test_who_asks_for_no_noise_does_not_wait_for_those_who_do(opened, puzzles):
    loop = Slow(opened.loop)
    desk = Desk(Solver(loop, opened.task))
    loop.gate.clear()
    noisy = [
        desk.submit(puzzles[:1], SolveOptions(20, 1, "q", noise=(0.2, 0.2), seed=s))
        for s in range(MAX_NOISY_ENGINES + 2)
    ]
    plain = desk.submit(puzzles[:1], SolveOptions(4, 1, "residual"))
    loop.gate.set()
    assert desk.first(plain, noisy[0]) and all(work.done.wait(60) and work.error is None for work in noisy)


def test_a_small_order_overtakes_a_large_one_and_the_large_one_still_ends(opened, puzzles):
    loop = Slow(opened.loop)
    desk = Desk(Solver(loop, opened.task, rows=4))
    loop.gate.clear()
    large = desk.submit(puzzles * 2, SolveOptions(4, 4, "residual"))
    small = desk.submit(puzzles[:1], SolveOptions(4, 1, "residual"))
    loop.gate.set()
    assert desk.first(small, large) and all(s.width == 4 for s in large.solutions)


def test_trajectories_that_follow_failed_ones_wait_behind_what_their_order_has_left(opened, puzzles):
    """A large request whose puzzles all need every wave does not keep a small one waiting."""
    loop = Slow(opened.loop)
    desk = Desk(Solver(loop, opened.task, rows=4))
    loop.gate.clear()
    large = desk.submit([puzzles[-1]] * 40, SolveOptions(6, 6, "verified"))  # none of them has an answer
    loop.gate.set()
    while loop.steps < 150:  # of some 360: first waves have failed, and others follow
        time.sleep(0.001)
    small = desk.submit(puzzles[:1], SolveOptions(6, 1, "residual"))
    assert desk.first(small, large) and all(s.width == 6 and s.steps == 6 for s in large.solutions)


def test_small_orders_without_end_do_not_starve_a_wide_one(opened, puzzles):
    desk = Desk(Solver(opened.loop, opened.task, rows=4))
    wide = desk.submit(puzzles[:1], SolveOptions(4, 24, "residual"))
    began = time.monotonic()
    waiting = []
    while not wide.done.is_set() and time.monotonic() < began + 60:
        waiting = [o for o in waiting if not o.done.is_set()]
        waiting += [desk.submit(puzzles[:1], SolveOptions(4, 1, "residual")) for _ in range(16 - len(waiting))]
        time.sleep(0.001)
    assert wide.done.is_set() and wide.solutions[0].width == 24


def test_priority_goes_first(opened, puzzles):
    loop = Slow(opened.loop)
    desk = Desk(Solver(loop, opened.task, rows=1))
    loop.gate.clear()
    desk.submit(puzzles[:1], SolveOptions(2, 1, "residual"))  # keeps the only row busy while the others arrive
    late = desk.submit(puzzles[:1], SolveOptions(4, 1, "residual"), priority=-1)
    soon = desk.submit(puzzles[:1], SolveOptions(4, 1, "residual"), priority=1)
    loop.gate.set()
    assert desk.first(soon, late)


def test_a_deadline_ends_an_order_with_what_it_has(opened, puzzles):
    desk = Desk(Solver(Slow(opened.loop, 0.02), opened.task, rows=2))
    began = time.monotonic()
    found = desk.ask(puzzles[:6], SolveOptions(1000, 1, "residual"), deadline=began + 1)
    assert 1 <= time.monotonic() - began < 15  # all steps of all would take 60
    assert all(0 < s.steps < 1000 for s in found[:2])  # they were being thought about
    assert not any(s.known or s.steps for s in found[2:]) and "before its first step" in found[5].why
    assert desk.worker.in_flight == 0


def test_what_is_cancelled_leaves_nothing_behind(opened, puzzles):
    steps = []
    desk = Desk(
        Solver(Slow(opened.loop, 0.002), opened.task, rows=8), on_step=lambda stepped, rows: steps.append(stepped)
    )
    work = desk.submit(puzzles, SolveOptions(100_000, 3, "residual"))
    while not steps:
        time.sleep(0.01)
    desk.worker.cancel(work)
    until = time.monotonic() + 10
    while desk.worker.in_flight and time.monotonic() < until:
        time.sleep(0.01)
    assert desk.worker.in_flight == 0 and not work.done.is_set()
    time.sleep(0.1)
    count = len(steps)
    time.sleep(0.2)
    assert len(steps) == count and desk.worker.live == 0
    assert desk.ask(puzzles[:1], SolveOptions(4, 1, "residual"))[0].steps == 4


@pytest.mark.slow
def test_the_queue_is_bounded_and_says_when_there_will_be_room(opened, puzzles):
    desk = Desk(Solver(Slow(opened.loop, 0.08), opened.task, rows=4), queue=100)
    first = desk.submit(puzzles * 4, SolveOptions(2, 1, "residual"))  # 100 trajectories: 50 steps of 0.08 s or more
    with pytest.raises(QueueFull, match="100 is the limit"):
        desk.worker.submit(desk.make_work(puzzles[:1], SolveOptions(2, 1, "residual")))
    assert desk.worker.retry_after(50, 60) == 1  # nothing is known yet
    while desk.worker.in_flight > 80:
        time.sleep(0.01)
    left = desk.worker.retry_after(80, 60)
    begun = time.monotonic()
    while desk.worker.in_flight > 20:
        time.sleep(0.01)
    took = time.monotonic() - begun
    assert 0.3 * took <= left <= 3 * took + 1, (took, left)  # most of a step is sleep, whoever else is on this machine
    assert desk.worker.retry_after(100, 2) <= 2 and desk.submit(puzzles, SolveOptions(2, 1, "residual")).done.wait(60)
    assert first.done.wait(60)


def test_an_engine_that_fails_takes_its_own_orders_with_it_and_no_others(opened, puzzles):
    broken = Slow(opened.loop, fails_at=5)
    solver = Solver(opened.loop, opened.task)

    def make(d):
        return Engine(broken, 8) if d.noise == (0.5, 0.5) else solver.engine(d)

    desk = Desk(solver, make=make)
    bad = desk.submit(puzzles, SolveOptions(50, 1, "q", noise=(0.5, 0.5)))
    good = desk.submit(puzzles, SolveOptions(50, 1, "residual"))
    assert bad.done.wait(30) and good.done.wait(30)
    assert isinstance(bad.error, RuntimeError) and good.error is None
    assert desk.worker.in_flight == 0
    again = desk.submit(
        puzzles, SolveOptions(8, 1, "q", noise=(0.5, 0.5))
    )  # the engine is made anew, its loop is well again
    assert again.done.wait(30) and again.error is None


def test_an_engine_that_cannot_be_made_is_the_error_of_its_order(opened, puzzles):
    solver = Solver(opened.loop, opened.task)

    def make(d):
        if d.noise == (9.0, 9.0):
            raise MemoryError("too much")
        return solver.engine(d)

    desk = Desk(solver, make=make)
    work = desk.submit(puzzles, SolveOptions(4, 1, "q", noise=(9.0, 9.0)))
    assert work.done.wait(30) and isinstance(work.error, MemoryError)
    assert desk.ask(puzzles[:1], SolveOptions(4, 1, "residual"))[0].steps == 4


def test_a_budget_holds_for_all_puzzles_together(desk, puzzles):
    solver, depth, puzzles = desk.solver, 40, puzzles[:10]
    d = SolveOptions(depth, 4, "residual")
    cap = 60  # block calls a puzzle
    found = desk.ask(puzzles, d, max_steps=cap * len(puzzles) / solver.nfe_per_step)
    spent = sum(s.nfe for s in found)
    last_tick = solver.rows * solver.nfe_per_step
    assert cap * len(puzzles) <= spent <= cap * len(puzzles) + last_tick
    alone = solver.solve(puzzles, depth, 4, "residual", budget=Budget(nfe=cap))
    assert texts_of(found) == texts_of(alone) and [s.nfe for s in found] == [s.nfe for s in alone]


def test_a_closed_worker_finishes_what_it_took_and_takes_no_more(opened, puzzles):
    desk = Desk(Solver(Slow(opened.loop, 0.002), opened.task))
    work = desk.submit(puzzles, SolveOptions(30, 2, "residual"))
    desk.worker.close()
    with pytest.raises(WorkerClosed):
        desk.worker.submit(desk.make_work(puzzles, SolveOptions(3, 1, "residual")))
    desk.worker.thread.join(60)
    assert not desk.worker.thread.is_alive() and all(s.steps == 30 for s in work.solutions)


@pytest.mark.slow
def test_new_weights_take_over_while_the_old_ones_finish(opened, puzzles):
    """In one thread: each request ends on the weights it was made for, and the old ones leave when they are done."""
    old, new = Slow(opened.loop, 0.005), Slow(opened.loop)
    desk, fresh = Desk(Solver(old, opened.task)), Solver(new, opened.task)
    assert fresh.rules  # which takes steps to look at the loop
    looked = new.steps
    before = desk.submit(puzzles, SolveOptions(80, 1, "residual"))
    while not desk.worker.live:
        time.sleep(0.001)
    desk.engine_factory = EngineFactory(fresh.engine)
    desk.worker.use_weights(desk.engine_factory)
    after = desk.submit(puzzles, SolveOptions(5, 1, "residual"))
    assert desk.first(after, before) and all(s.steps == 80 for s in before.solutions)
    assert new.steps - looked == 5 and old.steps >= 80
    desk.ask(puzzles[:1], SolveOptions(2, 1, "residual"))
    assert {key.engine_factory for key in desk.worker._engine_queues} == {desk.engine_factory}


def test_hurry_ends_everything_now(opened, puzzles):
    desk = Desk(Solver(Slow(opened.loop, 0.005), opened.task))
    work = desk.submit(puzzles, SolveOptions(100_000, 1, "residual"))
    while not desk.worker.live:
        time.sleep(0.001)
    desk.worker.limit_deadlines()
    assert work.done.wait(60) and all(s.steps > 0 for s in work.solutions)
    late = desk.ask(puzzles[:1], SolveOptions(100_000, 1, "residual"))[0]
    assert not late.known and late.steps == 0, "what comes after that has no time either"


def test_nothing_of_solved_puzzles_is_kept(desk, puzzles):
    """Verified early, a wide request leaves most of its trajectories unused: they and its puzzles are dropped."""
    for _ in range(30):
        desk.ask(puzzles[:4], SolveOptions(16, 100, "verified"))
    kept = sum(len(lane.waiting_trajectories) for lane in desk.worker._engine_queues.values())
    assert kept <= 64 and not desk.worker._open and not desk.worker._active and not any(desk.worker._pending)


def test_watchers_see_every_step(desk, puzzles):
    seen = []
    work = desk.make_work(puzzles[:1], SolveOptions(10, 2, "residual"))
    work.puzzles[0].watch = lambda k, output: seen.append((k, output.step, output.answer))
    desk.worker.submit(work)
    assert work.done.wait(30)
    assert sorted((k, step) for k, step, _ in seen) == [(k, s) for k in (0, 1) for s in range(1, 11)]
    last = next(a for k, s, a in seen if (k, s) == (work.solutions[0].trajectory, 10))
    assert np.array_equal(last, work.solutions[0].answer)
