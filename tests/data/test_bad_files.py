"""Every kind of bad file is refused in one sentence that names the place and the remedy."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from innerloop.data.arrays import write_npz
from innerloop.data.formats import read_csv
from innerloop.data.official import write_official
from innerloop.data.opening import open_set
from innerloop.errors import InputError
from innerloop.tasks import get

SMALL = get("sudoku", size=6)
SOLVED = "1234341221434321"
ASKED = "1.3.3.1.2.4.4.2."


def csv_of(*rows: str, header: str = "source,question,answer,rating") -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        (folder / "bad.csv").write_text("\n".join((header, *rows)) + "\n")
        return folder / "bad.csv"

    return write


def text_of(name: str, text: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        (folder / name).write_text(text)
        return folder / name

    return write


def bytes_of(name: str, data: bytes) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        (folder / name).write_bytes(data)
        return folder / name

    return write


def truncated_npy(folder: Path) -> Path:
    for name in ("x_inputs.npy", "x_labels.npy"):
        np.save(folder / name, np.ones((5, 16), np.uint8))
    data = (folder / "x_labels.npy").read_bytes()
    (folder / "x_labels.npy").write_bytes(data[:-20])
    return folder / "x_inputs.npy"


def truncated_npz(folder: Path) -> Path:
    write_npz(folder / "x.npz", SMALL.make(5, 0))
    data = (folder / "x.npz").read_bytes()
    (folder / "x.npz").write_bytes(data[: len(data) // 2])
    return folder / "x.npz"


def arrays(inputs: np.ndarray, labels: np.ndarray) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        np.savez(folder / "x.npz", inputs=inputs, labels=labels)
        return folder / "x.npz"

    return write


def lone_npy(folder: Path) -> Path:
    np.save(folder / "my_inputs.npy", np.ones((2, 4)))
    return folder / "my_inputs.npy"


def folder_with(edit: Callable[[Path], object]) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        edit(write_official(folder / "set", SMALL.make(4, 0), "train"))
        return folder / "set"

    return write


def dataset_json(**changes: object) -> Callable[[Path], object]:
    def edit(folder: Path) -> None:
        about = json.loads((folder / "dataset.json").read_text()) | changes
        (folder / "dataset.json").write_text(json.dumps({k: v for k, v in about.items() if v is not None}))

    return edit


GOOD = f"s,{ASKED},{SOLVED},3"
TURNED = "s,12.43.1221434.21,1243341221344321,1"
BAD: dict[str, tuple[Callable[[Path], Path], str]] = {
    "missing file": (lambda f: f / "none.csv", "there is no file"),
    "unknown ending": (text_of("a.xyz", "x"), "no known format"),
    "questions alone": (text_of("a.txt", "x"), "questions alone"),
    "empty file": (text_of("a.csv", ""), "is empty"),
    "header only": (csv_of(), "holds no puzzle"),
    "missing column": (csv_of(f"s,{ASKED}", header="source,question"), "no 'answer' among source, question"),
    "ragged row": (csv_of(GOOD, f"s,{ASKED}"), "row 2: 2 columns where the header has 4"),
    "short question": (csv_of(GOOD, f"s,{ASKED[:-1]},{SOLVED},1"), "row 2: the question has 15 cells"),
    "empty answer": (csv_of(GOOD, f"s,{ASKED},,1"), "row 2: the answer is empty"),
    "duplicate": (csv_of(GOOD, TURNED, GOOD), "row 3: the question repeats row 1"),
    "wrong alphabet": (csv_of(GOOD, GOOD.replace("1.3", "x13"), TURNED), "row 2: the question has 'x' in cell 1"),
    "digit too high": (csv_of(GOOD, GOOD.replace(",1.3", ",9.3"), TURNED), "row 2: the question has '9'"),
    "label breaks the rules": (
        csv_of(GOOD, f"s,{ASKED[:-2]}..,{SOLVED[:-1]}4,1"),
        "row 2: the answer breaks the rules of sudoku",
    ),
    "label changes a given": (csv_of(f"s,2{ASKED[1:]},{SOLVED},1", GOOD), "row 1: the answer changes a given: cell 1"),
    "rating inf": (csv_of(f"s,{ASKED},{SOLVED},inf"), "row 1: the rating 'inf' is not finite"),
    "rating nan": (csv_of(f"s,{ASKED},{SOLVED},nan"), "row 1: the rating 'nan' is not finite"),
    "rating text": (csv_of(f"s,{ASKED},{SOLVED},hard"), "row 1: the rating 'hard' is no number"),
    "not UTF-8": (bytes_of("a.csv", b"question,answer\n\xff\xfe\xfa,abc\n"), "not UTF-8"),
    "truncated gzip": (bytes_of("a.csv.gz", gzip.compress(b"question,answer\nab,ba\n" * 99)[:-30]), "complete gzip"),
    "no gzip": (bytes_of("a.csv.gz", b"question,answer\n"), "complete gzip"),
    "broken JSON line": (
        text_of("a.jsonl", '{"question": "ab", "answer": "ba"}\n{"question": \n'),
        "row 2 is no JSON",
    ),
    "JSON list": (text_of("a.jsonl", "[1, 2]\n"), "row 1: the line is no JSON object"),
    "JSON cell": (text_of("a.jsonl", '{"question": [1, -2], "answer": "ab"}\n'), "row 1: a cell holds -2"),
    "JSON missing field": (text_of("a.jsonl", '{"question": "ab"}\n'), "row 1: there is no 'answer'"),
    "empty JSONL": (text_of("a.jsonl", "\n"), "holds no puzzle"),
    "truncated npy": (truncated_npy, "x_labels.npy is no complete numpy file"),
    "truncated npz": (truncated_npz, "x.npz is no complete numpy file"),
    "npy without partner": (lone_npy, "no partner my_labels.npy"),
    "npz without labels": (
        lambda f: np.savez(f / "y.npz", inputs=np.ones((1, 4))) or f / "y.npz",
        "named 'inputs' and 'labels'",
    ),
    "shapes disagree": (arrays(np.ones((2, 4)), np.ones((3, 4))), "inputs are \\(2, 4\\) and labels \\(3, 4\\)"),
    "empty arrays": (arrays(np.ones((0, 4)), np.ones((0, 4))), "holds no puzzle"),
    "nan tokens": (
        arrays(np.ones((2, 4)), np.array([[1.0] * 4, [1, np.nan, 1, 1]])),
        "row 2: labels hold a value that is not finite",
    ),
    "fractions": (arrays(np.ones((2, 4)) / 2, np.ones((2, 4))), "fractions"),
    "negative tokens": (arrays(np.ones((2, 4), int), -np.ones((2, 4), int)), "whole numbers 0..255"),
    "folder of nothing": (lambda f: (f / "d").mkdir() or f / "d", "neither kind known"),
    "official: broken json": (folder_with(lambda f: (f / "dataset.json").write_text("{")), "is no JSON"),
    "official: no vocab": (folder_with(dataset_json(vocab_size=None)), "lacks vocab_size"),
    "official: token too high": (folder_with(dataset_json(vocab_size=5)), "outside the vocabulary 0..4"),
    "official: seq_len": (folder_with(dataset_json(seq_len=9)), "disagree"),
    "official: two sets": (folder_with(dataset_json(sets=["a", "b"])), "one set a folder"),
    "official: array missing": (folder_with(lambda f: (f / "all__labels.npy").unlink()), "there is no file"),
    "official: indices": (
        folder_with(lambda f: np.save(f / "all__puzzle_indices.npy", np.array([0, 3, 2, 4]))),
        "does not rise from 0 to 4",
    ),
    "official: identifiers": (
        folder_with(lambda f: np.save(f / "all__puzzle_identifiers.npy", np.zeros(9, np.int32))),
        "for 4 puzzles",
    ),
    "ARC: no puzzle": (text_of("a.json", "[1]"), "no ARC puzzles"),
    "ARC: broken": (text_of("a.json", '{"x": '), "a.json is no JSON"),
    "ARC: ragged grid": (
        text_of("a.json", '{"x": {"train": [{"input": [[1, 2], [3]], "output": [[1]]}]}}'),
        "puzzle x, pair 1: a grid is not",
    ),
    "ARC: colour": (text_of("a.json", '{"train": [{"input": [[11]], "output": [[1]]}]}'), "no colour 0..9"),
    "ARC: size": (
        text_of("a.json", json.dumps({"train": [{"input": [[0] * 31], "output": [[1]]}]})),
        "1x31 is outside",
    ),
    "ARC: no output": (text_of("a.json", '{"train": [{"input": [[1]]}]}'), "pair 1: 'input' or 'output' is missing"),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_data_is_refused_in_one_sentence(what: str, tmp_path: Path) -> None:
    write, says = BAD[what]
    with pytest.raises(InputError, match=says) as caught:
        open_set(write(tmp_path))
    message = str(caught.value)
    assert "\n" not in message and message.rstrip(".").count(". ") == 0
    assert str(tmp_path) in message


def test_duplicates_can_be_allowed(tmp_path: Path) -> None:
    path = csv_of(GOOD, GOOD)(tmp_path)
    assert len(open_set(path, allow_duplicates=True)[1]) == 2
    assert len(read_csv(path, limit=1).questions) == 1
    with pytest.raises(InputError, match="at least 1"):
        open_set(path, limit=0)
