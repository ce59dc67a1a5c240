"""Paired comparisons against SciPy's permutation test and hand counts."""

import numpy as np
import pytest
from scipy import stats

from escapevelocity.errors import UserError
from escapevelocity.study.paired import paired_comparison, sign_flip_test


def test_only_shared_seeds_are_compared_in_pairs():
    x = {25: 5.0, 7: 1.0, 64: 2.0, 99: 50.0}
    y = {7: 0.5, 64: 3.0, 25: 1.0, 4: 70.0}
    found = paired_comparison(x, y, seed=0, repetitions=2000)
    assert found.seeds == (25, 7, 64)
    np.testing.assert_array_equal(found.differences, [4.0, 0.5, -1.0])
    assert found.unshared == (4, 99)
    assert found.mean.estimate == pytest.approx(3.5 / 3, rel=1e-15)
    assert found.iqm.estimate == pytest.approx(3.5 / 3, rel=1e-15)  # of three, ⌊3/4⌋ = 0 are cut
    assert found.mean.low == -1.0  # the least of all resamples has chance 1/27 > 2.5 %
    # sums |±4 ± 0.5 ± 1|: 5.5 4.5 3.5 2.5, twice each; observed 3.5
    assert found.p_value == 6 / 8


def test_students_interval_is_that_of_the_paired_t_test():
    x, y = {1: 0.7, 2: 0.5, 3: 0.9, 4: 0.4}, {4: 0.1, 3: 0.5, 2: 0.7, 1: 0.2}
    found = paired_comparison(x, y, seed=0, level=0.9, repetitions=100).student
    expected = stats.ttest_rel([x[s] for s in x], [y[s] for s in x]).confidence_interval(0.9)
    np.testing.assert_allclose((found.low, found.high), (expected.low, expected.high), rtol=1e-12)
    assert found.level == 0.9


def test_five_seeds_that_all_agree_reach_a_sixteenth_and_no_less():
    assert sign_flip_test([0.1, 3.0, 0.2, 7.0, 1.0], seed=0) == 2 / 32
    assert sign_flip_test([-0.1, -3.0, -0.2, -7.0, -1.0], seed=0) == 2 / 32


@pytest.mark.parametrize("pairs", [2, 6, 10])
def test_the_p_value_equals_that_of_scipy(rng, pairs):
    differences = rng.normal(0.5, 1.0, pairs)
    theirs = stats.permutation_test(
        (differences, np.zeros(pairs)),
        lambda a, b, axis: np.mean(a - b, axis=axis),
        permutation_type="samples",
        n_resamples=np.inf,
        vectorized=True,
    )
    assert sign_flip_test(differences, seed=0) == theirs.pvalue


def test_sums_that_are_equal_but_for_rounding_count_as_equal():
    # 0.1 + 0.2 − 0.3 is 5.6e-17 and 0.3 − 0.1 − 0.2 is −2.8e-17: all patterns reach an observed sum of 0.
    assert sign_flip_test([0.1, 0.2, -0.3], seed=0) == 1.0
    assert sign_flip_test([0.0, 0.0], seed=0) == 1.0


def test_many_pairs_are_tested_by_random_patterns_that_their_seed_fixes(rng):
    differences = rng.normal(0.3, 1.0, 40)
    first, again, other = (sign_flip_test(differences, seed=seed, repetitions=20_000) for seed in (1, 1, 2))
    assert first == again
    assert first != other
    # Under random signs the mean is close to normal with variance Σd²/n²: p by that, within five standard
    # deviations of 20,000 patterns and 0.01 for the approximation (Berry–Esseen allows more).
    p = 2 * stats.norm.sf(abs(differences.sum()) / np.sqrt(np.sum(differences**2)))
    assert first == pytest.approx(p, abs=5 * np.sqrt(p * (1 - p) / 20_000) + 0.01)


def test_random_patterns_never_give_a_p_value_of_zero():
    assert sign_flip_test(np.ones(40), seed=0, repetitions=99) == 1 / 100


def test_settings_without_a_shared_seed_are_refused():
    with pytest.raises(
        UserError, match=r"seeds of y = \[2\]: must be to share at least one with those of x, \[1\]"
    ):
        paired_comparison({1: 1.0}, {2: 1.0}, seed=0)


def test_a_shared_seed_without_a_finite_score_is_refused():
    with pytest.raises(UserError, match="y, seeds shared with x: 1 of 2 are not finite"):
        paired_comparison({1: 1.0, 2: 2.0}, {1: 1.0, 2: float("nan")}, seed=0)


def test_a_single_shared_seed_gives_a_difference_and_no_interval():
    found = paired_comparison({1: 3.0}, {1: 1.0}, seed=0)
    assert found.mean.estimate == 2.0
    assert np.isnan(found.mean.low)
    assert found.p_value == 1.0


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"seed": -1}, "seed = -1"), ({"seed": 0, "repetitions": 0}, "repetitions = 0: must be at least 1")],
)
def test_settings_out_of_range_are_refused_by_the_sign_flip_test(settings, message):
    with pytest.raises(UserError, match=message):
        sign_flip_test([1.0, 2.0], **settings)
