"""Adaptive rates: failures against the enumeration of all action sequences, times against the reference numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import softmax

from escapevelocity.errors import UserError
from escapevelocity.lab.experiments._bandits import OwnBandits, follow
from escapevelocity.lab.experiments._commitment import failure_slope, observer
from escapevelocity.lab.experiments.adaptive_rates import METHODS, AdaptiveRates

REWARDS = (1.0, 0.8)
RATE = 0.8
HORIZONS = (3, 6, 9)
SMALL = {
    "rewards": REWARDS,
    "learning_rates": (RATE,),
    "horizons": HORIZONS,
    "best_prob": 0.2,
    "resamples": 50,
}


@pytest.fixture(scope="module")
def findings():
    return AdaptiveRates(methods=("NPG",), runs=4000, **SMALL).run()


def select(table, **values):
    rows = np.all([table[name] == value for name, value in values.items()], axis=0)
    return {name: column[rows] for name, column in table.items()}


def exact_failures(start, baseline):
    """P(committed) at each horizon of sampled NPG with two actions, over all action sequences, in NumPy."""
    failed = np.zeros(len(HORIZONS))
    level = [(np.log(start), 1.0)]
    for step in range(1, HORIZONS[-1] + 1):
        grown = []
        for theta, likelihood in level:
            probs = softmax(theta)
            for action in (0, 1):
                weight = likelihood * probs[action]
                if weight < 1e-15:  # of no weight; the estimator would divide by almost zero
                    continue
                outcome = REWARDS[action] - (probs @ REWARDS if baseline == "true value" else 0.0)
                grown.append((theta + RATE * outcome * (np.eye(2)[action] / probs[action] - 1), weight))
        level = grown
        if step in HORIZONS:
            failed[HORIZONS.index(step)] = sum(w for theta, w in level if softmax(theta)[1] > 0.99)
    return failed


@pytest.mark.parametrize("baseline", ["0", "true value"])
@pytest.mark.parametrize(("start", "probs"), [("uniform", [0.5, 0.5]), ("corner", [0.2, 0.8])])
def test_failures_have_the_probability_of_all_action_sequences(findings, start, probs, baseline):
    rows = select(findings.tables[""], start=start, baseline=baseline)
    truth = exact_failures(np.array(probs), baseline)
    assert rows["horizon"].tolist() == list(HORIZONS)
    if baseline == "0":
        assert truth[-1] > 0.05
    for failed, low, high, expected in zip(
        rows["failed"], rows["failed_low"], rows["failed_high"], truth, strict=True
    ):
        # five standard deviations; half a run where the truth is 0 or 1
        assert abs(failed - expected) <= 5 * np.sqrt(expected * (1 - expected) / 4000) + 1 / 8000
        assert low <= failed <= high


@pytest.mark.parametrize(("method", "steps"), [("SPG", 254), ("EPG(2)", 13), ("EPG(4)", 64)])
def test_exact_gradients_need_the_reference_times(method, steps):
    starts = np.full((6, 1), 0.01)
    starts[5] = 0.95
    rewards = np.full((6, 1), 0.2)
    rewards[0] = 0.7
    notes = follow(METHODS[method](0.4), rewards, starts, observer((steps, 300)), 300)
    assert notes.escaped.tolist() == [steps]
    assert not notes.committed.any()


def test_failures_are_noted_at_their_horizon_and_nan_fails():
    path = [[0.5, 0.5], [0.005, 0.995], [0.2, 0.8], [0.995, 0.005], [np.nan, np.nan], [0.05, 0.95]]
    watch = observer((1, 2, 3, 4, 5))
    with jax.enable_x64(True):
        bandit = OwnBandits(jnp.array([[1.0], [0.0]]))
        evaluations = [bandit.evaluate(jnp.array(probs)[:, None]) for probs in path]
        notes = watch.first(evaluations[0])
        for step, at in enumerate(evaluations):
            notes = watch.see(notes, jnp.asarray(step), at, jnp.zeros(1, jnp.int64))
        assert notes.committed[:, 0].tolist() == [True, False, False, True, False]
        assert notes.escaped.tolist() == [0]
        assert notes.solved.tolist() == [3]


def test_the_slope_is_0_for_ever_and_minus_1_for_a_hyperbola(rng):
    horizons, runs = (100, 1000, 10_000, 100_000), 4000
    stuck = np.zeros((4, runs), bool)
    stuck[:, :800] = True
    assert failure_slope(horizons, stuck, 50, rng) == pytest.approx((0, 0, 0), abs=1e-12)
    falling = np.zeros((4, runs), bool)
    for row, count in zip(falling, (10, 2000, 200, 20), strict=True):  # the first horizon is left out
        row[:count] = True
    slope, low, high = failure_slope(horizons, falling, 400, rng)
    assert slope == pytest.approx(-1, abs=1e-12)
    assert low < -1 < high
    # The slope is (ln f₄ − ln f₂)/(2·ln 10), and the 20 runs of f₄ dominate: 1/√20.
    assert (high - low) / 2 == pytest.approx(1.96 / np.sqrt(20) / (2 * np.log(10)), rel=0.25)
    falling[3] = False
    assert np.isnan(failure_slope(horizons, falling, 50, rng)).all()


def test_recovery_is_counted_among_the_runs_that_had_failed(findings):
    table, times = findings.tables[""], findings.tables["times"]
    for i, start in enumerate(times["start"]):
        own = select(table, start=start, baseline=times["baseline"][i])
        # Failures at the middle horizon, minus those that recovered, plus new ones, are those at the last.
        before = own["failed"][1] * own["runs"][1]
        assert times["failed_before"][i] == round(before)
        assert times["failed"][i] == own["failed"][-1]
        if before > 0:
            assert (
                times["recovered"][i] * before
                >= (own["failed"][1] - own["failed"][2]) * own["runs"][1] - 1e-9
            )
        else:
            assert np.isnan(times["recovered"][i])


def test_the_same_settings_give_the_same_numbers_and_another_seed_others(findings):
    again, other = (
        AdaptiveRates(methods=("NPG",), runs=4000, seed=seed, **SMALL).run().tables for seed in (0, 1)
    )
    for part, columns in findings.tables.items():
        for name, column in columns.items():
            np.testing.assert_array_equal(column, again[part][name])
    assert (other[""]["failed"] != again[""]["failed"]).any()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"methods": ("TRPO",)}, r"methods\[0\] = 'TRPO': must be one of SPG, EPG\(2\)"),
        ({"rewards": (0.7,)}, r"rewards = \(0\.7,\): must be of at least two actions"),
        ({"rewards": (0.7, 1.2)}, r"rewards\[1\] = 1\.2: must be in \[0, 1\]"),
        ({"rewards": (0.7, 0.7)}, "rewards = .*: must be such that the first is the largest, alone"),
        ({"reward_noise": -1.0}, r"reward_noise = -1\.0: must be finite and ≥ 0"),
        ({"best_prob": 0.4}, r"best_prob = 0\.4: must be in \(0, 0\.333333\)"),
        ({"learning_rates": (0.1, 0.0)}, r"learning_rates\[1\] = 0\.0: must be a finite number > 0"),
        ({"horizons": (100,)}, r"horizons = \(100,\): must be two or more, increasing"),
        ({"horizons": (100, 50)}, r"horizons = \(100, 50\): must be two or more, increasing"),
        ({"horizons": (0, 50)}, r"horizons\[0\] = 0: must be an integer ≥ 1"),
        ({"runs": 0}, "runs = 0: must be an integer ≥ 1"),
        ({"resamples": 0}, "resamples = 0: must be an integer ≥ 1"),
        ({"seed": -1}, "seed = -1: must be an integer ≥ 0"),
    ],
)
def test_settings_out_of_range_are_named(settings, message):
    with pytest.raises(UserError, match=message):
        AdaptiveRates(**settings).run()
