"""Bootstrap intervals: rliable's within Monte Carlo error, repeatable by their seed, honest about five runs."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from escapevelocity.errors import UserError
from escapevelocity.study.bootstrap import REPETITIONS, bootstrap_interval, improvement_interval
from escapevelocity.study.profiles import performance_profile
from escapevelocity.study.scores import by_task
from escapevelocity.study.statistics import iqm, mean, median, optimality_gap

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "rliable.json").read_text())
X, Y, WIDE = (np.array(GOLDEN["scores"][name]) for name in ("x", "y", "wide"))
FIVE = {"a": [1.0, 2.0, 3.0, 4.0, 10.0]}


def levels_around(repetitions: int, theirs: int) -> tuple[float, float]:
    """Nominal levels whose ends enclose another bootstrap's 95 % ends.

    The share of resamples below a fixed value has variance p(1−p)/B; two bootstraps of B and B′ resamples
    differ by five standard deviations once in 2 million times. Holds for any distribution.
    """
    p = 0.025
    apart = 5 * np.sqrt(p * (1 - p) * (1 / repetitions + 1 / theirs))
    return 1 - 2 * (p + apart), 1 - 2 * (p - apart)


@pytest.mark.parametrize("statistic", [iqm, mean, median, optimality_gap], ids=lambda f: f.__name__)
@pytest.mark.parametrize("scores", ["x", "wide"])
def test_intervals_agree_with_those_of_rliable_within_monte_carlo_error(statistic, scores):
    inner, outer = levels_around(REPETITIONS, GOLDEN["repetitions"]["aggregates"])
    table = np.array(GOLDEN["scores"][scores])
    narrow, wide = (bootstrap_interval(table, statistic, seed=1, level=level) for level in (inner, outer))
    low, high = GOLDEN["aggregates"][scores][statistic.__name__]["interval"]
    rounding = 1e-12
    assert wide.low - rounding <= low <= narrow.low + rounding
    assert narrow.high - rounding <= high <= wide.high + rounding


def test_the_interval_of_improvement_agrees_with_that_of_rliable_within_monte_carlo_error():
    inner, outer = levels_around(REPETITIONS, GOLDEN["repetitions"]["improvement"])
    narrow, wide = (improvement_interval(X, Y, seed=1, level=level) for level in (inner, outer))
    low, high = GOLDEN["improvement"]["interval"]
    assert wide.estimate == pytest.approx(GOLDEN["improvement"]["estimate"], abs=1e-12)
    assert wide.low - 1e-12 <= low <= narrow.low + 1e-12
    assert narrow.high - 1e-12 <= high <= wide.high + 1e-12


def test_a_profile_agrees_with_that_of_rliable_within_monte_carlo_error():
    golden, repetitions = GOLDEN["profile"], GOLDEN["repetitions"]["profile"]
    inner, outer = levels_around(repetitions, repetitions)
    narrow, wide = (
        performance_profile(X, golden["thresholds"], seed=1, level=level, repetitions=repetitions)
        for level in (inner, outer)
    )
    low, high = np.array(golden["interval"])
    np.testing.assert_allclose(wide.share, golden["share"], rtol=0, atol=1e-12)
    assert np.all((wide.low - 1e-12 <= low) & (low <= narrow.low + 1e-12))
    assert np.all((narrow.high - 1e-12 <= high) & (high <= wide.high + 1e-12))


def test_the_same_seed_gives_the_same_interval_and_another_seed_another():
    one, again, other = (bootstrap_interval(WIDE, iqm, seed=seed) for seed in (3, 3, 4))
    assert one == again
    assert (one.low, one.high) != (other.low, other.high)
    first, same, second = (improvement_interval(X, Y, seed=s, repetitions=501) for s in (0, 0, 5))
    assert first == same
    assert (first.low, first.high) != (second.low, second.high)


def test_the_seed_alone_decides_whatever_numpys_global_generator_did():
    before = bootstrap_interval(X, iqm, seed=3, repetitions=500)
    np.random.seed(1)  # noqa: NPY002 - the trap in rliable
    assert bootstrap_interval(X, iqm, seed=3, repetitions=500) == before


def test_the_interval_of_a_mean_is_the_exact_one_of_all_resamples():
    # Five runs have 5^5 = 3125 equally likely resamples: all of them, against draws from them.
    runs = np.array(FIVE["a"])
    every = runs[np.stack(np.meshgrid(*[np.arange(5)] * 5), axis=-1).reshape(-1, 5)].mean(axis=1)
    p, apart = 0.025, 5 * np.sqrt(0.025 * 0.975 / REPETITIONS)
    interval = bootstrap_interval(FIVE, mean, seed=0)
    assert np.quantile(every, p - apart) <= interval.low <= np.quantile(every, p + apart)
    assert np.quantile(every, 1 - p - apart) <= interval.high <= np.quantile(every, 1 - p + apart)


def test_runs_are_resampled_within_their_task_only():
    seen: list[dict[str, np.ndarray]] = []

    def spy(scores):
        seen.append({name: values for name, values in by_task(scores).items() if values.ndim == 2})
        return mean(scores)

    scores = {"a": [1.0, 2.0, 3.0], "b": [10.0, 20.0]}
    bootstrap_interval(scores, spy, seed=0, repetitions=4000)
    drawn = {name: np.concatenate([part[name] for part in seen if part]) for name in scores}
    assert drawn["a"].shape == (4000, 3)
    assert drawn["b"].shape == (4000, 2)
    for name, values in scores.items():
        shares = np.array([(drawn[name] == value).mean() for value in values])
        n = drawn[name].size
        # Each run has chance 1/runs in each place; five standard deviations of a share of n draws.
        p = 1 / len(values)
        assert np.all(np.abs(shares - p) < 5 * np.sqrt(p * (1 - p) / n))
    # Tasks are drawn independently: Pearson's r of n independent pairs has standard deviation 1/√n.
    means = (drawn["a"].mean(axis=1), drawn["b"].mean(axis=1))
    assert abs(stats.pearsonr(*means).statistic) < 5 / np.sqrt(4000)


def test_a_95_percent_interval_of_five_normal_runs_holds_the_truth_in_about_85_percent_of_studies(rng):
    studies = rng.normal(size=(1000, 5))
    held = [
        interval.low <= 0 <= interval.high
        for interval in (bootstrap_interval(runs, mean, seed=0, repetitions=500) for runs in studies)
    ]
    expected = 2 * stats.t.cdf(stats.norm.ppf(0.975) * np.sqrt(4 / 5), df=4) - 1
    assert expected == pytest.approx(0.85, abs=0.005)
    # Five standard deviations of a share of 1,000 studies, and 0.02 for a mean of five that is not quite normal.
    assert np.mean(held) == pytest.approx(expected, abs=5 * np.sqrt(0.85 * 0.15 / 1000) + 0.02)


def test_a_task_with_a_single_run_has_no_interval():
    interval = bootstrap_interval({"a": [1.0, 2.0], "b": [3.0]}, mean, seed=0, repetitions=100)
    assert interval.estimate == 2.25
    assert np.isnan([interval.low, interval.high]).all()
    assert str(interval) == "2.25 (one run: no interval)"
    assert np.isnan(performance_profile(np.ones(1), [0.5], seed=0).low).all()


def test_runs_that_are_all_equal_have_an_interval_without_width():
    interval = bootstrap_interval(np.full((5, 2), 7.0), iqm, seed=0, repetitions=100)
    assert (interval.estimate, interval.low, interval.high) == (7.0, 7.0, 7.0)
    assert str(interval) == "7 [7, 7]"


def test_a_profile_counts_scores_strictly_above_the_threshold():
    profile = performance_profile({"a": [1.0, 2.0], "b": [2.0, 3.0]}, [0.0, 1.0, 2.0, 3.0], seed=0)
    np.testing.assert_array_equal(profile.share, [1.0, 0.75, 0.25, 0.0])
    assert np.all((profile.low <= profile.share) & (profile.share <= profile.high))


def test_the_result_does_not_depend_on_how_much_is_held_in_memory_at_once(monkeypatch):
    # Each task's indices are drawn chunk by chunk: with one task the stream of draws is the same.
    whole = bootstrap_interval(FIVE, mean, seed=2, repetitions=1000)
    monkeypatch.setattr("escapevelocity.study.bootstrap._CHUNK", 7 * 5)
    assert bootstrap_interval(FIVE, mean, seed=2, repetitions=1000) == whole


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"seed": -1}, "seed = -1: must be at least 0"),
        ({"seed": 0, "level": 1.0}, r"level = 1.0: must be between 0 and 1"),
        ({"seed": 0, "repetitions": 0}, "repetitions = 0: must be at least 1"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        bootstrap_interval(FIVE, mean, **settings)


@pytest.mark.parametrize(
    ("thresholds", "message"), [([], "at least one number"), ([1.0, float("nan")], "numbers, not NaN")]
)
def test_a_profile_without_thresholds_is_refused(thresholds, message):
    with pytest.raises(UserError, match=message):
        performance_profile(FIVE, thresholds, seed=0)
