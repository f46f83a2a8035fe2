"""A list of questions of any kind, each thought about by itself, by one worker or by many."""

import threading
import time
from dataclasses import dataclass
from typing import NamedTuple

import pytest
import torch

from innerloop import halt, think_many
from innerloop.core import Question, SomeFailed, Thought, think
from innerloop.errors import InputError
from innerloop.ledger import charge, counting
from innerloop.parts.config import NetConfig
from innerloop.weights import trm

workers = pytest.mark.parametrize("workers", [1, 5])


class Draft(NamedTuple):
    text: str
    done: bool


class Sort:
    """Sorts the letters of a word by one round of neighbour swaps a step, as an endpoint would: it waits."""

    def init(self, word):
        return Draft(word, False)

    def step(self, s, word):
        if "!" in word:
            raise ValueError(f"cannot sort {word}")
        charge(tokens_in=len(word), tokens_out=1, money=0.25)
        time.sleep(0.002)
        letters = list(s.text)
        for i in range(len(letters) - 1):
            if letters[i] > letters[i + 1]:
                letters[i : i + 2] = letters[i + 1], letters[i]
        text = "".join(letters)
        return Draft(text, text == s.text)

    def read(self, s):
        return s.text


WORDS = ["loop", "a", "zyxw", "depth", "ab", "thinking", "edcba", "row"]
STEPS = [1, 1, 4, 3, 1, 8, 5, 2]


@workers
def test_texts_stop_one_by_one_and_come_back_in_order(workers):
    with counting() as ledger:
        thoughts = think_many(Sort(), WORDS, depth=50, halt=halt.finished, workers=workers)
    assert [t.answer for t in thoughts] == ["".join(sorted(w)) for w in WORDS]
    assert [t.steps for t in thoughts] == STEPS
    assert (ledger.calls, ledger.nfe, ledger.serial_steps) == (8, sum(STEPS), sum(STEPS))
    assert ledger.tokens_in == sum(len(w) * n for w, n in zip(WORDS, STEPS, strict=True))
    assert (ledger.tokens_out, ledger.money, ledger.flops) == (sum(STEPS), sum(STEPS) / 4, 0)


def test_workers_wait_beside_each_other():
    gate = threading.Barrier(4, timeout=20)  # opens only where four are inside a step at once

    class Waits(Sort):
        def step(self, s, word):
            gate.wait()
            return Draft(word, True)

    assert len(think_many(Waits(), "abcdefgh"[:4].split() * 4, depth=1, workers=4)) == 4


@workers
def test_a_question_that_fails_is_named_and_loses_no_other(workers):
    words = ["ba", "!", "cb", "x!"]
    with (
        counting() as ledger,
        pytest.raises(SomeFailed, match=r"2 of 4 .* question 1: ValueError: cannot sort !") as told,
    ):
        think_many(Sort(), words, depth=9, halt=halt.finished, workers=workers)
    assert list(told.value.errors) == [1, 3]
    assert [t and t.answer for t in told.value.thoughts] == ["ab", None, "bc", None]
    assert ledger.tokens_out == 4


@workers
def test_objects_are_questions_too(workers):
    @dataclass
    class Square:
        of: float

    class Root:
        def init(self, x):
            return x.of

        def step(self, s, x):
            return (s + x.of / s) / 2

        def read(self, s):
            return s

    near = lambda loop, old, new, steps: abs(old - new) < 1e-12  # noqa: E731
    thoughts = think_many(Root(), (Square(n) for n in (4.0, 9.0, 2.0)), depth=99, halt=near, workers=workers)
    assert [round(t.answer, 9) for t in thoughts] == [2, 3, 1.414213562] and thoughts[0].steps < 9


@workers
def test_a_loop_over_tensors_answers_as_think_does_alone(workers):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        size = NetConfig(vocab=6, seq=16, rows=4, hidden_size=32, layers=1, block="attention", puzzle_emb_size=0)
        loop = trm.TRM(trm.Config(size, cycles=1, thoughts=1, dtype="float32")).eval()
        boards = [Question(torch.randint(1, 6, (1, 16)), torch.zeros(1, dtype=torch.long)) for _ in range(7)]
    rule = halt.unchanged_for(2)  # which counts
    with torch.no_grad(), counting() as ledger:
        total = lambda loop, s: s.y.sum().item()  # noqa: E731
        thoughts = think_many(loop, boards, depth=8, halt=rule, workers=workers, record=total)
        alone = [think(loop, x, 8, halt=halt.unchanged_for(2)) for x in boards]
    steps = [int(t.steps) for t in thoughts]
    assert steps == [int(t.steps) for t in alone] and len(set(steps)) > 1
    assert all(torch.equal(t.answer.logits, a.answer.logits) for t, a in zip(thoughts, alone, strict=True))
    assert [len(t.trace) for t in thoughts] == steps and not thoughts[0].answer.logits.requires_grad
    assert ledger.nfe == 2 * 2 * sum(steps) and ledger.calls == 14
    assert think_many(loop, boards[:2], depth=1, workers=workers)[1].answer.logits.requires_grad


@workers
def test_a_budget_is_of_all_questions_together(workers):
    with counting() as ledger:
        thoughts = think_many(
            Sort(), ["zyxwvutsrqponmlkjihgfedcba"] * 4, depth=99, halt=halt.spent(ledger, money=3), workers=workers
        )
    assert 12 <= ledger.tokens_out < 12 + 5 and all(t.steps >= 1 for t in thoughts)


@pytest.mark.parametrize(
    ("questions", "how", "said"),
    [
        ("a text", {}, "one str: give a list"),
        (["a"], {"workers": 0}, "workers is 0"),
        (["a"], {"workers": 10**6}, "workers is 1000000"),
        ([], {"depth": 0}, "depth is 0"),
    ],
)
def test_what_makes_no_sense_is_refused(questions, how, said):
    with pytest.raises(InputError, match=said):
        think_many(Sort(), questions, **{"depth": 1} | how)


@workers
def test_no_question_is_no_work(workers):
    found: list[Thought] = think_many(Sort(), [], depth=1, workers=workers)
    assert found == []
