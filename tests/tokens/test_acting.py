"""Acting with tools: what is run, what is told, what is counted, and the plan before it."""

import pytest

from innerloop.budget import limited
from innerloop.errors import InputError
from innerloop.ledger import counting
from innerloop.lm.protocol import MissingCapability
from innerloop.lm.scripted import Scripted
from innerloop.tokens.acting import Acting, calculate
from innerloop.tokens.way import Item, answer
from innerloop.tokens.ways import way_of

ASK = Item("q", "What is 17 * 23 + 4?", "395")


def script(*texts, seen=None):
    """A model that writes these texts one after the other; what it was asked goes to `seen`."""
    left = iter(texts)
    return Scripted(lambda prompt, seed: (seen if seen is not None else []).append(prompt) or next(left))


def test_a_call_is_run_and_its_result_is_told():
    seen = []
    model = script("I multiply.\nact: calc(17 * 23)\n", "act: calc(391 + 4)", " The answer is 395.", seen=seen)
    with counting() as cost:
        said = answer(way_of("act", model), ASK)
    assert (said.answer, said.outcome) == ("395", "answered") and said.details == {"actions": 2, "failed_actions": 0}
    assert cost.completions == 3 and cost.actions == 2
    assert "act: calc(17 * 23)\nuser: result: 391\n" in seen[1] and "calc(391 + 4)\nuser: result: 395\n" in seen[2]
    assert said.text.splitlines() == [
        "I multiply.", "act: calc(17 * 23)", "result: 391", "act: calc(391 + 4)", "result: 395", "The answer is 395.",
    ]  # fmt: skip


def test_a_result_that_the_model_makes_up_is_not_what_is_told():
    said = answer(way_of("act", script("act: calc(2 + 2)\nresult: 5\nThe answer is 5.", "The answer is 4.")), ASK)
    assert "result: 4" in said.text and "5" not in said.text and said.answer == "4"


def test_what_cannot_be_run_is_told_and_counted():
    seen = []
    texts = ("act: clac(1 + 1)", "act: calc(__import__('os'))", "act: calc(1 / 0)", "act: hello", "The answer is 2.")
    said = answer(way_of("act", script(*texts, seen=seen)), ASK)
    assert said.details == {"actions": 4, "failed_actions": 4} and said.answer == "2"
    assert 'there is no tool clac: did you mean "calc"?' in seen[1]
    assert "no expression" in seen[2] and "no expression" in seen[3] and "this is no call" in seen[4]


def test_it_ends_after_so_many_actions_and_under_a_budget():
    said = answer(Acting(Scripted(lambda prompt, seed: "act: calc(1 + 1)"), 3), ASK)
    assert said.details["actions"] == 3 and said.outcome in ("answered", "unparsed")
    with limited(tokens=150) as budget:
        poor = answer(Acting(Scripted(lambda prompt, seed: "act: calc(1 + 1)"), 50), ASK)
    assert budget.tokens_in + budget.tokens_out <= 150 and poor.outcome == "cut" and poor.answer is None


@pytest.mark.parametrize("chat", [False, True])
def test_a_plan_is_written_first_and_computes_nothing(chat):
    seen = []
    model = script("plan: multiply, then add", "act: calc(17 * 23 + 4)", "The answer is 395.", seen=seen)
    if chat:
        model.capabilities = model.capabilities - {"raw"}
    else:
        model.capabilities = model.capabilities - {"chat"}
    said = answer(way_of("plan", model), ASK)
    assert said.answer == "395" and said.details == {"actions": 1, "failed_actions": 0}
    assert "write a plan" in str(seen[0]) and "calc" not in str(seen[0])
    assert "plan: multiply, then add" in str(seen[1]) and "Now do it. You have a calculator" in str(seen[1])
    assert "result: 395" in str(seen[2]) and said.text.startswith("plan: multiply, then add\nact: calc")


def test_tools_of_ones_own():
    model = script("act: look(capital of France)", "The answer is Paris.")
    tools = {"look": lambda text: "Paris" if "France" in text else "?"}
    said = answer(Acting(model, tools=tools), Item("q", "The capital of France?", "Paris", "text"))
    assert "result: Paris" in said.text and said.answer is not None


def test_what_it_needs_is_said():
    model = Scripted(["x"])
    with pytest.raises(InputError, match="give 1 or more"):
        Acting(model, 0)
    model.capabilities = model.capabilities - {"stop"}
    with pytest.raises(MissingCapability, match="acting with tools"):
        Acting(model)
    model = Scripted(["x"])
    model.forms = {"direct": "d>"}
    with pytest.raises(InputError, match="cannot be told of tools"):
        Acting(model)


def test_the_calculator_is_exact_and_reads_nothing_else():
    assert [calculate(t) for t in ("17*23", "(1 + 2) * 3 =", "1/3 + 1/6", "-2^3", "10 - 4 / 2")] == [
        "391", "9", "1/2", "-8", "8",
    ]  # fmt: skip
    for text in ("", "x + 1", "9**9**9", "1 +", "open('f')", "1;2", "(" * 5000):
        with pytest.raises(ValueError, match="no expression"):
            calculate(text)
