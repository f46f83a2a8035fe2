"""examples/rules: on real puzzles every rule takes the one answer and refuses others, and the exact model finds it."""

import sys
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from innerloop.data.opening import open_set
from innerloop.solve.exact import exact
from innerloop.solve.rules import Rules, read_rules, rule_from_model, with_rules

pytest.importorskip("ortools", reason="OR-tools is not installed: pip install 'innerloop[solve]'")

ROOT = Path(__file__).resolve().parents[1]
FILES = {path.stem: path for path in sorted((ROOT / "examples" / "rules").glob("*.py"))}
REAL = 12  # puzzles of each kind


@pytest.fixture(scope="module")
def kinds(real_data, tmp_path_factory):
    """By kind: the task that is read from a file of real puzzles, and these."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    from grid_sets import SETS, convert

    folder, found = tmp_path_factory.mktemp("kinds"), {}
    for name, pair in SETS.items():
        if (kind := name.rstrip("0123456789")) in FILES:
            convert(real_data / f"sgt_{name}_test.jsonl.gz", folder / f"{name}.csv", pair)
            lines = (folder / f"{name}.csv").read_text().splitlines(keepends=True)
            (folder / f"{name}.csv").write_text("".join(islice(lines, 1 + REAL)))
            found[kind] = open_set(str(folder / f"{name}.csv"))
    return found


def test_every_kind_has_real_puzzles(kinds):
    assert set(kinds) == set(FILES) and len(FILES) == 7


@pytest.mark.parametrize("kind", FILES)
def test_the_rule_and_the_exact_model_agree_on_real_puzzles(kind, kinds):
    plain, puzzles = kinds[kind]
    rule, constrain = read_rules(str(FILES[kind]))
    task, rng = with_rules(plain, rule, constrain), np.random.default_rng(0)
    assert task.verifies
    modelled = rule_from_model(with_rules(plain, lambda question, answer: True, constrain))
    for question, answer in zip(puzzles.inputs, puzzles.labels, strict=True):
        answer = answer.astype(question.dtype)
        assert task.valid_batch(question[None], answer[None])[0]
        found = exact(task, question)
        assert found.status == "optimal" and np.array_equal(found.answer, answer), "the only answer"
        asked = np.flatnonzero(question == task.blank) if task.blank else np.arange(len(question))
        for cell in rng.permutation(asked)[:3]:
            other = answer.copy()
            other[cell] = next(t for t in rng.permutation(np.unique(answer[asked])) if t != answer[cell])
            assert not task.valid_batch(question[None], other[None])[0] and not modelled(question, other)


def test_without_its_rule_a_model_judges_alone(kinds):
    plain, puzzles = kinds["binairo"]
    task = with_rules(plain, None, Rules(*read_rules(str(FILES["binairo"]))).constrain)
    assert task.valid_batch(puzzles.inputs[:2], puzzles.labels[:2]).all()
    assert not task.valid_batch(puzzles.inputs[:2], puzzles.labels[2:4]).any()
