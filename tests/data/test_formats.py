"""Every format comes back as it went, and official folders are what their other readers expect."""

from __future__ import annotations

import gzip
import json
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from innerloop.data.arc_files import read_arc
from innerloop.data.arrays import read_arrays, write_npz
from innerloop.data.formats import write_csv, write_jsonl
from innerloop.data.official import official_epoch, read_official, write_official
from innerloop.data.opening import open_set
from innerloop.data.sets import PuzzleSet
from innerloop.errors import InputError
from innerloop.tasks import get
from innerloop.tasks.grid import Grid
from innerloop.tasks.sudoku import Sudoku

TASKS = [get("sudoku", size=6), get("sudoku"), get("maze", size=10), get("queens")]
SOLVED = "1234341221434321"
ASKED = "1.3.3.1.2.4.4.2."


def equal(a: PuzzleSet, b: PuzzleSet) -> None:
    assert np.array_equal(a.inputs, b.inputs) and np.array_equal(a.labels, b.labels)
    assert np.array_equal(a.rating, b.rating, equal_nan=True)
    assert (a.vocab, a.shape, a.task) == (b.vocab, b.shape, b.task)


# --- round trips ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("task", TASKS, ids=lambda t: f"{t.name}{t.shape[0]}")
@pytest.mark.parametrize("ending", ["csv", "csv.gz", "jsonl", "jsonl.gz", "npz", "folder", "npy"])
def test_every_format_round_trips(task, ending: str, tmp_path: Path) -> None:
    s = task.make(12, seed=0)
    path = tmp_path / f"set.{ending}"
    if ending.startswith("csv"):
        write_csv(path, s, task)
    elif ending.startswith("jsonl"):
        write_jsonl(path, s, task)
    elif ending == "npz":
        write_npz(path, s, task.options)
    elif ending == "folder":
        write_official(path, s, "train", task.options)
    else:
        path = tmp_path / "all_inputs.npy"
        np.save(path, s.inputs.reshape(-1, *s.shape))
        np.save(tmp_path / "all_labels.npy", s.labels)
        with pytest.raises(InputError, match="both"):
            open_set(path)
        np.save(tmp_path / "all_labels.npy", s.labels.reshape(-1, *s.shape))
    found, back = open_set(path)
    assert found.name == task.name and found.charset == task.charset
    if ending == "npy":
        assert np.array_equal(back.inputs, s.inputs) and np.array_equal(back.labels, s.labels)
        return
    equal(s, back)
    assert len(open_set(path, limit=5)[1]) == 5
    assert [p for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_writing_is_reproducible(tmp_path: Path) -> None:
    task = TASKS[0]
    s = task.make(3, seed=0)
    for name in ("a.csv.gz", "b.csv.gz"):
        write_csv(tmp_path / name, s, task)
    a, b = ((tmp_path / n).read_bytes() for n in ("a.csv.gz", "b.csv.gz"))
    assert gzip.decompress(a) == gzip.decompress(b) and a == b


def test_arc_round_trips_with_identifiers_and_groups(tmp_path: Path) -> None:
    task = get("arc")
    s = task.make(40, seed=0)
    s = PuzzleSet(
        s.inputs,
        s.labels,
        vocab=12,
        shape=(30, 30),
        puzzle=s.puzzle,
        group=s.puzzle - 1,
        task="arc",
        identifiers=s.identifiers,
    )
    folder = write_official(tmp_path, s, "train", task.options)
    found, back = open_set(folder)
    order = np.argsort(s.puzzle, kind="stable")
    assert found.name == "arc" and back.identifiers == s.identifiers
    assert np.array_equal(back.puzzle, s.puzzle[order]) and np.array_equal(back.inputs, s.inputs[order])
    about = json.loads((folder / "dataset.json").read_text())
    assert about["total_puzzles"] == 6 == about["total_groups"] and about["mean_puzzle_examples"] == pytest.approx(
        40 / 6
    )


def test_raw_arrays_with_zero_blanks_are_sudokus(tmp_path: Path) -> None:
    s = TASKS[1].make(5, seed=0)
    np.savez(tmp_path / "raw.npz", questions=s.inputs.astype(float) - 1, answers=s.labels.astype(np.int64) - 1)
    task, back = open_set(tmp_path / "raw.npz")
    assert task.name == "sudoku" and np.array_equal(back.inputs, s.inputs) and np.array_equal(back.labels, s.labels)


def test_own_puzzle_needs_no_code(tmp_path: Path) -> None:
    (tmp_path / "own.csv").write_text('question,answer,note\n"a,?b",abab,x\n??ab,baab,y\n')
    with pytest.raises(InputError, match="no usual box"):
        open_set(tmp_path / "own.csv", task="sudoku")
    task, s = open_set(tmp_path / "own.csv")
    assert isinstance(task, Grid) and task.charset == ",?ab" and task.shape == (2, 2) and np.isnan(s.rating).all()
    example = task.sample(0, 1)
    assert task.score(example.question, example.answer, example.answer).exact


def test_names_and_lists_of_other_collections_are_understood(tmp_path: Path) -> None:
    (tmp_path / "kaggle.csv").write_text(f"quizzes,solutions\n{ASKED.replace('.', '0')},{SOLVED}\n")
    task, s = open_set(tmp_path / "kaggle.csv")
    assert task.name == "sudoku" and task.decode(s.inputs[0]) == ASKED
    record = {
        "givens": [int(c) if c != "." else 0 for c in ASKED],
        "box_w": 2,
        "box_h": 2,
        "answer": [[int(c) for c in SOLVED[i : i + 4]] for i in range(0, 16, 4)],
    }
    (tmp_path / "sgt.jsonl").write_text("\ufeff" + json.dumps(record) + "\n\n")
    equal(open_set(tmp_path / "sgt.jsonl")[1], s)
    wide = get("sudoku", size=6, box=(3, 2))
    row = wide.make(1, seed=0)
    lists = {
        "givens": [int(t) - 1 for t in row.inputs[0]],
        "answer": [int(t) - 1 for t in row.labels[0]],
        "box_w": 2,
        "box_h": 3,
    }
    (tmp_path / "tall.jsonl").write_text(json.dumps(lists))
    found, _ = open_set(tmp_path / "tall.jsonl")
    assert isinstance(found, Sudoku) and found.box == (3, 2)


# --- official folders -------------------------------------------------------------------------------------------------
def independent_read(folder: Path) -> dict:
    """The official layout, read from its description alone."""
    about = json.loads((folder / "dataset.json").read_text())
    assert set(about) >= {
        "pad_id", "ignore_label_id", "blank_identifier_id", "vocab_size", "seq_len", "num_puzzle_identifiers",
        "total_groups", "mean_puzzle_examples", "total_puzzles", "sets",
    }  # fmt: skip
    (name,) = about["sets"]
    parts = ("inputs", "labels", "puzzle_identifiers", "puzzle_indices", "group_indices")
    held = {part: np.load(folder / f"{name}__{part}.npy", mmap_mode="r") for part in parts}
    assert held["inputs"].dtype == held["labels"].dtype == np.uint8
    assert all(held[p].dtype == np.int32 for p in parts[2:])
    assert held["inputs"].shape == (held["puzzle_indices"][-1], about["seq_len"])
    assert len(held["puzzle_identifiers"]) == about["total_puzzles"] == held["group_indices"][-1]
    assert len(held["group_indices"]) == about["total_groups"] + 1
    examples = []
    for g in range(about["total_groups"]):
        for p in range(held["group_indices"][g], held["group_indices"][g + 1]):
            for e in range(held["puzzle_indices"][p], held["puzzle_indices"][p + 1]):
                examples.append(
                    (g, int(held["puzzle_identifiers"][p]), bytes(held["inputs"][e]), bytes(held["labels"][e]))
                )
    names = json.loads((folder.parent / "identifiers.json").read_text())
    assert names[0] == "<blank>" and len(names) == about["num_puzzle_identifiers"]
    return {"about": about, "examples": examples}


def test_official_folder_is_what_others_expect(tmp_path: Path) -> None:
    task = TASKS[1]
    base = task.make(4, seed=0)
    copies = [task.augment(base.inputs, base.labels, np.random.default_rng(i)) for i in range(3)]
    s = task.as_set(
        np.concatenate([base.inputs, *(c[0] for c in copies)]),
        np.concatenate([base.labels, *(c[1] for c in copies)]),
        group=np.tile(np.arange(4), 4),
    )
    folder = write_official(tmp_path, s, "test", task.options)
    seen = independent_read(folder)
    assert seen["about"]["vocab_size"] == 11 and seen["about"]["total_groups"] == 4
    assert seen["about"]["total_puzzles"] == 16 and seen["about"]["mean_puzzle_examples"] == 1
    order = np.argsort(s.group, kind="stable")
    assert seen["examples"] == [(int(s.group[i]), 0, bytes(s.inputs[i]), bytes(s.labels[i])) for i in order]
    back, about, _ = read_official(tmp_path, "test")
    assert np.array_equal(back.group, s.group[order]) and about["total_puzzles"] == 16


def test_folders_without_total_puzzles_and_notes_are_read(tmp_path: Path) -> None:
    for task in TASKS:
        s = task.make(5, seed=0)
        folder = write_official(tmp_path / f"{task.name}{task.shape[0]}", s, "train")
        about = json.loads((folder / "dataset.json").read_text())
        del about["total_puzzles"]
        (folder / "dataset.json").write_text(json.dumps(about))
        (folder.parent / "innerloop.json").unlink()
        assert read_official(folder)[1]["total_puzzles"] == 5
        found, back = open_set(str(folder.parent))
        assert found.name == task.name and np.array_equal(back.inputs, s.inputs)


def test_train_and_test_share_identifiers(tmp_path: Path) -> None:
    s = get("arc").make(5, seed=0)
    write_official(tmp_path, s, "train")
    write_official(tmp_path, s, "test", test_puzzles={"a": {"train": [], "test": []}})
    assert (tmp_path / "test_puzzles.json").exists()
    other = PuzzleSet(s.inputs, s.labels, vocab=12, shape=(30, 30), task="arc", identifiers=("<blank>", "x"))
    with pytest.raises(InputError, match="other puzzles"):
        write_official(tmp_path, other, "test")


def test_official_epoch_takes_one_puzzle_a_group() -> None:
    one = np.arange(11)
    groups, puzzles = np.array([0, 2, 3, 6, 7]), np.array([0, 3, 5, 9, 10, 12, 13, 20])
    owner = np.repeat(np.arange(7), np.diff(puzzles))
    batches = list(official_epoch(groups, puzzles, 4, np.random.default_rng(0), epochs=50))
    assert all(len(rows) == len(own) == 4 for rows, own in batches)
    for rows, own in batches:
        assert np.array_equal(owner[rows], own)
    (alone,) = official_epoch(groups, np.arange(8), 4, np.random.default_rng(2))
    assert sorted(np.searchsorted(groups, alone[1], side="right").tolist()) == [1, 2, 3, 4]  # each group once
    orders = {tuple(next(official_epoch(one, one, 5, np.random.default_rng(k)))[1]) for k in range(20)}
    assert len(orders) == 20  # groups are permuted, anew by every seed
    (whole,) = official_epoch(np.array([0, 1, 2]), np.array([0, 3, 7]), 7, np.random.default_rng(0))
    assert sorted(whole[0].tolist()) == list(range(7))  # a puzzle that fits comes with all its examples
    (cut,) = official_epoch(np.array([0, 1]), np.array([0, 9]), 4, np.random.default_rng(0))
    assert len(set(cut[0].tolist())) == 4  # one that does not is cut
    drawn = np.concatenate([own for _, own in batches])
    assert set(drawn.tolist()) == set(range(7))
    (first,) = official_epoch(one, one, 8, np.random.default_rng(1))
    assert len(set(first[0].tolist())) == 8  # 10 groups: one batch of 8, 2 dropped
    again = list(official_epoch(groups, puzzles, 4, np.random.default_rng(0), epochs=50))
    assert all(np.array_equal(a[0], b[0]) for a, b in zip(batches, again, strict=True))


# --- splits -----------------------------------------------------------------------------------------------------------
def test_splits(tmp_path: Path) -> None:
    for split, seed in (("train", 0), ("test", 1)):
        write_official(tmp_path / "d", TASKS[0].make(3, seed), split, TASKS[0].options)
    one, two, three = (open_set(tmp_path / "d", **k)[1].inputs for k in ({}, {"split": "train"}, {"split": "test"}))
    assert np.array_equal(one, two) and not np.array_equal(one, three)
    assert np.array_equal(open_set(tmp_path / "d" / "test")[1].inputs, three)
    with pytest.raises(InputError, match="another split"):
        open_set(tmp_path / "d", split="dev")
    write_csv(tmp_path / "a.csv", TASKS[0].make(3, 0), TASKS[0])
    with pytest.raises(InputError, match="no splits"):
        open_set(tmp_path / "a.csv", split="test")


def test_arc_files_and_splits(tmp_path: Path) -> None:
    pair = {"input": [[1, 2]], "output": [[2], [1]]}
    hidden = {"input": [[3]]}
    (tmp_path / "arc").mkdir()
    for name in ("aa", "bb"):
        (tmp_path / "arc" / f"{name}.json").write_text(json.dumps({"train": [pair, pair], "test": [pair, hidden]}))
    (tmp_path / "map.json").write_text(
        json.dumps({n: {"train": [pair, pair], "test": [pair, hidden]} for n in ("aa", "bb")})
    )
    for path in (tmp_path / "arc", tmp_path / "map.json"):
        task, s = open_set(path)
        assert task.name == "arc" and len(s) == 4 and s.identifiers == ("<blank>", "aa", "bb")
        assert s.puzzle.tolist() == [1, 1, 2, 2]
        assert len(open_set(path / "test")[1]) == 2 == len(read_arc(path, "test"))
        assert len(open_set(path, split="all", limit=5)[1]) == 5
    with pytest.raises(InputError, match="no split 'dev'"):
        open_set(tmp_path / "map.json", split="dev")


# --- sets -------------------------------------------------------------------------------------------------------------
ONES = np.ones((3, 4), np.uint8)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"labels": ONES[:2]}, "same shape"),
        ({"inputs": ONES[:0], "labels": ONES[:0]}, "holds no puzzle"),
        ({"inputs": ONES[0], "labels": ONES[0]}, "1 dimensions"),
        ({"shape": (3, 3)}, "9 cells"),
        ({"vocab": 1}, "row 1: inputs hold token 1 outside"),
        ({"rating": [1, np.inf, 2]}, "row 2: the rating is not finite"),
        ({"rating": [1, 2]}, "one value a row"),
        ({"puzzle": [0, 1, 0]}, "identifiers run 0..1"),
        ({"labels": np.array([["a"] * 4] * 3)}, "have type"),
    ],
)
def test_sets_are_checked_at_construction(change: dict, says: str) -> None:
    good: dict = {"inputs": ONES, "labels": ONES, "vocab": 3, "shape": (2, 2)}
    assert len(PuzzleSet(**good)) == 3
    with pytest.raises(InputError, match=says):
        PuzzleSet(**(good | change))


def test_split_keeps_groups_together() -> None:
    s = PuzzleSet(np.ones((40, 4)), np.ones((40, 4)), vocab=3, shape=(2, 2), group=np.repeat(np.arange(10), 4))
    kept, held = s.split(0.3, seed=0)
    assert len(kept) == 28 and len(held) == 12 and not set(kept.group) & set(held.group)
    assert np.array_equal(s.split(0.3, seed=0)[1].group, held.group)
    assert not np.array_equal(s.split(0.3, seed=1)[1].group, held.group)
    with pytest.raises(InputError, match="one side empty"):
        s.split(0.01, seed=0)
    with pytest.raises(InputError, match="no row is left"):
        s.take(s.group > 99)


# --- Hugging Face -----------------------------------------------------------------------------------------------------
def fake_hub(monkeypatch: pytest.MonkeyPatch, folder: Path, held: list[str]) -> None:
    module = types.ModuleType("huggingface_hub")
    constants = types.ModuleType("huggingface_hub.constants")
    constants.ENDPOINT = "https://localhost"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "huggingface_hub.constants", constants)
    module.list_repo_files = lambda repo, repo_type: held  # type: ignore[attr-defined]
    module.hf_hub_download = lambda repo, name, repo_type: str(folder / name)  # type: ignore[attr-defined]
    module.try_to_load_from_cache = lambda *a, **k: None  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "huggingface_hub", module)


def test_hub_names(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    write_csv(tmp_path / "train.csv", TASKS[1].make(3, 0), TASKS[1])
    write_csv(tmp_path / "test.csv", TASKS[1].make(2, 1), TASKS[1])
    fake_hub(monkeypatch, tmp_path, ["README.md", "train.csv", "test.csv"])
    monkeypatch.chdir(tmp_path)
    assert len(open_set("sapientinc/sudoku-extreme")[1]) == 3
    assert len(open_set("sapientinc/sudoku-extreme/test")[1]) == 2 == len(open_set("a/b", split="test")[1])
    fake_hub(monkeypatch, tmp_path, ["README.md"])
    with pytest.raises(InputError, match=r"has no train\.csv"):
        open_set("sapientinc/sudoku-extreme")


def test_hub_without_package_or_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(InputError, match="needs huggingface_hub"):
        open_set("sapientinc/sudoku-extreme")
    fake_hub(monkeypatch, tmp_path, [])
    monkeypatch.setattr("innerloop.data.hub._reachable", lambda endpoint: False)
    with pytest.raises(InputError, match="cannot be reached; go online"):
        open_set("sapientinc/sudoku-extreme")


def test_read_arrays_keeps_everything(tmp_path: Path) -> None:
    s = get("arc").make(6, 0)
    write_npz(tmp_path / "a.npz", s, {"low": 3, "high": 8})
    back, options = read_arrays(tmp_path / "a.npz")
    equal(s, back)
    assert (
        np.array_equal(back.puzzle, s.puzzle) and back.identifiers == s.identifiers and options == {"low": 3, "high": 8}
    )
