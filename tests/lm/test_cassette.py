"""Recorded calls: nothing is paid twice, a replay asks nobody and is the same, a killed writer loses no line."""

import json

import pytest

from innerloop.budget import limited
from innerloop.errors import InputError
from innerloop.ledger import counting
from innerloop.lm.cassette import Recorded
from innerloop.lm.scripted import Scripted
from innerloop.tokens.way import Item, answer
from innerloop.tokens.ways import way_of


@pytest.fixture
def file(tmp_path):
    return tmp_path / "calls.jsonl"


def counted(calls):
    return Scripted(lambda prompt, seed: calls.append(prompt) or f" {len(prompt) + seed % 7}")


def spent(cost):
    return cost.tokens_in, cost.tokens_out, cost.completions


def test_a_call_is_paid_once_and_charged_every_time(file):
    calls = []
    for _ in range(2):
        model = Recorded(counted(calls), file)
        with counting() as cost:
            replies = model.generate(["a", "bb", "a"], max_new_tokens=9)
        assert [r.completions[0].text for r in replies] == [" 1", " 2", " 1"] and spent(cost) == (4, 9, 3)
    assert calls == ["a", "bb"] and model.paid.completions == 0
    assert model.generate(["a"], max_new_tokens=8) and len(calls) == 3, "another limit is another call"


@pytest.mark.parametrize("text", ["vote(5)", "retry(3)", "zero_shot", "budget(30, wait=2)", "best(4, score)"])
def test_a_replay_asks_nobody_and_is_the_same_under_a_tight_budget_too(file, text):
    item = Item("q", "3 + 4?", check=lambda found: (found == "7", "no"))
    for cap in (10_000, 150, 60):
        calls = []
        with limited(tokens=cap) as first:
            said = answer(way_of(text, Recorded(counted(calls), file)), item, key=4)
        with limited(tokens=cap) as second:
            again = answer(way_of(text, Recorded.offline(file)), item, key=4)
        assert again == said and spent(second) == spent(first) and first.tokens_in + first.tokens_out <= cap


def test_a_line_that_was_cut_off_is_dropped_and_the_rest_is_there(file):
    calls = []
    Recorded(counted(calls), file).generate(["a", "bb"], max_new_tokens=9)
    whole = file.read_text()
    file.write_text(whole[:-20])
    model = Recorded(counted(calls), file)
    model.generate(["a", "bb"], max_new_tokens=9)
    assert calls == ["a", "bb", "bb"] and file.read_text() == whole


def test_what_is_not_recorded_or_no_record_is_said_in_a_sentence(file, tmp_path):
    with pytest.raises(InputError, match="there is no record"):
        Recorded.offline(file)
    Recorded(counted([]), file).generate(["a"], max_new_tokens=9)
    with pytest.raises(InputError, match="holds no reply to this call"):
        Recorded.offline(file).generate(["b"], max_new_tokens=9)
    for line, said in (("nonsense", "line 2"), ('{"call": 3}', "line 2 is no recorded call"), ("[]", "line 2 is no")):
        bad = tmp_path / "bad.jsonl"
        bad.write_text(json.dumps({"model": "m", "context": 9, "capabilities": []}) + f"\n{line}\n")
        with pytest.raises(InputError, match=said):
            Recorded.offline(bad)
