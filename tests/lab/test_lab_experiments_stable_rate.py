"""Stable rates: the measured thresholds against the two-action law, and the law against single updates."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from escapevelocity.errors import UserError
from escapevelocity.lab import spg
from escapevelocity.lab.experiments._bandits import OwnBandits, follow
from escapevelocity.lab.experiments.stable_rate import (
    OBSERVER,
    StableRate,
    random_bandits,
    threshold,
    two_action_limit,
)

SMALL = {"num_actions": (2,), "runs": 40, "steps": 60, "lowest_power": -1, "highest_power": 7}


@pytest.fixture(scope="module")
def findings():
    return StableRate(escort_powers=(1.0, 2.0, 4.0), **SMALL).run()


def thresholds(findings, **values):
    table = findings.tables["thresholds"]
    rows = np.all([table[name] == value for name, value in values.items()], axis=0)
    assert rows.sum() == 1
    return {name: column[rows][0] for name, column in table.items()}


def test_the_law_has_the_closed_form_of_p_4():
    # With q = sin²φ and s = cos φ − sin φ the bracket is s(1 − s²)/2, largest at s = 1/√3, where it is 1/(3√3).
    assert two_action_limit(4.0) == pytest.approx(8 * 3 * math.sqrt(3), rel=1e-9)
    assert two_action_limit(2.0) == 4
    assert two_action_limit(1.5) == 0
    assert two_action_limit(math.nan) == math.inf


def falls(p, rate, wrong):
    """Whether one escort update lowers πᵀr for rewards (1, 0); a plain NumPy update of θ with ‖θ‖_p = 1."""
    probs = np.stack([1 - wrong, wrong])
    theta = probs ** (1 / p)
    reward = np.array([[1.0], [0.0]])
    advantage = reward - (probs * reward).sum(axis=0)
    moved = theta + rate / p**2 * p * probs ** (1 - 1 / p) * advantage
    new = np.abs(moved) ** p / (np.abs(moved) ** p).sum(axis=0)
    return new[0] < probs[0] - 1e-13


@pytest.mark.parametrize("p", [2.0, 2.5, 3.0, 4.0, 8.0])
def test_below_the_law_no_two_action_update_falls_and_above_it_one_does(p):
    wrong = np.geomspace(1e-9, 0.9999, 20_000)
    limit = two_action_limit(p)
    assert not falls(p, 0.999 * limit, wrong).any()
    assert falls(p, 1.001 * limit, wrong).any()


def test_below_p_2_every_rate_makes_some_update_fall():
    assert falls(1.5, 1e-3, np.geomspace(1e-12, 0.9, 1000)).any()


@pytest.mark.parametrize(("method", "p"), [("EPG(2)", 2.0), ("EPG(4)", 4.0)])
def test_the_measured_threshold_of_two_actions_is_the_last_rate_on_the_grid_below_the_law(
    findings, method, p
):
    row = thresholds(findings, method=method)
    limit = two_action_limit(p)
    # At the law itself (p = 2) an update is still neutral in the limit only; rates are √2 apart.
    assert limit / math.sqrt(2) < row["monotone_rate"] <= limit
    assert row["all_monotone"] <= row["monotone_rate"]
    assert row["monotone_low"] <= row["monotone_rate"] <= row["monotone_high"]


def test_softmax_climbs_at_every_rate(findings):
    # Σ π·e^{ηπA}·A ≥ Σ π·A = 0, for any K; see `two_action_limit`.
    assert thresholds(findings, method="SPG")["all_monotone"] == 2**7
    assert "every run was monotone up to η = 128 (K = 2), of at most 128" in findings.answers[0]
    rewards, starts = random_bandits(0, 6, 200)
    notes = follow(spg(np.geomspace(0.1, 1e4, 200)), rewards, starts, OBSERVER, 50)
    assert not notes.fell_back.any()


def test_p_1_is_stable_at_no_rate(findings):
    row = thresholds(findings, method="EPG(1)")
    assert row["monotone_rate"] == row["monotone_high"] == 0
    assert "law of two actions says no η" in findings.answers[1]


def test_p_1_flips_signs_and_p_2_below_its_limit_does_not(findings):
    table = findings.tables[""]
    low = table["learning_rate"] < 1.9
    assert (table["sign_flips"][low & (table["method"] == "EPG(1)")] > 1).all()
    # 1 − (η/2)·π(right) stays positive below η = 2.
    assert (table["sign_flips"][low & (table["method"] == "EPG(2)")] == 0).all()


def test_convergence_is_that_of_a_plain_loop(findings):
    rewards, starts = random_bandits(0, 2, 40)
    table = findings.tables[""]
    for rate in (0.5, 8.0):
        theta = np.log(starts)
        for _ in range(60):
            probs = np.exp(theta - theta.max(axis=0))
            probs /= probs.sum(axis=0)
            theta = theta + rate * probs * (rewards - (probs * rewards).sum(axis=0))
        probs = np.exp(theta - theta.max(axis=0))
        probs /= probs.sum(axis=0)
        converged = np.mean((probs * (1 - rewards)).sum(axis=0) < 0.01)
        row = (table["method"] == "SPG") & (table["learning_rate"] == rate)
        assert table["converged"][row].tolist() == [converged]
        assert (converged > 0) == (rate == 8.0)


def test_a_fall_is_noticed_and_so_is_nan():
    seen = [[0.5, 0.5, 0.5], [0.5 + 1e-9, 0.5 + 1e-14, np.nan], [0.1, 0.1, 0.1]]
    with jax.enable_x64(True):
        at = OwnBandits(jnp.ones((2, 3))).evaluate(jnp.full((2, 3), 0.5))
        notes, flips = None, jnp.zeros(3, jnp.int64)
        for step, suboptimality in enumerate(seen):
            at = at._replace(suboptimality=jnp.array(suboptimality))
            notes = OBSERVER.first(at) if notes is None else notes
            notes = OBSERVER.see(notes, jnp.asarray(step), at, flips)
        assert notes.fell_back.tolist() == [True, False, True]


def test_a_threshold_ends_at_the_first_unstable_rate_only_where_smaller_rates_must_be_stable():
    rates, shares = np.array([1.0, 2.0, 4.0, 8.0]), np.array([0.96, 0.9, 1.0, 0.5])
    rows = {"learning_rate": rates, "x": shares, "x_low": shares - 0.02, "x_high": shares + 0.06}
    assert threshold(rows, "x", from_below=True) == (1.0, 0.0, 4.0)
    assert threshold(rows, "x", from_below=False) == (4.0, 4.0, 4.0)


def test_bandits_reach_from_0_to_1_and_starts_are_uniform_on_the_simplex():
    rewards, starts = random_bandits(0, 4, 2000)
    np.testing.assert_array_equal(rewards.min(axis=0), 0)
    np.testing.assert_array_equal(rewards.max(axis=0), 1)
    np.testing.assert_allclose(starts.sum(axis=0), 1, rtol=1e-12)
    # Each coordinate is Beta(1, 3): mean 1/4, P(x < t) = 1 − (1 − t)³; five standard errors.
    for t in (0.05, 0.25, 0.6):
        share = 1 - (1 - t) ** 3
        assert (abs((starts < t).mean(axis=1) - share) < 5 * np.sqrt(share * (1 - share) / 2000)).all()
    np.testing.assert_array_equal(random_bandits(0, 4, 2000)[0], rewards)
    assert (random_bandits(1, 4, 2000)[0] != rewards).any()


def test_the_same_settings_give_the_same_numbers_whatever_is_compared(findings):
    again = StableRate(escort_powers=(4.0,), **SMALL).run().tables[""]
    kept = np.isin(findings.tables[""]["method"], ["SPG", "EPG(4)"])
    assert len(again["method"]) == kept.sum()
    for name, column in again.items():
        np.testing.assert_array_equal(column, findings.tables[""][name][kept])


def test_runs_with_rates_of_their_own_do_not_disturb_each_other():
    rewards, starts = random_bandits(0, 3, 1)
    rates = np.array([0.5, 2.0, 8.0])
    together = follow(spg(rates), np.tile(rewards, (1, 3)), np.tile(starts, (1, 3)), OBSERVER, 7)
    theta = np.log(starts)
    for _ in range(7):
        probs = np.exp(theta) / np.exp(theta).sum(axis=0)
        theta = theta + 2.0 * probs * (rewards - (probs * rewards).sum(axis=0))
    probs = np.exp(theta) / np.exp(theta).sum(axis=0)
    assert together.suboptimality[1] == pytest.approx(((1 - rewards) * probs).sum(), rel=1e-12)
    assert together.suboptimality[0] > together.suboptimality[1] > together.suboptimality[2]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_actions": (1,)}, r"num_actions\[0\] = 1: must be an integer ≥ 2"),
        ({"escort_powers": (2.0, 0.5)}, r"escort_powers\[1\] = 0\.5: must be finite and ≥ 1"),
        ({"runs": 0}, "runs = 0: must be an integer ≥ 1"),
        ({"steps": 0}, "steps = 0: must be an integer ≥ 1"),
        ({"rates_per_octave": 0}, "rates_per_octave = 0: must be an integer ≥ 1"),
        ({"lowest_power": -61}, "lowest_power = -61: must be an integer ≥ -60"),
        ({"highest_power": -4}, r"highest_power = -4: must be an integer in -3\.\.60"),
        ({"highest_power": 61}, r"highest_power = 61: must be an integer in -3\.\.60"),
        ({"tolerance": 0.0}, r"tolerance = 0\.0: must be in \(0, 1\)"),
        ({"seed": -1}, "seed = -1: must be an integer ≥ 0"),
    ],
)
def test_settings_out_of_range_are_named(settings, message):
    with pytest.raises(UserError, match=message):
        StableRate(**settings).run()
