"""ARC from files as people have them: folders of tasks, Kaggle's pairs, hidden outputs; names stay with their grids."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from innerloop.data.arc_files import read_arc
from innerloop.data.opening import open_set
from innerloop.errors import InputError
from innerloop.tasks.arc import crop


def task(*colours: int, outputs: bool = True) -> dict:
    """Two demonstrations and a test input for each colour."""
    pair = {"input": [[1, 2]], "output": [[2, 1]]}
    tests = [{"input": [[c, 0]]} | ({"output": [[0, c]]} if outputs else {}) for c in colours]
    return {"train": [pair, pair], "test": tests}


def write(folder: Path, **held: object) -> Path:
    """A folder of JSON files; "__" in a name stands for a dot."""
    folder.mkdir(exist_ok=True)
    for name, value in held.items():
        (folder / f"{name.replace('__', '.')}.json").write_text(json.dumps(value))
    return folder


KAGGLE = {
    "arc_training_challenges": {"aa": task(3, outputs=False), "bb": task(4, 5, outputs=False)},
    "arc_training_solutions": {"aa": [[[0, 3]]], "bb": [[[0, 4]], [[0, 5]]]},
    "arc_test_challenges": {"aa": task(3, outputs=False)},
    "sample_submission": {"aa": [{"attempt_1": [[0]], "attempt_2": [[0]]}]},
}


@pytest.mark.parametrize("whole", [True, False], ids=["folder", "challenges"])
def test_a_pair_of_challenges_and_solutions_is_one_set(tmp_path: Path, whole: bool) -> None:
    folder = write(tmp_path / "k", **KAGGLE)
    path = folder if whole else folder / "arc_training_challenges.json"
    found = read_arc(path, "test")
    assert found.identifiers == ("<blank>", "aa", "bb") and found.puzzle.tolist() == [1, 2, 2]
    assert [crop(a).tolist() for a in found.labels] == [[[0, 3]], [[0, 4]], [[0, 5]]]
    assert len(open_set(path)[1]) == 4


def test_challenges_alone_have_inputs_to_solve_and_none_to_learn_from(tmp_path: Path) -> None:
    folder = write(tmp_path / "k", arc_test_challenges=KAGGLE["arc_training_challenges"])
    found = read_arc(folder, "test", hidden=True)
    assert found.puzzle.tolist() == [1, 2, 2] and not found.labels.any()
    assert [crop(a).tolist() for a in found.inputs] == [[[3, 0]], [[4, 0]], [[5, 0]]]
    assert len(read_arc(folder)) == 4
    with pytest.raises(InputError, match="no ARC pair with an output in split 'test'"):
        read_arc(folder, "test")


def test_files_of_one_stem_stay_apart(tmp_path: Path) -> None:
    folder = write(tmp_path / "d", a__v1=task(1), a__v2=task(2), c=task(3))
    assert read_arc(folder, "test").identifiers == ("<blank>", "a.v1", "a.v2", "c")
    assert read_arc(folder / "a.v2.json").identifiers[1] == "a.v2"
    write(folder, more={"c": task(3), "d": task(4)})  # the same puzzle twice is one
    assert read_arc(folder, "test").identifiers == ("<blank>", "a.v1", "a.v2", "c", "d")


SOLVED = {"aa": [[[0, 3]]]}


@pytest.mark.parametrize(
    ("held", "says"),
    [
        ({"a": task(1), "b": [1, 2]}, "b.json holds no ARC puzzle; move it out"),
        ({"a": task(1), "b": {"name": "x"}}, "b.json holds no ARC puzzle; move it out"),
        ({"a": task(1), "b": {"a": task(2)}}, "a.json and b.json hold different puzzles called a"),
        (
            {"x_challenges": {"bb": task(1)}, "x_solutions": SOLVED},
            "x_solutions.json, puzzle aa: no file of challenges",
        ),
        ({"x_challenges": {"aa": task(3, 4)}, "x_solutions": SOLVED}, "not one solution for each test input"),
        ({"x_challenges": {"aa": task(4)}, "x_solutions": SOLVED}, "differs from the output that the puzzle gives"),
        ({"x_solutions": SOLVED}, "no file of challenges has this puzzle"),
        ({"a": {"train": task(1)["train"], "test": 5}}, "puzzle a: 'test' is no list"),
        ({"a": {"train": [{"input": [[True]], "output": [[1]]}]}}, "no colour 0..9"),
    ],
)
def test_what_is_no_set_is_refused_in_one_sentence(tmp_path: Path, held: dict, says: str) -> None:
    with pytest.raises(InputError, match=says) as told:
        open_set(write(tmp_path / "d", **held))
    assert "\n" not in str(told.value)


def test_solutions_alone_say_what_they_lack(tmp_path: Path) -> None:
    path = write(tmp_path / "d", x_solutions=SOLVED) / "x_solutions.json"
    with pytest.raises(InputError, match="holds solutions, and no ARC puzzle; give the challenges"):
        open_set(path)
    path.write_text("[" * 100_000)
    with pytest.raises(InputError, match="nested deeper"):
        open_set(path)


def test_labels_of_hidden_pairs_count_for_nothing(tmp_path: Path) -> None:
    found = read_arc(write(tmp_path / "d", a=task(1, outputs=False)), "all", hidden=True)
    assert (found.labels != 0).any(1).tolist() == [True, True, False] and np.array_equal(found.puzzle, [1, 1, 1])
