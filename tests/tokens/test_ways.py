"""The contract of the ways to think, over all of them: answers, outcomes, costs, caps, same key same thought."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from innerloop.budget import limited
from innerloop.core import think
from innerloop.errors import InputError
from innerloop.halt import finished
from innerloop.ledger import counting
from innerloop.lm.protocol import CAPABILITIES, MissingCapability
from innerloop.lm.scripted import Scripted
from innerloop.tokens.best import Best
from innerloop.tokens.direct import Direct
from innerloop.tokens.judges import Pairwise, Scalar
from innerloop.tokens.prompts import Shot
from innerloop.tokens.vote import Vote
from innerloop.tokens.way import OUTCOMES, Asked, Item, Said, Verdict, answer, answer_many, majority
from innerloop.tokens.ways import WAYS, way_of

SHOTS = (Shot("1 + 1?", "One and one make two.", "2", "1 + 1 = 2"), Shot("2 + 3?", "Two and three.", "5", "2 + 3 = 5"))


MACROS = str(Path(__file__).parent / "named_steps.json")


def check_sum(text):
    """A verifier for `a + b?`, which knows no answers."""

    def check(found):
        a, b = map(int, re.findall(r"\d+", text))
        return Verdict(found == str(a + b), f"{found} is not {a} + {b}")

    return check


def item(a=3, b=4):
    text = f"{a} + {b}?"
    return Item(text, text, str(a + b), check=check_sum(text))


def adds(prompt, seed):
    """A model that adds rightly for two seeds of three, and else says one more; it ends its thought at once."""
    a, b = map(int, re.findall(r"(\d+) \+ (\d+)\?", prompt)[-1])
    right = a + b + (seed % 3 == 0)
    return f" I add {a} and {b}. The answer is {right}.\n\nQ: more"


def chatty():
    model = Scripted(adds)
    model.capabilities = model.capabilities - {"raw"}
    return model


TEXTS = [
    "direct", "chain", "equation", "dots", "zero_shot", "vote(5)", "vote(5, wave=2)", "vote(3, budget(40, wait=1))",
    "best(4, verify)", "best(4, verify, wave=1)", "best(3, score)", "best(3, pairs)", "retry(3)", "budget(60)",
    "budget(40, wait=2)", f"shorthand({MACROS!r})", "think(50)", "no_think", "act(2)", "plan(2)",
    "best(2, inner=vote(3))",
]  # fmt: skip


@pytest.mark.parametrize("text", TEXTS)
def test_every_way_keeps_the_contract(text):
    way = way_of(text, Scripted(adds), SHOTS)
    with counting() as cost:
        said = answer(way, item(), key=5)
    assert isinstance(said, Said) and said.outcome in OUTCOMES
    assert (said.answer is None) == (said.outcome != "answered")
    assert cost.completions > 0 and cost.tokens_in > 0 and cost.tokens_out > 0
    assert said == answer(way_of(text, Scripted(adds), SHOTS), item(), key=5), "the same key, the same thought"
    both = answer_many(way, [Asked(item(), 5), Asked(item(8, 9), 6)], workers=2)
    assert both[0] == said, "whoever else is asked"
    assert think(way, Asked(item(), 5), way.depth, halt=finished).steps <= way.depth
    for cap in (cost.tokens_in + cost.tokens_out - 1, 30, 1):
        with limited(tokens=cap) as budget:
            poor = answer(way, item(), key=5)
        assert budget.tokens_in + budget.tokens_out <= cap and not any(budget.reserved.values())
        assert poor.outcome in OUTCOMES
    with limited(tokens=1):
        assert answer(way, item(), key=5).outcome == "cut"


def test_all_ways_are_tested():
    assert {re.match(r"\w+", text).group() for text in TEXTS} == set(WAYS) and all(w.__doc__ for w in WAYS.values())


def test_answers_are_those_of_the_texts():
    model = Scripted(lambda prompt, seed: " 7 of them\nQ: next")
    assert answer(Direct(model), item()).answer == "7"
    assert answer(Direct(Scripted([" none"])), item()).outcome == "unparsed"
    assert answer(Direct(Scripted([" " * 99]), max_new_tokens=9), item()).outcome == "cut"


def test_few_shot_prompts_hold_the_chain_the_equation_or_dots():
    seen = []
    model = Scripted(lambda prompt, seed: seen.append(prompt) or " The answer is 7.")
    for style in ("chain", "equation", "dots"):
        answer(way_of(style, model, SHOTS), item())
    chain, equation, dots = seen
    assert "One and one make two. The answer is 2." in chain and "1 + 1 = 2 The answer is 2." in equation
    assert "." * len("One and one make two.") + " The answer is 2." in dots and "One" not in dots + equation
    with pytest.raises(InputError, match="needs worked examples"):
        way_of("dots", model)


def test_zero_shot_makes_two_calls_and_the_second_holds_the_first_word_for_word():
    seen = []
    model = Scripted(lambda prompt, seed: seen.append(prompt) or (" I count to seven." if len(seen) == 1 else " 7."))
    said = answer(way_of("zero_shot", model), item())
    assert said.answer == "7" and len(seen) == 2
    assert seen[1].startswith(seen[0] + " I count to seven.") and "Let's think step by step." in seen[0]
    assert seen[1].endswith("Therefore, the answer (arabic numerals) is")


def test_a_vote_is_the_mode_and_its_share_the_confidence():
    texts = iter("34454")
    said = answer(Vote(Direct(Scripted(lambda p, s: next(texts)), temperature=1.0), 5, wave=1, early=False), item())
    assert (said.answer, said.confidence, said.winner) == ("4", 0.6, 1) and len(said.samples) == 5
    assert majority([Said(None, "cut", ""), Said("2", "answered", ""), Said("1", "answered", "")])[0] == 1
    assert majority([Said(None, "cut", "")]) == (None, 0.0)


def test_a_vote_ends_as_soon_as_it_is_decided_and_never_earlier():
    def early(answers):
        texts = iter(answers)
        model = Scripted(lambda p, s: next(texts))
        return answer(Vote(Direct(model, temperature=1.0), len(answers), wave=1), item())

    assert len(early("44456").samples) == 3
    assert len(early("44555").samples) == 5, "two that are left can still draw level"
    for answers in ("1 2 1 2 3", "1 1 2 2 2", "1 2 3 4 4", "2 1 1 2"):
        full = majority([Said(a, "answered", "") for a in answers.split()])[0]
        assert early(answers.split()).answer == answers.split()[full]


def test_a_vote_below_its_least_share_abstains():
    texts = iter("1234")
    said = answer(Vote(Direct(Scripted(lambda p, s: next(texts)), temperature=1.0), 4, wave=1, least=0.5), item())
    assert said.answer is None and said.confidence == 0.25
    with pytest.raises(InputError, match="are all the same"):
        Vote(Direct(Scripted(["4"])), 3)


def test_best_takes_what_the_verifier_accepts_and_else_abstains():
    texts = iter("6877")
    said = answer(Best(Direct(Scripted(lambda p, s: next(texts)), temperature=1.0), 4, wave=1), item())
    assert (said.answer, said.winner, said.confidence, len(said.samples)) == ("7", 2, 1.0, 3)
    checked, texts = [], iter("6877")
    counted = replace(item(), check=lambda found: Verdict(bool(checked.append(found)) or found == "7"))
    answer(Best(Direct(Scripted(lambda p, s: next(texts)), temperature=1.0), 4, wave=1), counted)
    assert checked == ["6", "8", "7"], "each sample is verified once"
    wrong = answer(Best(Direct(Scripted(["6"]), temperature=1.0), 4), item())
    assert wrong.answer is None and wrong.details["abstained"] and wrong.details["checked"] == 4
    with pytest.raises(InputError, match="the question q has none"):
        answer(Best(Direct(Scripted(["6"]), temperature=1.0), 2), Item("q", "3 + 4?"))


def judged(judge, answers="6 7 8"):
    texts = iter(answers.split())
    return answer(Best(Direct(Scripted(lambda p, s: next(texts)), temperature=1.0), 3, judge), item())


def test_a_judge_by_marks_takes_the_highest():
    said = judged(Scalar(Scripted(lambda prompt, seed: " 9" if "solution:\n7" in prompt else " 2")))
    assert said.answer == "7" and said.details == {"marks": [2.0, 9.0, 2.0], "unread": 0} and said.confidence == 0.9
    assert judged(Scalar(Scripted(["no idea"]))).details["unread"] == 3


def test_a_pairwise_judge_is_asked_in_both_orders_and_its_bias_is_told():
    good = judged(
        Pairwise(
            Scripted(lambda prompt, seed: " A" if "Solution A:\n7" in prompt else " B" if "B:\n7" in prompt else "A")
        )
    )
    assert good.answer == "7" and good.details["pairs"] == 2
    biased = judged(Pairwise(Scripted([" A"])))
    assert biased.details == {"pairs": 2, "agreed": 0, "position_bias": 1.0}
    other = judged(Pairwise(Scripted([" B"])))
    assert other.details["position_bias"] == 0.0


def test_retry_shows_the_attempts_and_what_was_wrong_with_them():
    seen = []
    model = Scripted(
        lambda prompt, seed: seen.append(prompt) or (" The answer is 8." if len(seen) < 3 else " So it is 7.")
    )
    said = answer(way_of("retry(4)", model), item())
    assert (said.answer, said.details["attempts"], said.winner) == ("7", 3, 2)
    assert "8 is not 3 + 4" in seen[1] and seen[2].count("The answer is 8.") == 2
    lost = answer(way_of("retry(2)", Scripted(["The answer is 8."])), item())
    assert lost.answer is None and lost.details == {"attempts": 2, "abstained": True}


class Thinker:
    """Writes a thought of steps, ends it, and answers with as many as it counted "Wait"s, plus 5."""

    def __call__(self, prompt, seed):
        turn = prompt.rpartition("A:")[2]
        if turn.rstrip().endswith("Final Answer:"):
            return f" {5 + turn.count('Wait')}"
        return " some steps." + "\n\nFinal Answer: 0"


def test_budget_forcing_goes_on_where_the_model_would_stop():
    for waits in (0, 1, 3):
        said = answer(way_of(f"budget(400, wait={waits})", Scripted(Thinker())), item())
        assert said.answer == str(5 + waits) and said.text.count("Wait") == waits == said.details["waits"]
        assert not said.details["capped"] and said.text.count("some steps.") == waits + 1


def test_budget_forcing_never_thinks_beyond_its_budget():
    for tokens in (1, 5, 13, 20, 40):
        said = answer(way_of(f"budget({tokens}, wait=9)", Scripted(Thinker())), item())
        assert said.details["thinking_tokens"] <= tokens and said.answer is not None
        assert said.text.rstrip(" 0123456789").endswith("Final Answer:")


def test_ids_are_kept_and_never_made_anew():
    """A model whose texts have several tokenisations: "ab" is one token where the model wrote it."""

    class Pairs(Scripted):
        def encode(self, text):
            return [ord(c) for c in text]

        def decode(self, ids):
            return "".join(chr(i) if i < 1000 else "ab" for i in ids)

        def complete(self, prompts, sampling, prefix):
            assert not isinstance(prefix, str)
            seen.append(tuple(prefix))
            replies = super().complete(
                [self.decode(map(ord, p)) if 0 else p for p in prompts], sampling, [i for i in prefix if i < 1000]
            )
            first = replies[0].completions[0]
            object.__setattr__(first, "ids", (1000, *first.ids))
            return replies

    seen = []
    answer(way_of("budget(30, wait=1)", Pairs(Thinker())), item())
    assert seen[1][0] == 1000 and seen[-1].count(1000) == 2


def test_the_mode_without_a_thought_begins_with_an_empty_one():
    seen = []
    model = Scripted(lambda prompt, seed: seen.append(prompt) or " 7")
    assert answer(way_of("no_think", model), item()).answer == "7" and len(seen) == 1
    assert seen[0].endswith("<think>\n\n</think>\n\n")
    seen.clear()
    thinks = Scripted(lambda p, s: seen.append(p) or (" 7" if "</think>" in p else " hm" * 40))
    said = answer(way_of("think(20)", thinks), item())
    assert said.answer == "7" and said.details["capped"] and "Time is short" in said.text
    assert seen[0].endswith("<think>\n") and seen[1].endswith("\n</think>\n\n")


def test_a_way_that_needs_what_a_model_lacks_is_refused_with_a_way_out():
    model = chatty()
    model.capabilities = frozenset(CAPABILITIES) - {"prefill", "raw", "ids"}
    for text in ("budget(9)", "think", "no_think", "zero_shot"):
        with pytest.raises(
            MissingCapability, match=r"continues an answer that was begun for it.*use a local model"
        ) as caught:
            way_of(text, model)
        assert "scripted" in str(caught.value)
    assert answer(way_of("vote(3)", model), item()).outcome == "answered"


def test_chat_models_get_messages():
    seen = []
    model = chatty()
    model._write = lambda prompt, seed: seen.append(prompt) or "The answer is 7."
    answer(way_of("chain", model, SHOTS), item())
    assert "user: 1 + 1?\nassistant: One and one make two. The answer is 2.\nuser: 2 + 3?" in seen[0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("vots(8)", 'no way to think is called "vots": did you mean "vote"'), ("vote(n=8, k=2)", 'vote has no "k"'),
        ("vote(", "is no way to think"), ("", "is no way to think"), ("1 + 2", "is no way to think"),
        ("__import__('os')", "no way to think is called"), ("vote(8)(3)", "is no way to think"),
        ("vote(-1)", "an argument is"),
        ("best(4, verifi)", "no way to think is called"), ("direct(1, 2, 3)", "too many positional arguments"),
        ("vote(0)", "give n of 1 or more"), ("budget(0)", "at least one token"), ("vote(8, [1])", "an argument is"),
    ],
)  # fmt: skip
def test_bad_expressions_say_what_is_wrong(text, said):
    with pytest.raises(InputError, match=re.escape(said)) as caught:
        way_of(text, Scripted(["4"]))
    assert "\n" not in str(caught.value)
