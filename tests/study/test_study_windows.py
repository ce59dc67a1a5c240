"""Smoothing and windows of the paper's figures, against hand-made expectations."""

import numpy as np
import pytest
from scipy.signal import lfilter

from escapevelocity.errors import UserError
from escapevelocity.study.windows import excess_ratio, last_steps, last_window, low_ratios, smoothed

NAN = float("nan")


def ema(values: np.ndarray, alpha: float) -> np.ndarray:
    """y₀ = x₀, y_t = α·x_t + (1 − α)·y_{t−1}, as a linear filter."""
    return lfilter([alpha], [1.0, alpha - 1.0], values, zi=[(1 - alpha) * values[0]])[0]


def test_mean_minimum_and_maximum_over_seeds_are_smoothed_each_after_thinning(rng):
    # 4,000 records: four in each 0.1 %, of which the last counts, so that α is the paper's 0.05.
    steps = np.arange(1.0, 4001.0)
    values = rng.normal(size=(5, 4000))
    curve = smoothed(steps, values, 4000.0)
    kept = values[:, 3::4]
    np.testing.assert_array_equal(curve.steps, steps[3::4])
    for band, reduced in (
        (curve.mean, kept.mean(axis=0)),
        (curve.low, kept.min(axis=0)),
        (curve.high, kept.max(axis=0)),
    ):
        np.testing.assert_allclose(band, ema(reduced, 0.05), rtol=1e-9, atol=1e-12)
    assert curve.ends == ()


def test_thinning_what_is_thinned_already_changes_nothing(rng):
    steps, values = np.arange(1.0, 4001.0), rng.normal(size=(2, 4000))
    whole, thin = smoothed(steps, values, 4000.0), smoothed(steps[3::4], values[:, 3::4], 4000.0)
    np.testing.assert_array_equal(whole.mean, thin.mean)


def test_the_band_skips_undefined_values_and_is_undefined_where_all_are():
    steps = np.array([250.0, 500.0, 750.0, 1000.0])
    values = np.array([[1.0, NAN, NAN, 4.0], [3.0, 5.0, NAN, NAN]])
    # Four points of a run forget over the share of it that 1,000 would: α = 1 − 0.95^250.
    alpha = 1 - 0.95**250
    curve = smoothed(steps, values, 1000.0)
    second = 2 + alpha * 3
    np.testing.assert_allclose(curve.mean, [2, second, NAN, second + alpha * (4 - second)], rtol=1e-12)


def test_a_seed_that_was_frozen_is_marked_where_it_ended():
    steps = np.arange(1.0, 1001.0)
    values = np.vstack([np.full(1000, 2.0), np.full(1000, 8.0)])
    values[1, 600:] = NAN
    ends = last_steps(steps, values)
    np.testing.assert_array_equal(ends, [1000.0, 600.0])
    curve = smoothed(steps, values, 1000.0, ends)
    assert curve.ends == ((600.0, 8.0),)
    assert curve.mean[599] == 5.0
    assert curve.mean[600] == 5.0 + 0.05 * (2.0 - 5.0)


def test_a_seed_that_lacks_the_last_point_only_is_not_marked_as_frozen():
    steps = np.arange(1.0, 11.0)
    values = np.ones((2, 10))
    values[1, 9:] = NAN
    assert smoothed(steps, values, 10.0, last_steps(steps, values)).ends == ()


def test_the_last_steps_of_a_seed_without_records_are_undefined():
    found = last_steps(np.array([1.0, 2.0]), np.array([[1.0, NAN], [NAN, NAN]]))
    np.testing.assert_array_equal(found, [1.0, NAN])


def test_the_last_window_holds_the_points_from_95_percent_of_training_on():
    steps = np.arange(1.0, 1001.0)
    window = last_window(steps, np.vstack([steps, -steps]))
    # 950 to 1000: the threshold itself belongs to it, as in the paper's code.
    np.testing.assert_array_equal(window.points, [51, 51])
    np.testing.assert_array_equal(window.mean, [975.0, -975.0])


def test_the_last_window_skips_undefined_values():
    values = np.array([[NAN] * 18 + [7.0, NAN], [NAN] * 20, [9.0] * 18 + [1.0, 2.0]])
    window = last_window(np.arange(1.0, 21.0), values)  # the window: steps 19 and 20
    np.testing.assert_array_equal(window.mean, [7.0, NAN, 1.5])
    np.testing.assert_array_equal(window.points, [1, 0, 2])


def test_a_frozen_seed_has_a_last_window_of_its_own_only_where_its_end_is_given():
    steps = np.arange(1.0, 101.0)
    values = np.vstack([steps, np.where(steps <= 40, steps, NAN)])
    window = last_window(steps, values)
    np.testing.assert_array_equal(window.mean, [97.5, NAN])
    own = last_window(steps, values, ends=last_steps(steps, values))
    np.testing.assert_array_equal(own.mean, [97.5, 39.0])  # 38, 39, 40
    np.testing.assert_array_equal(own.points, [6, 3])


def test_what_lies_beyond_a_given_end_does_not_count():
    steps = np.arange(1.0, 1001.0)
    values = np.where(steps <= 400, steps, 1e6)[None]
    end = np.array([400.0])  # to compare with a run that got no further
    assert last_window(steps, values, ends=end).mean[0] == 390.0  # 380 to 400
    assert excess_ratio(steps, values, np.ones((1, 1000)), continuous=True, ends=end).ratio[0] == 390.0


def test_the_excess_ratio_is_the_mean_of_quotients_and_not_the_quotient_of_means():
    steps = np.arange(1.0, 1001.0)
    above, below = np.full((1, 1000), 3.0), np.full((1, 1000), 0.5)
    above[0, -1], below[0, -1] = 9.0, 0.1  # quotients: 50 times 6, once 90
    found = excess_ratio(steps, above, below, continuous=True)
    assert (found.start[0], found.end[0], found.points[0]) == (950.0, 1000.0, 51)
    assert found.ratio[0] == pytest.approx((50 * 6 + 90) / 51, rel=1e-12)


def test_the_excess_ratio_moves_back_to_the_latest_window_with_ten_points():
    steps = np.arange(1.0, 1001.0)
    above, below = np.full((2, 1000), NAN), np.full((2, 1000), 0.5)
    # Twelve points from 301 to 312, nine near the end: the nine make no window, nor do they with the twelve.
    above[0, 300:312] = np.arange(1.0, 13.0)
    above[0, 990:999] = 100.0
    # Points every 6 steps: a window of 50 reaches back over nine of them (48 steps): never ten.
    above[1, ::6] = 2.0
    found = excess_ratio(steps, above, below, continuous=True)
    np.testing.assert_array_equal(found.points, [12, 0])
    np.testing.assert_array_equal(found.start, [301.0, NAN])
    np.testing.assert_array_equal(found.end, [312.0, NAN])
    np.testing.assert_array_equal(found.ratio, [13.0, NAN])  # mean of 1…12 is 6.5, over 0.5


def test_a_window_of_the_excess_ratio_with_ten_points_suffices_and_may_end_before_the_last_of_them():
    steps = np.arange(1.0, 1001.0)
    above, below = np.full((1, 1000), NAN), np.full((1, 1000), 0.5)
    above[0, [500, 505, 510, 515, 520, 525, 530, 535, 540, 545, 599]] = 1.0
    above[0, 599] = 50.0  # 600 − 50 = 550 leaves it alone; the window that ends at 546 holds ten
    found = excess_ratio(steps, above, below, continuous=False)
    assert (found.start[0], found.end[0], found.points[0], found.ratio[0]) == (501.0, 546.0, 10, 2.0)


def test_the_excess_ratio_needs_both_means_at_a_point():
    steps = np.arange(1.0, 101.0)
    above, below = np.full((1, 100), 2.0), np.full((1, 100), 0.5)
    above[0, 1::2], below[0, ::2] = NAN, NAN
    assert np.isnan(excess_ratio(steps, above, below, continuous=True, share=0.5).ratio[0])


def test_means_of_continuous_actions_are_clipped_before_the_quotient():
    steps = np.arange(1.0, 11.0)
    above, below = np.full((1, 10), 1e30), np.full((1, 10), 1e-30)
    window = {"share": 1.0, "least": 10}
    assert excess_ratio(steps, above, below, continuous=True, **window).ratio[0] == pytest.approx(
        1e24, rel=1e-12
    )
    assert excess_ratio(steps, above, below, continuous=False, **window).ratio[0] == pytest.approx(
        1e60, rel=1e-12
    )
    infinite = excess_ratio(steps, above, np.zeros((1, 10)), continuous=False, **window)
    assert infinite.ratio[0] == np.inf


def test_a_frozen_seed_has_the_excess_ratio_of_its_own_last_5_percent():
    steps = np.arange(1.0, 1001.0)
    above, below = np.vstack([steps, steps]), np.ones((2, 1000))
    above[1, 400:] = NAN
    ends = last_steps(steps, above)
    found = excess_ratio(steps, above, below, continuous=True, ends=ends)
    np.testing.assert_array_equal(found.start, [950.0, 380.0])  # 5 % of 1000 and of 400
    np.testing.assert_array_equal(found.ratio, [975.0, 390.0])
    # Without its end, its windows are as wide as those of the others.
    assert excess_ratio(steps, above, below, continuous=True).start[1] == 350.0


def test_low_ratios_are_the_windows_with_the_lowest_means_and_what_was_measured_there():
    steps = np.arange(1.0, 1001.0)
    window = np.repeat(np.arange(100.0), 10)  # window k: steps 10k + 1 to 10k + 10
    below = ((window * 37) % 100) / 100  # a permutation: 37 and 100 share no factor
    spread = np.tile(np.linspace(-1, 1, 10), 100) * 1e-3  # leaves means as they are
    found = low_ratios(steps, (below + spread)[None], {"rank": (2 * window + spread)[None]}, 1000.0)
    np.testing.assert_allclose(found.ratio[0], np.arange(20) / 100, rtol=0, atol=1e-12)
    order = [next(k for k in range(100) if (k * 37) % 100 == place) for place in range(20)]
    np.testing.assert_array_equal(found.steps[0], [10.0 * (k + 1) for k in order])
    np.testing.assert_allclose(found.others["rank"][0], [2.0 * k for k in order], rtol=0, atol=1e-12)


def test_low_ratios_count_only_points_with_a_ratio_and_pad_seeds_that_have_fewer_windows():
    steps = np.arange(10.0, 61.0, 10.0)  # two points in each of three windows of 20
    below = np.array([[0.5, NAN, NAN, NAN, 0.1, 0.3], [NAN] * 6])
    dead = np.array([[1.0, 100.0, 7.0, 7.0, 2.0, 4.0], [0.0] * 6])
    norm = np.array([[NAN, 9.0, 9.0, 9.0, NAN, 5.0], [0.0] * 6])
    found = low_ratios(steps, below, {"dead": dead, "norm": norm}, 60.0, windows=3, lowest=4)
    np.testing.assert_allclose(found.ratio, [[0.2, 0.5, NAN, NAN], [NAN] * 4])
    np.testing.assert_array_equal(found.steps, [[60.0, 20.0, NAN, NAN], [NAN] * 4])
    np.testing.assert_array_equal(found.others["dead"], [[3.0, 1.0, NAN, NAN], [NAN] * 4])
    np.testing.assert_array_equal(found.others["norm"], [[5.0, NAN, NAN, NAN], [NAN] * 4])


@pytest.mark.parametrize("total", [5_000_000.0, 4_999_168.0, 200_704.0, 1e8, 2048.0 * 7])
def test_every_window_holds_its_tenth_of_a_percent_points_whatever_the_length_of_the_run(total):
    steps = np.arange(1, 1001) * total / 1000
    found = low_ratios(steps, np.ones((1, 1000)), {"own": np.arange(1000.0)[None]}, total, lowest=101)
    # Ten consecutive numbers average to 10k + 4.5; equal ratios keep their order; there is no window 101.
    np.testing.assert_array_equal(found.others["own"][0], [*(10 * np.arange(100) + 4.5), NAN])


def test_curves_without_points_give_nothing_and_no_error():
    steps, values = np.zeros(0), np.zeros((2, 0))
    assert not smoothed(steps, values, 10.0).is_measured
    np.testing.assert_array_equal(last_window(steps, values).mean, [NAN, NAN])
    np.testing.assert_array_equal(excess_ratio(steps, values, values, continuous=True).ratio, [NAN, NAN])
    assert np.isnan(low_ratios(steps, values, {}, 10.0).ratio).all()
    np.testing.assert_array_equal(last_steps(steps, values), [NAN, NAN])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s, v: smoothed(s, v, 0.0), "total = 0.0: must be positive"),
        (lambda s, v: smoothed(s[::-1], v, 1.0), "steps = .* increasing environment steps"),
        (lambda s, v: last_window(s, v, share=1.5), r"share = 1.5: must be in \(0, 1\]"),
        (lambda s, v: excess_ratio(s, v, v, continuous=True, least=0), "least = 0: must be at least 1"),
        (
            lambda s, v: low_ratios(s, v, {"a": v, "b": v[:, :2]}, 3.0),
            r"b.shape = \(2, 2\): must be \(seeds, 3\)",
        ),
        (lambda s, v: low_ratios(s, v, {}, 3.0, windows=0), "windows = 0: must be at least 1"),
        (lambda s, v: low_ratios(s, v, {}, 3.0, lowest=0), "lowest = 0: must be at least 1"),
        (lambda s, v: low_ratios(s, v, {}, -1.0), "total = -1.0: must be positive"),
    ],
)
def test_what_does_not_fit_is_refused(call, message):
    with pytest.raises(UserError, match=message):
        call(np.array([1.0, 2.0, 3.0]), np.ones((2, 3)))
