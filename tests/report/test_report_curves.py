"""Smoothing and thinning against hand arithmetic and scipy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import lfilter
from scripted_runs import BATCH, make_row

from escapevelocity.report._curves import curve, moving_average, newest_weight, thinned

NAN = float("nan")


def test_the_moving_average_is_the_recurrence_worked_by_hand():
    # 0.95·1 + 0.05·2 = 1.05; 0.95·1.05 + 0.05·4 = 1.1975
    np.testing.assert_allclose(moving_average(np.array([1.0, 2.0, 4.0])), [1.0, 1.05, 1.1975], rtol=1e-15)


def test_a_gap_stays_a_gap_and_leaves_the_average_where_it_was():
    smoothed = moving_average(np.array([NAN, 1.0, NAN, NAN, 2.0]))
    np.testing.assert_allclose(smoothed, [NAN, 1.0, NAN, NAN, 1.05], rtol=1e-15)


def test_an_infinite_point_is_a_gap_and_does_not_swallow_the_rest():
    smoothed = moving_average(np.array([1.0, float("inf"), 2.0]))
    np.testing.assert_allclose(smoothed, [1.0, NAN, 1.05], rtol=1e-15)


@settings(deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=50), st.floats(0.01, 1.0))
def test_the_moving_average_is_a_first_order_filter_started_at_the_first_value(values, alpha):
    x = np.array(values)
    filtered, _ = lfilter([alpha], [1.0, alpha - 1.0], x, zi=[(1.0 - alpha) * x[0]])
    # Sums of at most 50 terms of size 1e6: rounding stays below 50 · 1e6 · 2^-52 < 1e-7.
    np.testing.assert_allclose(moving_average(x, alpha), filtered, rtol=1e-9, atol=1e-7)


def test_a_long_run_is_thinned_to_the_last_batch_of_every_tenth_of_a_percent():
    steps = np.arange(1, 4001) * 10.0  # 40,000 steps: 0.1 % are 40 steps, 4 batches
    np.testing.assert_array_equal(steps[thinned(steps, 40_000.0)], np.arange(1, 1001) * 40.0)


@pytest.mark.parametrize("batches", [1000, 1001, 1999, 2441, 32_552])
def test_a_tenth_of_a_percent_has_one_point_whatever_the_last_bits_of_a_division(batches):
    steps = 2048.0 * np.arange(1, batches + 1)
    assert thinned(steps, float(steps[-1])).size == 1000


def test_a_run_of_less_than_a_thousand_batches_is_not_thinned():
    steps = np.arange(1, 61) * 2048.0
    np.testing.assert_array_equal(thinned(steps, 60 * 2048.0), np.arange(60))


def test_minimum_and_maximum_are_taken_over_seeds_before_they_are_smoothed(run_of):
    # Crossing seeds: minima are 0, 0 and maxima 10, 10. Smoothing each seed first would give 0.5 and 9.5.
    values = {1: [0.0, 10.0], 2: [10.0, 0.0]}
    rows = [make_row(s, b, perf__return_mean=values[s][b]) for b in range(2) for s in (1, 2)]
    run = run_of(rows)
    found = curve(run, run.records(), "perf/return_mean")
    np.testing.assert_array_equal(found.steps, [BATCH, 2 * BATCH])
    np.testing.assert_array_equal(found.low, [0.0, 0.0])
    np.testing.assert_array_equal(found.high, [10.0, 10.0])
    np.testing.assert_array_equal(found.mean, [5.0, 5.0])
    assert found.ends == ()


def test_where_one_seed_is_undefined_the_others_count_and_where_all_are_there_is_a_gap(run_of):
    values = {1: [1.0, NAN, NAN, 2.0], 2: [3.0, 4.0, NAN, 2.0]}
    run = run_of(
        [make_row(s, b, trust__ratio_below_mean=values[s][b]) for b in range(4) for s in (1, 2)], batches=1000
    )
    found = curve(run, run.records(), "trust/ratio_below_mean")
    # Means over seeds 2, 4, –, 2; smoothed: 2, 0.95·2 + 0.05·4 = 2.1, –, 0.95·2.1 + 0.05·2 = 2.095.
    np.testing.assert_allclose(found.mean, [2.0, 2.1, NAN, 2.095], rtol=1e-15)
    # Maxima 3, 4, –, 2; smoothed: 3, 3.05, –, 2.9975.
    np.testing.assert_allclose(found.high, [3.0, 3.05, NAN, 2.9975], rtol=1e-15)
    assert found.ends == ()  # an undefined value is not an end


def test_batches_on_which_nothing_was_measured_are_no_points_of_the_curve(run_of):
    rows = [make_row(1, b) for b in range(4)]
    for b in (1, 3):
        del rows[b]["health/actor/dead_neurons"]
    run = run_of(rows)
    found = curve(run, run.records(), "health/actor/dead_neurons")
    np.testing.assert_array_equal(found.steps, [BATCH, 3 * BATCH])
    np.testing.assert_array_equal(found.mean, [2.0, 2.0])


def test_a_frozen_seed_ends_where_it_was_frozen_and_the_others_go_on(run_of):
    rows = [make_row(s, b, perf__return_mean=float(s)) for b in range(4) for s in (1, 3) if s == 1 or b < 2]
    rows[3]["fault"] = "seed 3, batch 1: non-finite loss"
    run = run_of(rows, batches=1000)
    found = curve(run, run.records(), "perf/return_mean")
    assert found.ends == ((2.0 * BATCH, 3.0),)
    # Means 2, 2, 1, 1; smoothed: 2, 2, 1.95, 0.95·1.95 + 0.05 = 1.9025.
    np.testing.assert_allclose(found.mean, [2.0, 2.0, 1.95, 1.9025], rtol=1e-15)


def test_a_seed_that_only_lacks_the_last_row_of_an_interrupted_run_is_not_frozen(run_of):
    run = run_of([make_row(1, 0), make_row(2, 0), make_row(1, 1)])
    assert curve(run, run.records(), "perf/return_mean").ends == ()


def test_a_column_that_was_never_recorded_is_an_empty_curve(run_of):
    run = run_of([make_row()])
    assert not curve(run, run.records(), "capacity/actor").is_measured
    assert curve(run, run.records(), "trust/kl").is_measured


@pytest.mark.parametrize("total", [1000.0, 5_000_000.0])
def test_thinning_nothing_gives_nothing(total):
    assert thinned(np.zeros(0), total).size == 0


def test_a_thousand_points_are_averaged_with_the_papers_weight():
    assert newest_weight(np.arange(1.0, 1001.0), 1000.0) == pytest.approx(0.05, rel=1e-12)
    assert newest_weight(np.arange(1.0, 2442.0, 2.441), 2441.0) == pytest.approx(0.05, rel=1e-9)


def test_a_short_run_forgets_over_the_same_share_of_the_run():
    # Ten of 100 points are as much of the run as a hundred of 1,000: what is left of the start is 0.95^100.
    for batches in (1500, 1700, 32_552):  # The kept points are not equally far apart.
        steps = np.arange(1.0, batches + 1)
        kept = steps[thinned(steps, float(batches))]
        assert kept.size == 1000
        assert newest_weight(kept, float(batches)) == pytest.approx(0.05, rel=2e-3)
    alpha = newest_weight(np.arange(1.0, 101.0), 100.0)
    assert (1.0 - alpha) ** 10 == pytest.approx(0.95**100, rel=1e-9)
    # Fifty batches: the last value is what the curve ends on, not a tenth of the way there.
    values = np.linspace(0.0, 1.0, 50)
    assert moving_average(values, newest_weight(np.arange(1.0, 51.0), 50.0))[-1] > 0.98
