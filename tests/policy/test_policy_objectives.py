"""GAE and PPO's objective against hand arithmetic, closed forms, SB3's rollout buffer and NumPy."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from escapevelocity.policy import (
    clip_is_active,
    clipped_log_ratio,
    clipped_objective,
    clipped_value_loss,
    gae,
    normalise_advantages,
    value_loss,
)

NEVER = jnp.zeros(3, bool)


def a_rollout(rng, time=40, envs=3):
    """Random rows with terminations and truncations; between them `next_values` are the shifted `values`."""
    rewards, values, final = rng.normal(size=(3, time, envs))
    terminated = rng.random((time, envs)) < 0.1
    truncated = (rng.random((time, envs)) < 0.1) & ~terminated
    ended = terminated | truncated
    assert terminated.sum() > 3
    assert truncated.sum() > 3
    successor = np.concatenate([values[1:], rng.normal(size=(1, envs))])
    return rewards, values, np.where(ended, final, successor), terminated, ended


def test_gae_matches_three_steps_worked_out_by_hand():
    # γ = 1/2, λ = 1/2, so γλ = 1/4.  δ = [1 + 4/2 − 2, 2 + 8/2 − 4, 3 + 6/2 − 8] = [1, 2, −2]
    # A₂ = −2, A₁ = 2 − 2/4 = 1.5, A₀ = 1 + 1.5/4 = 1.375
    rewards, values, next_values = (jnp.array(x) for x in ([1.0, 2.0, 3.0], [2.0, 4.0, 8.0], [4.0, 8.0, 6.0]))
    advantages, returns = gae(rewards, values, next_values, NEVER, NEVER, 0.5, 0.5)
    np.testing.assert_array_equal(advantages, [1.375, 1.5, -2.0])
    np.testing.assert_array_equal(returns, [3.375, 5.5, 6.0])


def test_gae_cuts_the_trace_at_an_end_and_the_bootstrap_at_a_termination_only():
    # As above, with the middle row the last of its episode and V(final observation) = 6.
    rewards, values, next_values = (jnp.array(x) for x in ([1.0, 2.0, 3.0], [2.0, 4.0, 8.0], [4.0, 6.0, 6.0]))
    middle = NEVER.at[1].set(True)
    # truncated: δ₁ = 2 + 6/2 − 4 = 1 and nothing of A₂ comes in; A₀ = 1 + 1/4
    advantages, _ = gae(rewards, values, next_values, NEVER, middle, 0.5, 0.5)
    np.testing.assert_array_equal(advantages, [1.25, 1.0, -2.0])
    # terminated: δ₁ = 2 − 4 = −2; A₀ = 1 − 2/4. Whatever `ended` says, and even if V(final) is NaN.
    for ended in (middle, NEVER):
        for final in (6.0, math.nan):
            advantages, _ = gae(rewards, values, next_values.at[1].set(final), middle, ended, 0.5, 0.5)
            np.testing.assert_array_equal(advantages, [0.5, -2.0, -2.0])


def test_the_true_value_of_a_constant_reward_has_no_advantage():
    """V = 1/(1 − γ) without end; with termination after T steps V_t = (1 − γ^(T−t))/(1 − γ)."""
    gamma, time = 0.9, 50
    with jax.enable_x64(True):
        never = jnp.zeros(time, bool)
        value = jnp.full(time, 1 / (1 - gamma))
        advantages, returns = gae(jnp.ones(time), value, value, never, never, gamma, 0.95)
        np.testing.assert_allclose(advantages, 0.0, atol=1e-13)
        np.testing.assert_allclose(returns, 10.0, rtol=1e-13)

        terminated = never.at[-1].set(True)
        for gae_lambda in (0.0, 0.95, 1.0):
            zero = jnp.zeros(time)
            exact = jnp.asarray((1 - gamma ** (time - np.arange(time))) / (1 - gamma))
            after = jnp.append(exact[1:], 123.0)
            advantages, _ = gae(jnp.ones(time), exact, after, terminated, terminated, gamma, gae_lambda)
            np.testing.assert_allclose(advantages, 0.0, atol=1e-13)
        _, returns = gae(jnp.ones(time), zero, zero, terminated, terminated, gamma, 1.0)
        np.testing.assert_allclose(returns, exact, rtol=1e-13)


def test_lambda_one_gives_discounted_returns_minus_values(rng):
    rewards, values, next_values, terminated, ended = a_rollout(rng)
    with jax.enable_x64(True):
        rows = map(jnp.asarray, (rewards, values, next_values, terminated, ended))
        advantages, returns = gae(*rows, 0.97, 1.0)
    for env in range(3):
        for t in range(40):
            total, discount, row = 0.0, 1.0, t
            while True:
                total, discount = total + discount * rewards[row, env], discount * 0.97
                if ended[row, env] or row == 39:
                    break
                row += 1
            total += 0.0 if terminated[row, env] else discount * next_values[row, env]
            assert float(returns[t, env]) == pytest.approx(total, rel=1e-12, abs=1e-12)
            assert float(advantages[t, env]) == pytest.approx(total - values[t, env], rel=1e-12, abs=1e-12)


def test_lambda_zero_gives_the_temporal_difference_error(rng):
    rewards, values, next_values, terminated, ended = a_rollout(rng)
    with jax.enable_x64(True):
        rows = map(jnp.asarray, (rewards, values, next_values, terminated, ended))
        advantages, _ = gae(*rows, 0.97, 0.0)
    truth = rewards + 0.97 * next_values * ~terminated - values
    np.testing.assert_allclose(advantages, truth, rtol=1e-12, atol=1e-12)


def test_gae_agrees_with_stable_baselines3_over_many_episode_ends(rng):
    torch = pytest.importorskip("torch")
    buffers = pytest.importorskip("stable_baselines3.common.buffers")
    from gymnasium import spaces

    rewards, values, next_values, terminated, ended = a_rollout(rng)
    box = spaces.Box(-1.0, 1.0, (1,), np.float32)
    buffer = buffers.RolloutBuffer(40, box, box, gamma=0.97, gae_lambda=0.9, n_envs=3)
    starts = np.ones(3)
    for t in range(40):
        # SB3 adds γ V(final observation) to the reward of a truncated episode, and treats it as terminated.
        bootstrapped = rewards[t] + 0.97 * next_values[t] * (ended[t] & ~terminated[t])
        zeros = np.zeros((3, 1))
        buffer.add(zeros, zeros, bootstrapped, starts, torch.tensor(values[t]), torch.zeros(3))
        starts = ended[t].astype(float)
    buffer.compute_returns_and_advantage(torch.tensor(next_values[-1]), ended[-1])

    as_float32 = (jnp.asarray(x, jnp.float32) for x in (rewards, values, next_values))
    advantages, returns = gae(*as_float32, jnp.asarray(terminated), jnp.asarray(ended), 0.97, 0.9)
    # both in float32: sums of about 1/(1 − γλ) = 8 terms of size one
    np.testing.assert_allclose(advantages, buffer.advantages, atol=1e-5)
    np.testing.assert_allclose(returns, buffer.returns, atol=1e-5)


def test_normalised_advantages_have_mean_zero_and_biased_std_one(rng):
    x = rng.normal(size=(8, 8)) * 7 + 3
    with jax.enable_x64(True):
        normalised = normalise_advantages(jnp.asarray(x))
    np.testing.assert_allclose(normalised, (x - x.mean()) / x.std(ddof=0), rtol=1e-12)


def test_advantages_that_hardly_differ_are_divided_by_one_millionth_at_least():
    with jax.enable_x64(True):
        np.testing.assert_allclose(normalise_advantages(jnp.array([-1e-9, 1e-9])), [-1e-3, 1e-3], rtol=1e-12)
    np.testing.assert_array_equal(normalise_advantages(jnp.full(4, 0.5)), np.zeros(4))


def test_clipped_log_ratio_clamps_to_the_papers_range_and_has_no_gradient_outside():
    inside = jnp.array([-16.0, 0.0, 20.0])
    outside = jnp.array([-17.0, 21.0, -jnp.inf, jnp.inf, 1e30])
    bounds = np.log([1e-7, 1e9])
    np.testing.assert_array_equal(clipped_log_ratio(inside), inside)
    np.testing.assert_allclose(clipped_log_ratio(outside), bounds[[0, 1, 0, 1, 1]], rtol=1e-7)
    np.testing.assert_array_equal(jax.vmap(jax.grad(clipped_log_ratio))(inside), np.ones(3))
    np.testing.assert_array_equal(jax.vmap(jax.grad(clipped_log_ratio))(outside), np.zeros(5))
    assert math.isnan(clipped_log_ratio(jnp.array(math.nan)))


@pytest.mark.parametrize(
    ("ratio", "advantage", "objective", "active"),
    [
        (1.5, 2.0, 2.4, True),  # too high, wanted higher: clipped at 1.2
        (1.5, -2.0, -3.0, False),  # too high, wanted lower: the gradient must pull it back
        (0.5, 2.0, 1.0, False),
        (0.5, -2.0, -1.6, True),
        (1.1, 2.0, 2.2, False),
        (0.9, -2.0, -1.8, False),
        (1.5, 0.0, 0.0, False),
    ],
)
def test_clipped_objective_matches_the_cases_of_figure_1_of_the_ppo_paper(
    ratio, advantage, objective, active
):
    log_ratio, advantage = jnp.log(jnp.array(ratio)), jnp.array(advantage)
    assert float(clipped_objective(log_ratio, advantage, 0.2)) == pytest.approx(objective, rel=1e-6)
    assert bool(clip_is_active(log_ratio, advantage, 0.2)) is active


# Products of subnormal advantages underflow, which decides nothing: they count as zero.
advantage_values = st.floats(-10, 10).map(lambda a: a if abs(a) > 1e-6 else 0.0)


@jax.jit
def objective_gradient_and_activity(log_ratio, advantages, epsilon):
    one = jax.vmap(jax.value_and_grad(clipped_objective), (0, 0, None))
    return *one(log_ratio, advantages, epsilon), clip_is_active(log_ratio, advantages, epsilon)


@settings(deadline=None, max_examples=100)
@given(
    log_ratio=arrays(np.float64, 20, elements=st.floats(-4, 4)),
    advantages=arrays(np.float64, 20, elements=advantage_values),
    epsilon=st.floats(0.01, 0.9),
)
def test_the_objective_is_the_minimum_and_its_gradient_is_zero_exactly_where_clipping_is_active(
    log_ratio, advantages, epsilon
):
    ratio = np.exp(log_ratio)
    clipped = np.clip(ratio, 1 - epsilon, 1 + epsilon)
    with jax.enable_x64(True):
        answers = objective_gradient_and_activity(*map(jnp.asarray, (log_ratio, advantages, epsilon)))
    value, gradient, active = map(np.asarray, answers)
    np.testing.assert_allclose(value, np.minimum(ratio * advantages, clipped * advantages), rtol=1e-12)
    # On which side of the boundary a sample lies is certain only beyond rounding.
    certain = np.minimum(np.abs(ratio - 1 - epsilon), np.abs(ratio - 1 + epsilon)) > 1e-9
    strictly_less = clipped * advantages < ratio * advantages
    np.testing.assert_array_equal(active[certain], strictly_less[certain])
    np.testing.assert_array_equal(gradient == 0, active | (advantages == 0))
    np.testing.assert_allclose(gradient[~active], (ratio * advantages)[~active], rtol=1e-12)


def test_an_overflowing_ratio_puts_no_nan_into_the_gradient_of_a_clipped_sample():
    log_ratio, advantages = jnp.array([200.0, -200.0, 0.0]), jnp.array([1.0, -1.0, 1.0])
    np.testing.assert_allclose(clipped_objective(log_ratio, advantages, 0.2), [1.2, -0.8, 1.0], rtol=1e-6)
    gradient = jax.grad(lambda x: jnp.sum(clipped_objective(x, advantages, 0.2)))(log_ratio)
    np.testing.assert_array_equal(gradient, [0.0, 0.0, 1.0])


def test_gradient_of_the_objective_at_ratio_one_is_the_advantage_in_full():
    """A min of two equal terms would be the place to lose half of it."""
    gradient = jax.vmap(jax.grad(clipped_objective), (0, 0, None))(jnp.zeros(2), jnp.array([3.0, -3.0]), 0.2)
    np.testing.assert_array_equal(gradient, [3.0, -3.0])


def test_value_loss_is_the_squared_error():
    np.testing.assert_array_equal(value_loss(jnp.array([1.0, -2.0]), jnp.array([3.0, 1.0])), [4.0, 9.0])


@pytest.mark.parametrize(
    ("value", "old", "target", "loss"),
    [
        (2.0, 0.0, 3.0, 2.5**2),  # clipped to 0.5, which is further from the target
        (2.0, 0.0, 1.0, 1.0),  # clipped to 0.5, closer to the target than the value: the larger error counts
        (0.25, 0.0, 1.0, 0.75**2),  # within the range
        (-2.0, 0.0, -3.0, 2.5**2),
    ],
)
def test_clipped_value_loss_is_the_larger_of_the_two_errors(value, old, target, loss):
    assert float(clipped_value_loss(*map(jnp.array, (value, old, target)), 0.5)) == pytest.approx(loss)


value_losses_and_gradient = jax.jit(
    jax.vmap(jax.value_and_grad(clipped_value_loss), (0, 0, 0, None)),
)


@settings(deadline=None, max_examples=50)
@given(arrays(np.float64, (3, 6), elements=st.floats(-5, 5)), st.floats(0.01, 2))
def test_clipped_value_loss_has_no_gradient_where_a_wrong_step_was_clipped(numbers, epsilon):
    values, old, returns = numbers
    with jax.enable_x64(True):
        answers = value_losses_and_gradient(*map(jnp.asarray, (values, old, returns, epsilon)))
    losses, gradient = map(np.asarray, answers)
    within = np.abs(values - old) <= epsilon
    limited = np.where(within, values, old + np.sign(values - old) * epsilon)
    worse = np.maximum(np.abs(values - returns), np.abs(limited - returns))
    np.testing.assert_allclose(losses, worse**2, rtol=1e-9, atol=1e-12)
    stopped = ~within & (np.abs(limited - returns) > np.abs(values - returns) + 1e-9)
    np.testing.assert_array_equal(gradient[stopped], 0.0)


def test_gae_follows_a_traced_discount_so_that_a_population_may_differ_in_it(rng):
    rows = [jnp.asarray(x, jnp.float32) for x in a_rollout(rng)[:3]]
    ends = [jnp.asarray(x) for x in a_rollout(rng)[3:]]
    gammas = jnp.array([0.9, 0.99])
    together, _ = jax.vmap(lambda gamma: gae(*rows, *ends, gamma, 0.95))(gammas)
    for i, gamma in enumerate([0.9, 0.99]):
        alone, _ = gae(*rows, *ends, gamma, 0.95)
        np.testing.assert_allclose(together[i], alone, atol=1e-5)
