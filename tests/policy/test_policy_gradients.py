"""Closed-form gradients of the expected reward = autodiff = central differences, and their zeros."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from escapevelocity.policy import (
    Escort,
    FSoftargmax,
    Softmax,
    escort_policy_gradient,
    f_softargmax_policy_gradient,
    softmax_policy_gradient,
)

PAIRS = [
    (Softmax(4), softmax_policy_gradient),
    (Softmax(4, temperature=0.3), softmax_policy_gradient),
    (Escort(4, 1), escort_policy_gradient),
    (Escort(4, 2), escort_policy_gradient),
    (Escort(4, 4.5), escort_policy_gradient),
    (FSoftargmax(4, 0.5), f_softargmax_policy_gradient),
    (FSoftargmax(4, 0.1, [0.4, 0.1, 0.2, 0.3]), f_softargmax_policy_gradient),
]
every_pair = pytest.mark.parametrize(("policy", "gradient"), PAIRS, ids=range(len(PAIRS)))
thetas = arrays(np.float64, 4, elements=st.floats(0.2, 3) | st.floats(-3, -0.2))
rewards_of_any_sign = arrays(np.float64, 4, elements=st.floats(-2, 2))


def expected_reward(policy, theta, rewards):
    return jnp.sum(policy.probs(theta) * rewards)


expected_reward_jit = jax.jit(expected_reward, static_argnums=0)
autodiff_jit = jax.jit(jax.grad(expected_reward, argnums=1), static_argnums=0)


@every_pair
@settings(deadline=None, max_examples=25)
@given(theta=thetas, rewards=rewards_of_any_sign)
def test_closed_form_equals_autodiff_and_central_differences(policy, gradient, theta, rewards):
    with jax.enable_x64(True):
        theta, rewards = jnp.asarray(theta), jnp.asarray(rewards)
        closed = np.asarray(gradient(policy, theta, rewards))
        np.testing.assert_allclose(closed, autodiff_jit(policy, theta, rewards), rtol=1e-10, atol=1e-13)
        h = 1e-4
        steps = h * np.eye(4)
        numeric = [
            float(expected_reward_jit(policy, theta + step, rewards))
            - float(expected_reward_jit(policy, theta - step, rewards))
            for step in map(jnp.asarray, steps)
        ]
        # truncation: h²/6 · |f'''|, where a derivative costs up to p/|θ| = 4.5/0.2: 1e4 · 2e-9
        np.testing.assert_allclose(np.array(numeric) / (2 * h), closed, rtol=1e-6, atol=2e-5)


@every_pair
def test_central_differences_agree_to_1e_minus_6_at_a_moderate_point(policy, gradient):
    theta, rewards, h = np.array([0.9, -1.4, 1.1, 0.6]), np.array([0.2, 0.9, 0.1, 0.5]), 1e-5
    with jax.enable_x64(True):
        closed = np.asarray(gradient(policy, jnp.asarray(theta), jnp.asarray(rewards)))
        values = [
            [
                float(expected_reward(policy, jnp.asarray(theta + s * h * e), jnp.asarray(rewards)))
                for s in (1, -1)
            ]
            for e in np.eye(4)
        ]
    numeric = np.array([(up - down) / (2 * h) for up, down in values])
    np.testing.assert_allclose(numeric, closed, rtol=1e-6)


@every_pair
def test_a_constant_reward_gives_no_gradient_and_a_baseline_changes_nothing(policy, gradient, rng):
    theta, rewards = rng.normal(size=(5, 4)) + 2, rng.uniform(size=(5, 4))
    with jax.enable_x64(True):
        theta, rewards = jnp.asarray(theta), jnp.asarray(rewards)
        np.testing.assert_allclose(gradient(policy, theta, jnp.full((5, 4), 0.7)), 0, atol=1e-14)
        one, two = gradient(policy, theta, rewards), gradient(policy, theta, rewards - 3.0)
        np.testing.assert_allclose(one, two, atol=1e-14)


def test_the_escort_gradient_is_orthogonal_to_theta_and_softmaxs_to_the_ones(rng):
    """The scale of θ, and a shift of the logits, do not change the policy."""
    theta, rewards = rng.normal(size=(50, 4)), rng.uniform(size=(50, 4))
    with jax.enable_x64(True):
        theta, rewards = jnp.asarray(theta), jnp.asarray(rewards)
        for p in (1, 2, 5):
            gradient = escort_policy_gradient(Escort(4, p), theta, rewards)
            np.testing.assert_allclose(jnp.sum(gradient * theta, axis=-1), 0, atol=1e-13)
        np.testing.assert_allclose(
            jnp.sum(softmax_policy_gradient(Softmax(4), theta, rewards), -1), 0, atol=1e-15
        )
        tsallis = f_softargmax_policy_gradient(FSoftargmax(4, 0.3), theta, rewards)
        np.testing.assert_allclose(jnp.sum(tsallis, -1), 0, atol=1e-15)


@pytest.mark.parametrize("p", [1.0, 1.2, 2.0, 64.0])
def test_the_escort_gradient_at_zeros_is_zero_there_and_right_elsewhere(p):
    policy, theta, rewards = Escort(3, p), jnp.array([1.0, 0.0, 1.0]), jnp.array([1.0, 1.0, 0.0])
    gradient = escort_policy_gradient(policy, theta, rewards)
    # (p/‖θ‖)·π^{1−1/p}·A = p · 2^{−1/p} · 2^{−1+1/p} · (±1/2) = ±p/4
    np.testing.assert_allclose(gradient, [p / 4, 0.0, -p / 4], rtol=1e-6)
    np.testing.assert_array_equal(escort_policy_gradient(policy, jnp.zeros(3), rewards), np.zeros(3))


@pytest.mark.parametrize("scale", [1e-30, 1e30])
@pytest.mark.parametrize("p", [1.0, 3.0, 64.0])
def test_the_escort_gradient_scales_as_one_over_theta_without_overflow(scale, p):
    base, rewards = jnp.array([1.0, -0.9, 0.0]), jnp.array([0.0, 1.0, 0.5])
    one = escort_policy_gradient(Escort(3, p), base, rewards)
    two = escort_policy_gradient(Escort(3, p), base * scale, rewards)
    assert float(one[1]) < 0  # more of a negative θ is more of its action
    np.testing.assert_allclose(np.asarray(two, np.float64) * scale, one, rtol=1e-4)
