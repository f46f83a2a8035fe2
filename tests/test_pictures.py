"""Pictures of README and docs are of the models that come along and of the results that are there today."""

import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[1] / "docs"
sys.path.insert(0, str(DOCS))

import drawn_from  # noqa: E402

PICTURES = sorted([*DOCS.glob("*.svg"), *DOCS.glob("*.png")])


@pytest.mark.parametrize("picture", PICTURES, ids=lambda path: path.name)
def test_a_picture_is_of_what_is_there_today(picture):
    said = drawn_from.read(picture)
    assert said and said == drawn_from.now(said.split()[0]), "run make pictures"


@pytest.mark.parametrize("suffix", [".svg", ".png"])
def test_what_a_picture_was_drawn_from_is_read_back_and_is_the_models_own(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(next(p for p in PICTURES if p.suffix == suffix).read_bytes())
    drawn_from.mark(path, "demo-sudoku4")
    assert drawn_from.read(path) == drawn_from.now("demo-sudoku4") != drawn_from.now("demo-sudoku6")
