"""Timetable repair: fast rules against a slow twin, each rule alone, labels against CP-SAT, symmetries, pictures."""

from __future__ import annotations

import re
import runpy
import sys
import xml.etree.ElementTree as ET
from itertools import combinations, product
from pathlib import Path

import numpy as np
import pytest

from innerloop.errors import InputError
from innerloop.rules import timetable_plan
from innerloop.tasks import get, timetable
from innerloop.tasks.timetable import Timetable

ROOT = Path(__file__).resolve().parents[2]
SMALL = {"teachers": 5, "classes": 4, "days": 2, "periods": 3, "rooms": 1, "absences": (1, 1)}  # 35 cells
MEDIUM: dict = {}  # 80 cells
LARGE = {"teachers": 10, "classes": 7, "days": 5, "periods": 4, "rooms": 2, "absences": (1, 3)}  # 210 cells
SIZES = pytest.mark.parametrize(
    "options", [SMALL, MEDIUM, pytest.param(LARGE, marks=pytest.mark.slow)], ids=["small", "medium", "large"]
)


def rows_of(task: Timetable, tokens: np.ndarray) -> list[str]:
    text, width = task.decode(tokens), task.shape[1]
    return [text[i : i + width] for i in range(0, len(text), width)]


def twin(task: Timetable, question: np.ndarray, answer: np.ndarray) -> set[int]:
    """The numbers of the rules that an answer breaks, read off its text, symbol by symbol."""
    asked, said = rows_of(task, question), rows_of(task, answer)
    lessons = [row[:-1] for row in said]
    classes, broken = task.charset[-2 * task.classes : -task.classes], set()
    for q, a in zip(asked, said, strict=True):
        for c in classes:
            if a[:-1].count(c) != q[:-1].count(c) + q[:-1].count(c.upper()):
                broken.add(1)
            for d in range(task.days):
                if a[d * task.periods : (d + 1) * task.periods].count(c) > 1:
                    broken.add(3)
        if a[-1] != q[-1] or a[-1] not in task.charset[3 : 4 + task.rooms]:
            broken.add(5)
        for old, new in zip(q[:-1], a[:-1], strict=True):
            if old == "#" or old.isupper():
                good = new == "#"
            elif old == ",":
                good = new == "," or new in classes
            elif old == "." or old in classes:
                good = new == "." or new in classes
            else:
                good = False
            if not good:
                broken.add(5)
    for s in range(task.slots):
        column = [row[s] for row in lessons]
        if any(column.count(c) > 1 for c in classes):
            broken.add(2)
        for room in "123456789"[: task.rooms]:
            if sum(new in classes and q[-1] == room for new, q in zip(column, asked, strict=True)) > 1:
                broken.add(4)
    return broken


def price(question: str, answer: str) -> int:
    """The cost of an answer, by its text."""
    return sum(
        1 + (old == ",") for old, new in zip(question, answer, strict=True) if old != new and new in timetable.LETTERS
    )


def damaged(task: Timetable, s, rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Questions and answers near the right ones: cells changed, cells swapped in a row, rows of another answer."""
    pick = rng.integers(len(s), size=count)
    answers = s.labels[pick].copy()
    for answer in answers:
        kind, grid = rng.integers(4), answer.reshape(task.shape)
        for _ in range(int(rng.integers(1, 3))):
            if kind == 0:
                answer[rng.integers(len(answer))] = rng.integers(task.vocab + 1)
            elif kind == 1:
                row, (a, b) = rng.integers(task.teachers), rng.choice(task.slots, 2, replace=False)
                grid[row, a], grid[row, b] = grid[row, b], grid[row, a]
            elif kind == 2:
                row = rng.integers(task.teachers)
                lessons = np.flatnonzero((grid[row] >= task.first) & (grid[row] < task.struck))
                free = np.flatnonzero(grid[row] == timetable.FREE)
                if len(lessons) and len(free):
                    a, b = rng.choice(lessons), rng.choice(free)
                    grid[row, a], grid[row, b] = timetable.FREE, grid[row, a]
    return s.inputs[pick], answers


# --- generator --------------------------------------------------------------------------------------------------------
@SIZES
def test_samples_are_pure_and_their_labels_keep_the_rules(options: dict) -> None:
    task = Timetable(**options)
    s, again = task.make(20, 3), Timetable(**options).make(20, 3)
    assert np.array_equal(s.inputs, again.inputs) and np.array_equal(s.labels, again.labels)
    assert task.valid_batch(s.inputs, s.labels).all() and (s.rating >= 1).all()
    for question, label in zip(s.inputs, s.labels, strict=True):
        assert not twin(task, question, label)
        assert any(symbol.isupper() for symbol in task.decode(question)), "something is to be repaired"
        before = np.where(question >= task.struck, question - task.classes, question).astype(np.uint8)
        assert not twin(task, before, before), "what was planned kept the rules"
    moved = task.cost(s.inputs, s.labels)
    assert moved.min() >= 1 and moved.max() > moved.min()


@SIZES
def test_labels_are_what_an_exact_solver_finds(options: dict) -> None:
    pytest.importorskip("ortools")
    from innerloop.solve.exact import exact

    task = Timetable(**options)
    s = task.make(8, 11)
    costs = task.cost(s.inputs, s.labels)
    for question, label, cost in zip(s.inputs, s.labels, costs, strict=True):
        assert task.domain(question)[np.arange(len(label)), label].all()
        found = exact(task, question, seconds=60)
        assert found.status == "optimal" and task.valid_batch(question[None], found.answer[None])[0]
        assert found.cost == cost == task.cost(question[None], found.answer[None])[0]


def test_the_search_finds_a_cheapest_repair_or_none() -> None:
    """Boards as drawn, also those that many moves or none repair."""
    pytest.importorskip("ortools")
    from innerloop.solve.exact import exact

    task, seen = Timetable(4, 3, 2, 3, 1, load=0.9, absences=(1, 3)), set()
    for i in range(60):
        rng = np.random.default_rng(i)
        room = np.array([0, 1, 0, 1])
        at = timetable_plan.random_timetable(4, 2, 3, 3, room.tolist(), 0.8, rng)
        away = timetable_plan.random_absences(4, 2, 3, room, 1 + i % 3, rng)
        unwanted = (rng.random(at.shape) < 0.3) & (at < 0) & ~away
        question = task._tokens(at, room, away, unwanted)
        found = timetable_plan.repair(task.plan(question), 10_000)
        proved = exact(task, question, seconds=60)
        assert proved.status == ("optimal" if len(task.every(question, 1)) else "infeasible")
        if found is not None:
            assert found.cost == proved.cost
        else:
            struck = int((question >= task.struck).sum())
            assert proved.cost is None or proved.cost > struck + timetable_plan.SLACK
        seen.add((found is not None, proved.status))
    assert {(True, "optimal"), (False, "infeasible")} <= seen


def test_every_lists_all_repairs() -> None:
    task = Timetable(2, 2, 2, 2, 1)
    question = task.encode("a.Bb-" + ".a,,-")
    allowed = [np.flatnonzero(cell) for cell in task.domain(question)]
    answers = np.array(list(product(*allowed)), np.uint8)
    right = answers[task.valid_batch(np.tile(question, (len(answers), 1)), answers)]
    found = task.every(question, 1000)
    assert len(found) == len(right) > 3
    assert {a.tobytes() for a in found} == {a.tobytes() for a in right}
    assert task.solutions(question) == 2 and len(task.every(task.encode("A###-" + "b...-"), 5)) == 0


# --- rules ------------------------------------------------------------------------------------------------------------
@pytest.mark.slow
@SIZES
def test_rules_agree_with_the_slow_twin(options: dict) -> None:
    task, rng = Timetable(**options), np.random.default_rng(5)
    s = task.make(12, 5)
    inputs, answers = damaged(task, s, rng, 400)
    valid = task.valid_batch(inputs, answers)
    broken = [twin(task, q, a) for q, a in zip(inputs, np.where(answers < task.vocab, answers, 0), strict=True)]
    assert valid.tolist() == [not rules for rules in broken]
    assert set().union(*broken) == {1, 2, 3, 4, 5} and 20 < valid.sum() < 380
    for question, answer, ok in zip(inputs, answers, valid, strict=True):
        assert ok == (not task.explain(question, answer)) == (not task.wrong_cells(question, answer).any())
    costs = [price(task.decode(q), task.decode(a)) for q, a in zip(inputs[valid], answers[valid], strict=True)]
    assert task.cost(inputs[valid], answers[valid]).tolist() == costs and len(set(costs)) > 2


@pytest.mark.parametrize(
    ("rule", "question", "answer", "says", "cells"),
    [
        (1, "a...- .a..-", "....- .a..-", "Teacher 1 teaches class a 0x instead of 1x.", [0]),
        (1, "a...- .a..-", "a.a.- .a..-", "Teacher 1 teaches class a 2x instead of 1x.", [2]),
        (1, "A...- .b..-", "#...- .b..-", "Teacher 1 teaches class a 0x instead of 1x.", [0]),
        (2, "a...- .a..-", ".a..- .a..-", "Class a has lessons with Teacher 1 and Teacher 2 on Mon 2.", [1, 6]),
        (3, "a.a.- ....-", "aa..- ....-", "Teacher 1 teaches class a more than once on Mon.", [0, 1]),
        (4, "a...1 .b..1", ".a..1 .b..1", "Room 1 is used by Teacher 1 and Teacher 2 on Mon 2.", [1, 6]),
        (5, "A...- .b..-", "a...- .b..-", "Teacher 1 is not available on Mon 1, where class a is put.", [0]),
        (5, "a.#.- .b..-", "..a.- .b..-", "Teacher 1 is not available on Tue 1, where class a is put.", [2]),
        (5, ".a,.- .b..-", ".a..- .b..-", "Teacher 1, Tue 1: '.' stands where only ',' or a class may.", [2]),
        (5, ".a,.- .b..-", ".a,.- .b#.-", "Teacher 2, Tue 1: '#' stands where only '.' or a class may.", [7]),
        (5, ".a#.- .b..-", ".a..- .b..-", "Teacher 1, Tue 1: '.' stands where only '#' may.", [2]),
        (5, ".a,.- .b..-", ".a,.1 .b..-", "Teacher 1, the column of rooms: '1' stands where only '-' may.", [4]),
    ],
)
def test_each_rule_alone_is_caught_and_explained(
    rule: int, question: str, answer: str, says: str, cells: list[int]
) -> None:
    task = Timetable(2, 2, 2, 2, 1)
    q, a = (task.encode(text.replace(" ", "")) for text in (question, answer))
    assert twin(task, q, a) == {rule}
    assert not task.valid_batch(q[None], a[None])[0]
    assert task.explain(q, a) == [says]
    assert np.flatnonzero(task.wrong_cells(q, a)).tolist() == cells


def test_the_drawing_of_the_docstring_is_a_cheapest_repair() -> None:
    pytest.importorskip("ortools")
    from innerloop.solve.exact import exact

    task = Timetable(3, 3, 2, 3, 1)
    drawn = re.findall(r"^ +(\S{3}\|\S{3}\|\S) +(\S{3}\|\S{3}\|\S) ", str(timetable.__doc__), re.M)
    question, answer = (task.encode("".join(column).replace("|", "")) for column in zip(*drawn, strict=True))
    assert not task.explain(question, answer) and task.cost(question[None], answer[None])[0] == 3
    assert exact(task, question).cost == 3 and "cost 3" in str(timetable.__doc__)


def test_a_planned_clash_can_be_repaired_too() -> None:
    """Nothing is struck, but two teachers have the same class at once."""
    pytest.importorskip("ortools")
    from innerloop.solve.exact import exact

    task = Timetable(2, 2, 2, 2, 1)
    question = task.encode("a.b.-" + "ab..-")
    assert task.explain(question, question) == ["Class a has lessons with Teacher 1 and Teacher 2 on Mon 1."]
    found = exact(task, question)
    assert found.status == "optimal" and found.cost == 1


# --- symmetries -------------------------------------------------------------------------------------------------------
@SIZES
def test_views_keep_validity_and_cost(options: dict) -> None:
    task, rng = Timetable(**options), np.random.default_rng(8)
    inputs, answers = damaged(task, task.make(10, 8), rng, 200)
    answers = np.minimum(answers, task.vocab - 1)
    views = task.views(len(inputs), rng)
    assert (np.sort(views.cells, 1) == np.arange(inputs.shape[1])).all()
    assert (np.sort(views.tokens, 1) == np.arange(task.vocab)).all()
    q, a = views.apply(inputs), views.apply(answers)
    assert (q != inputs).any(1).mean() > 0.9 and np.array_equal(views.undo(a), answers)
    valid = task.valid_batch(inputs, answers)
    assert np.array_equal(task.valid_batch(q, a), valid) and 0 < valid.sum() < len(valid)
    assert np.array_equal(task.cost(q, a), task.cost(inputs, answers))
    assert task.canonical_batch(q) == task.canonical_batch(inputs)


@pytest.mark.slow
def test_same_is_exact_whatever_the_keys_say(monkeypatch: pytest.MonkeyPatch) -> None:
    task, rng = Timetable(3, 2, 2, 2, 1), np.random.default_rng(0)
    alike = task.encode_many(["....-....-....-", "....1....1....1", "....-....-....1", "....-....1....-"])
    days = task.encode_many(["ab..-ab..-....-", "ab..-ba..-....-", "ab..-a.b.-....-", "....-a.b.-..ba-"])
    inputs = np.concatenate([task.make(2, 0).inputs, alike, days])
    turned = task.augment(inputs, inputs, rng)[0]
    assert all(task.same(a, b) for a, b in zip(inputs, turned, strict=True))
    assert task.same(alike[2], alike[3]) and not task.same(alike[0], alike[1])
    assert task.same(days[2], days[3]) and not task.same(days[0], days[2])
    pairs = list(combinations(inputs, 2))
    told = [task.same(a, b) for a, b in pairs]
    monkeypatch.setattr(
        timetable_plan, "REFINEMENT_ROUNDS", 0
    )  # all keys are equal: the search alone must tell them apart
    assert len(set(task.canonical_batch(inputs))) == 1
    assert [task.same(a, b) for a, b in pairs] == told and 2 <= sum(told) < len(told) / 2


# --- at the door ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"teachers": 1}, "choose 2 to 40 teachers"),
        ({"classes": 27}, "2 to 26 classes"),
        ({"days": 8}, "1 to 7 days"),
        ({"periods": 0}, "1 to 12 periods"),
        ({"rooms": 5}, "choose fewer rooms"),
        ({"rooms": -1}, "choose fewer rooms"),
        ({"load": 0.0}, "a share above 0"),
        ({"load": 1.2}, "a share above 0"),
        ({"wishes": 2}, "and a share"),
        ({"absences": (0, 2)}, "1 <= fewest <= most"),
        ({"absences": (3, 2)}, "1 <= fewest <= most"),
        ({"teacher": 5}, 'did you mean "teachers"'),
    ],
)
def test_bad_options_say_so(options: dict, says: str) -> None:
    with pytest.raises(InputError, match=says) as caught:
        get("timetable", **options)
    assert len(str(caught.value).splitlines()) == 1


def test_what_cannot_be_says_so() -> None:
    with pytest.raises(InputError, match="few moves repair"):
        Timetable(2, 2, 1, 1, 0, load=1.0).sample(0, 0)
    task = Timetable(2, 2, 2, 2, 1)
    for text in ("a..-- .b..-", "a.... .b..-", "a...- .b..a", "a...- .b.._"):
        question = task.encode(text.replace(" ", ""))
        with pytest.raises(InputError, match="end of each row"):
            task.every(question, 1)
        assert not task.valid_batch(question[None], question[None])[0]


# --- pictures and examples --------------------------------------------------------------------------------------------
def test_the_picture_shows_what_moved_in_the_schools_own_words() -> None:
    task = Timetable(3, 3, 2, 3, 1)
    task.teacher_names, task.class_names, task.room_names = ["Ada", "B & C", "Cleo"], ["5a", "5b", "6a"], ["Lab"]
    question = task.encode("..ccba1cbaacb-bA#,.,1")
    answer = task.encode("..ccba1cbaacb-b##,a,1")
    svg = task.svg(question, answer)
    shown = [e.text for e in ET.fromstring(svg).iter() if e.tag.endswith("text")]
    assert {"Ada", "B & C", "Cleo", "5a", "5b", "6a", "Lab", "Mon", "Tue"} <= set(shown)
    drawn = [e.get("class") for e in ET.fromstring(svg).iter() if e.tag.endswith("rect")]
    assert task.explain(question, answer) == ["Lab is used by Ada and Cleo on Tue 2."]
    assert drawn.count("tt-wrong") == 2 and drawn.count("tt-moved") == 0 and drawn.count("tt-away") == 2
    assert task.explain(question, question) == ["Cleo is not available on Mon 2, where class 5a must leave."]
    right = task.encode(".cbc.a1cbaacb-b##,a,1")
    drawn = [e.get("class") for e in ET.fromstring(task.svg(question, right)).iter() if e.tag.endswith("rect")]
    assert drawn.count("tt-wrong") == 0 and drawn.count("tt-moved") == 3 == task.cost(question[None], right[None])[0]
    lines = task.terminal(question, right).plain.splitlines()
    assert lines[0].split() == ["Ada", "│", "·", "6a", "5b", "│", "6a", "·", "5a", "│", "1"] and len(lines) == 3


@pytest.fixture
def plain_argv(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["my_timetable.py"])


def test_the_example_repairs_its_timetable(plain_argv: None, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("ortools")
    runpy.run_path(str(ROOT / "examples" / "my_timetable.py"), run_name="__main__")
    said = capsys.readouterr().out
    assert "cost" in said and "->" in said


def test_the_code_of_the_page_runs() -> None:
    pytest.importorskip("ortools")
    from innerloop.solve.exact import exact

    page = (ROOT / "docs" / "timetabling.md").read_text()
    names: dict = {}
    for block in re.findall(r"```python\n(.*?)```", page, re.S):
        exec(compile(block, "timetabling.md", "exec"), names)
    fair, free = names["Fair"](), Timetable()
    s = fair.make(12, 0)
    assert fair.valid_batch(s.inputs, s.labels).all()
    s = free.make(60, 0)
    unfair = s.take(~fair.valid_batch(s.inputs, s.labels)).take(slice(6))
    for question, label in zip(unfair.inputs, unfair.labels, strict=True):
        found = exact(fair, question)  # it raises where model, verifier and cost do not agree
        assert found.answer is None or found.cost >= free.cost(question[None], label[None])[0]
    assert len(unfair) == 6
