"""Symmetries are offered where changed rows look like rows of the file, and only there."""

from dataclasses import replace

import numpy as np
import pytest

from innerloop import cli, tasks
from innerloop.data import found_symmetries as found_module
from innerloop.data.formats import read_csv, write_csv
from innerloop.data.found_symmetries import found_symmetries
from innerloop.errors import InputError
from innerloop.tasks.grid import Grid


@pytest.fixture(scope="module")
def latin():
    """4x4 Sudokus as a grid of which nothing is known."""
    made = tasks.get("sudoku", size=4).make(600, 0)
    return Grid(".1234", (4, 4), "."), made


def changed(made, answers):
    """The puzzles with other answers, and the question's cells where they were given."""
    inputs = np.where(made.inputs == 1, 1, answers)
    return replace(made, inputs=inputs.astype(made.inputs.dtype), labels=answers.astype(made.labels.dtype))


def test_what_the_rows_allow_is_found(latin):
    task, made = latin
    assert found_symmetries(task, made) == ("turns", "names")


def test_a_rule_with_a_direction_allows_no_turns(latin):
    """The columns in the order of their first cell: the left side is another than the right one."""
    task, made = latin
    boards = made.labels.reshape(-1, 4, 4)
    order = boards[:, :1].argsort(2)
    sorted_boards = np.take_along_axis(boards, order, 2).reshape(len(boards), -1)
    assert "turns" not in found_symmetries(task, changed(made, sorted_boards))


def test_a_rule_about_numbers_allows_no_names(latin):
    """Each row begins with its larger half: the two numbers 4 and 3, and 1 and 2, are no longer alike."""
    task, made = latin
    boards = made.labels.reshape(-1, 4, 4)
    larger = boards[:, :, :2].sum(2) < boards[:, :, 2:].sum(2)
    answers = np.where(larger[:, :, None], boards[:, :, [2, 3, 0, 1]], boards).reshape(len(boards), -1)
    assert "names" not in found_symmetries(task, changed(made, answers))


def greater(made, rng):
    """The 4x4 answers with signs between neighbours in a row, as 4x7 grids: one sign in three is shown."""
    boards = made.labels.reshape(-1, 4, 4)
    left, right = boards[:, :, :-1], boards[:, :, 1:]
    shown = rng.random(left.shape) < 1 / 3
    wide = np.empty((len(boards), 4, 7), np.uint8)
    wide[:, :, ::2] = boards
    wide[:, :, 1::2] = np.where(shown, np.where(left > right, 7, 6), 8)
    asked = wide.copy()
    asked[:, :, ::2] = made.inputs.reshape(-1, 4, 4)
    flat = (len(boards), -1)
    return replace(made, inputs=asked.reshape(flat), labels=wide.reshape(flat), shape=(4, 7), vocab=9)


def test_symbols_that_change_places_are_found(latin):
    """A mirrored "<" is a ">", and with numbers counted from above it is too; flipped, all stay what they are."""
    task = Grid(".1234<>-", (4, 7), ".")
    found = found_symmetries(task, greater(latin[1], np.random.default_rng(0)))
    group = Grid(**task.options | {"symmetries": found}).group
    assert "flip" in found and "same 14 23 <>" in found and "names" not in found
    assert len(group.cells) == 8 and any(name.startswith("half-turn <>") for name in found)
    known = {(c.tobytes(), t.tobytes()) for c, t in zip(group.cells, group.tokens, strict=True)}
    mirror = Grid(**task.options | {"symmetries": ["mirror <>"]}).group
    assert (mirror.cells[1].tobytes(), mirror.tokens[1].tobytes()) in known


def test_a_symmetry_with_swaps_undoes_itself_and_keeps_the_rule(latin, monkeypatch):
    task = Grid(".1234<>-", (4, 7), ".", symmetries=("mirror <>", "same 14 23 <>"))
    made = greater(latin[1], np.random.default_rng(0)).take(np.arange(50))
    views = task.views(50, np.random.default_rng(1))
    assert (views.undo(views.apply(made.labels)) == made.labels).all()
    boards = views.apply(made.labels).reshape(-1, 4, 7)
    sign, left, right = boards[:, :, 1::2], boards[:, :, :-1:2], boards[:, :, 2::2]
    assert ((sign == 7) <= (left > right)).all() and ((sign == 6) <= (left < right)).all()
    assert (boards != made.labels.reshape(-1, 4, 7)).any((1, 2)).sum() > 30
    keys = task.canonical_batch(made.inputs)
    monkeypatch.setattr("innerloop.tasks.grid.PIECE", 28)  # seven puzzles in four views at once
    assert task.canonical_batch(views.apply(made.inputs)) == keys and len(keys) == 50


@pytest.mark.parametrize(
    ("told", "why"),
    [
        ("sideways", "is none of turns, names"),
        ("turns <>", "is none of"),
        ("mirror <", "two by two"),
        ("mirror <> <-", "two by two"),
        ("mirror <x", "'x' is no symbol"),
        ("mirror <.", "'.' is no symbol"),
        ("transpose", "needs a square grid"),
    ],
)
def test_symmetries_that_no_grid_has(told, why):
    with pytest.raises(InputError, match=why):
        Grid(".1234<>-", (4, 7), ".", symmetries=(told,))


def test_few_rows_say_nothing(latin):
    task, made = latin
    assert found_symmetries(task, made.take(np.arange(found_module.LEAST_ROWS - 1))) == ()


def test_data_offers_them_and_train_takes_what_it_offers(latin, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    order = np.arange(16).reshape(4, 4)[[0, 2, 1, 3]][:, [0, 2, 1, 3]].ravel()  # no boxes: Sudokus would be known
    moved = replace(latin[1], inputs=latin[1].inputs[:, order], labels=latin[1].labels[:, order])
    write_csv(tmp_path / "own.csv", moved, Grid(".abcd", (4, 4), "."))
    assert cli.main(["data", "own.csv"]) == 0
    out, err = capsys.readouterr()
    said = " ".join(out.split())
    option = 'data.options.symmetries=["turns", "names"]'
    assert "boards turned and mirrored; or renamed look like rows of this file" in said
    width = "config.net.hidden_size=128"  # 32 for each of four symbols that are only names
    assert f"as good a puzzle: innerloop train grid --data own.csv --out runs/mine --set '{option}' {width}\n" in err
    assert cli.main(["train", "grid", "--data", "own.csv", "--out", "r", "--dry-run", "--set", option, width]) == 0


def test_a_puzzle_and_its_image_by_a_symmetry_that_is_told_are_twins(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng, letters = np.random.default_rng(0), np.array(list(".abcdefg"))
    rows = {"".join(letters[rng.integers(0, 8, 12)]): 0 for _ in range(40)}
    answers = [row.replace(".", "a") for row in rows]
    pairs = [*zip(rows, answers, strict=True)]
    pairs += [tuple("".join(text[r : r + 4][::-1] for r in (0, 4, 8)) for text in pair) for pair in pairs]
    (tmp_path / "own.csv").write_text("question,answer\n" + "".join(f"{q},{a}\n" for q, a in pairs))
    assert cli.main(["data", "own.csv", "--shape", "3x4"]) == 0
    assert "tell those that are true by --set data.options.symmetries=[...]" in " ".join(
        capsys.readouterr().out.split()
    )
    told = ["--set", 'data.options.symmetries=["mirror"]']
    assert cli.main(["data", "own.csv", "--shape", "3x4", *told, "--fix", "--test", "20"]) == 0
    said = capsys.readouterr()
    shown = " ".join(said.out.split())
    assert "told: boards mirrored" in shown and "may lie on both sides" not in said.err
    assert f"{len(rows)} rows are variants of others, first row {len(rows) + 1} is row 1 turned" in shown
    assert said.err.count("--set 'data.options.symmetries=[\"mirror\"]'\n") == 1
    task = Grid(sorted(letters), (3, 4), ".", symmetries=("mirror",))
    train, test = (read_csv(tmp_path / f"own.{part}.csv") for part in ("train", "test"))
    keys = [set(task.canonical_batch(task.encode_many(table.questions))) for table in (train, test)]
    assert len(test.questions) == 20 and not keys[0] & keys[1]
    for change, why in (("plan.lr=1", "of a file only"), ('data.options.symmetries=["sideways"]', "is none of turns")):
        assert cli.main(["data", "own.csv", "--shape", "3x4", "--set", change]) == 2
        assert why in capsys.readouterr().err
    sudoku = tasks.get("sudoku", size=4)
    write_csv(tmp_path / "sudoku.csv", sudoku.make(20, 0), sudoku)
    assert cli.main(["data", "sudoku.csv", *told]) == 2
    assert "the symmetries of sudoku are known" in capsys.readouterr().err


def test_a_split_without_symmetries_that_show_says_so(latin, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    order = np.arange(16).reshape(4, 4)[[0, 2, 1, 3]][:, [0, 2, 1, 3]].ravel()
    moved = replace(latin[1], inputs=latin[1].inputs[:, order], labels=latin[1].labels[:, order])
    write_csv(tmp_path / "own.csv", moved, Grid(".abcd", (4, 4), "."))
    assert cli.main(["data", "own.csv", "--fix"]) == 0
    assert "twins by symmetries that were not told may lie on both sides" in capsys.readouterr().err


def test_few_bins_are_counted_as_many_are(latin, monkeypatch):
    """Numbers are counted or sorted, and a change of names is made in what was counted: the same comes out."""
    task, made = latin
    names = np.array([0, 1, 4, 3, 2, 5])
    plain = found_module.counted(made.inputs, made.labels, task)
    again = found_module.renamed(plain, names, task)
    monkeypatch.setattr(found_module, "MOST_BINS", 0)
    for known, some in ((plain, made), (again, replace(made, inputs=names[made.inputs], labels=names[made.labels]))):
        for one, other in zip(known, found_module.counted(some.inputs, some.labels, task), strict=True):
            order = one.numbers.argsort()
            assert np.array_equal(one.numbers[order], other.numbers) and np.array_equal(one.times[order], other.times)
