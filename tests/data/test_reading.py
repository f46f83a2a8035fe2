"""What a file states is kept, what it was taken for is said, and a known task reads every file by its own alphabet."""

from __future__ import annotations

import csv
import errno
import gzip
import io
import json
import os
import resource
import time
import zipfile
from collections.abc import Callable
from functools import cache
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest

from innerloop import files
from innerloop.data.arrays import load_npy, read_arrays, write_npz
from innerloop.data.formats import _records, read_csv, write_csv
from innerloop.data.notation import ranges
from innerloop.data.opening import open_questions, open_set, read_questions
from innerloop.data.sets import PuzzleSet
from innerloop.errors import InputError
from innerloop.tasks import get
from innerloop.tasks.grid import Grid
from innerloop.tasks.sudoku import Sudoku

ASKED, SOLVED = "1.3.3.1.2.4.4.2.", "1234341221434321"
STANDARD = "123456789ABCDEFG"


def rows_of(path: Path, rows: list[tuple[str, str]], header: str = "question,answer") -> Path:
    path.write_text(header + "\n" + "".join(f"{q},{a}\n" for q, a in rows))
    return path


@cache
def some(size: int) -> tuple[Sudoku, PuzzleSet]:
    """A few Sudokus of a size, made once: those of 16x16 take a second."""
    task = get("sudoku", size=size, **({"givens": (200, 230)} if size == 16 else {}))
    return task, task.make(2 if size == 16 else 6, 0)


def renamed(size: int, digits: str, blank: str) -> list[tuple[str, str]]:
    """The Sudokus of `some` written with other symbols."""
    task, s = some(size)
    table = str.maketrans(task.charset, blank + digits)
    return [
        (task.decode(q).translate(table), task.decode(a).translate(table))
        for q, a in zip(s.inputs, s.labels, strict=True)
    ]


# --- one reader for all verbs -----------------------------------------------------------------------------------------
LAYOUTS: dict[str, Callable[[], bytes]] = {
    "p.csv": lambda: f"quizzes,solutions\n{ASKED},{SOLVED}\n".encode(),
    "bom.csv": lambda: "\ufeff".encode() + f"Question,Answer\r\n{ASKED},{SOLVED}\r\n".encode(),
    "quoted.csv": lambda: f'"note","puzzle","answer"\n"a, ""b""\nc","{ASKED}",{SOLVED}\n'.encode(),
    "lines.csv": lambda: f'question,answer\n"1.3.\n3.1.\n2.4.\n4.2.\n",{SOLVED}\n'.encode(),
    "z.CSV.gz": lambda: gzip.compress(f"question,answer\n{ASKED},{SOLVED}\n".encode()),
    "long.csv": lambda: f"note,question,answer\n{'x' * 140_000},{ASKED},{SOLVED}\n".encode(),
    "rows.jsonl": lambda: json.dumps({"Puzzle": ["1.3.", "3.1.", "2.4.", "4.2."], "solution": SOLVED}).encode(),
    "nested.jsonl.gz": lambda: gzip.compress(
        json.dumps({"question": [list(ASKED[i : i + 4]) for i in (0, 4, 8, 12)], "solutions": [SOLVED]}).encode()
    ),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_is_read_alike_with_and_without_its_answers(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(LAYOUTS[name]())
    task, s = open_set(tmp_path / name)
    assert isinstance(task, Sudoku) and [task.decode(r[0]) for r in (s.inputs, s.labels)] == [ASKED, SOLVED]
    q = open_questions(tmp_path / name, get("sudoku", size=4))
    assert np.array_equal(q.inputs, s.inputs) and not q.labels.any() and q.reading is not None


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", f"puzzle,answer\n{ASKED},\n{ASKED},\n"),
        ("a.csv", f"quizzes\r\n{ASKED}\r\n\r\n{ASKED}\r\n"),
        ("a.txt", f"\ufeff{ASKED}\n\n{ASKED}\n"),
        ("a.jsonl", f'{{"givens": "{ASKED}"}}\n' * 2),
    ],
)
def test_questions_need_no_answers_and_may_repeat(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text, newline="")
    task = get("sudoku", size=4)
    assert [task.decode(q) for q in open_questions(tmp_path / name, task).inputs] == [ASKED, ASKED]
    assert len(open_questions(tmp_path / name, task, limit=1)) == 1
    with pytest.raises(InputError):
        open_set(tmp_path / name)


def test_quotes_are_read_as_the_standard_library_reads_them(tmp_path: Path) -> None:
    path, rng = tmp_path / "a.csv", np.random.default_rng(0)
    parts = ["a", "b", ",", ",", '"', '"', "\n", "\r\n", " ", '""', '","']
    for _ in range(300):
        path.write_bytes("".join(rng.choice(parts, rng.integers(1, 25))).encode())
        with path.open(newline="") as handle:
            assert list(_records(path)) == [row for row in csv.reader(handle) if row], path.read_bytes()


def test_a_row_of_140000_cells_is_read(tmp_path: Path) -> None:
    row = "ab" * 70_000
    task, s = open_set(rows_of(tmp_path / "wide.csv", [(row, row[::-1])]))
    assert task.shape == (1, 140_000) and task.decode(s.labels[0]) == row[::-1]


# --- shapes and cells -------------------------------------------------------------------------------------------------
BOARD = ["abcdefg", "bcdefga", "cdefgab"]


@pytest.mark.parametrize(
    "value", [BOARD, [list(r) for r in BOARD], "\n".join(BOARD), "\r\n".join(BOARD) + "\r\n"], ids=range(4)
)
def test_a_stated_shape_is_kept(value: object, tmp_path: Path) -> None:
    other = "".join(BOARD)[::-1]
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"question": value, "answer": other}) + "\n")
    task, s = open_set(path)
    assert task.shape == (3, 7) and task.decode(s.inputs[0]) == other[::-1]
    assert "the file states its shape" in str(s.reading)
    path.write_text(path.read_text() + json.dumps({"question": [other[:7]] * 7, "answer": other}))
    with pytest.raises(InputError, match="row 2: the question is a board of 7x7 where 3x7"):
        open_set(path)
    # A run that learned from the file when its shape was guessed goes on reading it; another board is refused.
    path.write_text(json.dumps({"question": value, "answer": other}) + "\n")
    assert open_set(path, Grid("abcdefg", (1, 21)))[0].shape == (1, 21)
    with pytest.raises(InputError, match="states boards of 3x7"):
        open_set(path, Grid("abcdefg", (7, 3)))


def test_an_alphabet_with_line_breaks_keeps_them(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('question,answer\n"ab\nba","ba\nab"\n')
    assert open_set(path)[0].options["alphabet"] == "ab" and open_set(path)[0].shape == (2, 2)
    assert open_set(path, Grid("\nab", (1, 5)))[1].inputs.tolist() == [[2, 3, 1, 3, 2]]


@pytest.mark.parametrize(
    ("question", "answer", "text"),
    [(["10", "2"], ["2", "10"], "A2"), ([10, "2", "35"], [2, "9", 3], "A2Z"), ([["10", "20"]], [["1", "2"]], "AK")],
)
def test_numbers_as_texts_are_cells(question: list, answer: list, text: str, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps({"question": question, "answer": answer}))
    task, s = open_set(tmp_path / "a.jsonl")
    assert task.decode(s.inputs[0]) == text


CELLS = {
    "['10', '12']": (["10", "12"], "rows of digits or numbers"),
    "words": (["ab", "c"], "a cell holds 'ab'"),
    "ragged": ([[1, 2], [3]], "different lengths"),
    "36": ([36, 1], "a cell holds 36"),
    "half": ([0.5, 1], "a cell holds 0.5"),
    "deep": ([[[1]]], r"a cell holds \[1\]"),
    "broken": ("ab\nc", "lines of a board have different lengths"),
}


@pytest.mark.parametrize("what", CELLS)
def test_cells_that_could_be_several_things_are_refused(what: str, tmp_path: Path) -> None:
    value, says = CELLS[what]
    (tmp_path / "a.jsonl").write_text(json.dumps({"question": value, "answer": value}))
    with pytest.raises(InputError, match=says):
        open_set(tmp_path / "a.jsonl")


# --- notations --------------------------------------------------------------------------------------------------------
NOTATIONS = {
    "1-9A-G": (16, STANDARD, "."),
    "1-9a-g": (16, STANDARD.lower(), "."),
    "0-F": (16, "0123456789ABCDEF", "."),
    "0-f": (16, "0123456789abcdef", "-"),
    "A-P": (16, "ABCDEFGHIJKLMNOP", "."),
    "a-p with 0": (16, "abcdefghijklmnop", "0"),
    **{f"4x4 with {blank!r}": (4, "1234", blank) for blank in "-_*x? 0"},
    "9x9 in letters": (9, "ABCDEFGHI", "."),
}


@pytest.mark.parametrize("what", NOTATIONS)
def test_sudokus_of_other_notations_are_known_and_said(what: str, tmp_path: Path) -> None:
    size, digits, blank = NOTATIONS[what]
    task, s = some(size)
    rows = renamed(size, digits, blank)
    path = rows_of(tmp_path / "a.csv", rows)
    for known in (None, task):
        found, back = open_set(path, known)
        assert isinstance(found, Sudoku) and np.array_equal(back.inputs, s.inputs)
        assert np.array_equal(back.labels, s.labels)
    assert back.reading is not None and ranges(digits) in str(back.reading) and repr(blank) in str(back.reading)
    asked = open_questions(path, task)
    assert np.array_equal(asked.inputs, s.inputs) and asked.reading is not None
    if blank not in ".0":
        assert asked.reading.notation.write(task.decode(s.inputs[0])) == rows[0][0]


def test_a_bad_symbol_in_another_notation_is_named(tmp_path: Path) -> None:
    rows = renamed(4, "ABCD", "-")[:3]
    path = rows_of(tmp_path / "a.csv", [*rows, (rows[0][0][::-1].replace("-", "4", 1), rows[0][1][::-1])])
    with pytest.raises(InputError, match="row 4: the question has '4' in cell"):
        open_set(path)


def test_latin_squares_are_a_grid_and_said(tmp_path: Path) -> None:
    lines = ["".join(p) for p in permutations("1234")]
    squares = [
        "".join((a + a)[int(k) : int(k) + 4] for k in order) for a in lines for order in ("0123", "0213", "2103")
    ]
    path = rows_of(tmp_path / "latin.csv", [("." + s[1:7] + "." + s[8:], s) for s in squares])
    task, s = open_set(path)
    assert task.name == "grid" and task.shape == (4, 4) and "Latin squares" in str(s.reading)
    codes = [np.array([[".1234".index(c) for c in text] for text in column]) for column in (
        ["." + s[1:] for s in squares], squares)]  # fmt: skip
    np.savez(tmp_path / "latin.npz", inputs=codes[0], labels=codes[1])
    assert open_set(tmp_path / "latin.npz")[0].name == "grid"


def test_boxes_that_stand_are_known(tmp_path: Path) -> None:
    task = get("sudoku", size=6, box=(3, 2))
    write_csv(tmp_path / "a.csv", task.make(4, 0), task)
    found, s = open_set(tmp_path / "a.csv")
    assert isinstance(found, Sudoku) and found.box == (3, 2) and "boxes of 3 rows and 2 columns" in str(s.reading)


def test_every_kind_of_file_says_what_it_was_taken_for(tmp_path: Path) -> None:
    task = get("maze", size=10)
    s = task.make(3, 0)
    write_npz(tmp_path / "a.npz", s, task.options)
    write_csv(tmp_path / "a.csv", s, task)
    np.savez(tmp_path / "b.npz", inputs=s.inputs - 1, labels=s.labels - 1)
    for name, says in (("a.npz", "the file says so"), ("a.csv", "look like maze"), ("b.npz", "values are 0 to 4")):
        told = str(open_set(tmp_path / name)[1].reading)
        assert told.startswith("read as maze 10x10: 3 puzzles") and says in told
    assert s.reading is None
    assert "symbols 1-4" in str(read_questions([ASKED], get("sudoku", size=4)).reading)


def test_repeated_rows_are_all_counted(tmp_path: Path) -> None:
    path = rows_of(tmp_path / "a.csv", [(ASKED, SOLVED), ("ab" * 8, "ba" * 8), (ASKED, SOLVED), (ASKED, SOLVED)])
    with pytest.raises(InputError, match="row 3: the question repeats row 1, and 1 more rows repeat others") as caught:
        open_set(path)
    assert "allow_duplicates" not in str(caught.value)
    assert len(read_csv(path, allow_duplicates=True).questions) == 4


# --- arrays -----------------------------------------------------------------------------------------------------------
def arrays(path: Path, inputs: np.ndarray, labels: np.ndarray) -> Path:
    np.savez(path, inputs=inputs, labels=labels)
    return path


@pytest.mark.parametrize("first", [0, 1])
def test_values_mean_the_same_in_a_file_where_some_do_not_occur(first: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    values = rng.integers(first, first + 6, (40, 9))
    task, train = open_set(arrays(tmp_path / "train.npz", values, values[:, ::-1]))
    token = {int(v): int(t) for v, t in zip(values.ravel(), train.inputs.ravel(), strict=True)}
    for low, high in ((first, first + 4), (first + 1, first + 5), (first + 1, first + 4)):
        part = rng.integers(low, high, (5, 9))
        path = arrays(tmp_path / "test.npz", part, part[:, ::-1])
        s = open_set(path, task)[1]
        assert s.inputs.tolist() == [[token[int(v)] for v in row] for row in part] and s.vocab == task.vocab
        assert np.array_equal(open_questions(path, task).inputs, s.inputs)
    with pytest.raises(InputError, match="neither symbols nor tokens"):
        open_set(arrays(tmp_path / "more.npz", values + 1, values), task)


@pytest.mark.parametrize("shift", [0, 1])
def test_values_of_a_known_puzzle_are_what_fits_its_rules(shift: int, tmp_path: Path) -> None:
    """Complete boards without a blank hold 1..9 as digits and 2..10 as tokens."""
    task = get("sudoku")
    s = task.make(3, 0)
    for name, inputs in (("a.npz", s.labels), ("b.npz", s.inputs)):
        back = open_set(arrays(tmp_path / name, inputs.astype(int) - shift, s.labels.astype(int) - shift), task)[1]
        assert np.array_equal(back.inputs, inputs) and np.array_equal(back.labels, s.labels)


def test_arrays_without_labels_are_questions(tmp_path: Path) -> None:
    s = get("sudoku", size=4).make(3, 0)
    np.savez(tmp_path / "a.npz", inputs=s.inputs)
    np.save(tmp_path / "b_inputs.npy", s.inputs)
    for name in ("a.npz", "b_inputs.npy"):
        assert np.array_equal(open_questions(tmp_path / name, get("sudoku", size=4)).inputs, s.inputs)


def test_columns_and_what_a_file_says_of_itself_are_checked(tmp_path: Path) -> None:
    ones = np.ones((2, 4), np.uint8)
    for name, column in (
        ("group", np.array([1, 2**40])),
        ("group", np.array([1, 0.5])),
        ("rating", np.array(["a", "b"])),
    ):
        np.savez(tmp_path / "a.npz", inputs=ones, labels=ones, **{name: column})
        with pytest.raises(InputError, match=name):
            open_set(tmp_path / "a.npz")
    good = {"vocab": 3, "shape": [2, 2], "options": None, "task": "grid", "source": "", "identifiers": ["<blank>"]}
    bad: list[dict] = [
        {"vocab": 10**9},
        {"shape": [2, "x"]},
        {"shape": 4},
        {"options": {"alphabet": 5}},
        {"options": 3},
    ]
    for change in [*bad, {"identifiers": 2**31}, {"task": 3}, {"options": {"size": 10**9}, "task": "sudoku"}]:
        np.savez(tmp_path / "a.npz", inputs=ones, labels=ones, about=json.dumps(good | change))
        with pytest.raises(InputError, match=r"a\.npz"):
            open_set(tmp_path / "a.npz")
    np.savez(tmp_path / "a.npz", inputs=ones, labels=ones, about=json.dumps(good))
    assert read_arrays(tmp_path / "a.npz")[0].vocab == 3


def test_a_big_array_stays_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("innerloop.data.arrays.MAP_ABOVE", 100)
    s = get("sudoku", size=4).make(50, 0)
    for part in ("inputs", "labels"):
        np.save(tmp_path / f"all_{part}.npy", getattr(s, part))
    assert isinstance(load_npy(tmp_path / "all_inputs.npy"), np.memmap)
    for task in (None, get("sudoku", size=4)):
        back = open_set(tmp_path / "all_inputs.npy", task)[1]
        assert np.array_equal(back.inputs, s.inputs) and not back.inputs.flags.owndata


# --- bounds -----------------------------------------------------------------------------------------------------------
MILLION = bytes(1 << 20)


def zipped(name: str, pieces: list[bytes], times: int) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        with gzip.open(folder / name, "wb", 1) as file:
            for piece in pieces[:-1]:
                file.write(piece)
            for _ in range(times):
                file.write(pieces[-1])
        return folder / name

    return write


def bomb(shape: tuple[int, int], times: int) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        head = io.BytesIO()
        np.lib.format.write_array_header_1_0(head, {"descr": "|u1", "fortran_order": False, "shape": shape})
        with zipfile.ZipFile(folder / "a.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            for name in ("inputs", "labels"):
                with archive.open(f"{name}.npy", "w") as member:
                    member.write(head.getvalue())
                    for _ in range(times):
                        member.write(MILLION)
        return folder / "a.npz"

    return write


def sparse(name: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        for each in (name, name.replace("inputs", "labels")):
            with open(folder / each, "wb") as file:
                if name.endswith(".npy"):
                    told = {"descr": "|u1", "fortran_order": False, "shape": (10**10, 81)}
                    np.lib.format.write_array_header_1_0(file, told)
                file.truncate(10**12)
        return folder / name

    return write


def pipe(name: str) -> Callable[[Path], Path]:
    return lambda folder: os.mkfifo(folder / name) or folder / name


def line(name: str, text: str) -> Callable[[Path], Path]:
    return lambda folder: (folder / name).write_text(text) and folder / name


ROW = f"{ASKED},{SOLVED}\n".encode()
COSTLY = {
    "zeros in gzip": (zipped("a.csv.gz", [MILLION], 40), "grows more than"),
    "empty lines in gzip": (zipped("a.jsonl.gz", [b"\n" * (1 << 20)], 40), "empty lines"),
    "one row in gzip": (zipped("a.csv.gz", [b"question,answer\n", ROW * 10_000], 60), "more rows repeat"),
    "a quote without end": (zipped("a.csv.gz", [b'question,answer\n"', b"1\n" * (1 << 19)], 40), "not closed"),
    "brackets in gzip": (zipped("a.jsonl.gz", [b"[" * (1 << 20)], 40), "grows more than|longer than"),
    "zeros in an archive": (bomb((40 << 10, 1024), 40), "grows more than"),
    "an archive that claims more": (bomb((10**12, 81), 1), "cut short"),
    "sparse text": (sparse("a.csv"), "longer than"),
    "sparse array": (sparse("a_inputs.npy"), "were ever written"),
    "sparse archive": (sparse("a.npz"), "no archive"),
    "pipe as text": (pipe("a.csv"), "is a pipe"),
    "pipe as gzip": (pipe("a.jsonl.gz"), "is a pipe"),
    "pipe as archive": (pipe("a.npz"), "is a pipe"),
    "pipe as array": (lambda f: (pipe("a_labels.npy")(f), pipe("a_inputs.npy")(f))[1], "is a pipe"),
    "device": (lambda f: os.symlink("/dev/zero", f / "a.csv") or f / "a.csv", "is a device"),
    "deep JSON": (line("a.jsonl", "[" * 100_000), "nested deeper"),
    "a number of 5000 digits": (line("a.jsonl", '{"question": [' + "1" * 5000 + "]}"), "no JSON"),
    "a rating of 4000 digits": (
        line("a.jsonl", f'{{"question": "ab", "answer": "ab", "rating": {"1" * 4000}}}'),
        "not finite",
    ),
    "a lone surrogate": (line("a.jsonl", '{"question": "\\ud800b", "answer": "ab"}'), "surrogate"),
    "400 symbols": (
        line("a.csv", "question,answer\n" + "".join(f"{chr(20000 + i)}a,a{chr(20000 + i)}\n" for i in range(400))),
        "401 different symbols",
    ),
}


@pytest.mark.parametrize("what", COSTLY)
def test_what_would_cost_too_much_is_refused_before_it_is_paid(what: str, tmp_path: Path) -> None:
    write, says = COSTLY[what]
    path = write(tmp_path)
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    with pytest.raises(InputError, match=says) as caught:
        open_set(path)
    assert time.process_time() - began < 2 and "\n" not in str(caught.value) and len(str(caught.value)) < 500
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 256 << 10  # KiB


def test_what_compresses_best_among_boards_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "FREE", 1 << 16)
    rng = np.random.default_rng(0)
    board = np.full((1000, 900), ord("."), np.uint8)
    for column in (board[:, None], board[:, None]):
        column[np.arange(len(board)), 0, rng.integers(0, 900, len(board))] = rng.integers(49, 58, len(board))
    with gzip.open(tmp_path / "a.csv.gz", "wb") as file:
        file.write(b"question,answer\n")
        file.writelines(bytes(row) + b"," + bytes(row[::-1]) + b"\n" for row in board)
    assert sum(map(len, files.lines(tmp_path / "a.csv.gz"))) > files.FREE


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EACCES, errno.EIO, errno.ENOMEM])
@pytest.mark.parametrize("name", ["a.csv", "a.jsonl.gz", "a.npz", "a_inputs.npy"])
def test_a_sound_file_is_never_called_damaged(
    name: str, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for each in (name, "a_labels.npy"):
        (tmp_path / each).write_bytes(b"x")
    monkeypatch.setattr("os.open", lambda *a, **k: (_ for _ in ()).throw(OSError(number, os.strerror(number))))
    with pytest.raises(InputError, match=f"cannot be read \\({os.strerror(number)}"):
        open_set(tmp_path / name)


def test_what_breaks_while_it_is_read_is_told_by_the_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = rows_of(tmp_path / "a.csv", [(ASKED, SOLVED)])
    np.savez(tmp_path / "a.npz", inputs=np.ones((2, 4)), labels=np.ones((2, 4)))

    def fail(*_args: object, **_named: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(files.BoundedReader, "readinto", fail)
    monkeypatch.setattr("numpy.load", fail)
    for each in (path, tmp_path / "a.npz"):
        with pytest.raises(InputError, match=r"Input/output error.*may be sound"):
            open_set(each)
