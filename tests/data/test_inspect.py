"""A file is read whole: one faulty row is that row and not another meaning of the file; twins stay on one side."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from innerloop.data.formats import read_table, write_csv
from innerloop.data.inspect import inspect
from innerloop.data.leakage import leakage
from innerloop.data.opening import open_questions, open_set
from innerloop.data.sets import count_held_out
from innerloop.data.sheet import Sheet, sheet_of
from innerloop.data.stated import Stated
from innerloop.data.table import ReadOptions
from innerloop.errors import InputError
from innerloop.runs.fit import load_data
from innerloop.runs.run import Data
from innerloop.tasks import get
from innerloop.tasks.grid import Grid

ROWS = 300


def own_rows(count: int = ROWS) -> list[list[str]]:
    """(id, puzzle, solution) of a puzzle of 3x3 letters of which five are asked."""
    rng, rows = np.random.default_rng(0), dict[str, str]()
    while len(rows) < count:
        answer = "".join(rng.choice(list("abcde"), 9))
        asked = set(rng.permutation(9)[:5].tolist())
        rows["".join("." if c in asked else answer[c] for c in range(9))] = answer
    return [[f"p{i}", *row] for i, row in enumerate(rows.items(), 1)]


def csv_of(path: Path, rows: Iterable[Iterable[str]], header: str = "id,puzzle,solution") -> Path:
    path.write_text("\n".join([header, *(",".join(row) for row in rows)]) + "\n")
    return path


def changed(text: str, cell: int, symbol: str) -> str:
    return text[:cell] + symbol + text[cell + 1 :]


def test_one_changed_given_is_that_row_and_not_another_file(tmp_path: Path) -> None:
    rows = own_rows()
    cell = next(c for c in range(9) if rows[16][1][c] != ".")
    rows[16][2] = changed(rows[16][2], cell, "a" if rows[16][1][cell] != "a" else "b")
    path = csv_of(tmp_path / "own.csv", rows)
    with pytest.raises(InputError, match=f"row 17: the answer changes a given: cell {cell + 1} is"):
        open_set(path)
    found = inspect(path)
    assert isinstance(found.task, Grid) and found.task.charset[found.task.blank - 1] == "."
    assert [fault.row for fault in found.faults] == [17] and len(found.examples) == ROWS - 1 and found.total == ROWS
    assert "at least nine answers of ten" in str(found.examples.reading)
    # Where many rows change a cell it is the puzzle that does, and no cell is given.
    turned = csv_of(tmp_path / "turned.csv", [[i, q, a[::-1]] for i, q, a in own_rows()])
    task, s = open_set(turned)
    assert task.blank == 0 and "no symbol is an empty cell" in str(s.reading)
    with pytest.raises(InputError, match="row 1: the answer changes a given"):
        open_set(turned, stated=Stated(blank="."))


def test_every_faulty_row_is_named_whatever_is_wrong_with_it(tmp_path: Path) -> None:
    rows = own_rows()
    rows[0][1] = rows[0][1][:-1]
    rows[4][2] = changed(rows[4][2], 0, ".")
    rows[8] = rows[8][:2]
    rows[9][1:] = rows[3][1:]
    rows[10][1:] = [rows[3][1], rows[3][2][::-1].replace("a", "e")]
    rows[20][2] = changed(rows[20][2], rows[20][1].index("."), "z")
    found = inspect(csv_of(tmp_path / "bad.csv", rows))
    assert {fault.row: fault.what for fault in found.faults}.keys() >= {1, 5, 9}
    assert "the question has 8 cells" in found.faults[0].what and "leaves cell 1 empty" in found.faults[1].what
    assert "2 columns where the header has 3" in found.faults[2].what
    assert (10, 4, True) in found.repeats
    assert [(symbol, first.row) for symbol, first in found.rare_symbols()] == [("z", 21)]
    assert found.sheet is not None and len(found.sheet.rows) == len(found.rows) == len(found.examples)
    train, test = found.split()
    kept = {found.rows[i] for i in train} | {found.rows[i] for i in test}
    assert len(test) == count_held_out(len(train) + len(test)) and not kept & {1, 5, 9, 10}


def test_twins_stay_on_one_side(tmp_path: Path) -> None:
    task = get("sudoku", size=4)
    s = task.make(40, 3)
    inputs, labels = task.augment(s.inputs, s.labels, np.random.default_rng(1))
    both = task.as_set(np.concatenate([s.inputs, inputs]), np.concatenate([s.labels, labels]), source="both")
    write_csv(tmp_path / "twins.csv", both, task)
    found = inspect(tmp_path / "twins.csv")
    assert found.twins is not None and len(found.twins) + len(found.repeats) >= 40 and not found.faults
    train, test = found.split(20)
    assert 10 <= len(test) <= 25 and len(train) + len(test) == 80 - len(found.repeats)
    assert leakage(found.examples.take(train), found.examples.take(test), found.task).count == 0


def test_cells_of_several_characters_are_read_trained_on_and_written_back(tmp_path: Path) -> None:
    words = ["--", "1", "2", "10", "40"]
    rng = np.random.default_rng(0)
    rows = []
    for i in range(40):
        answer = rng.choice(words[1:], 6)
        asked = np.where(rng.random(6) < 0.5, "--", answer)
        rows.append([str(i), " ".join(asked), " | ".join(answer)])
    path = csv_of(tmp_path / "words.csv", rows)
    stated = Stated.parse("2x3", "--", ",".join(words))
    task, s = open_set(path, stated=stated, allow_duplicates=True)
    assert isinstance(task, Grid) and task.shape == (2, 3) and task.vocab == 6 and task.words[task.blank - 1] == "--"
    assert (
        task.spell(s.inputs[0]) == rows[0][1]
        and len(task.decode(s.inputs[0])) == 6
        and "cells -- 1 2 10 40" in str(s.reading)
    )
    assert task.terminal(s.inputs[0], s.labels[0]).plain.count("\n") == 1
    again = get("grid", **json.loads(json.dumps(task.options)))  # as a run keeps them
    assert np.array_equal(open_questions(path, again).inputs, s.inputs)
    write_csv(tmp_path / "symbols.csv", s, again)
    assert np.array_equal(open_questions(tmp_path / "symbols.csv", again).inputs, s.inputs)
    data = Data("", stated.options(), train=str(path), count=0, holdout=0)
    unique = {row[1]: row for row in rows}
    csv_of(path, unique.values())
    task, train, held = load_data(data)
    assert task.options == again.options and len(held) == count_held_out(len(unique)) < len(train)
    (tmp_path / "n.jsonl").write_text(json.dumps({"question": [["--", 1, 40]] * 2, "answer": [[10, 1, 40]] * 2}))
    assert open_set(tmp_path / "n.jsonl", again)[1].labels[0, 0] == 4
    csv_of(path, [["1", "-- 1 2 3 1 1", "1 1 2 1 1 1"]])
    with pytest.raises(InputError, match="row 1: a cell holds '3', which is not in the alphabet"):
        open_set(path, again)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("5", "", ""), "--shape is 5"),
        (("2x5", "", ""), "boards of 2x5 have 10 cells where its rows have 9"),
        (("", "??", ""), "--blank is"),
        (("", "x", ""), "no question holds 'x'"),
        (("", "-", ".abcde"), "which --alphabet lacks"),
        (("", "", "a,a"), "names a cell twice"),
        (("", "", ".abcd"), "has 'e' in cell"),
    ],
)
def test_what_is_stated_wrongly_is_refused(words: tuple[str, str, str], says: str, tmp_path: Path) -> None:
    path = csv_of(tmp_path / "own.csv", own_rows(20))
    with pytest.raises(InputError, match=says):
        open_set(path, stated=Stated.parse(*words))


def test_a_sheet_keeps_columns_and_replaces_none(tmp_path: Path) -> None:
    path = csv_of(tmp_path / "a.csv", [["1", "1.3.3.1.2.4.4.2.", ""]], "Id,quizzes,answer")
    kept = ReadOptions(answers=False, keep=True)
    more = sheet_of(read_table(path, None, kept)).extended(("answer", "known"), [["x"], ["no"]])
    assert more.text() == "Id,quizzes,answer,found_answer,known\n1,1.3.3.1.2.4.4.2.,,x,no\n"
    (tmp_path / "a.jsonl").write_text('{"question": [1, 0], "n": 2}\n{"question": [0, 1], "m": null}\n')
    sheet = sheet_of(read_table(tmp_path / "a.jsonl", None, kept))
    assert sheet.text(".jsonl") == (tmp_path / "a.jsonl").read_text()
    assert sheet.text() == 'question,n,m\n"[1, 0]",2,\n"[0, 1]",,\n'
    Sheet(["a"], [["b"]]).write(tmp_path / "b.csv.gz")
    assert (tmp_path / "b.csv.gz").read_bytes()[:2] == b"\x1f\x8b"
    with pytest.raises(InputError, match="ends in"):
        sheet.write(tmp_path / "a.xlsx")


@pytest.mark.parametrize(("puzzles", "held"), [(2, 1), (12, 3), (100, 20), (600, 60), (3000, 300), (20_000, 500)])
def test_small_files_keep_most_rows_for_learning(puzzles: int, held: int) -> None:
    assert count_held_out(puzzles) == held


def test_real_files_are_what_they_are(real_data: Path) -> None:
    """Sudokus whose boxes are stated, and a binary puzzle of which no given ever changes."""
    found = inspect(real_data / "sgt_sudoku6_test.jsonl.gz")
    assert found.task.name == "sudoku" and not found.faults and found.answered
    found = inspect(real_data / "sgt_binairo8_test.jsonl.gz")
    assert isinstance(found.task, Grid) and found.task.charset == ".01" and found.task.blank == 1
    assert not found.faults and not found.repeats and found.task.shape == (8, 8)
