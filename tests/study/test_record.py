"""Watching changes nothing, sees every update, and pushes where and when it is told."""

from itertools import pairwise

import pytest
import torch
from torch import nn

from innerloop import weights
from innerloop.core import Answer, think
from innerloop.errors import InputError
from innerloop.grad import full
from innerloop.parts.config import NetConfig
from innerloop.study.contract import sample_question
from innerloop.study.record import Intervention, record_updates, set_slot, slots
from innerloop.width import Noisy

SIZE = NetConfig(vocab=6, seq=16, rows=4, hidden_size=32, heads=2, layers=1, multiple_of=32, puzzle_emb_size=32)


def made(name, **fields):
    make, config = weights.get(name)
    return make(config(net=SIZE, dtype="float32", **fields)).eval()


def test_every_update_of_every_step_is_seen_and_nothing_changes():
    loop, x = made("trm", cycles=2, thoughts=3), sample_question()
    rule = loop.grad
    thought, records = record_updates(loop, x, 3)
    assert [m.name for m in records] == ["z", "z", "z", "y"] * 2 * 3
    assert [(m.step, m.update) for m in records] == [(s, u) for s in (1, 2, 3) for u in range(1, 9)]
    assert loop.grad is rule and vars(loop)["grad"] is rule
    assert torch.equal(thought.answer.logits, think(loop, x, 3).answer.logits)
    assert torch.equal(records[-1].kept.y, thought.state.y)
    # what is kept chains: "z" moves z and leaves y, "y" the other way round
    for before, m in pairwise(records):
        moved = {k: not torch.equal(v, slots(before.kept)[k]) for k, v in slots(m.kept).items()}
        assert moved == {"y": m.name == "y", "z": m.name == "z"}


def test_the_rule_is_back_in_its_place_even_after_an_error():
    loop, x = made("hrm"), sample_question()
    rule = loop.grad
    with pytest.raises(ZeroDivisionError):
        record_updates(loop, x, 2, lambda name, old, new: 1 / 0)
    assert loop.grad is rule


def test_a_loop_without_a_schedule_is_one_update_a_step_and_wrappers_are_seen_through():
    _, records = record_updates(made("ut"), sample_question(), 3)
    assert [(m.step, m.update, m.name) for m in records] == [(s, 1, "step") for s in (1, 2, 3)]
    noisy = Noisy(made("trm", cycles=1, thoughts=2), path=0.1)
    assert [m.name for m in record_updates(noisy, sample_question(), 2)[1]] == ["z", "z", "y"] * 2


class Module(nn.Module):
    """A loop whose rule is a module and whose state is a bare tensor."""

    def __init__(self):
        super().__init__()
        self.grad = Rule()

    def init(self, x):
        return torch.zeros(len(x.inputs), 4)

    def step(self, s, x):
        return self.grad(("a", "b"), lambda name, s: s + (1 if name == "a" else 10), s)

    def read(self, s):
        return Answer(s[:, None, :].expand(-1, 16, -1))


class Rule(nn.Module):
    def forward(self, schedule, update, s):
        return full(schedule, update, s)


def test_a_rule_that_is_a_module_can_be_watched():
    loop = Module()
    thought, records = record_updates(loop, sample_question(), 2)
    assert [int(m.kept[0, 0]) for m in records] == [1, 11, 12, 22] and int(thought.state[0, 0]) == 22
    assert isinstance(loop.grad, Rule)


@pytest.mark.parametrize(
    ("push", "want"),
    [
        (Intervention("state", torch.tensor(100.0), 1, 1), 122),
        (Intervention("state", torch.tensor(100.0), 2, 2), 122),
        (Intervention("state", torch.tensor(100.0), None, 1), 222),
        (Intervention("state", torch.tensor(100.0), 1), 122),
        (Intervention("state", lambda s: -s, 2, 1), 10),
    ],
)
def test_a_push_lands_once_at_its_moment(push, want):
    assert int(record_updates(Module(), sample_question(), 2, steer=[push])[0].state[0, 0]) == want


def test_a_push_moves_one_slot_from_its_moment_on():
    loop, x = made("hrm", cycles=2, low_cycles=2), sample_question()
    v = torch.zeros(17, 32)
    v[5] = 3.0
    _, plain = record_updates(loop, x, 2)
    _, pushed = record_updates(loop, x, 2, steer=[Intervention("l", v, 2, 2)])
    for a, b in zip(plain, pushed, strict=True):
        same = all(torch.equal(p, q) for p, q in zip(a.kept, b.kept, strict=True))
        assert same == ((a.step, a.update) < (2, 2))
    at = 6 + 1
    assert torch.allclose(pushed[at].kept.l - plain[at].kept.l, v.expand(6, -1, -1), atol=1e-6)
    assert torch.equal(pushed[at].kept.h, plain[at].kept.h)


def test_bad_pushes_are_one_sentence():
    loop, x = made("trm", cycles=1, thoughts=2), sample_question()
    with pytest.raises(InputError, match='no slot "q": it has y, z'):
        record_updates(loop, x, 1, steer=[Intervention("q", torch.ones(()), 1, 1)])
    with pytest.raises(InputError, match="never came"):
        record_updates(loop, x, 2, steer=[Intervention("z", torch.ones(()), 1, 9)])


def test_slots_of_nested_states():
    state = (torch.zeros(2), (torch.ones(2), torch.full((2,), 2.0)))
    assert list(slots(state)) == ["0", "1.0", "1.1"]
    new = set_slot(state, "1.1", torch.full((2,), 9.0))
    assert new[1][1][0] == 9 and new[1][0] is state[1][0] and new[0] is state[0]


@pytest.mark.parametrize("name", weights.names())
def test_every_system_can_be_watched(name):
    loop, x = made(name), sample_question()
    with torch.no_grad():
        plain = think(loop, x, 2)
    thought, records = record_updates(loop, x, 2)
    assert torch.equal(thought.answer.logits, plain.answer.logits)
    assert {m.step for m in records} == {1, 2} and any(v.is_floating_point() for v in slots(records[-1].kept).values())
