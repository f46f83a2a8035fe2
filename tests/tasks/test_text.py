"""Tasks as running text: prompts in their modes, chains that are right, questions that are held out by construction."""

from __future__ import annotations

import random
from itertools import combinations, pairwise

import numpy as np
import pytest

from innerloop.data.packing import first_fit, packed
from innerloop.data.questions import questions_of
from innerloop.errors import InputError
from innerloop.tasks import find, get, names
from innerloop.tasks.sorting import SubsetSum
from innerloop.tasks.strings import FUNCTIONS
from innerloop.tasks.text import CUE, END, FIRST_HELD_OUT_SEED, TextTask, is_held_out
from innerloop.tokens.answers import same

TEXTS = [name for name in names() if issubclass(find(name), TextTask) and find(name).packs and find(name).verifies]

# (task, options, question, chain, answer), worked by hand
WORKED = [
    ("chain", {}, "7+5*3", "2,6", "6"),
    ("chain", {"modulus": 97}, "90+12-06", "05,96", "96"),
    ("chain", {"modulus": 16}, "f+f*2", "e,c", "c"),
    ("compressed", {}, "5+3*2", "8,6", "6"),
    ("addition", {}, "57+68", "51,21", "125"),
    ("addition", {}, "5+160", "50,60,10", "165"),
    ("multiplication", {}, "57*68", "456,3420,456,3876", "3876"),
    ("parity", {}, "10110", "11011", "1"),
    ("strings", {}, "rl:abcd", "dcba,cbad", "cbad"),
    ("nonadjacent", {}, "3,8,1,9", "3,8,8,17", "17"),
    ("kinship", {}, "cfd,amb,bfc,emd:a.mf", "b,c", "c"),
    ("sorting", {}, "4,1,3", "1,13,134", "134"),
    ("subset_sum", {}, "3,5,8,13:16", "13-3,3-0", "13+3"),
    ("needle", {}, "kjahakla:a", "1,2,3", "3"),
    ("needle", {}, "kjh:a", "", "0"),
]


@pytest.mark.parametrize(("name", "options", "question", "chain", "answer"), WORKED)
def test_chains_and_answers_worked_by_hand(name, options, question, chain, answer):
    task = get(name, **options)
    assert task.explain(question) == (chain, answer) and task.is_right(question, answer)
    for mode, before in (("direct", ""), ("chain", chain), ("dots", "." * len(chain))):
        assert task.respond(question, mode) == (f"{before}{CUE}{answer}" if before else answer)


def test_every_text_task_is_worked_by_hand():
    assert {name for name, *_ in WORKED} == set(TEXTS)


@pytest.mark.parametrize("name", TEXTS)
def test_questions_of_training_and_of_tests_are_never_the_same(name):
    task = get(name)
    asked = {task.draw(seed, i)[0] for seed in (0, 1) for i in range(150)}
    held = {task.draw(seed, i)[0] for seed in (FIRST_HELD_OUT_SEED, FIRST_HELD_OUT_SEED + 5) for i in range(150)}
    assert not asked & held and len(held) > 20
    assert all(map(is_held_out, held)) and not any(map(is_held_out, asked))
    assert set(task.questions(20)) <= {task.draw(FIRST_HELD_OUT_SEED, i)[0] for i in range(400)}


@pytest.mark.parametrize("name", TEXTS)
def test_every_row_is_a_prompt_and_its_right_response(name):
    task = get(name)
    modes = set()
    for i in range(60):
        example = task.sample(3, i)
        text = task.decode(example.question).rstrip(task.pad_symbol)
        question, mode, response = task.parse(text)
        modes.add(mode)
        assert text == f"{question}{task.forms[mode]}{response}{END}" and response == task.respond(question, mode)
        asked = np.flatnonzero(example.answer)
        assert np.array_equal(example.answer[asked], example.question[asked + 1])
        assert task.decode(example.answer[asked]) == f"{response}{END}" and example.rating == len(response) + 1
    assert modes == {"direct", "chain", "dots"}


@pytest.mark.parametrize("name", TEXTS)
def test_what_is_no_question_has_no_answer(name):
    task = get(name)
    for text in ("", "?", "a+", "1,,2", ":", "3:", "12+", "0102:", "9.9", "-"):
        assert task.explain(text) is None, text
        assert not task.is_right(text, "no")


@pytest.mark.parametrize("name", TEXTS)
def test_items_are_marked_by_the_answer_or_by_a_verifier(name):
    task = get(name)
    items = questions_of(task, 12)
    assert len(items) == 12 and len({i.question for i in items}) == 12
    for item in items:
        chain, answer = task.explain(item.question)
        if name == "subset_sum":
            assert item.answer is None and item.check(answer).right and not item.check("0+0").right
        else:
            assert same(item.kind, item.answer, answer) and item.check is None
            assert same(item.kind, f"{chain}{CUE}{answer}".rpartition(CUE)[2], answer)


def test_non_adjacent_sums_are_the_largest():
    task, rng = get("nonadjacent", least=-5), random.Random(0)
    for _ in range(60):
        numbers = [rng.randint(-5, 9) for _ in range(rng.randint(1, 7))]
        chosen = (
            c for n in range(len(numbers) + 1) for c in combinations(range(len(numbers)), n)
            if all(b - a > 1 for a, b in pairwise(c))
        )  # fmt: skip
        best = max(sum(numbers[i] for i in c) for c in chosen)
        assert task.explain(",".join(map(str, numbers)))[1] == str(best)


def test_every_choice_that_adds_up_is_right():
    task = SubsetSum(5, 12)
    question = "2,3,5,7,10:10"
    assert task.explain(question) == ("10-0", "10")
    for answer, right in (("10", 1), ("3+7", 1), ("2+3+5", 1), ("5+5", 0), ("4+6", 0), ("2+3", 0), ("", 0), ("x", 0)):
        assert task.is_right(question, answer) == bool(right), answer


def test_functions_of_words_keep_the_length_and_differ():
    said = {name: f("abcde") for name, f in FUNCTIONS.items()}
    assert said["x"] == "bacde" and said["y"] == "abced" and said["m"] == "abcba" and said["p"] == "zabcd"
    assert all(len(word) == 5 for word in said.values())
    assert said.pop("s") == "abcde" and len(set(said.values())) == len(said)
    assert all(len(f("ab")) == 2 for f in FUNCTIONS.values())


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("chain", {"steps": (0, 3)}), ("chain", {"modulus": 1}), ("chain", {"operators": "/"}),
        ("addition", {"digits": 0}), ("parity", {"lengths": (5, 3)}), ("strings", {"functions": "q"}),
        ("strings", {"letters": (1, 3)}), ("nonadjacent", {"least": 4, "most": 3}), ("kinship", {"hops": (1, 30)}),
        ("sorting", {"lengths": (0, 1)}), ("subset_sum", {"count": 1}), ("needle", {"most": 99, "length": 10}),
        ("chain", {"modes": ["loud"]}), ("chain", {"places": 1}),
    ],
)  # fmt: skip
def test_impossible_options_fail_at_the_door(name, options):
    with pytest.raises(InputError) as caught:
        get(name, **options)
    assert "\n" not in str(caught.value)


def test_a_row_that_is_too_short_is_said():
    with pytest.raises(InputError, match="give more places"):
        get("chain", places=6).make(20, 0)


# -- packing ----------------------------------------------------------------------------------------------------------


def test_texts_share_rows_and_none_is_lost():
    task = get("chain", places=64)
    examples = task.make(500, 0)
    rows = packed(examples)
    assert len(rows) < len(examples) / 2 and (rows.inputs != 0).mean() > 0.9 > (examples.inputs != 0).mean()
    whole = sorted(task.decode(row).rstrip(task.pad_symbol) for row in examples.inputs)
    parts = [text + END for row in rows.inputs for text in task.decode(row).rstrip(task.pad_symbol).split(END)[:-1]]
    assert sorted(parts) == whole
    assert (rows.labels != 0).sum() == (examples.labels != 0).sum()
    for row, label in zip(rows.inputs, rows.labels, strict=True):
        asked = np.flatnonzero(label)
        assert np.array_equal(label[asked], row[asked + 1])


def test_first_fit_fills_rows_in_order():
    assert first_fit(np.array([5, 4, 3, 6, 1]), 8) == [[0, 2], [1, 4], [3]]
    assert first_fit(np.array([8, 8]), 8) == [[0], [1]]
