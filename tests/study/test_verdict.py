"""Verdicts: exact p-values by hand, no winner among equals, a planted effect found at the number that is printed."""

import math
from itertools import combinations
from math import comb

import numpy as np
import pytest

from innerloop.errors import InputError
from innerloop.interval import sign_flip_p
from innerloop.study.verdict import compare_paired, interval, mcnemar, pass_at_k, with_holm


def test_mcnemar_is_the_exact_binomial():
    assert mcnemar(0, 0) == 1.0 and mcnemar(3, 3) == 1.0
    assert mcnemar(5, 0) == pytest.approx(2 / 32) and mcnemar(1, 7) == pytest.approx(2 * 9 / 256)
    assert mcnemar(400, 300) == mcnemar(300, 400) == pytest.approx(2 * sum(comb(700, i) for i in range(301)) / 2**700)


def test_the_sign_flip_test_is_exact_for_few_and_drawn_for_many():
    gaps = np.array([0.5, 0.25, -0.125, 0.75])
    assert sign_flip_p(gaps) == 2 * 2 / 16  # only the flips of none or of -0.125 are as large
    assert sign_flip_p(np.zeros(5)) == 1.0
    many = np.random.default_rng(1).normal(0.3, 1, 60)
    assert abs(sign_flip_p(many) - math.erfc(abs(many.sum()) / np.sqrt(2 * (many**2).sum()))) < 0.01


def test_right_and_wrong_are_compared_by_mcnemar_and_shares_by_signs():
    a, b = np.array([1, 1, 1, 0, 1, 1, 1, 1]), np.array([0, 0, 0, 0, 0, 0, 1, 0])
    found = compare_paired(a, b)
    assert (found.test, found.p, found.verdict) == ("mcnemar", mcnemar(6, 0), "better") and found.difference == 0.75
    assert compare_paired(b, a).verdict == "worse" and compare_paired(a, a).verdict == "undecided"
    assert compare_paired(a, a).items_needed is None and compare_paired(a * 0.5, b).test == "sign flip"
    with pytest.raises(InputError, match="one of each an item"):
        compare_paired([1.0], [1.0, 0.0])


def test_equal_arms_win_no_more_often_than_they_may():
    """Labels permuted within items: 200 comparisons."""
    rng = np.random.default_rng(0)
    winners = 0
    for _ in range(200):
        pair = rng.random((60, 2)) < rng.random(60)[:, None]
        winners += compare_paired(pair[:, 0], pair[:, 1]).verdict != "undecided"
    assert winners <= 0.05 * 200


def test_a_planted_effect_is_found_at_the_number_of_items_that_is_printed():
    rng = np.random.default_rng(2)

    def arms(n):
        better = rng.random(n) < 0.6
        return better, np.where(rng.random(n) < 0.8, better, rng.random(n) < 0.1)  # ten points below, mostly together

    pilot = compare_paired(*arms(4000))
    found = [compare_paired(*arms(pilot.items_needed)).verdict for _ in range(200)]
    assert 0.07 < pilot.difference < 0.13 and 0.7 < found.count("better") / 200 < 0.92


@pytest.mark.parametrize(("p", "share"), [(0.1, 0.3), (0.45, 0.5), (0.02, 0.9)])
def test_the_interval_holds_the_difference_as_often_as_it_says(p, share):
    rng, held, rounds = np.random.default_rng(3), 0, 600
    for _ in range(rounds):
        won = rng.random(80) < p
        lost = ~won & (rng.random(80) < share * p / (1 - p))
        low, high = interval(won.astype(float) - lost)
        held += low <= p - share * p <= high
    assert held / rounds > 0.93


def test_holm_makes_verdicts_harder():
    a, b = np.array([1] * 7 + [0] * 13), np.zeros(20)
    one = compare_paired(a, b)
    assert one.verdict == "better" and with_holm([one])[0].verdict == "better"
    many = with_holm([one, *[compare_paired(b, b)] * 4])
    assert many[0].adjusted == pytest.approx(5 * one.p) and many[0].verdict == "undecided"


def test_pass_at_k_is_the_share_of_subsets_that_hold_a_right_one():
    for n, right, k in ((5, 2, 2), (6, 1, 3), (4, 0, 2), (4, 4, 1), (5, 3, 3)):
        subsets = list(combinations(range(n), k))
        assert pass_at_k(n, right, k) == pytest.approx(sum(min(s) < right for s in subsets) / len(subsets))
    with pytest.raises(InputError):
        pass_at_k(4, 5, 1)
