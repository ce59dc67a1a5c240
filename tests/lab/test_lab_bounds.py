"""Bounds and predictions: hand arithmetic, and never above what is simulated."""

import numpy as np
import pytest

from escapevelocity.errors import UserError
from escapevelocity.lab import (
    PREDICTED_METHODS,
    Bandit,
    Oscillating,
    VaryingBandit,
    corner_starts,
    escape_time,
    gnpg,
    inverse_probability,
    predicted_escape_time,
    softmax_lower_bound,
    spg,
)

SPG = spg(0.4)


def test_predictions_are_the_table_by_hand():
    log = np.log(1e5 / 9)
    expected = {"SPG": 250_000, "GNPG": log / np.sqrt(2) / 0.4, "inverse-probability": log / 0.4}
    expected |= dict.fromkeys(["NPG", "NeuRD", "mirror descent"], log / 0.2)
    for name, steps in expected.items():
        assert predicted_escape_time(name, 1e-5, 0.5, 0.4) == pytest.approx(steps)
    # p = 4: 10·(π₁^{−1/2} − 3)
    assert predicted_escape_time("EPG", 1e-5, 0.5, 0.4, p=4) == pytest.approx(10 * (1e5**0.5 - 3))
    assert set(expected) | {"EPG"} == set(PREDICTED_METHODS)


@pytest.mark.parametrize(
    ("method", "name", "rate"),
    [(gnpg(1 / 6), "GNPG", 1 / 6), (inverse_probability(0.1), "inverse-probability", 0.1)],
)
@pytest.mark.parametrize("num_actions", [2, 6])
def test_quick_rates_keep_to_their_law_however_deep_the_well(method, name, rate, num_actions):
    """A(corner) = −π₁Δ must keep its digits: without, GNPG needed 341 steps from 1e-30, where the law says 284."""
    best_probs = [1e-20, 1e-30]
    bandit = Bandit([0.7] + [0.2] * (num_actions - 1))
    starts = corner_starts(num_actions, num_actions - 1, best_probs)
    times = escape_time(bandit, method, starts, 0.45, 2000)
    law = predicted_escape_time(name, best_probs, 0.5, rate)
    np.testing.assert_allclose(times.steps, law, rtol=0.05)  # discrete steps and the last ones near 0.1


def test_the_lower_bound_is_its_formula():
    bandit = Bandit([0.7, 0.2, 0.5])
    bound = softmax_lower_bound(bandit, corner_starts(3, 1, [0.01, 0.001]), corner=1, rate=0.4)
    np.testing.assert_allclose(bound, [(0.98 / 0.02 - 9) / 0.4, (0.998 / 0.002 - 9) / 0.4])
    assert softmax_lower_bound(bandit, np.full((3, 1), 1 / 3), corner=1, rate=0.4) == 0


def test_the_lower_bound_is_one_for_the_deepest_starts_too():
    """There 1 − π_c is a multiple of 1e-16, and the bound came out 10 % too high at 1e-16."""
    probs = np.array([1e-14, 1e-16, 1e-17, 1e-30])
    bound = softmax_lower_bound(Bandit([0.7] + [0.2] * 5), corner_starts(6, 5, probs), corner=5, rate=0.4)
    np.testing.assert_allclose(bound, ((1 - 5 * probs) / (5 * probs) - 9) / 0.4, rtol=1e-12)


def test_no_bandit_escapes_before_the_lower_bound():
    rng = np.random.default_rng(8)
    for _ in range(20):
        rewards = rng.random(5)
        corner = int(rewards.argsort()[rng.integers(0, 4)])
        starts = corner_starts(5, corner, [1e-2, 1e-3])
        bandit = Bandit(rewards)
        # 1 − π(a*) < 0.9 is never later than the sub-optimality's criterion can be turned into: both need
        # off-corner odds of 1/9 at least.
        gap = rewards.max() - rewards[corner]
        times = escape_time(bandit, SPG, starts, 0.9 * gap, 20_000)
        bound = softmax_lower_bound(bandit, starts, corner, 0.4)
        assert (times.steps >= np.minimum(bound, 20_000)).all()


def test_the_lower_bound_holds_for_a_reward_that_oscillates_below_its_gap():
    starts = corner_starts(3, 2, [1e-2, 1e-3])
    process = Oscillating([0.5, 0.4, 0.2], [0.2, 0.3, 0.0], period=100.0)
    times = escape_time(VaryingBandit(process, 0), SPG, starts, 0.9, 20_000)
    # 0.7 − 0.2 is the largest gap that ever occurs, of either action.
    bound = softmax_lower_bound(Bandit([0.7, 0.7, 0.2]), starts, 2, 0.4)
    assert not times.censored.any()
    assert (times.steps >= bound).all()


STARTS = corner_starts(3, 1, [0.01])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: predicted_escape_time("PPO", 0.1, 0.5, 0.4), "method = 'PPO': must be one of SPG, EPG"),
        (lambda: predicted_escape_time("SPG", 0.0, 0.5, 0.4), r"best_prob = 0\.0: must be in \(0, 1\)"),
        (lambda: predicted_escape_time("SPG", np.nan, 0.5, 0.4), "best_prob.* = nan: must be finite"),
        (lambda: predicted_escape_time("SPG", 0.1, -0.5, 0.4), r"gap = -0\.5: must be a finite number > 0"),
        (lambda: predicted_escape_time("SPG", 0.1, 0.5, 0.0), r"rate = 0\.0: must be a finite number > 0"),
        (lambda: predicted_escape_time("SPG", 0.1, 0.5, 0.4, p=2), "p = 2: must be None for SPG"),
        (
            lambda: predicted_escape_time("EPG", 0.1, 0.5, 0.4),
            "p = None: must be a finite number ≥ 1 for EPG",
        ),
        (
            lambda: predicted_escape_time("EPG", 0.1, 0.5, 0.4, p=0.5),
            r"p = 0\.5: must be a finite number ≥ 1",
        ),
        (
            lambda: softmax_lower_bound(Bandit([1.7, 0.2, 0.5]), STARTS, 1, 0.4),
            r"rewards\[0\] = 1\.7: must be in",
        ),
        (
            lambda: softmax_lower_bound(Bandit([0.7, 0.2, 0.5]), STARTS, 0, 0.4),
            "corner = 0: must be an action that is not the best",
        ),
        (
            lambda: softmax_lower_bound(Bandit([0.7, 0.2, 0.5]), STARTS, 9, 0.4),
            r"corner = 9: must be an action in 0\.\.2",
        ),
        (lambda: softmax_lower_bound(Bandit([0.7, 0.2]), STARTS, 1, 0.4), r"starts has shape \(3, 1\)"),
        (lambda: softmax_lower_bound(Bandit([0.7, 0.2, 0.5]), 2 * STARTS, 1, 0.4), "starts sums to 2"),
        (lambda: softmax_lower_bound(Bandit([0.7, 0.2, 0.5]), STARTS, 1, -1.0), r"rate = -1\.0"),
        (
            lambda: softmax_lower_bound(Bandit(np.eye(3)), STARTS, 1, 0.4),
            r"bandit has rewards of shape \(3, 3\)",
        ),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(UserError, match=message):
        call()
