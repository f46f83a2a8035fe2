"""compare on files of known benchmarks and on reasoning-gym: what is asked, marked, said and refused."""

import importlib.util
import json
import re

import pytest

from innerloop import cli
from innerloop.lm.fake_server import FakeServer
from innerloop.lm.scripted import Scripted

GAMES = {"1, 1, 3 and 8": ("1*1*3*8", "(1*3)*8"), "3, 3, 8 and 8": ("8/(3-8/3)", "3*8")}
WITH_GYM = pytest.mark.skipif(
    importlib.util.find_spec("reasoning_gym") is None, reason="reasoning-gym is not installed"
)


def compare(write, file, *more):
    """(what a comparison prints, its result, the prompts that a model saw)."""
    seen = []

    def answer(prompt, seed):
        seen.append(str(prompt))
        return write(str(prompt), seed)

    with FakeServer(Scripted(answer)) as server:
        words = ["compare", f"any@{server.url}", file, "--key", "", "--samples", "2", "--out", "r", *more]
        assert cli.main(words) == 0
    with open("r/compare.json") as kept:
        return json.load(kept), seen


def marks(result, arm=0):
    return [item["mark"] for item in result["arms"][arm]["items"]]


def test_the_game_of_24_is_checked_without_an_answer(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rows = [
        {"id": "a", "numbers": [1, 1, 3, 8], "target": 24, "solution": "secret"},
        {"id": "b", "numbers": [3, 3, 8, 8]},
    ]
    (tmp_path / "g.jsonl").write_text("\n".join(map(json.dumps, rows)))

    def play(prompt, seed):
        right, wrong = next(pair for numbers, pair in GAMES.items() if numbers in prompt)
        return f"{right} = 24" if seed % 2 else wrong

    result, seen = compare(
        play, "g.jsonl", "--think", "best(16, verify, direct, wave=1)", "direct", "--budget", "60k-tokens"
    )
    assert marks(result) == ["right", "right"] and not any("secret" in prompt for prompt in seen)
    said = capsys.readouterr().out
    assert "marked: expressions by exact arithmetic" in said and result["marked"] == ["expressions by exact arithmetic"]
    assert "it was given the verifier that comes with the questions" in said and list(result["asked"]) == ["a", "b"]


def test_latex_is_marked_by_value_and_the_judge_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rows = [{"question": "Half?", "answer": r"\frac{1}{2}"}, {"question": "Where?", "answer": r"(2,\infty)"}]
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, rows)))
    result, _ = compare(
        lambda p, s: r"So \boxed{0.50}." if "Half" in p else r"$[2, \infty)$", "m.jsonl", "--think", "direct"
    )
    assert marks(result) == ["right", "wrong"]
    assert re.search(r"marked: answers in LaTeX by Innerloop's rules", capsys.readouterr().out)


@WITH_GYM
def test_reasoning_gym_by_name(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    sums = lambda prompt, seed: str(sum(map(int, re.findall(r"[-+]?\d+", re.sub(r"([-+]) ", r"\1", prompt)))))  # noqa: E731
    result, _ = compare(sums, "gym:chain_sum", "--limit", "3", "--seed", "5", "--think", "direct")
    assert marks(result) == ["right"] * 3 and list(result["asked"]) == [f"chain_sum-{i}" for i in range(3)]
    assert "marked: chain_sum by the scorer of reasoning-gym" in capsys.readouterr().out
    assert cli.main(["compare", "any@http://127.0.0.1:9/v1", "gym:chain_sums"]) == 2
    assert 'did you mean "chain_sum"?' in capsys.readouterr().err


def test_a_kind_is_no_option_of_reasoning_gym(capsys):
    assert cli.main(["compare", "any@http://127.0.0.1:9/v1", "gym:chain_sum", "--kind", "number"]) == 2
    assert "marked by its own scorer" in capsys.readouterr().err
