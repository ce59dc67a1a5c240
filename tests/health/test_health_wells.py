"""Wells of curves: closed forms for straight pieces, how they scale, and how often noise alone looks like one."""

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from escapevelocity.errors import UserError
from escapevelocity.health import curve_noise, measure_well, noise_depth

MEASURES = ("depth", "onset", "bottom", "duration", "lasted", "area", "final")
curves = arrays(np.float64, st.integers(3, 25), elements=st.integers(-64, 64).map(lambda x: x / 64))


def plain(found):
    assert set(found.reasons) == {name for name, value in found.values.items() if np.isnan(value)}
    return found.values


def test_a_curve_of_straight_pieces_has_the_closed_forms():
    # Up to 1 at step 10, down to 0.4 at 20, up to 1.2 at 40: 0.04 a step, so 1 again at 20 + 0.6/0.04 = 35.
    found = plain(measure_well([0, 10, 20, 40], [0.0, 1.0, 0.4, 1.2]))
    assert (found["onset"], found["bottom"]) == (10, 20)
    assert found["depth"] == pytest.approx(0.6)
    assert found["duration"] == found["lasted"] == pytest.approx(25)
    assert found["censored"] == 0
    # Trapezoids: 10·(0 + 0.6)/2 + 20·(0.6 + 0)/2.
    assert found["area"] == pytest.approx(9)
    assert found["final"] == 1.2
    assert found["min_depth"] == 0


def test_many_points_on_straight_pieces_give_the_integral():
    steps = np.arange(0, 4001, 10)
    values = np.interp(steps, [0, 1000, 2000, 4000], [0.0, 1.0, 0.4, 1.2])
    found = plain(measure_well(steps, values))
    assert found["noise"] == pytest.approx(0, abs=1e-12)
    assert found["depth"] == pytest.approx(0.6)
    assert found["onset"] == 1000
    assert found["duration"] == pytest.approx(2500)
    # The triangle between M = 1 and the curve: 2500·0.6/2, exact where a point lies on the crossing.
    assert found["area"] == pytest.approx(750)


def test_the_deepest_of_two_wells_is_measured_and_the_area_counts_both():
    steps = np.arange(7)
    found = plain(measure_well(steps, [0.0, 1.0, 0.8, 1.0, 2.0, 1.0, 2.0], min_depth=0))
    assert (found["depth"], found["onset"], found["bottom"], found["duration"]) == (1, 4, 5, 2)
    assert found["area"] == pytest.approx(0.2 + 1)


def test_a_drop_begins_where_the_maximum_was_last_held():
    found = plain(measure_well([0, 1, 2, 3, 4], [1.0, 1.0, 1.0, 0.0, 1.0], min_depth=0))
    assert (found["onset"], found["bottom"], found["duration"]) == (2, 3, 2)


def test_a_maximum_that_is_never_regained_is_censored():
    found = measure_well([0, 10, 20, 30], [0.0, 1.0, 0.2, 0.9], min_depth=0)
    assert plain(found)["censored"] == 1
    assert math.isnan(found.values["duration"])
    assert found.reasons["duration"] == "the old maximum is not regained by the last step, 30"
    assert found.values["lasted"] == 20
    # 10·0.8/2 + 10·(0.8 + 0.1)/2.
    assert found.values["area"] == pytest.approx(8.5)


@pytest.mark.parametrize("values", [[0.0, 0.1, 0.5, 0.6], [0.3, 0.3, 0.3, 0.3]])
def test_a_curve_that_never_falls_has_no_well(values):
    found = measure_well([0, 1, 2, 3], values)
    for name in ("depth", "duration", "lasted", "area", "censored"):
        assert plain(found)[name] == 0
    assert "never falls below its running maximum" in found.reasons["onset"]
    assert found.values["final"] == values[-1]


@pytest.mark.parametrize(
    ("values", "count"), [([], 0), ([0.5], 1), ([np.nan, 0.5, np.inf], 1), ([np.nan] * 3, 0)]
)
def test_fewer_than_two_points_are_undefined_with_the_reason(values, count):
    found = measure_well(np.arange(len(values)), np.array(values, float))
    assert all(np.isnan(value) for value in plain(found).values())
    assert set(found.reasons.values()) == {f"a well needs two points, there are {count}"}


def test_two_points_have_no_noise_and_may_have_a_well():
    found = measure_well([0, 1], [1.0, 0.0])
    assert plain(found)["depth"] == 1
    assert found.reasons["noise"] == "noise needs 8 points, there are 2"


def test_holes_are_as_if_the_points_were_not_there():
    steps = np.arange(8.0)
    values = np.array([0.0, 1.0, np.nan, 0.4, np.inf, -np.inf, 0.9, 1.3])
    kept = np.isfinite(values)
    with_holes, without = measure_well(steps, values), measure_well(steps[kept], values[kept])
    np.testing.assert_equal(with_holes.values, without.values)
    assert with_holes.reasons == without.reasons


def test_smoothing_is_a_centred_mean_that_narrows_at_the_ends():
    values = np.array([0.0, 3.0, 0.0, 3.0, 6.0, 0.0, 3.0])
    # By hand: 0; (0+3+0)/3 = 1; 2; 3; 3; 3; 3.
    found = plain(measure_well(np.arange(7), values, window=3, min_depth=0))
    assert found["depth"] == pytest.approx(0, abs=1e-12)
    assert found["final"] == 3
    # Five points: 0; 1; (0+3+0+3+6)/5 = 2.4; 2.4; 2.4; 3; 3.
    assert plain(measure_well(np.arange(7), values, window=5, min_depth=0))["depth"] == pytest.approx(
        0, abs=1e-12
    )
    longer = np.tile(values, 2)
    raw = plain(measure_well(np.arange(14), longer))["noise"]
    smooth = plain(measure_well(np.arange(14), longer, window=5))["noise"]
    assert smooth == pytest.approx(raw / math.sqrt(5))


def test_the_final_gain_is_the_difference_of_the_last_values():
    reference = ([0, 5, 9], [0.1, 0.2, 0.35])
    found = plain(measure_well([0, 1, 2], [0.1, 0.0, 0.6], reference=reference))
    assert found["final_gain"] == pytest.approx(0.25)
    # The last value has no neighbours on one side: smoothing leaves it.
    found = plain(measure_well([0, 1, 2], [0.1, 0.0, 0.6], reference=reference, window=3))
    assert found["final_gain"] == pytest.approx(0.25)
    assert measure_well([0, 1], [0.0, 1.0]).reasons["final_gain"] == "no reference curve was given"
    empty = measure_well([0, 1], [0.0, 1.0], reference=([0], [np.nan]))
    assert empty.reasons["final_gain"] == "the reference curve has no finite value"


@settings(deadline=None, max_examples=200)
@given(curves, st.sampled_from([1, 3, 5]), st.integers(-3, 3), st.integers(-8, 8))
def test_a_shift_changes_only_the_final_value_and_a_factor_multiplies(values, window, exponent, shift):
    factor = 2.0**exponent
    steps = np.arange(len(values)) * 7.0
    one = measure_well(steps, values, window=window, min_depth=1e-6).values
    # Powers of two and sixty-fourths: exact, so that ties stay ties; smoothing adds rounding.
    other = measure_well(steps, factor * values + shift, window=window, min_depth=factor * 1e-6).values
    for name in ("depth", "area", "noise"):
        assert other[name] == pytest.approx(factor * one[name], rel=1e-9, abs=1e-9, nan_ok=True)
    assert other["final"] == pytest.approx(factor * one["final"] + shift, abs=1e-9)
    if window == 1:
        for name in ("onset", "bottom", "duration", "lasted"):
            assert other[name] == pytest.approx(one[name], rel=1e-9, nan_ok=True)


@settings(deadline=None, max_examples=200)
@given(curves, st.integers(-3, 3), st.integers(-100, 100))
def test_a_factor_on_the_steps_multiplies_times_and_area(values, exponent, shift):
    factor = 2.0**exponent
    steps = np.cumsum(1 + np.arange(len(values)) % 3).astype(float)
    one = measure_well(steps, values).values
    other = measure_well(factor * steps + shift, values).values
    for name in ("depth", "final", "noise", "censored"):
        assert other[name] == pytest.approx(one[name], rel=1e-9, abs=1e-12, nan_ok=True)
    for name in ("duration", "lasted", "area"):
        assert other[name] == pytest.approx(factor * one[name], rel=1e-9, nan_ok=True)
    for name in ("onset", "bottom"):
        assert other[name] == pytest.approx(factor * one[name] + shift, rel=1e-9, nan_ok=True)


@settings(deadline=None, max_examples=200)
@given(curves)
def test_the_measures_are_those_of_a_loop_over_all_pairs_of_points(values):
    found = measure_well(np.arange(len(values)), values, min_depth=0).values
    pairs = [(values[i] - values[j], i, j) for i in range(len(values)) for j in range(i, len(values))]
    depth = max(drop for drop, _, _ in pairs)
    assert found["depth"] == pytest.approx(max(depth, 0), abs=1e-12)
    assume(depth > 0)
    assert (depth, found["onset"], found["bottom"]) in pairs
    area = sum(
        (max(values[: i + 1]) - values[i] + max(values[: i + 2]) - values[i + 1]) / 2
        for i in range(len(values) - 1)
    )
    assert found["area"] == pytest.approx(area)


def test_noise_is_estimated_on_any_course_and_any_spacing(rng):
    steps = np.cumsum(rng.uniform(0.5, 1.5, 4000))
    course = np.interp(steps, [0, 1000, 2000, steps[-1]], [0.0, 1.0, 0.4, 1.2])
    estimate = curve_noise(steps, course + rng.normal(0, 0.02, 4000))
    # A median of n absolute normal values has a relative standard error of 1.17/√n, more for neighbouring residuals,
    # which overlap: 4 % is above three of them.
    assert estimate == pytest.approx(0.02, rel=0.04)
    assert curve_noise(steps, course) == pytest.approx(0, abs=1e-12)


def test_noise_alone_is_rarely_called_a_well(rng):
    wells = 0
    for _ in range(300):
        points = int(rng.integers(20, 200))
        found = measure_well(np.arange(points), 0.5 + rng.normal(0, 0.02, points))
        wells += found.values["depth"] > 0
    # An allowance of 5 % and six standard deviations of a count of 300: 15 + 6·3.8.
    assert wells <= 38


def test_the_depth_of_noise_is_twice_the_bound_on_the_largest_of_n_normals(rng):
    # e^2 points: √(2·2) = 2, so 4σ.
    assert noise_depth(0.5, 10**6) == pytest.approx(math.sqrt(2 * math.log(10**6)))
    assert noise_depth(0.5, 1) == noise_depth(math.nan, 5) == 0
    for points in (5, 50, 500):
        samples = rng.normal(0, 1, (400, points))
        assert np.ptp(samples, axis=1).mean() < noise_depth(1.0, points)


def test_the_well_of_a_noisy_plunge_is_found_near_where_it_was_put(rng):
    steps = np.arange(0, 4001, 10)
    truth = np.interp(steps, [0, 1000, 2000, 4000], [0.2, 0.8, 0.4, 0.9])
    found = plain(measure_well(steps, truth + rng.normal(0, 0.01, len(steps)), window=9))
    # Noise of a mean of nine: 0.0033; the largest of many lies three of them above, and smoothing rounds corners by
    # the slopes times two points.
    assert found["depth"] == pytest.approx(0.4, abs=0.03)
    assert found["onset"] == pytest.approx(1000, abs=60)
    assert found["duration"] == pytest.approx(2600, abs=150)


@pytest.mark.parametrize(
    ("steps", "values", "options", "message"),
    [
        (
            [0, 1],
            [0.0, 1.0, 2.0],
            {},
            r"values has shape \(3,\): must be one value for each of steps, \(2,\)",
        ),
        ([[0], [1]], [[0.0], [1.0]], {}, r"values has shape \(2, 1\): must be one value for each"),
        ([0, 0], [0.0, 1.0], {}, r"steps = 'not rising': must be finite numbers, each above the one before"),
        ([0, np.inf], [0.0, 1.0], {}, "steps = 'not rising'"),
        (["a"], [1.0], {}, "steps: must be an array of real numbers"),
        ([0, 1], [0.0, 1.0], {"window": 2}, "window = 2: must be an odd number of at least 1"),
        ([0, 1], [0.0, 1.0], {"min_depth": -1}, "min_depth = -1: must be a finite number of at least 0"),
        ([0, 1], [0.0, 1.0], {"reference": ([0, 1], [1.0])}, r"reference has shape \(1,\)"),
    ],
)
def test_curves_that_are_none_are_refused(steps, values, options, message):
    with pytest.raises(UserError, match=message):
        measure_well(steps, values, **options)
