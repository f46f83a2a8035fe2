"""Intervals and tests over seeds, held against scipy."""

import math

import numpy as np
import pytest

from innerloop.interval import holm, mean_over_runs, paired, student_p, student_quantile


@pytest.fixture(scope="module")
def stats():
    from scipy import stats  # seconds: not for those who only collect

    return stats


@pytest.mark.parametrize("df", [1, 2, 3, 4, 9, 30, 201])
def test_students_distribution(df, stats):
    for t in (0.0, 0.3, 1.0, 2.5, 8.0):
        assert math.isclose(student_p(t, df), 2 * stats.t.sf(t, df), rel_tol=1e-9, abs_tol=1e-12)
        assert student_p(-t, df) == student_p(t, df)
    assert math.isclose(student_quantile(df), stats.t.ppf(0.975, df), rel_tol=1e-8)


def test_a_mean_over_runs_has_the_interval_of_student(stats):
    values = [0.91, 0.97, 0.95, 0.88]
    found = mean_over_runs(values)
    want = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
    assert found.n == 4 and math.isclose(found.sd, np.std(values, ddof=1))
    assert np.allclose((found.low, found.high), want)
    assert math.isnan(mean_over_runs([0.5]).low) and mean_over_runs([0.5]).value == 0.5


def test_paired_tests_are_those_of_scipy(stats):
    a, b = [0.9, 0.8, 0.95, 0.7, 0.85], [0.8, 0.75, 0.96, 0.6, 0.7]
    found = paired(a, b)
    assert math.isclose(found.p, stats.ttest_rel(a, b).pvalue)
    flips = stats.permutation_test(
        (np.array(a), np.array(b)),
        lambda x, y, axis: (x - y).mean(axis),
        permutation_type="samples",
        n_resamples=np.inf,
    )
    assert math.isclose(found.p_signs, flips.pvalue)
    assert paired([1, 1], [1, 1]).p == 1
    alike = paired([1.0, 0.9, 0.8], [0.9, 0.8, 0.7])  # equal differences up to rounding: no spread to test against
    assert math.isnan(alike.p) and alike.p_signs == 0.25
    assert math.isnan(paired([1.0], [0.5]).p) and paired([1.0], [0.5]).p_signs == 1
    many = paired(list(np.linspace(1, 2, 40)), [0.0] * 40)
    assert many.p_signs < 1e-3


def test_holm_adjusts_for_the_number_of_tests():
    assert np.allclose(holm([0.01, 0.04, 0.03]), [0.03, 0.06, 0.06])
    assert math.isnan(holm([0.01, math.nan])[1]) and holm([0.01, math.nan])[0] == 0.01
