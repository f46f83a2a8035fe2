"""Shift rostering: the verifier against a slow twin that knows only the text, exact labels against CP-SAT, views."""

from __future__ import annotations

import importlib.util
import re
import xml.etree.ElementTree as ET
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from innerloop.errors import InputError
from innerloop.rules.roster_rules import Names, Sheet
from innerloop.tasks import get
from innerloop.tasks.roster import Roster

ROOT = Path(__file__).resolve().parents[2]
SIZES = {
    "6x5": {"staff": 6, "days": 5, "shifts": "EN"},
    "10x7": {},
    "16x14": {"staff": 16, "days": 14, "shifts": "DN", "disruptions": (1, 3)},
}
ODD = {
    "one shift": {"staff": 5, "days": 7, "shifts": "D", "rest": ()},
    "four shifts": {"staff": 9, "days": 6, "shifts": "ABCD"},
    "spare": {"staff": 8, "days": 7, "spare": 2, "weights": (5, 2), "rest": ("NE",)},
    "long": {"staff": 4, "days": 21, "stretch": 3},
}
each = pytest.mark.parametrize(
    "options",
    [pytest.param(o, id=k, marks=[pytest.mark.slow] * (k == "16x14")) for k, o in (SIZES | ODD).items()],
)


# -- a twin that reads the text, rule by rule -------------------------------------------------------------------------


GREEK, NUMBERS = "αβγδεζηθικλμνξοπρςστυφχψω", "0123456789АБВГДЕЖЗИЙКЛ"
NEEDED = ("⁰¹²³⁴⁵⁶⁷⁸⁹", "₀₁₂₃₄₅₆₇₈₉", "⓪①②③④⑤⑥⑦⑧⑨", "⓿❶❷❸❹❺❻❼❽❾")


def cell(task: Roster, c: str) -> tuple[str, int, int | None]:
    """What a symbol says of a person's day: what may be done, shift, request."""
    shifts = "." + task.options["shifts"]
    fixed, v = "-" + shifts[1:].lower(), len(shifts)
    if c in shifts:
        return "any", shifts.index(c), None
    if c in fixed:
        return "fixed", fixed.index(c), None
    if c in GREEK[: v * v]:
        return "any", GREEK.index(c) % v, GREEK.index(c) // v
    return ("absent" if c == "+" else "nothing"), 0, None


def twin_faults(task: Roster, question: np.ndarray, answer: np.ndarray) -> set[str]:
    """The names of the rules that an answer breaks, found in its text, one cell at a time."""
    if (answer >= task.vocab).any() or (answer == 0).any():
        return {"kept"}
    staff, days, spare = (task.options[name] for name in ("staff", "days", "spare"))
    kinds, wide, faults = len(task.options["shifts"]), days + 2, set()
    asked, told = (
        [text[i : i + wide] for i in range(0, len(text), wide)] for text in map(task.decode, (question, answer))
    )
    shift = [[cell(task, c)[1] for c in row[2:]] for row in told[1 : 1 + staff]]
    for r in range(len(asked)):
        for c in range(wide):
            a, b = cell(task, asked[r][c]), cell(task, told[r][c])
            may_change = 1 <= r <= staff and c >= 2 and a[0] == "any"
            if asked[r][c] != told[r][c] and not (may_change and (a[0], a[2]) == (b[0], b[2])):
                faults.add("kept")
    for d in range(days):
        for k in range(kinds):
            there = sum(shift[p][d] == k + 1 for p in range(staff))
            need = NEEDED[k].index(asked[1 + staff + k][2 + d])
            if there < need or there > need + spare:
                faults.add("cover")
    letters = "." + task.options["shifts"]
    for p in range(staff):
        row, run = shift[p], 0
        able, limit = ord(asked[1 + p][0]) - 0x2800, NUMBERS.index(asked[1 + p][1])
        for d in range(days):
            if row[d] and not able >> (row[d] - 1) & 1:
                faults.add("skills")
            if d and letters[row[d - 1]] + letters[row[d]] in task.options["rest"]:
                faults.add("rest")
            run = run + 1 if row[d] else 0
            if run > NUMBERS.index(asked[0][1]):
                faults.add("stretch")
        if sum(v > 0 for v in row) > limit:
            faults.add("limit")
    return faults


def spoiled(task: Roster, s, rng: np.random.Generator, rounds: int) -> tuple[np.ndarray, np.ndarray]:
    """Questions and answers: labels, old rosters, and labels with some cells changed, in and out of their kind."""
    questions, answers = [s.inputs, s.inputs], [s.labels, s.inputs]
    for _ in range(rounds):
        changed = s.labels.copy()
        for q, a in zip(s.inputs, changed, strict=True):
            for cell in rng.choice(len(a), int(rng.integers(1, 4)), replace=False):
                options = np.flatnonzero(task.code.kin == task.code.kin[q[cell]])
                a[cell] = rng.choice(options) if rng.random() < 0.9 else rng.integers(256)
            if rng.random() < 0.5:  # two people change places for a day: the cover stays
                d = int(rng.integers(task.days))
                i, j = rng.choice(task.staff, 2, replace=False)
                grid, asked = a.reshape(task.shape), q.reshape(task.shape)
                x, y = (int(task.code.shift[grid[1 + p, 2 + d]]) for p in (i, j))
                for p, v in ((i, y), (j, x)):
                    mark = (int(asked[1 + p, 2 + d]) - 1) // (task.kinds + 1)
                    if mark < len(task.code.token):
                        grid[1 + p, 2 + d] = task.code.token[mark, v]
        questions.append(s.inputs)
        answers.append(changed)
    return np.concatenate(questions), np.concatenate(answers)


@each
def test_the_verifier_agrees_with_a_slow_twin(options: dict) -> None:
    task = Roster(**options)
    s = task.make(5, seed=11)
    questions, answers = spoiled(task, s, np.random.default_rng(0), 12)
    valid = task.valid_batch(questions, answers)
    seen: set[str] = set()
    for q, a, ok in zip(questions, answers, valid, strict=True):
        faults = twin_faults(task, q, a)
        assert ok == (not faults), faults
        assert ok == (not task.wrong_cells(q, a).any()) and ok == (not task.explain(q, a))
        seen |= faults
    assert {"kept", "cover"} <= seen and valid.any()


# -- the generator ----------------------------------------------------------------------------------------------------


@each
def test_generated_questions_are_disrupted_and_labels_repair_them(options: dict) -> None:
    task = Roster(**options)
    s = task.make(12, seed=2)
    assert task.valid_batch(s.inputs, s.labels).all() and not task.valid_batch(s.inputs, s.inputs).any()
    assert len({task.decode(q) for q in s.inputs}) == 12
    for q, a, rating in zip(s.inputs, s.labels, s.rating, strict=True):
        sheet, repaired = task.read(q), task.read(q, a)
        changes = (sheet.shift != repaired.shift) & ~sheet.absent
        assert changes.sum() == rating >= 1
        assert np.array_equal(task.write(sheet), q)
        unmet = ((sheet.wish >= 0) & (sheet.wish != repaired.shift)).sum()
        assert task.cost(q[None], a[None])[0] == task.weights[0] * rating + task.weights[1] * unmet
        again = task.read(a)  # the answer read as a question: nothing to do any more
        assert np.array_equal(again.shift, repaired.shift) and np.array_equal(again.wish, sheet.wish)
        assert task.valid_batch(a[None], a[None]).all()


def test_labels_are_the_only_cheapest_answer_of_all_there_are() -> None:
    task = Roster(3, 3, "EN", disruptions=(1, 1))
    s = task.make(25, seed=0)
    for q, label in zip(s.inputs, s.labels, strict=True):
        free = np.flatnonzero(task.domain(q).sum(1) > 1)
        tokens = [np.flatnonzero(task.domain(q)[cell]) for cell in free]
        answers = np.repeat(q[None], np.prod([len(t) for t in tokens]), 0)
        answers[:, free] = np.array(list(product(*tokens)))
        answers = answers[task.valid_batch(np.repeat(q[None], len(answers), 0), answers)]
        cost = task.cost(np.repeat(q[None], len(answers), 0), answers)
        assert (cost == cost.min()).sum() == 1 and np.array_equal(answers[cost.argmin()], label)
        every = task.every(q, 10**6)
        assert {bytes(a) for a in every} == {bytes(a) for a in answers} and len(every) == len(answers)
        assert (np.diff(task.cost(np.repeat(q[None], len(every), 0), every)) >= 0).all()
        assert np.array_equal(task.repair(q), label) and task.solutions(q) == min(2, len(answers))


@pytest.mark.slow
def test_a_repair_that_cannot_be_is_none_and_a_large_one_is_refused() -> None:
    task = Roster(4, 5, "EN")
    sheet = plain(task, np.zeros((4, 5), int))
    assert np.array_equal(task.repair(task.write(sheet)), task.write(sheet))
    need = sheet.need.copy()
    need[0, 0] = 5
    assert task.repair(task.write(sheet._replace(need=need))) is None
    assert not len(task.every(task.write(sheet), 0))
    assert not len(task.every(task.write(sheet._replace(need=need)), 5))
    tight = Roster(10, 14)  # 56 shifts for people who work 50: no single rule says so
    sheet = plain(tight, np.zeros((10, 14), int))._replace(need=np.tile([2, 1, 1], (14, 1)), limit=np.full(10, 5))
    for ask in (tight.repair, tight.solutions):
        with pytest.raises(InputError, match=r"use innerloop\.solve\.exact"):
            ask(tight.write(sheet))


# -- CP-SAT -----------------------------------------------------------------------------------------------------------


def check_against_cp_sat(task: Roster, count: int, seed: int) -> float:
    """Mean of how much dearer labels are than CP-SAT's proved optimum; its answers are valid and cost what it says."""
    from innerloop.solve.exact import exact

    s, gaps = task.make(count, seed), []
    for q, label in zip(s.inputs, s.labels, strict=True):
        found = exact(task, q, seconds=30)
        assert found.status == "optimal" and found.answer is not None
        assert task.valid_batch(q[None], found.answer[None])[0]
        assert found.cost == task.cost(q[None], found.answer[None])[0] <= task.cost(q[None], label[None])[0]
        assert np.array_equal(found.answer, label), "generated questions have one cheapest answer"
        gaps.append(task.cost(q[None], label[None])[0] - found.cost)
    return float(np.mean(gaps))


@each
def test_cp_sat_finds_the_label(options: dict) -> None:
    pytest.importorskip("ortools")
    assert check_against_cp_sat(Roster(**options), 6, seed=5) == 0


@pytest.mark.slow
@pytest.mark.parametrize("options", SIZES.values(), ids=SIZES)
def test_cp_sat_finds_forty_labels(options: dict) -> None:
    pytest.importorskip("ortools")
    assert check_against_cp_sat(Roster(**options), 40, seed=6) == 0


def test_cp_sat_and_the_search_agree_where_answers_tie_or_do_not_exist() -> None:
    pytest.importorskip("ortools")
    from innerloop.solve.exact import exact

    task, rng, none = Roster(5, 6, "EN", stretch=4), np.random.default_rng(3), 0
    for q in task.make(25, seed=9).inputs:
        sheet = task.read(q)
        ill = rng.random((5, 6)) < 0.15
        wish = np.where(ill | sheet.fixed, -1, sheet.wish)
        q = task.write(sheet._replace(absent=sheet.absent | ill, fixed=sheet.fixed & ~ill, wish=wish))
        found, mine = exact(task, q), task.repair(q)
        assert (mine is None) == (found.status == "infeasible")
        none += mine is None
        if mine is not None:
            assert task.valid_batch(q[None], mine[None])[0] and task.cost(q[None], mine[None])[0] == found.cost
    assert 0 < none < 25


# -- each rule on its own ---------------------------------------------------------------------------------------------


def plain(task: Roster, shift: np.ndarray) -> Sheet:
    """A sheet of this roster without marks, that nothing is wrong with: cover as it is, wide limits."""
    n, d = shift.shape
    need = (shift[:, :, None] == np.arange(1, task.kinds + 1)).sum(0)
    none = np.zeros((n, d), bool)
    able = np.ones((n, task.kinds), bool)
    return Sheet(shift, need, able, np.full(n, d), np.array(task.stretch), none, none.copy(), np.full((n, d), -1))


BASE = [[1, 1, 0, 3, 3], [2, 2, 2, 0, 0], [0, 1, 1, 0, 0]]
NAMES = Names(["Ada", "Ben", "Cem"], ["Mon", "Tue", "Wed", "Thu", "Fri"], ["off", "E", "L", "N"])


@pytest.mark.parametrize(
    ("cells", "change", "says", "where"),
    [
        ([], {"need": (0, 0, 2)}, "Mon: 1 on E, where 2 are needed", [(4, 2)]),
        ([(1, 0, 0)], {}, "Mon: 0 on L, where 1 are needed", [(5, 2)]),
        ([(2, 4, 3)], {}, "Fri: 2 on N, where 1 are needed", [(6, 6)]),
        ([], {"able": (1, 1, False)}, "Ben may not work L, but does on", [(2, 2), (2, 3), (2, 4)]),
        ([(1, 2, 1), (2, 2, 2)], {}, "Ben: E on Wed leaves too little rest after L", [(2, 3), (2, 4)]),
        ([], {"stretch": 2}, "Ben works 3 days in a row, Mon to Wed; at most 2", [(2, 2), (2, 3), (2, 4)]),
        ([], {"limit": (0, 3)}, "Ada works 4 days; at most 3", [(1, 1)]),
    ],
    ids=["short", "missing", "over", "skills", "rest", "stretch", "limit"],
)
def test_each_rule_broken_on_its_own_is_caught_and_explained(cells: list, change: dict, says: str, where: list) -> None:
    task = Roster(3, 5)
    task.names = NAMES
    sheet = plain(task, np.array(BASE))
    assert task.valid_batch(task.write(sheet)[None], task.write(sheet)[None])[0]
    for name, (*at, value) in ((n, v if isinstance(v, tuple) else (v,)) for n, v in change.items()):
        field = getattr(sheet, name).copy()
        field[tuple(at)] = value
        sheet = sheet._replace(**{name: field})
    shift = sheet.shift.copy()
    for i, d, v in cells:
        shift[i, d] = v
    question, answer = task.write(sheet), task.write(sheet._replace(shift=shift))
    said = task.explain(question, answer)
    assert not task.valid_batch(question[None], answer[None])[0]
    assert said and all(says in words for words in said)
    wrong = {tuple(at) for at in np.argwhere(task.wrong_cells(question, answer).reshape(task.shape)).tolist()}
    assert wrong == set(where)
    red = [
        element
        for element in ET.fromstring(task.svg(question, answer)).iter()
        if element.get("class", "").startswith("il-r-bad")
    ]
    assert bool(red) or wrong == {(1, 1)}


def test_what_must_stay_is_named_when_it_does_not() -> None:
    task = Roster(3, 5)
    task.names = NAMES
    sheet = plain(task, np.array(BASE))
    fixed, absent, wish = sheet.fixed.copy(), sheet.absent.copy(), sheet.wish.copy()
    fixed[0, 0], absent[1, 3], wish[2, 0] = True, True, 1
    question = task.write(sheet._replace(fixed=fixed, absent=absent, wish=wish))
    for (row, column), token, says in [
        ((1, 2), task.code.token[1, 2], "Ada, Mon is fixed, but was changed"),
        ((2, 5), task.code.token[0, 0], "Ben, Thu is an absence, but was changed"),
        ((3, 2), task.code.token[0, 0], "Cem, Mon holds no shift that answers the question"),
        ((3, 3), task.code.need[0, 1], "Cem, Tue holds no shift that answers the question"),
        ((1, 0), task.code.able[3], "Ada, skills is information, but was changed"),
        ((4, 4), task.code.need[0, 9], "cover of E, Wed is information, but was changed"),
    ]:
        answer = question.copy().reshape(task.shape)
        answer[row, column] = token
        answer = answer.reshape(-1)
        assert says in task.explain(question, answer) and not task.valid_batch(question[None], answer[None])[0]
        assert task.wrong_cells(question, answer).reshape(task.shape)[row, column]
    broken = question.copy().reshape(task.shape)
    broken[4, 4] = task.code.token[0, 1]
    broken = broken.reshape(-1)
    assert "has no place there" in task.explain(broken, broken)[0]
    assert not task.valid_batch(broken[None], broken[None])[0]
    with pytest.raises(InputError, match="this is no roster: cover of E, Wed"):
        task.repair(broken)


# -- symmetries -------------------------------------------------------------------------------------------------------


@each
def test_views_keep_validity_and_cost(options: dict) -> None:
    task = Roster(**options)
    s = task.make(3, seed=4)
    questions, answers = spoiled(task, s, np.random.default_rng(1), 8)
    answers = answers.copy()
    answers[answers >= task.vocab] = 1
    views = task.views(len(questions), np.random.default_rng(0))
    turned, told = views.apply(questions), views.apply(answers)
    assert np.array_equal(views.undo(turned), questions) and np.array_equal(views.undo(told), answers)
    valid = task.valid_batch(questions, answers)
    assert np.array_equal(task.valid_batch(turned, told), valid) and 0 < valid.sum() < len(valid)
    assert np.array_equal(task.cost(turned, told)[valid], task.cost(questions, answers)[valid])
    assert task.canonical_batch(turned) == task.canonical_batch(questions)
    assert (turned != questions).any(1).mean() > 0.5


def test_read_backwards_a_roster_is_a_roster_and_only_where_the_rest_rule_allows() -> None:
    task = Roster(**SIZES["6x5"])
    q = task.make(1, 0).inputs
    views = task.views(200, np.random.default_rng(0))
    images = views.apply(np.repeat(q, 200, 0))
    sheet = task.read(q[0])
    turned = [task.read(image) for image in images]
    back = np.array([not np.array_equal(t.need, sheet.need) for t in turned])
    assert 0.35 < back.mean() < 0.65
    for other in np.array(turned, object)[back][:, 1]:
        assert np.array_equal(other, sheet.need[::-1, ::-1])
    lame = Roster(6, 5, "EN", rest=("EN", "NE", "EE"))
    assert all(
        np.array_equal(lame.read(i).need, sheet.need)
        for i in lame.views(50, np.random.default_rng(0)).apply(np.repeat(q, 50, 0))
    )


# -- the edges --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"staff": 1}, "2 to 20"),
        ({"days": 40}, "2 to 21"),
        ({"shifts": "EE"}, "different capital letters"),
        ({"shifts": "el"}, "different capital letters"),
        ({"shifts": "ABCDE"}, "1 to 4"),
        ({"stretch": 0}, "stretch=0"),
        ({"spare": -1}, "spare=-1"),
        ({"rest": ("EX",)}, "rest='EX' names no pair"),
        ({"weights": (1, 1)}, "a change must weigh more"),
        ({"weights": (1.5, 1)}, "must be a whole number"),
        ({"disruptions": (0, 2)}, "is no range"),
    ],
)
def test_bad_options_fail_at_the_door(options: dict, says: str) -> None:
    with pytest.raises(InputError, match=re.escape(says)) as error:
        get("roster", **options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("shift", np.zeros((3, 4), int), "shift has shape (3, 4), but rosters of this task have (3, 5)"),
        ("shift", np.full((3, 5), 4), "shift must be whole numbers from 0 to 3"),
        ("need", np.full((5, 3), 10), "need must be whole numbers from 0 to 9"),
        ("stretch", np.array(0), "stretch must be whole numbers from 1"),
        ("limit", np.full(3, 2.5), "limit must be whole numbers"),
        ("absent", np.zeros((3, 5), int), "absent must be true or false"),
        ("able", np.eye(3, dtype=bool)[[0, 1, 1]] & [True, False, True], "person 2 may work no shift"),
        ("fixed", np.ones((3, 5), bool), "person 2, day 2: the cell is two of"),
    ],
)
def test_bad_sheets_fail_at_the_door(field: str, value: np.ndarray, says: str) -> None:
    task = Roster(3, 5)
    absent = np.zeros((3, 5), bool)
    absent[1, 1] = True
    sheet = plain(task, np.array(BASE))._replace(absent=absent)._replace(**{field: value})
    with pytest.raises(InputError, match=re.escape(says)):
        task.write(sheet)


@each
def test_pictures_show_names_cover_and_changes(options: dict) -> None:
    task = Roster(**options)
    task.names = task.names._replace(people=[f"Mx <{i}>" for i in range(task.staff)])
    q, a = (table[0] for table in (lambda s: (s.inputs, s.labels))(task.make(1, 3)))
    text = task.terminal(q, a, previous=q).plain
    assert all(person in text for person in task.names.people) and "needs" in text and "?" not in text
    svg = task.svg(q, a)
    classes = [e.get("class", "") for e in ET.fromstring(svg).iter()]
    assert sum(c == "il-r-new" for c in classes) == task.make(1, 3).rating[0]
    assert "every rule kept" in svg and "fault" in task.svg(q, q)
    nonsense = a.copy()
    nonsense[np.flatnonzero(task.domain(q).sum(1) > 1)[0]] = 255
    assert "?" in task.terminal(q, nonsense).plain and "fault" in task.svg(q, nonsense)
    assert all(isinstance(task.glyph(t) + task.colour(t), str) for t in range(256))


def module(path: Path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def test_the_example_repairs_its_roster(capsys: pytest.CaptureFixture, tmp_path: Path, monkeypatch) -> None:
    pytest.importorskip("ortools")
    monkeypatch.setattr("sys.argv", ["my_roster.py", str(ROOT / "examples/roster.csv"), str(tmp_path / "roster.svg")])
    module(ROOT / "examples" / "my_roster.py").main()
    said = capsys.readouterr().out
    assert "To repair:" in said and "(optimal)" in said and "every rule kept" in (tmp_path / "roster.svg").read_text()


@pytest.mark.slow
def test_the_rule_that_the_guide_adds_holds_everywhere() -> None:
    """docs/rostering.md adds a rule in full; its code is run: generated, verified, explained, and solved exactly."""
    code = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "rostering.md").read_text(), re.S)
    space: dict = {}
    exec(next(block for block in code if "class Lead" in block), space)
    task = space["Ward"](staff=8, days=7)
    s = task.make(15, seed=1)
    assert task.valid_batch(s.inputs, s.labels).all()
    for q, a in zip(s.inputs, s.labels, strict=True):
        sheet = task.read(q, a)
        on = (sheet.shift[:, :, None] == np.arange(1, 4)) & sheet.able.all(1)[:, None, None]
        assert (on.any(0) | (sheet.need == 0)).all()
    plainly = Roster(staff=8, days=7)
    other = plainly.make(15, seed=1)
    broken = ~task.valid_batch(other.inputs, other.labels)
    assert broken.any() and plainly.valid_batch(other.inputs, other.labels).all()
    row = int(broken.argmax())
    assert "no senior" in " ".join(task.explain(other.inputs[row], other.labels[row]))
    if importlib.util.find_spec("ortools"):
        assert check_against_cp_sat(task, 10, seed=1) == 0
