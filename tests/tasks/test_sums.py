"""Sums as running text: rows, labels, and why teacher forcing tells what greedy decoding would."""

from __future__ import annotations

import numpy as np
import pytest

from innerloop.errors import InputError
from innerloop.tasks import find, get, names
from innerloop.tasks.sums import Sums
from innerloop.tasks.text import TextTask


def test_a_row_is_prompt_response_end_mark_and_padding() -> None:
    task = Sums(2)
    example = task.example("12+34=", "46;")
    assert task.decode(example.question) == "12+34=46;_"
    assert task.decode(example.answer) == "_____46;__" and example.rating == 3
    assert task.valid_batch(example.question[None], example.answer[None]).all()
    assert task.separator == task.encode("=" * 10)[0] and task.causal


def test_only_running_text_is_causal() -> None:
    texts = {name for name in names() if issubclass(find(name), TextTask)}
    assert {name for name in names() if get(name).causal} == texts >= {"sums", "chain"}


@pytest.mark.parametrize(("digits", "operators"), [(1, "+"), (2, "+-*"), (9, "*"), (3, "-")])
def test_every_sum_is_right_fits_and_is_labelled_by_the_next_token(digits: int, operators: str) -> None:
    task = Sums(digits, operators)
    s = task.make(200, seed=3)
    seen = set()
    for row, label in zip(s.inputs, s.labels, strict=True):
        prompt, _, rest = task.decode(row).partition("=")
        response, _, padding = rest.partition(";")
        operator = next(o for o in operators if o in prompt)
        seen.add(operator)
        a, b = prompt.split(operator)
        assert int(response) == {"+": int(a) + int(b), "-": int(a) - int(b), "*": int(a) * int(b)}[operator]
        assert len(a) <= digits and len(b) <= digits and not padding.strip("_")
        asked = np.flatnonzero(label)
        assert asked[0] == len(prompt) and len(asked) == len(response) + 1
        assert np.array_equal(label[asked], row[asked + 1])
    assert seen == set(operators)


def test_the_longest_sums_fit() -> None:
    for operators, prompt, response in (("+", "99+99=", "198;"), ("-", "0-99=", "-99;"), ("*", "99*99=", "9801;")):
        assert Sums(2, operators).example(prompt, response).rating == len(response)
    assert Sums(2, "*").decode(Sums(2, "*").example("99*99=", "9801;").question) == "99*99=9801;"


def test_validity_is_computed_from_the_prompt_alone() -> None:
    task = Sums(2)
    right, wrong = task.example("12+34=", "46;"), task.example("12+34=", "47;")
    rows = np.stack([right.question, wrong.question])  # the second shows a wrong response
    assert task.valid_batch(rows, np.stack([right.answer, right.answer])).tolist() == [True, True]
    assert task.valid_batch(rows, np.stack([wrong.answer, wrong.answer])).tolist() == [False, False]
    elsewhere = right.answer.copy()
    elsewhere[0] = 5  # what is said of the prompt does not count
    assert task.valid_batch(rows[:1], elsewhere[None]).all()
    longer = task.example("12+34=", "461;")
    assert not task.valid_batch(rows[:1], longer.answer[None]).any()
    nonsense = task.encode("12345=46;_")[None]
    assert not task.valid_batch(nonsense, right.answer[None]).any()


def adder(task: Sums, mistakes: bool):
    """A reader in order: place by place it knows the row up to there only, and sometimes, by a hash of it, errs."""

    def read(rows: np.ndarray) -> np.ndarray:
        says = np.zeros_like(rows)
        for row, said in zip(rows, says, strict=True):
            wanted = task.response(row)
            start = int(np.flatnonzero(row == task.separator)[0])
            for place in range(start, len(row)):
                written = row[start + 1 : place + 1]
                known = wanted[: len(written)]
                on_track = len(written) < len(wanted) and np.array_equal(written, known)
                said[place] = wanted[len(written)] if on_track else 1 + int(row[: place + 1].sum()) % 10
                if mistakes and sum(map(int, row[: place + 1])) % 7 == 0:
                    said[place] = 1 + said[place] % 14
        return says

    return read


def test_exact_under_teacher_forcing_is_exact_by_greedy_decoding() -> None:
    task = Sums(3, "+-")
    s = task.make(300, seed=1)
    read = adder(task, mistakes=True)
    forced = task.score_batch(s.inputs, read(s.inputs), s.labels)[0]
    written = task.complete(read, s.inputs)
    shown = np.concatenate([written[:, 1:], np.zeros((300, 1), np.uint8)], 1)  # what it said after each place
    exact, _, valid = task.score_batch(s.inputs, shown, s.labels)
    assert 0.2 < forced.mean() < 0.9, "the reader must be right sometimes, and sometimes not"
    assert np.array_equal(exact, forced) and np.array_equal(valid, forced)
    same = (written == s.inputs).all(1)
    assert np.array_equal(same, forced)  # the whole row, response and end mark, with nothing after it


def test_a_reader_that_looks_ahead_is_caught_by_decoding() -> None:
    """The proof needs a causal reader: a copier is perfect under teacher forcing and knows nothing."""
    task = Sums(2)
    s = task.make(50, seed=1)
    copy = lambda rows: np.concatenate([rows[:, 1:], np.zeros((len(rows), 1), rows.dtype)], 1)  # noqa: E731
    assert task.score_batch(s.inputs, copy(s.inputs), s.labels)[0].all()
    assert not (task.complete(copy, s.inputs) == s.inputs).all(1).any()


def test_decoding_does_not_see_the_response() -> None:
    task = Sums(2)
    s = task.make(20, seed=2)
    hidden = np.where(s.labels.cumsum(1) - s.labels > 0, 7, s.inputs)  # another response in every row
    assert (hidden != s.inputs).any()
    perfect = adder(task, mistakes=False)
    assert np.array_equal(task.complete(perfect, hidden), s.inputs)


@pytest.mark.parametrize(("options", "says"), [({"digits": 0}, "1 to 9"), ({"operators": "/"}, "one or more of")])
def test_impossible_options_fail_at_the_door(options: dict, says: str) -> None:
    with pytest.raises(InputError, match=says):
        get("sums", **options)
