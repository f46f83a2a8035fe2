"""The engine: the same answers as one by one, whatever the company; and everything a queue has to do."""

import time

import numpy as np
import pytest
import torch

from innerloop import weights
from innerloop.core import Question, think
from innerloop.errors import InputError
from innerloop.halt import confident_and_unchanged, converged, halting_margin
from innerloop.noise import salted
from innerloop.parts.config import NetConfig
from innerloop.solve.engine import Engine, Job, QueueFull
from innerloop.width import Noisy

TINY = NetConfig(
    vocab=6, seq=16, rows=4, hidden_size=32, heads=2, layers=1, expansion=2.0, multiple_of=32, puzzle_emb_size=32
)
# What a step does inside is nothing that an engine sees: so little that examples still stop at different depths.
SHORT = {"trm": {"cycles": 1, "thoughts": 1}, "eqr": {"cycles": 1, "thoughts": 1}}
SHORT |= {"hrm": {"cycles": 2, "low_cycles": 2}, "gram": {"cycles": 2, "thoughts": 2}}
SYSTEMS = ["trm", "hrm", "eqr", "gram", "act", "huginn", "deq", "urm"]


def made(system="trm"):
    torch.manual_seed(0)
    kind, config = weights.get(system)
    loop = kind(config(net=TINY, dtype="float32", **SHORT.get(system, {}))).eval()
    with torch.no_grad():
        for name, p in loop.named_parameters():
            if name.endswith("heads.q.weight"):
                p.normal_(std=3.0)  # so that examples stop at different depths
    return loop


def puzzles(n=24):
    return torch.randint(1, 6, (n, 16), generator=torch.Generator().manual_seed(1)).numpy().astype(np.uint8)


def asked(tokens):
    inputs = torch.from_numpy(np.atleast_2d(tokens).astype(np.int64))
    return Question(inputs, torch.zeros(len(inputs), dtype=torch.long))


@torch.no_grad()
def halting(loop, boards):
    """A rule by which some of these stop at once and others go on."""
    first = think(loop, asked(boards), 1)
    if first.answer.q_halt is None:
        return converged(0.05)
    low, high = halting_margin(first.answer).sort().values[len(boards) // 2 - 1 :][:2].tolist()
    middle = (low + high) / 2  # of no board's own, which rounding could put on either side
    return lambda loop, old, new, steps: halting_margin(loop.read(new)) > middle


@torch.no_grad()
def alone(loop, question, depth, halt, salt=0):
    x = asked(question)
    thought = think(loop, x, depth, halt=halt, state=salted(loop.init(x), salt))
    return thought.answer.logits.argmax(-1)[0].numpy(), int(torch.as_tensor(thought.steps))


@pytest.mark.parametrize("system", SYSTEMS)
def test_answers_are_those_of_one_by_one_with_different_stopping_times(system):
    loop, boards = made(system), puzzles(16)
    halt = halting(loop, boards)
    jobs = [Job(b, 1 + i % 7, halting=True, salt=i % 3, owner=i) for i, b in enumerate(boards)]
    wanted = [alone(loop, j.question, j.depth, halt, j.salt) for j in jobs]
    assert len({steps for _, steps in wanted}) > 2
    for sizes in (None, (1, 2, 5)):
        engine = Engine(loop, 5, halt=halt, sizes=sizes)
        for job in jobs:
            engine.submit(job)
        ended = sorted(engine.run(), key=lambda d: d.job.owner)
        assert [d.job.owner for d in ended] == list(range(len(boards)))
        for d, (answer, steps) in zip(ended, wanted, strict=True):
            assert np.array_equal(d.result.answer, answer) and d.steps == steps
        assert engine.counters.steps == sum(d.steps for d in ended) and engine.counters.rows >= engine.counters.steps


@torch.no_grad()
def test_noise_is_a_trajectorys_own_in_any_company():
    loop, boards = Noisy(made(), 0.5, 0.5, seed=3), puzzles(6)
    engine = Engine(loop, 4)
    for i, board in enumerate(boards):
        for k in range(3):
            engine.submit(Job(board, 4, salt=k, owner=(i, k)))
    found = {d.job.owner: d.result.answer for d in engine.run()}
    for (i, k), answer in found.items():
        assert np.array_equal(answer, alone(loop, boards[i], 4, lambda *_: False, k)[0])
    assert any((found[i, 0] != found[i, 1]).any() for i in range(6))


def test_a_finished_row_is_filled_at_once_and_no_row_idles_while_others_wait():
    engine = Engine(made(), 4)
    for i, board in enumerate(puzzles(20)):
        engine.submit(Job(board, 1 + 5 * (i % 4 == 0), owner=i))
    busy = []
    while len(engine):
        waiting = len(engine.waiting)
        engine.tick()
        busy.append((engine.counters.steps - sum(b for b, _ in busy), waiting))
    assert all(rows == 4 for rows, waiting in busy if waiting >= 4)
    assert engine.counters.steps == engine.counters.rows == 5 * 6 + 15


def test_a_verified_answer_ends_a_job_and_is_looked_at_only_when_it_changed():
    loop, boards = made(), puzzles(8)
    finals = [alone(loop, b, 6, lambda *_: False)[0] for b in boards]
    looked = []

    def verify(questions, answers):
        looked.append(len(answers))
        return np.array([(a == finals[i]).all() for q, a in zip(questions, answers, strict=True)
                         for i in range(8) if (boards[i] == q).all()])  # fmt: skip

    engine = Engine(loop, 8, verify=verify)
    for board in boards:
        engine.submit(Job(board, 6, verify=True))
    ended = engine.run()
    assert {d.end for d in ended} == {"verified"}
    firsts = [next(s for s in range(1, 7) if (alone(loop, b, s, lambda *_: False)[0] == f).all())
              for b, f in zip(boards, finals, strict=True)]  # fmt: skip
    steps = {d.job.question.tobytes(): d.steps for d in ended}
    assert [steps[b.tobytes()] for b in boards] == firsts
    assert sum(looked) <= sum(firsts)


def test_priorities_first_and_among_equals_the_earlier():
    engine = Engine(made(), 1)
    for i, priority in enumerate((0, 2, 1, 2, 0)):
        engine.submit(Job(puzzles(1)[0], 1, priority=priority, owner=i))
    assert [d.job.owner for d in engine.run()] == [1, 3, 2, 0, 4]


def test_a_full_queue_says_so_and_keeps_what_it_has():
    engine = Engine(made(), 2, queue=3)
    for board in puzzles(3):
        engine.submit(Job(board, 2))
    with pytest.raises(QueueFull, match="3 jobs are waiting"):
        engine.submit(Job(puzzles(1)[0], 2))
    assert len(engine.run()) == 3
    engine.submit(Job(puzzles(1)[0], 2))
    assert len(engine) == 1


def test_cancelled_jobs_leave_with_what_they_have_wherever_they_stand():
    loop, boards = made(), puzzles(6)
    engine = Engine(loop, 3)
    jobs = [Job(b, 9, owner=i) for i, b in enumerate(boards)]
    for job in jobs:
        engine.submit(job)
    engine.tick()
    engine.tick()
    ended = engine.cancel([jobs[1], jobs[4]])
    assert [(d.job.owner, d.end, d.steps, d.result is None) for d in ended] == [
        (1, "cancelled", 2, False), (4, "cancelled", 0, True),
    ]  # fmt: skip
    assert np.array_equal(ended[0].result.answer, alone(loop, boards[1], 2, lambda *_: False)[0])
    assert engine.cancel([jobs[1], jobs[4]]) == [] and len(engine) == 4
    rest = engine.run()
    assert sorted(d.job.owner for d in rest) == [0, 2, 3, 5] and all(d.steps == 9 for d in rest)
    for d in rest:
        assert np.array_equal(d.result.answer, alone(loop, d.job.question, 9, lambda *_: False)[0])


def test_deadlines_end_what_runs_and_what_waits():
    engine = Engine(made(), 1)
    soon = time.monotonic() + 0.05
    for i in range(3):
        engine.submit(Job(puzzles(1)[0], 10_000 if i < 2 else 1, deadline=soon if i < 2 else float("inf"), owner=i))
    ended = engine.run()
    assert [(d.job.owner, d.end) for d in ended] == [(0, "late"), (1, "late"), (2, "depth")]
    assert ended[0].steps > 0 and ended[1].result is None


def test_a_watcher_sees_every_step_and_the_residual():
    loop, board, seen = made(), puzzles(3), []
    engine = Engine(loop, 2)
    engine.submit(Job(board[0], 5, watch=seen.append))
    engine.submit(Job(board[1], 2))
    engine.submit(Job(board[2], 2))
    engine.run()
    assert [m.step for m in seen] == [1, 2, 3, 4, 5]
    for m in seen:
        assert np.array_equal(m.answer, alone(loop, board[0], m.step, lambda *_: False)[0])
        assert m.residual > 0 and ((m.certainty > 0) & (m.certainty <= 1)).all() and 0 <= m.q <= 1
        assert m.state.z.shape[-1] == 32


def test_what_an_engine_cannot_do_it_refuses():
    loop, board = made(), puzzles(1)[0]
    for bad, said in ((Job(board, 0), "depth is 0"), (Job(board, 1, halting=True), "no halting rule"),
                      (Job(board, 1, verify=True), "no verifier")):  # fmt: skip
        with pytest.raises(InputError, match=said):
            Engine(loop).submit(bad)
    with pytest.raises(InputError, match="0 rows"):
        Engine(loop, 0)
    with pytest.raises(InputError, match="must rise"):
        Engine(loop, 8, sizes=(4, 2, 8))
    assert Engine(loop, halt=confident_and_unchanged()).run() == []
