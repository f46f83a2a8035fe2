"""What every task promises, checked on every task: a new task file is tested by adding one line here, or none."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import numpy as np
import pytest

from innerloop.data.sets import PuzzleSet
from innerloop.errors import InputError
from innerloop.tasks import Task, get, names
from innerloop.tasks.grid import Grid

OPTIONS: dict[str, list[dict]] = {
    "sudoku": [{"size": 4}, {"size": 6}, {"size": 9}, {"size": 12}, {"size": 16}, {"size": 8, "box": (4, 2)}],
    "maze": [{"size": 10}, {"size": 11, "kind": "perfect"}, {"size": 30}],
    "queens": [{"size": 8}, {"size": 5}],
    "colouring": [{"size": 8}, {"size": 6, "colours": 4}],
    "roster": [{"staff": 6, "days": 5, "shifts": "EN"}, {}, {"staff": 16, "days": 14, "shifts": "DN"}],
    "timetable": [{"teachers": 5, "classes": 4, "days": 2, "periods": 3, "absences": (1, 1)}, {}],
    "walk": [{"size": 5}, {"size": 3, "walls": 2, "actions": 3, "edge": "wrap"}],
}


def toy_grid() -> Grid:
    """Copy the row, blanks filled with 'b'."""
    task = Grid("ab.", (2, 3), ".", rule=lambda q, a: bool((a[q == 3] == 2).all()))
    texts = ["a.b.a.", "bb.a..", "......", "a..bab"]
    inputs = task.encode_many(texts)
    labels = task.encode_many([t.replace(".", "b") for t in texts])
    task.examples = PuzzleSet(inputs, labels, vocab=task.vocab, shape=task.shape)
    return task


def mirror_grid() -> Grid:
    """Every cell is what the cell opposite is: the same puzzle turned, mirrored and with other symbols."""
    task = Grid("abc.", (3, 3), ".", rule=lambda q, a: bool((a == a[::-1]).all()), symmetries=("turns", "names"))
    labels = task.encode_many(["abcacacba", "aabcbcbaa", "cbabcbabc", "aaabcbaaa", "abbacabba"])
    inputs = task.encode_many(["abc.cacba", "aa.cbcbaa", "c.abcba.c", "aaa.cb..a", "..bacab.a"])
    task.examples = PuzzleSet(inputs, labels, vocab=task.vocab, shape=task.shape)
    return task


def every_task() -> list[Task]:
    tasks: list[Task] = []
    for name in names():
        tasks += [toy_grid(), mirror_grid()] if name == "grid" else [get(name, **o) for o in OPTIONS.get(name, [{}])]
    return tasks


TASKS = every_task()
each = pytest.mark.parametrize(
    "task",
    [
        pytest.param(
            t,
            id=f"{t.name}{t.shape[0]}{t.options.get('kind', '')}",
            marks=[pytest.mark.slow] * (t.options.get("size") == 16),
        )
        for t in TASKS
    ],
)


@each
def test_item_is_a_function_of_seed_and_index(task: Task) -> None:
    s = task.make(6, seed=3)
    for i in (5, 0, 3):
        example = task.sample(3, i)
        assert np.array_equal(example.question, s.inputs[i]) and np.array_equal(example.answer, s.labels[i])
        assert np.float32(example.rating) == s.rating[i] or np.isnan(s.rating[i])
        assert example.puzzle == s.puzzle[i]
    other = task.make(6, seed=4)
    assert not np.array_equal(other.inputs, s.inputs)
    assert len(np.unique(s.inputs, axis=0)) > 1


@each
def test_shapes_and_types(task: Task) -> None:
    s = task.make(3, seed=0)
    size = task.shape[0] * task.shape[1]
    assert s.inputs.shape == s.labels.shape == (3, size) and s.inputs.dtype == s.labels.dtype == np.uint8
    assert s.vocab == task.vocab == len(task.charset) + 1 and s.task == task.name
    assert max(s.inputs.max(), s.labels.max()) < task.vocab
    if task.units is not None:
        assert task.units.dtype == np.int64 and task.units.ndim == 2 and task.units.max() < size
    again = get(task.name, **task.options)
    assert (again.shape, again.vocab, again.charset) == (task.shape, task.vocab, task.charset)


@each
def test_gold_is_right_and_a_corrupted_gold_is_not(task: Task) -> None:
    s = task.make(8, seed=1)
    exact, token, valid = task.score_batch(s.inputs, s.labels, s.labels)
    assert exact.all() and (token == 1).all() and valid.all()
    assert exact.dtype == valid.dtype == bool and token.dtype == np.float64
    rng = np.random.default_rng(0)
    for row in range(len(s)):
        broken = s.labels[row].copy()
        cell = int(rng.choice(np.flatnonzero(broken)))
        broken[cell] = broken[cell] % (task.vocab - 1) + 1
        score = task.score(s.inputs[row], broken, s.labels[row])
        counted = task.counted(s.inputs[row : row + 1], s.labels[row : row + 1])[0]
        wrong = int(counted[cell])
        assert not score.exact and score.token == pytest.approx(1 - wrong / counted.sum())
        assert not (counted & (s.labels[row] == 0)).any()
        if task.verifies:
            assert not score.valid


@each
def test_answers_outside_the_vocabulary_are_wrong_not_fatal(task: Task) -> None:
    s = task.make(2, seed=1)
    for token in (0, task.vocab, 255):
        answers = np.full_like(s.labels, token)
        exact, _, valid = task.score_batch(s.inputs, answers, s.labels)
        assert not exact.any() and not valid.any()


@each
def test_a_changed_given_is_not_valid(task: Task) -> None:
    if not task.blank:
        pytest.skip("nothing is given in this task")
    s = task.make(4, seed=2)
    for question, label in zip(s.inputs.copy(), s.labels, strict=True):
        token = next(t for t in range(1, task.vocab) if t != task.blank)
        question[np.flatnonzero(label != token)[0]] = token
        assert not task.score(question, label, label).valid


@each
def test_augment_keeps_truth_and_is_seeded(task: Task) -> None:
    s = task.make(16, seed=5)
    before = s.inputs.copy(), s.labels.copy()
    first = task.augment(s.inputs, s.labels, np.random.default_rng(7))
    again = task.augment(s.inputs, s.labels, np.random.default_rng(7))
    assert np.array_equal(first[0], again[0]) and np.array_equal(first[1], again[1])
    assert np.array_equal(before[0], s.inputs) and np.array_equal(before[1], s.labels)
    assert first[0].dtype == first[1].dtype == np.uint8
    exact, _, valid = task.score_batch(first[0], first[1], first[1])
    assert exact.all() and valid.all()
    if type(task).augment is not Task.augment or task.views(1, np.random.default_rng()) is not None:
        assert (first[0] != s.inputs).any(1).mean() > 0.5
    if task.units is not None:
        assert (task.score_batch(first[0], s.labels, s.labels)[2]).mean() < 1


@each
def test_an_answer_to_a_view_undone_is_an_answer(task: Task) -> None:
    s = task.make(16, seed=8)
    views = task.views(16, np.random.default_rng(9))
    if views is None:
        pytest.skip("this task knows no symmetry that renames cells and tokens")
    asked = views.apply(s.inputs)
    assert np.array_equal(views.undo(asked), s.inputs)
    assert asked.dtype == views.undo(asked).dtype == np.uint8
    if task.verifies:
        assert task.valid_batch(asked, views.apply(s.labels)).all()
    assert np.array_equal(views.take(np.array([3])).undo(views.apply(s.labels)[3:4])[0], s.labels[3])


@each
def test_canonical_is_equal_for_variants_and_different_for_others(task: Task) -> None:
    s = task.make(16, seed=6)
    keys = task.canonical_batch(s.inputs)
    for seed in range(4):
        turned, _ = task.augment(s.inputs, s.labels, np.random.default_rng(seed))
        assert task.canonical_batch(turned) == keys
        assert all(task.same(a, b) for a, b in zip(s.inputs[:4], turned[:4], strict=True))
    assert task.canonical(s.inputs[2]) == keys[2]
    distinct = len(np.unique(s.inputs, axis=0))
    if task.name == "grid":
        assert len(set(keys)) == distinct
    elif s.shape[0] > 6:
        assert len(set(keys)) >= distinct - 2


@each
def test_text_round_trip(task: Task) -> None:
    s = task.make(4, seed=8)
    for tokens in (*s.inputs, *s.labels):
        text = task.decode(tokens)
        assert len(text) == len(tokens)
        assert np.array_equal(task.encode(text), tokens)
    with pytest.raises(InputError, match="cells"):
        task.encode(task.decode(s.inputs[0]) + task.charset[0])
    with pytest.raises(InputError, match="'☃'"):
        task.encode("☃" + task.decode(s.inputs[0])[1:])


@each
def test_pictures(task: Task) -> None:
    example = task.sample(0, 0)
    wrong = example.answer.copy()
    cell = int(np.flatnonzero(wrong)[-1])
    wrong[cell] = wrong[cell] % (task.vocab - 1) + 1
    for answer in (example.answer, wrong):
        text = task.terminal(example.question, answer, previous=example.question)
        assert "\x1b" not in text.plain
        rules = sum(line.startswith("──") for line in text.plain.splitlines())
        assert len(text.plain.split("\n")) - rules >= task.shape[0] - 1
        root = ET.fromstring(task.svg(example.question, answer, example.answer))
        assert root.tag.endswith("svg") and "prefers-color-scheme" in ET.tostring(root, encoding="unicode")
        assert "href" not in ET.tostring(root, encoding="unicode")


@each
def test_wrong_shape_says_so(task: Task) -> None:
    s = task.make(2, seed=0)
    with pytest.raises(InputError, match="takes"):
        task.score_batch(s.inputs[:, 1:], s.labels, s.labels)
    with pytest.raises(InputError, match="at least 1"):
        task.make(0, seed=0)


@each
def test_tokens_that_are_none_say_so(task: Task) -> None:
    """What would wrap, be rounded or index a table from its end is refused, in questions and in answers."""
    q = task.make(2, seed=0).inputs
    for bad in (q.astype(int) + 256, q.astype(int) - 256, q + 0.5, np.full(q.shape, np.nan), q.astype(str)):
        for arrays in ((bad, q, q), (q, bad, q), (q, q, bad)):
            with pytest.raises(InputError):
                task.score_batch(*arrays)
    with pytest.raises(InputError, match=f"0..{task.vocab - 1}"):
        task.valid_batch(np.full_like(q, task.vocab), q)
    with pytest.raises(InputError, match="takes"):
        task.score_batch(q.tolist(), q, q)
    assert all(
        np.array_equal(a, b)
        for a, b in zip(task.score_batch(q, q, q), task.score_batch(*[q.astype(int)] * 3), strict=True)
    )


def test_unknown_names_and_options_name_the_nearest() -> None:
    with pytest.raises(InputError, match='did you mean "sudoku"'):
        get("sudoko")
    with pytest.raises(InputError, match='did you mean "size"'):
        get("sudoku", sise=9)
    assert names() == sorted(names()) and {"arc", "grid", "maze", "queens", "sudoku"} <= set(names())


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("sudoku", {"size": 7}, "no usual box"),
        ("sudoku", {"size": 9, "box": (2, 3)}, "does not hold 9 digits"),
        ("sudoku", {"givens": (10, 12)}, "cannot be met"),
        ("sudoku", {"givens": (50, 40)}, "cannot be met"),
        ("maze", {"kind": "round"}, "no kind of maze"),
        ("maze", {"kind": "perfect", "size": 10}, "odd size"),
        ("maze", {"size": 5, "distance": 99}, "does not fit"),
        ("maze", {"density": (0.5, 0.2)}, "wall shares"),
        ("queens", {"size": 3}, "4 to 32"),
        ("queens", {"size": 6, "givens": (2, 9)}, "does not fit"),
        ("grid", {"alphabet": "aa"}, "different symbols"),
        ("grid", {"alphabet": "ab", "blank": "."}, "no symbol of the alphabet"),
        ("grid", {"shape": (0, 3)}, "no grid"),
        ("arc", {"low": 4, "high": 40}, "do not fit"),
    ],
)
def test_impossible_options_fail_at_the_door(name: str, options: dict, says: str) -> None:
    with pytest.raises(InputError, match=says):
        get(name, **options)


def test_negative_seeds_say_so() -> None:
    with pytest.raises(InputError, match="must not be negative"):
        get("queens").make(1, seed=-1)


def test_a_grid_without_examples_cannot_sample() -> None:
    with pytest.raises(InputError, match="no generator"):
        get("grid").sample(0, 0)


def test_a_grid_counts_the_cells_that_are_asked():
    """Of four clues and four open cells one is wrong: three quarters of what was asked."""
    task = Grid(".abc", (2, 4), ".")
    question, answer, label = (task.encode(text)[None] for text in ("abca....", "abcaabca", "abcaabcb"))
    exact, token, _ = task.score_batch(question, answer, label)
    assert (exact.tolist(), token.tolist()) == ([False], [0.75])
    assert task.score_batch(label, label, label)[1].tolist() == [1.0], "where nothing is asked all cells count"
    assert Grid("abc", (2, 4)).score_batch(label - 1, answer - 1, label - 1)[1].tolist() == [0.875]
