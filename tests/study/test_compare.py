"""Comparisons at equal spending: what wins, what ties, the null arm, replay, and what does not depend on threads."""

import random
import re

import pytest

from innerloop.errors import InputError
from innerloop.lm.cassette import Recorded
from innerloop.lm.scripted import Scripted
from innerloop.study.compare import NULL, compare
from innerloop.tokens.direct import Direct
from innerloop.tokens.samples import Samples
from innerloop.tokens.way import Item, Verdict
from innerloop.tokens.ways import way_of


def check_of(a, b):
    return lambda found: Verdict(found == str(a * b))


ITEMS = [
    Item(f"{a}x{b}", f"{a} * {b}?", str(a * b), check=check_of(a, b)) for a in range(2, 10) for b in range(2, 9)
]  # fmt: skip


def multiplies(chance):
    """Right with this chance, each sample by itself; else one of four wrong answers."""

    def write(prompt, seed):
        a, b = map(int, re.findall(r"(\d+) \* (\d+)\?", prompt)[-1])
        rng = random.Random(f"{a} {b} {seed}")
        return f" {a * b if rng.random() < chance else a * b + rng.randint(1, 4)}"

    return write


def run(model, texts=("direct", "vote(5, direct)", "best(5, verify, direct)"), items=ITEMS, **how):
    ways = {text: way_of(text, model, temperature=1.0) for text in texts}
    how = {"limits": {"tokens": 400}, "workers": 4} | how
    return compare(items, ways, Samples(Direct(model, temperature=1.0), 16), **how)


@pytest.fixture(scope="module")
def result():
    return run(Scripted(multiplies(0.35)))


def test_each_arm_is_compared_with_samples_that_cost_as_much(result):
    rows = {row.name: row for row in result.rows}
    assert list(rows) == ["direct", "vote(5, direct)", "best(5, verify, direct)", NULL]
    best, vote, direct, null = (rows[n] for n in ("best(5, verify, direct)", "vote(5, direct)", "direct", NULL))
    assert best.against_null.verdict == "better" and best.null_spent <= best.spent["tokens"] + 1e-9
    assert vote.against_null.verdict == direct.against_null.verdict == "undecided"
    assert vote.null_samples == 5 and direct.null_samples == 1 and null.against_null is None
    assert best.accuracy == pytest.approx(best.coverage[4], abs=0.2) and 0.2 < direct.accuracy < 0.5
    assert best.against_null.adjusted >= best.against_null.p and best.on_frontier


def test_marks_add_up_and_bounds_hold_the_accuracy(result):
    for row in result.rows:
        assert sum(row.marks.values()) == row.n == len(ITEMS)
        assert row.low <= row.accuracy <= row.high and row.accuracy <= row.most


def test_no_question_passes_its_budget(result):
    for arm in result.arms:
        assert all(r.spent["tokens"] <= 400 for r in arm.rows) and len(arm.rows) == len(ITEMS)


def test_a_tight_budget_cuts_off_and_says_so():
    tight = run(Scripted(multiplies(0.35)), items=ITEMS[:6], limits={"tokens": 20})
    assert all(row.marks["cut"] == 6 and row.accuracy == 0 and row.most == 1 for row in tight.rows)


def test_a_comparison_does_not_depend_on_threads_and_replays_with_no_call(tmp_path):
    calls = []
    model = Scripted(lambda p, s: calls.append(p) or multiplies(0.5)(p, s))
    for limits in ({"tokens": 400}, {"tokens": 130}):
        file = tmp_path / f"{limits['tokens']}.jsonl"
        how = {"items": ITEMS[:8], "limits": limits}
        first = run(Recorded(model, file), workers=4, **how)
        made = len(calls)
        for again in (run(Recorded.offline(file), workers=1, **how), run(Recorded(model, file), workers=3, **how)):
            assert len(calls) == made
            assert [r.mark for a in again.arms for r in a.rows] == [r.mark for a in first.arms for r in a.rows]
            for a, b in zip(again.rows, first.rows, strict=True):
                assert a.marks == b.marks and a.null_samples == b.null_samples
                assert {k: v for k, v in a.spent.items() if "seconds" not in k} == {
                    k: v for k, v in b.spent.items() if "seconds" not in k
                }


def test_another_seed_is_another_sample(result):
    other = run(Scripted(multiplies(0.35)), seed=1)
    assert [r.mark for r in other.arms[0].rows] != [r.mark for r in result.arms[0].rows]


def test_bad_comparisons_get_a_sentence():
    model = Scripted([" 4"])
    for how, said in (
        ({"items": []}, "at least one question"), ({"texts": ()}, "at least one question and one way"),
        ({"limits": {"token": 3}}, "a budget has no token"), ({"limits": {}}, "no limit"),
        ({"items": [Item("q", "2 * 2?")]}, "the question q has neither an answer nor a verifier"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=said):
            run(model, **how)
    with pytest.raises(InputError, match="name of the null arm"):
        compare(ITEMS[:1], {NULL: Direct(model)}, Samples(Direct(model, temperature=1.0)), {"tokens": 90})

    def breaks(prompt, seed):
        raise InputError("the line is dead")

    with pytest.raises(InputError, match="direct: 2 of 2 questions failed: the line is dead"):
        run(Scripted(breaks), items=ITEMS[:2])
