"""The middle of several seeds: against scipy's trimmed mean, and with seeds that die or pause."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scripted_runs import BATCH, make_row

from escapevelocity.report._panels import PANELS
from escapevelocity.report.page import render
from escapevelocity.report.page_curves import charts_of, traced_run
from escapevelocity.report.page_middle import frozen_marks, held, interquartile_band
from escapevelocity.study.bootstrap import bootstrap_interval
from escapevelocity.study.report_page import runs_page
from escapevelocity.study.report_tables import last_values
from escapevelocity.study.statistics import iqm

NAN = math.nan


@settings(max_examples=25)
@given(seeds=st.integers(1, 9), number=st.integers(0, 99))
def test_the_middle_is_the_interquartile_mean(seeds, number):
    values = np.random.default_rng(number).normal(size=(seeds, 7))
    middle, low, high = interquartile_band(values, 50)
    np.testing.assert_allclose(middle, stats.trim_mean(values, 0.25, axis=0), atol=1e-12)
    if seeds > 1:
        assert (low <= high).all()
        assert (low >= values.min(axis=0) - 1e-12).all()
        assert (high <= values.max(axis=0) + 1e-12).all()
    else:
        assert np.isnan([low, high]).all()


def test_the_band_is_the_bootstrap_interval_of_the_studies():
    values = np.random.default_rng(3).normal(size=(10, 1))
    _, low, high = interquartile_band(values, 4000)
    expected = bootstrap_interval(values[:, 0], iqm, seed=1, repetitions=20_000)
    # A quantile at 2.5 % of 4,000 resamples is good to ±0.25 % in probability, some 0.03 here.
    np.testing.assert_allclose([low[0], high[0]], [expected.low, expected.high], atol=0.06)


def test_undefined_seeds_are_left_out_of_the_middle():
    values = np.array([[1.0, np.nan], [3.0, np.nan], [np.nan, np.nan]])
    middle, low, high = interquartile_band(values, 50)
    assert middle[0] == 2.0
    assert np.isnan([middle[1], low[1], high[1]]).all()


def test_a_pause_is_held_and_an_end_is_not():
    steps = np.arange(1.0, 7.0)
    values = np.array(
        [
            [NAN, 1.0, NAN, NAN, 2.0, NAN],
            [5.0, 6.0, 7.0, NAN, 8.0, 9.0],
            [3.0, 4.0, NAN, NAN, NAN, NAN],
        ]
    )
    expected = [
        [NAN, 1.0, 1.0, NAN, 2.0, 2.0],  # Nothing before its first value.
        [5.0, 6.0, 7.0, NAN, 8.0, 9.0],  # Where nobody has a value there is a gap.
        [3.0, 4.0, 4.0, NAN, NAN, NAN],  # Frozen at the third step.
    ]
    np.testing.assert_array_equal(held(steps, (7, 8, 9), values, {9: 3.0}), expected)


def test_many_seeds_that_freeze_are_one_mark():
    assert frozen_marks({}, 0) == ()
    (mark,) = frozen_marks({seed: 100.0 - seed for seed in range(5)}, 2)
    assert (mark.x, mark.label, mark.group) == (96.0, "5 seeds frozen from here on", 2)
    (mark,) = frozen_marks(dict.fromkeys(range(5), 9.0), 0)
    assert mark.label == "5 seeds frozen"


@pytest.fixture
def died(run_of):
    """Returns of 100, 100 and 10; the third seed is frozen after five of ten batches."""
    level = {1: 100.0, 2: 100.0, 3: 10.0}
    rows = [
        make_row(seed, batch, perf__return_mean=level[seed])
        | {"fault": "seed 3, batch 4: loss is nan" if (seed, batch) == (3, 4) else ""}
        for batch in range(10)
        for seed in (1, 2, 3)
        if seed != 3 or batch <= 4
    ]
    return run_of(rows, "died", seeds=(1, 2, 3))


def test_a_seed_that_dies_is_marked_and_explained(died):
    (chart, *_) = charts_of([traced_run(died, "died", 0)], PANELS, "ppo")
    assert [(mark.x, mark.label) for mark in chart.marks] == [(5 * BATCH, "seed 3 frozen")]
    page = runs_page([died.path], lambda run, diagnosis: [], "0")
    html = render(page)
    assert "where a seed was frozen by a fault: from there the thick line is over the others" in html
    assert "seed 3 frozen at 10,240" in html


def test_a_seed_that_died_keeps_its_last_values_in_tables(died):
    assert last_values(traced_run(died, "died", 0), "perf/return_mean") == {1: 100.0, 2: 100.0, 3: 10.0}


def test_batches_without_an_episode_make_no_zigzag(run_of):
    level = {1: 10.0, 2: 100.0, 3: 1000.0}
    rows = [
        make_row(seed, batch, perf__return_mean=level[seed] if batch < 3 or (batch + seed) % 3 else NAN)
        for batch in range(10)
        for seed in (1, 2, 3)
    ]
    run = run_of(rows[:-2], "paused", seeds=(1, 2, 3))  # Interrupted within its last batch.
    (chart, *_) = charts_of([traced_run(run, "paused", 0)], PANELS, "ppo")
    (thick,) = [line for line in chart.lines if not line.thin]
    np.testing.assert_allclose(thick.y, 370.0)
    assert chart.marks == ()
