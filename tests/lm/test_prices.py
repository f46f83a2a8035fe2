"""Money: what calls cost by their prices, and that a budget of it holds."""

import json

import pytest

from innerloop import cli
from innerloop.budget import Budget, OverBudget, limited, share_of
from innerloop.errors import InputError
from innerloop.ledger import counting
from innerloop.lm.cassette import Recorded
from innerloop.lm.prices import Prices, parse_prices, prices_for
from innerloop.lm.protocol import Reply
from innerloop.lm.scripted import Scripted
from innerloop.tokens.way import Item, answer
from innerloop.tokens.ways import way_of

ASK = Item("q", "What is 6 * 7?", "42")


def priced(text=" The answer is 42.", prices="1000/500/2000"):
    model = Scripted(lambda prompt, seed: text)
    model.prices = parse_prices(prices)
    return model


def test_prices_are_read_and_what_is_none_is_said(tmp_path):
    assert parse_prices("0.15/0.60") == Prices(0.15, 0.15, 0.60) and parse_prices("3/0.3/15") == Prices(3, 0.3, 15)
    for wrong in ("", "1", "1/2/3/4", "a/b", "-1/2", "nan/1", "inf/1", "0/0"):
        with pytest.raises(InputError, match="US dollars for a million"):
            parse_prices(wrong)
    table = tmp_path / "prices.json"
    table.write_text(json.dumps({"small": "0.1/0.2", "large@http://there/v1": "3/15"}))
    assert prices_for("small@http://here/v1", str(table)) == Prices(0.1, 0.1, 0.2)
    assert prices_for("large@http://there/v1", str(table)) == Prices(3, 3, 15)
    with pytest.raises(InputError, match='no price of "smal": did you mean "small"'):
        prices_for("smal", str(table))
    table.write_text("[1]")
    with pytest.raises(InputError, match="holds no prices"):
        prices_for("small", str(table))


def test_a_call_costs_its_tokens_and_cached_ones_less():
    model = priced()
    with counting() as cost:
        model.generate(["one two"], max_new_tokens=30)
    assert cost.money > 0 and cost.money == pytest.approx((1000 * cost.tokens_in + 2000 * cost.tokens_out) / 1e6)
    reply = Reply((), 100, 40)
    assert model.spent_on([reply])["money"] == pytest.approx((60 * 1000 + 40 * 500) / 1e6)


@pytest.mark.parametrize("text", ["vote(8)", "direct", "vote(4, direct)", "budget(40, wait=2)"])
@pytest.mark.parametrize("dollars", [0.02, 0.05, 0.11, 0.3])
def test_a_budget_of_money_is_never_passed(text, dollars):
    with limited(money=dollars) as budget:
        answer(way_of(text, priced()), ASK)
    assert budget.money <= dollars and not any(budget.reserved.values())


def test_a_budget_for_no_call_is_refused_before_it_is_made():
    model = priced()
    with limited(money=0.001) as budget, pytest.raises(OverBudget, match="money"):
        model.generate(["one two three"], max_new_tokens=8)
    assert budget.money == 0 and budget.completions == 0


def test_a_budget_that_would_limit_nothing_is_refused():
    model = Scripted(["1"])
    for limits in ({"money": 1.0}, {"flops": 1e9}):
        with limited(**limits), pytest.raises(InputError, match="limits nothing"):
            model.generate(["x"], max_new_tokens=8)


def test_shares_of_money_add_up_to_no_more_than_there_is():
    for parts in (3, 7, 11):
        with limited(money=0.3) as budget:
            share = share_of(parts)["money"]
            for _ in range(parts):
                with limited(Budget({"money": share})) as part:
                    part.charge(money=share)
                budget.charge(money=share)
        assert share > 0 and budget.money <= 0.3


def test_a_recorded_call_costs_what_it_cost_and_nothing_is_paid_again(tmp_path):
    first = Recorded(priced(), tmp_path / "calls.jsonl")
    with counting() as cost:
        first.generate(["one two"], max_new_tokens=30)
    again = Recorded(priced(), tmp_path / "calls.jsonl")
    with counting() as replayed:
        again.generate(["one two"], max_new_tokens=30)
    assert replayed.money == cost.money == first.paid.money > 0 and again.paid.money == 0


def test_a_comparison_under_a_budget_of_money(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("innerloop.cli.thinking.open_model", lambda name, **how: priced(prices="1/1"))
    questions = tmp_path / "q.jsonl"
    questions.write_text('{"question": "6 * 7?", "answer": "42"}\n{"question": "5 * 7?", "answer": "35"}')
    run = ["compare", "any", str(questions), "--think", "direct", "--out", str(tmp_path / "out"), "--samples", "3"]
    assert cli.main([*run, "--budget", "0.01-money", "--prices", "much"]) == 2
    assert "much" in capsys.readouterr().err
    assert cli.main([*run, "--budget", "0.01-money", "--prices", "10/20"]) == 0
    found = json.loads((tmp_path / "out" / "compare.json").read_text())
    (direct, null) = found["rows"]
    assert found["unit"] == "money" and 0 < direct["spent"]["money"] <= null["spent"]["money"] <= 0.005
    assert ", $0.0" in capsys.readouterr().out
    assert cli.main([*run, "--budget", "0.01-money", "--prices", "10/20", "--replay"]) == 0
    again = json.loads((tmp_path / "out" / "compare.json").read_text())["rows"]
    assert [row["spent"]["money"] for row in again] == [row["spent"]["money"] for row in found["rows"]]


def test_scores_are_charged_and_under_a_budget():
    model = priced("abc")
    with counting() as cost:
        assert model.score(["x y"], ["abd"]) == [(0.0, 0.0, -float("inf"))]
    assert cost.tokens_in == model.count_tokens("x y") + model.count_tokens("abd") and cost.money > 0
    with limited(tokens=2), pytest.raises(OverBudget):
        model.score(["x y"], ["abd"])
    with pytest.raises(InputError, match="a text for each prompt"):
        model.score(["x"], ["a", "b"])
