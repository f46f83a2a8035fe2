"""Questions of reasoning-gym: the same for a seed, marked by its own scorers, and safe from what a model writes."""

import importlib.util
import json
from pathlib import Path

import pytest

from innerloop.data import gym
from innerloop.data.gym import gym_questions
from innerloop.data.questions import read_questions
from innerloop.errors import InputError
from innerloop.tokens.answers import find
from innerloop.tokens.child import Failed
from innerloop.tokens.marks import judges, mark, with_verifier
from innerloop.tokens.way import Said

SHARED = Path(__file__).parents[3] / "shared" / "data"
WITH_GYM = pytest.mark.skipif(
    importlib.util.find_spec("reasoning_gym") is None, reason="reasoning-gym is not installed"
)
ROW = {"question": "Sort: 2 1", "answer": "1 2", "metadata": {"source_dataset": "chain_sum"}}


def marked(item, text):
    return mark(item, Said(find(item.kind, text), "answered", text))


def test_without_the_package_one_sentence_says_how_to_install_it(monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"^chain_sum is of reasoning-gym: pip install 'innerloop\[gym\]'$"):
        gym_questions("chain_sum", 3)
    (tmp_path / "a.jsonl").write_text(json.dumps(ROW))
    with pytest.raises(InputError, match=r"line 1: chain_sum is of reasoning-gym"):
        read_questions(tmp_path / "a.jsonl")


@WITH_GYM
def test_questions_are_those_of_the_seed_and_right_answers_are_right():
    items = gym_questions("chain_sum", 4, seed=1)
    assert items == gym_questions("chain_sum", 4, seed=1) != gym_questions("chain_sum", 4, seed=2)
    assert [i.id for i in items] == [f"chain_sum-{i}" for i in range(4)] and {i.kind for i in items} == {"number"}
    for item in items:
        assert marked(item, f"The answer is {item.answer}.") == "right" and marked(item, "1234567") == "wrong"
        assert item.answer not in item.question.split() and item.check is None, "the scorer is no verifier"
    assert "right from 1" in judges(items)[0] and "reasoning-gym" in judges(items)[0]
    (oracle,) = with_verifier(items[:1], "answers")
    assert oracle.check(items[0].answer).right and not oracle.check("1234567").right


@WITH_GYM
def test_a_partial_score_is_right_only_under_a_lower_threshold():
    (item,) = gym_questions("word_sorting", 1)
    wrong = ", ".join(reversed(item.answer.split(", ")))
    score = item.judge.scored(wrong)
    assert 0 < score < 1 and marked(item, wrong) == "wrong" and item.judge.scored(item.answer) == 1
    (lower,) = gym_questions("word_sorting", 1, least=score)
    assert marked(lower, wrong) == "right"


@WITH_GYM
@pytest.mark.parametrize("name", ["n_queens", "countdown", "polynomial_multiplication", "spiral_matrix", "puzzle24"])
def test_scorers_that_evaluate_answers_run_none_of_it(name, tmp_path):
    (item,) = gym_questions(name, 1)
    if item.answer:
        assert item.judge.scored(item.answer) == 1
    bad = tmp_path / "made"
    for text in (f"open({str(bad)!r}, 'w')", f"__import__('os').system('touch {bad}')", "().__class__.__mro__"):
        assert item.judge.scored(text) < 1
    assert not bad.exists()


@WITH_GYM
def test_errors_are_one_sentence():
    with pytest.raises(InputError, match='no dataset "chain_sums": did you mean "chain_sum"'):
        gym_questions("chain_sums", 3)
    with pytest.raises(InputError, match="reasoning-gym cannot make composite"):
        gym_questions("composite", 3)
    with pytest.raises(Failed):
        gym.PROCESS.ask("gym_score", "nonsense", 1, 0, 0, "3")


@WITH_GYM
@pytest.mark.parametrize(
    "name", ["countdown", "game_of_life", "kakurasu", "knights_knaves", "shortest_path", "survo", "zebra"]
)
def test_files_of_its_rows(name):
    file = SHARED / f"rg_{name}.jsonl.gz"
    if not file.exists():
        pytest.skip(f"{file.name} is not in shared/data")
    items = read_questions(file, limit=30)
    assert all(marked(i, f"Answer: {i.answer}") == "right" and marked(i, "none") != "right" for i in items)


@WITH_GYM
def test_rows_name_their_dataset_or_are_plain_questions(tmp_path):
    (tmp_path / "a.jsonl").write_text(json.dumps(ROW | {"answer": "3"}))
    assert read_questions(tmp_path / "a.jsonl")[0].judge is not None
    (tmp_path / "a.jsonl").write_text(json.dumps(ROW | {"metadata": {"page": 3}}))
    assert read_questions(tmp_path / "a.jsonl")[0].judge is None
    (tmp_path / "a.jsonl").write_text(json.dumps(ROW | {"metadata": {"source_dataset": "sums"}}))
    with pytest.raises(InputError, match='line 1: reasoning-gym has no dataset "sums"'):
        read_questions(tmp_path / "a.jsonl")
