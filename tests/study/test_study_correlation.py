"""Agreement of ranks against definitions counted out, SciPy on single pairs, and hand-made runs."""

import numpy as np
import pytest
from scipy import stats

from escapevelocity.errors import UserError
from escapevelocity.health.metrics import METRICS
from escapevelocity.study.correlation import RANKS, agreement, agreement_over_runs

NAN = float("nan")


def tau_b(x: np.ndarray, y: np.ndarray) -> float:
    """Kendall 1945: (concordant − discordant)/√((pairs untied in x)(pairs untied in y))."""
    first, second = np.triu_indices(len(x), 1)
    a, b = np.sign(x[first] - x[second]), np.sign(y[first] - y[second])
    return float(np.sum(a * b) / np.sqrt(np.sum(a**2) * np.sum(b**2)))


def test_agreement_is_what_the_definitions_say(rng):
    curves = rng.integers(0, 30, (3, 40)).astype(float)  # ranks are whole numbers, with ties
    found = agreement(curves, 64)
    ranked = np.array([stats.rankdata(curve) for curve in curves])
    kendall = [[tau_b(x, y) for y in curves] for x in curves]
    distance = [[np.linalg.norm(x - y) / (np.sqrt(40) * 64) for y in curves] for x in curves]
    np.testing.assert_allclose(found.kendall, kendall, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(found.spearman, np.corrcoef(ranked), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(found.pearson, np.corrcoef(curves), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(found.distance, distance, rtol=1e-12, atol=1e-14)


def test_a_pair_is_what_scipy_says_of_the_points_at_which_both_are_defined(rng):
    curves = rng.normal(size=(2, 30))
    curves[0, :5], curves[1, 20:] = NAN, np.inf
    found = agreement(curves, 8)
    x, y = curves[:, 5:20]
    assert found.kendall[0, 1] == stats.kendalltau(x, y).statistic
    assert found.spearman[1, 0] == pytest.approx(stats.spearmanr(x, y).statistic, rel=1e-14)
    assert found.pearson[0, 1] == pytest.approx(stats.pearsonr(x, y).statistic, rel=1e-14)
    assert found.distance[0, 1] == pytest.approx(np.sqrt(np.mean((x - y) ** 2)) / 8, rel=1e-14)


def test_curves_that_are_always_the_width_apart_have_distance_one():
    found = agreement(np.array([[0.0, 0.0, 0.0], [64.0, 64.0, 64.0]]), 64)
    assert found.distance[0, 1] == 1.0


def test_a_constant_curve_correlates_with_nothing_and_raises_nothing():
    curves = np.array([[1.0, 2.0, 3.0], [5.0, 5.0, 5.0], [NAN, NAN, NAN], [1.0, NAN, NAN]])
    found = agreement(curves, 2)
    for matrix in (found.kendall, found.spearman, found.pearson):
        assert np.argwhere(~np.isnan(matrix)).tolist() == [[0, 0]]
        assert matrix[0, 0] == pytest.approx(1.0, rel=1e-15)
    # ‖(1, 2, 3) − 5‖ = √29; nothing is shared with the third.
    assert found.distance[0, 1] == pytest.approx(np.sqrt(29 / 3) / 2, rel=1e-14)
    assert np.isnan(found.distance[2]).all()


def test_a_curve_that_moves_by_rounding_alone_is_constant():
    found = agreement(np.array([[64.0, 64.0 + 2e-14, 64.0], [1.0, 2.0, 4.0]]), 64)
    assert np.isnan(found.pearson[0, 1])


UP, DOWN, BENT = (
    np.array([1.0, 2.0, 3.0, 4.0]),
    np.array([4.0, 3.0, 2.0, 1.0]),
    np.array([1.0, 3.0, 2.0, 4.0]),
)


def test_mean_and_worst_case_are_over_the_runs_that_are_left():
    runs = [np.array([UP, UP]), np.array([UP, BENT]), np.array([UP, np.full(4, 9.0)])]
    found = agreement_over_runs(runs, 10)
    assert found.left_out == (2,)
    np.testing.assert_array_equal(found.constant, [0, 1])
    np.testing.assert_array_equal(found.defined, [[2, 2], [2, 2]])
    # One of the six pairs of (1, 3, 2, 4) is out of order: τ = 4/6; ρ = 1 − 6·2/(4·15) = 0.8 = r.
    assert found.mean.kendall[0, 1] == pytest.approx((1 + 4 / 6) / 2, rel=1e-14)
    assert found.worst.kendall[0, 1] == pytest.approx(4 / 6, rel=1e-14)
    assert found.mean.spearman[1, 0] == pytest.approx(0.9, rel=1e-14)
    assert found.worst.pearson[0, 1] == pytest.approx(0.8, rel=1e-14)
    # The worst distance is the greatest: √(2/4)/10.
    assert found.worst.distance[0, 1] == pytest.approx(np.sqrt(0.5) / 10, rel=1e-14)
    assert found.mean.distance[0, 1] == pytest.approx(np.sqrt(0.5) / 20, rel=1e-14)


def test_runs_with_a_constant_curve_may_stay_and_are_counted_pair_by_pair():
    flat = np.full(4, 9.0)
    runs = [np.array([UP, DOWN, flat]), np.array([UP, UP, UP])]
    found = agreement_over_runs(runs, 10, leave_out_constant=False)
    assert found.left_out == ()
    np.testing.assert_array_equal(found.constant, [0, 0, 1])
    np.testing.assert_array_equal(found.defined, [[2, 2, 1], [2, 2, 1], [1, 1, 1]])
    assert found.mean.kendall[0, 1] == pytest.approx(0.0, abs=1e-15)
    assert found.worst.kendall[0, 1] == pytest.approx(-1.0, rel=1e-15)
    assert found.mean.kendall[0, 2] == found.worst.kendall[0, 2] == pytest.approx(1.0, rel=1e-15)
    assert found.worst.distance[0, 2] == 0.0  # of the second run, as the correlations are


@pytest.mark.parametrize("leave_out", [True, False])
def test_runs_that_all_collapse_at_once_leave_matrices_of_nan_and_a_count(leave_out):
    found = agreement_over_runs([np.zeros((5, 20)), np.zeros((5, 9))], 64, leave_out_constant=leave_out)
    assert np.isnan(
        [found.mean.kendall, found.worst.pearson, found.mean.distance, found.worst.distance]
    ).all()
    np.testing.assert_array_equal(found.defined, np.zeros((5, 5)))
    np.testing.assert_array_equal(found.constant, [2] * 5)
    assert found.left_out == ((0, 1) if leave_out else ())


def test_each_run_has_its_own_width():
    runs = [np.array([UP, UP + 8]), np.array([UP, UP + 64])]
    found = agreement_over_runs(runs, [16, 512])
    assert found.mean.distance[0, 1] == pytest.approx((8 / 16 + 64 / 512) / 2, rel=1e-14)


def test_the_five_ranks_are_columns_of_the_records():
    names = " ".join(metric.name for metric in METRICS)
    assert len(RANKS) == 5
    for rank in RANKS:
        assert f"/{rank}{{,_after}}" in names


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: agreement(np.ones((2, 3)), 0), "width = 0: must be at least 1"),
        (lambda: agreement_over_runs([], 64), "runs = 0: must be at least one run"),
        (lambda: agreement_over_runs([np.ones((2, 3))], [1, 2]), "one for each of the 1 runs"),
        (
            lambda: agreement_over_runs([np.ones((2, 3)), np.ones((3, 3))], 1),
            r"curves = \[2, 3\]: must be as many",
        ),
    ],
)
def test_what_does_not_fit_is_refused(call, message):
    with pytest.raises(UserError, match=message):
        call()
