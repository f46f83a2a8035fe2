"""Continuous batching of loops that have nothing to do with boards, and the functions over nested states."""

import time
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from innerloop import tree
from innerloop.core import refill, think
from innerloop.errors import InputError
from innerloop.rows import CachedRead, QueueFull, Rows

# -- rows: text, where a token is a step ------------------------------------------------------------------------------


class Prompt(NamedTuple):
    ids: Tensor  # (B, 3)
    end: Tensor  # (B,) the token that ends a text


class Text(NamedTuple):
    ids: Tensor  # (B, 12) what was written, 0 behind it
    cache: tuple  # ((B, 1) float64, None): a sum over all tokens, nested
    position: Tensor  # (B,)


class Writer:
    """The next token is a function of all before it: some texts end soon, others run on."""

    def __init__(self):
        self.stepped, self.reads = [], 0

    def init(self, x):
        ids = torch.cat([x.ids, torch.zeros(len(x.ids), 9, dtype=torch.long)], 1)
        return Text(ids, (x.ids.sum(1, keepdim=True).double(), None), torch.full((len(ids),), 3))

    def step(self, s, x):
        self.stepped.append(len(s.ids))
        token = (3 * s.cache[0][:, 0].long() + s.position) % 7
        ids = s.ids.scatter(1, s.position[:, None], token[:, None])
        return Text(ids, (s.cache[0] + token[:, None], None), s.position + 1)

    def read(self, s):
        self.reads += 1
        return s.ids.gather(1, s.position[:, None] - 1)[:, 0]


class Request:
    def __init__(self, ids, depth=9, **more):
        self.ids, self.depth, self.end = ids, depth, 5
        self.halting, self.wants_residual, self.salt, self.priority, self.deadline = True, False, 0, 0.0, float("inf")
        self.__dict__ |= more


class Texts:
    """Reads rows as texts; keeps the last token of each, and ends a text that says the same twice."""

    def question(self, jobs, device):
        return Prompt(torch.tensor([j.ids for j in jobs]), torch.tensor([j.end for j in jobs]))

    def ended(self, rows, old):
        said = rows.loop.read(rows.state)
        before, rows.reader_memory = rows.reader_memory, said
        return {
            i: "stutters" for i, job in enumerate(rows.jobs)
            if job is not None and rows.steps[i] > 1 and before[i] == said[i]
        }  # fmt: skip

    def result(self, rows, which):
        return [rows.state.ids[i, : 3 + rows.steps[i]].tolist() for i in which]


def ended(loop, old, new, steps):
    return loop.read(new) == 5


def alone(ids, depth):
    """The text of one request, and how it ends."""
    x = Prompt(torch.tensor([ids]), torch.tensor([5]))
    said = []
    for n in range(1, depth + 1):
        thought = think(Writer(), x, n)
        said.append(int(thought.answer))
        text = thought.state.ids[0, : 3 + n].tolist()
        if n > 1 and said[-1] == said[-2]:
            return text, "stutters"
        if said[-1] == 5:
            return text, "halted"
    return text, "depth"


def requests(n=40):
    draw = torch.Generator().manual_seed(0)
    ids = torch.randint(0, 7, (n, 3), generator=draw).tolist()
    return [Request(row, 1 + 5 * i % 9) for i, row in enumerate(ids)]


@pytest.mark.parametrize("sizes", [None, (1, 3, 4, 7)])
def test_texts_of_any_length_share_a_batch_and_none_can_tell(sizes):
    jobs, loop = requests(), Writer()
    rows = Rows(loop, 7, Texts(), halt=ended, sizes=sizes)
    done = []
    for job in jobs[:25]:
        rows.submit(job)
    while len(rows):
        done += rows.tick()
        assert rows.state is None or {len(t) for t in tree.flatten((rows.state, rows.question)) if t is not None} == {
            len(rows.jobs)
        }
        for job in jobs[25:] if rows.counters.ticks == 3 else []:
            rows.submit(job)
        if rows.counters.ticks == 5:
            done += rows.cancel([jobs[3], jobs[30]])
    assert len(done) == len(jobs) and {d.end for d in done} >= {"halted", "depth", "stutters"}
    for d in done:
        if d.end != "cancelled":
            assert (d.result, d.end) == alone(d.job.ids, d.job.depth)
    assert rows.counters.steps == sum(d.steps for d in done) and rows.counters.rows == sum(loop.stepped)
    assert set(loop.stepped) <= set(sizes or range(8)) and rows.counters.ended.total() == len(jobs)


def test_only_a_job_that_took_a_step_in_the_tick_says_so():
    rows = Rows(Writer(), 2, Texts(), halt=ended)
    jobs = [Request([1, 2, 4], 9, halting=False), Request([1, 2, 4], 2, halting=False)]
    for job in jobs:
        rows.submit(job)
    done = rows.tick() + rows.tick()
    jobs[0].depth = 1  # as where a better answer is there
    done += rows.tick()
    assert [(d.job, d.end, d.steps, d.stepped) for d in done] == [
        (jobs[1], "depth", 2, True),
        (jobs[0], "depth", 2, False),
    ]


def test_no_row_idles_while_a_job_waits_and_the_batch_shrinks_at_the_end():
    jobs, loop = requests(), Writer()
    rows = Rows(loop, 4, Texts(), halt=ended)
    for job in jobs:
        rows.submit(job)
    rows.run()
    first = next(i for i, n in enumerate(loop.stepped) if n < 4)
    assert (
        sorted(loop.stepped[first:], reverse=True) == loop.stepped[first:] and rows.counters.rows == rows.counters.steps
    )


def test_a_state_that_shares_memory_with_its_question_or_a_weight_is_never_written_into():
    class Sharing(Writer):
        first = torch.full((1, 1), 2.0, dtype=torch.float64)

        def init(self, x):  # one row of a weight, and the question itself
            return Text(x.ids, (self.first.expand(len(x.ids), 1), None), x.end)

        def step(self, s, x):
            return s._replace(ids=s.ids + 1)

        def read(self, s):
            return s.ids[:, 0]

    class Plain(Texts):
        def ended(self, rows, old):
            return {}

        def result(self, rows, which):
            return [rows.state.ids[i].tolist() for i in which]

    rows = Rows(Sharing(), 1, Plain())
    for i in range(3):
        rows.submit(Request([i, i, i], 2, halting=False))
    assert [d.result for d in rows.run()] == [[i + 2] * 3 for i in range(3)]
    assert Sharing.first.item() == 2.0


def test_a_job_is_late_wherever_it_stands_and_one_without_a_deadline_is_not():
    rows = Rows(Writer(), 2, Texts(), halt=ended, queue=9)
    for i in range(9):
        rows.submit(Request([1, 1, i], 9, deadline=0.0 if i % 2 else float("inf")))
    with pytest.raises(QueueFull):
        rows.submit(Request([1, 1, 1]))
    done = rows.run()
    assert [d.steps for d in done if d.end == "late"] == [0] * 4 and len(done) == 9


def test_a_deadline_that_came_later_but_ends_sooner_is_kept():
    """Deadlines run out in their own order, not in that of arrival."""
    rows = Rows(Writer(), 1, Texts(), halt=ended)
    rows.submit(Request([1, 1, 0], 9, deadline=float("inf")))
    rows.submit(Request([1, 1, 1], 9, deadline=time.monotonic() + 3600))
    rows.submit(Request([1, 1, 2], 9, deadline=0.0))
    assert [(d.job.ids, d.end) for d in rows.tick()] == [([1, 1, 2], "late")]


def test_each_state_is_read_once_whatever_the_order_of_those_who_ask():
    loop = Writer()
    once, states = CachedRead(loop), [loop.init(Prompt(torch.zeros(1, 3, dtype=torch.long), torch.tensor([5])))]
    for _ in range(5):
        old = states[-1]
        states.append(loop.step(old, None))
        for s in (states[-1], old, states[-1]):
            once.read(s)
    assert loop.reads == 6


# -- trees ------------------------------------------------------------------------------------------------------------


class Nested(NamedTuple):
    a: Tensor
    rest: tuple
    n: int = 3


def nested(*values):
    v = torch.tensor(values)
    return Nested(v, (v.long() * 10, None))


def plain(t):
    return [x.tolist() if isinstance(x, Tensor) else x for x in tree.flatten(t)]


def test_the_functions_over_trees():
    t, u = nested(1.0, 2.0, 3.0), nested(7.0, 8.0)
    assert plain(t) == [[1, 2, 3], [10, 20, 30], None, 3]
    assert isinstance(tree.concat(t, u), Nested) and plain(tree.concat(t, u))[:2] == [
        [1, 2, 3, 7, 8],
        [10, 20, 30, 70, 80],
    ]
    assert plain(tree.take(t, torch.tensor([2, 0])))[0] == [3, 1] and plain(tree.take(t, slice(1, 2)))[1] == [20]
    assert plain(tree.put(t, torch.tensor([2, 0]), u))[:2] == [[8, 2, 7], [80, 20, 70]] and t.a.tolist() == [1, 2, 3]
    assert plain(tree.unflatten(t, iter("wxyz"))) == list("wxyz")
    assert plain(tree.select(torch.tensor([True, False]), nested(5.0, 6.0), u))[:2] == [[5, 8], [50, 80]]
    assert [x.tolist() for x in tree.floating(t)] == [[1, 2, 3]]
    assert plain(tree.map_tensors(torch.add, u, u))[1] == [140, 160]
    with pytest.raises(ValueError, match="zip"):
        tree.concat(t, (t.a, t.rest))


def test_a_narrow_state_takes_wider_rows_without_rounding_them():
    wide = torch.tensor([1 + 2**-20])
    assert tree.put((torch.zeros(2, dtype=torch.bfloat16),), torch.tensor([1]), (wide,))[0][1] == wide[0]


def test_a_wide_state_is_not_rounded_by_narrower_rows():
    wide = torch.tensor([1 + 2**-20, 5.0])
    narrow = torch.tensor([3.0], dtype=torch.bfloat16)
    assert tree.put((wide,), torch.tensor([1]), (narrow,))[0].tolist() == [1 + 2**-20, 3.0]


def test_refill_takes_a_mask_or_rows_and_both_agree():
    old = nested(1.0, 2.0, 3.0)
    old.a.requires_grad_()
    fresh = nested(7.0, 8.0, 9.0)
    by_mask = refill(old, torch.tensor([True, False, True]), fresh)
    by_rows = refill(old, torch.tensor([0, 2]), tree.take(fresh, torch.tensor([0, 2])))
    assert plain(by_mask) == plain(by_rows) and not by_rows.a.requires_grad


def test_rows_and_refusals():
    with pytest.raises(InputError, match="no halting rule"):
        Rows(Writer(), 2, Texts()).submit(Request([1, 2, 3]))


def test_first_states_made_ahead_change_nothing():
    """Jobs get the results that they get otherwise, from fewer and larger calls of init; a cancelled one is dropped."""
    loop, sizes = Writer(), []
    init = loop.init
    loop.init = lambda x: sizes.append(len(x.ids)) or init(x)
    generator = torch.Generator().manual_seed(0)
    requests = [
        Request(torch.randint(0, 5, (3,), generator=generator).tolist(), 2 + i % 7, priority=float(i % 2))
        for i in range(40)
    ]
    rows = Rows(loop, 4, Texts(), halt=ended, ahead=8)
    for request in requests:
        rows.submit(request)
    done = {id(d.job): d for d in rows.tick()}
    dropped = [r for r in requests if rows._open.get(id(r)) == -1][:2]
    assert [d.result for d in rows.cancel(dropped)] == [None, None]
    done |= {id(d.job): d for d in rows.run()}
    for request in requests:
        if request not in dropped:
            assert done[id(request)][1:3][::-1] == alone(request.ids, request.depth)
    assert sum(sizes) <= 40 and max(sizes) == 12 and len(sizes) <= 7 and not rows._begun
