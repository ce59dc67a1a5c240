"""Escort gradient ascent: scale does not matter, renormalising does not either."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from escapevelocity.errors import UserError
from escapevelocity.lab import Bandit, corner_starts, epg, trajectory

REWARDS = np.array([0.8, 0.2, 0.5, 0.3])


def raw_ascent(theta, p, rate, steps, scaled):
    """Escort policy gradient on raw θ in NumPy, never renormalised; policies at `steps`."""
    policies = {}
    for step in range(max(steps) + 1):
        powers = np.abs(theta) ** p
        probs = powers / powers.sum()
        if step in steps:
            policies[step] = probs
        norm = powers.sum() ** (1 / p)
        gradient = p / norm * np.sign(theta) * probs ** (1 - 1 / p) * (REWARDS - probs @ REWARDS)
        theta = theta + (rate * norm**2 / p**2 if scaled else rate) * gradient
    return np.array([policies[step] for step in steps]), norm


@pytest.mark.parametrize("p", [2, 3, 4])
@pytest.mark.parametrize("scale", [1.0, 37.0])
def test_the_scaled_rate_is_the_renormalised_sequence_over_ten_thousand_steps(p, scale):
    steps = [0, 1, 10, 100, 1000, 10_000]
    start = corner_starts(4, 1, [1e-3])
    # A small rate, so that the policy still moves at the end of the ten thousand steps.
    expected, _ = raw_ascent(scale * start[:, 0] ** (1 / p), p, 2e-3, steps, scaled=True)
    measured = trajectory(Bandit(REWARDS), epg(2e-3, p), start, steps).probs[:, :, 0]
    np.testing.assert_allclose(measured, expected, rtol=0, atol=1e-12)
    assert abs(measured[-1] - measured[-2]).max() > 1e-4


@pytest.mark.parametrize("p", [1.5, 2, 3])
def test_the_plain_rate_is_ascent_on_the_raw_parameters(p):
    steps = [0, 1, 10, 300]
    start = corner_starts(4, 1, [1e-2])
    expected, norm = raw_ascent(start[:, 0] ** (1 / p), p, 0.3, steps, scaled=False)
    measured = trajectory(Bandit(REWARDS), epg(0.3, p, scaled=False), start, steps).probs[:, :, 0]
    np.testing.assert_allclose(measured, expected, rtol=0, atol=1e-12)
    # The length has grown, so that the plain rate is now another one than at the start.
    assert norm > 1.01


def test_parameters_that_outgrow_float64_leave_the_policy_finite():
    # p = 1 with a large rate: the raw norm multiplies by more than 10 a step, 1e308 is passed after 300.
    records = trajectory(
        Bandit([1.0, 0.0, 0.0]), epg(50.0, 1), [[0.2], [0.5], [0.3]], np.arange(0, 1001, 100)
    )
    assert np.isfinite(records.probs).all()
    np.testing.assert_allclose(records.probs.sum(axis=1), 1, rtol=1e-12)


@pytest.mark.parametrize(("rate", "p"), [(1e9, 64), (1e5, 256), (1e5, 1024), (1e12, 20), (1e30, 2)])
def test_a_huge_step_leaves_a_policy(rate, p):
    """Far along the gradient only its direction counts: u + ηg ∝ g, so that π ∝ |g|^p."""
    start = np.full((4, 1), 0.25)
    after = trajectory(Bandit(REWARDS), epg(rate, p), start, [1, 5]).probs[:, :, 0]
    np.testing.assert_allclose(after.sum(axis=1), 1, rtol=1e-9)
    gradient = np.abs(REWARDS - REWARDS.mean())
    expected = (gradient / gradient.max()) ** p
    np.testing.assert_allclose(after[0], expected / expected.sum(), rtol=1e-3, atol=1e-12)


def test_an_exponent_whose_rounding_would_leave_the_simplex_is_refused():
    with pytest.raises(UserError, match=r"p = 100000000\.0: must be at most 1e\+06"):
        epg(0.4, 1e8)
    after = trajectory(Bandit(REWARDS), epg(0.4, 1e6), corner_starts(4, 1, [1e-2]), [0, 100]).probs
    # As near as the lab's own policies must be to the simplex (`problems.require_simplex`).
    np.testing.assert_allclose(after.sum(axis=1), 1, rtol=1e-9)


@settings(deadline=None, max_examples=25)
@given(st.permutations(range(4)), st.integers(0, 2**32 - 1))
def test_relabelling_the_actions_relabels_the_policy(order, seed):
    start = np.random.default_rng(seed).dirichlet(np.ones(4))[:, None]
    method = PERMUTED_METHOD
    straight = trajectory(Bandit(REWARDS), method, start, [5]).probs[0]
    permuted = trajectory(Bandit(REWARDS[order]), method, start[order], [5]).probs[0]
    np.testing.assert_allclose(permuted, straight[order], rtol=1e-9, atol=1e-15)


# One object, so that the loop is compiled once.
PERMUTED_METHOD = epg(0.3, 2.5)
