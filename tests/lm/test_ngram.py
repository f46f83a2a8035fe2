"""Shannon's n-grams: probabilities by hand, a ladder that never rises, samples that are texts of the source."""

import math
import random
from itertools import pairwise

import pytest

from innerloop.errors import InputError
from innerloop.lm.ngram import END, NGram, entropy_ladder

RNG = random.Random(0)
TEXTS = ["".join(RNG.choice(["ab", "ab", "ba", "c"]) for _ in range(12)) for _ in range(200)]


@pytest.mark.parametrize("order", range(6))
def test_probabilities_sum_to_one_and_every_seen_character_has_some(order):
    model = NGram.fit(TEXTS, order)
    for before in ("", "a", "abab", "cabba", "never seen"):
        ps = [model.probability(c, before) for c in model.alphabet]
        assert sum(ps) == pytest.approx(1) and min(ps) > 0
    assert model.probability("z", "a") == 0 and model.bits_per_character(["z"]) == math.inf


def test_kneser_ney_by_hand():
    model = NGram.fit(["aab"], 1)  # a after the start, a and b after a, the end after b
    unigram = {c: max(n - 0.75, 0) / 4 + 0.75 * 3 / 4 / 3 for c, n in {"a": 2, "b": 1, END: 1}.items()}
    assert model.probability("b", "a") == pytest.approx((1 - 0.75) / 2 + 0.75 * 2 / 2 * unigram["b"])
    assert model.probability("b", "") == pytest.approx(0.75 * unigram["b"])


def test_more_context_is_better_on_the_source_and_on_held_out_texts():
    train, held = TEXTS[:150], TEXTS[150:]
    seen, unseen = ([NGram.fit(train, n).bits_per_character(t) for n in range(4)] for t in (train, held))
    assert seen[0] > seen[1] > seen[2] and unseen[0] > unseen[1] and unseen[2] < unseen[0]


def test_the_ladder_never_rises_and_begins_with_the_alphabet():
    text = "".join(TEXTS)
    ladder = entropy_ladder(text, 5)
    assert ladder[0] == math.log2(3) and all(a >= b - 1e-12 for a, b in pairwise(ladder))
    assert entropy_ladder("abababababab", 2)[2] == 0
    assert entropy_ladder("aab", 1) == [1.0, 1.0], "all orders are of the same characters: those with enough before"
    with pytest.raises(InputError, match="too short"):
        entropy_ladder("ab", 3)


def test_samples_are_made_of_what_the_source_holds_and_follow_its_frequencies():
    model = NGram.fit(["ab" * 6, "ba" * 6], 2)
    (reply,) = model.generate(["a"], max_new_tokens=6)
    assert reply.completions[0].text == "bababa"
    free = NGram.fit(TEXTS, 1)
    (many,) = free.generate(["c"], max_new_tokens=1, n=400, temperature=1.0, seed=3)
    share = sum(c.text == "a" for c in many.completions) / 400
    assert abs(share - free.probability("a", "c")) < 0.08
    (stopped,) = free.generate(["c"], max_new_tokens=90, temperature=1.0, seed=1, stop=("c",))
    assert "c" not in stopped.completions[0].text and stopped.completions[0].finish == "stop"


def test_scores_are_the_probabilities_of_the_text():
    model = NGram.fit(TEXTS, 2)
    ((first, second),) = model.score(["c"], ["ab"])
    assert (first, second) == (math.log(model.probability("a", "c")), math.log(model.probability("b", "ca")))
    for bad in ((), "text", ["a"]):
        with pytest.raises(InputError):
            NGram.fit(bad, 99 if bad == ["a"] else 1)
