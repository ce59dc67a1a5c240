"""The escort transform against its definition, closed-form derivatives, chi-square tests and limits."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from escapevelocity.errors import UserError
from escapevelocity.policy import Escort, escort_policy_gradient

POWERS = [1.0, 2.5, 64.0]
every_power = pytest.mark.parametrize("p", POWERS)
# of either sign, and far enough from 0 for central differences
theta_arrays = arrays(np.float64, 4, elements=st.floats(0.2, 5) | st.floats(-5, -0.2))


def definition(theta, p):
    """|θ|^p / Σ|θ|^p, to be called with magnitudes near 1."""
    powers = np.abs(theta) ** p
    return powers / powers.sum(-1, keepdims=True)


@every_power
def test_probabilities_and_their_logarithms_follow_the_definition(rng, p):
    theta, policy = rng.uniform(-2, 2, (7, 4)), Escort(4, p)
    with jax.enable_x64(True):
        probs, log_probs = policy.probs(jnp.asarray(theta)), policy.log_probs(jnp.asarray(theta))
    # a power of 64 multiplies the rounding of |θ| and of the logarithm
    np.testing.assert_allclose(probs, definition(theta, p), rtol=1e-13)
    np.testing.assert_allclose(log_probs, np.log(definition(theta, p)), rtol=1e-13, atol=1e-13)


@jax.jit
def quantities(theta, other):
    policy = Escort(4, 3)
    return policy.probs(theta), policy.log_probs(theta), policy.entropy(theta), policy.kl(theta, other)


@settings(deadline=None, max_examples=50)
@given(theta_arrays, arrays(np.float64, 4, elements=st.sampled_from([-1.0, 1.0])), st.integers(-100, 100))
def test_neither_the_scale_nor_the_signs_of_theta_change_the_policy(theta, signs, exponent):
    with jax.enable_x64(True):
        other = jnp.asarray([1.0, 2.0, 3.0, 4.0])
        one = quantities(jnp.asarray(theta), other)
        # powers of two, so that the scaling itself is exact
        two = quantities(jnp.asarray(theta * signs * 2.0**exponent), other)
    jax.tree.map(np.testing.assert_array_equal, one, two)


@pytest.mark.parametrize("p", [1.0, 7.5, 64.0])
@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_float32_is_safe_from_1e_minus_30_to_1e30_and_for_p_from_1_to_64(p, scale):
    policy, base = Escort(3, p), np.array([1.0, -0.5, 0.0])
    theta = jnp.asarray(base * scale, jnp.float32)
    np.testing.assert_allclose(policy.probs(theta), definition(base, p), rtol=1e-5)
    assert float(policy.log_prob(theta, jnp.int32(1))) == pytest.approx(
        -p * math.log(2) - math.log1p(0.5**p), rel=1e-5
    )
    for score in (policy.entropy, lambda x: policy.log_prob(x, jnp.int32(1)), lambda x: policy.kl(x, 1 + x)):
        value, gradient = jax.value_and_grad(score)(theta)
        assert np.isfinite(value)
        assert np.all(np.isfinite(gradient))


def test_magnitudes_from_1e_minus_30_to_1e30_in_one_row_give_no_nan_and_no_infinity():
    policy, theta = Escort(3, 2), jnp.array([1e30, 1e-30, -1.0])
    np.testing.assert_array_equal(policy.probs(theta), [1.0, 0.0, 0.0])
    # both lie below the floor: 2 · ln 1e-12
    np.testing.assert_allclose(policy.log_probs(theta), [0, -55.2620422, -55.2620422], rtol=1e-6)
    gradient = jax.grad(lambda x: policy.log_prob(x, jnp.int32(1)))(theta)
    assert np.all(np.isfinite(gradient))
    np.testing.assert_array_equal(gradient[1:], [0.0, 0.0])


@every_power
def test_a_theta_of_zero_has_probability_exactly_zero_and_a_finite_logarithm(p):
    policy = Escort(3, p)
    with jax.enable_x64(True):
        theta = jnp.array([2.0, 0.0, -2.0])
        np.testing.assert_array_equal(policy.probs(theta), [0.5, 0.0, 0.5])
        # the floor is 1e-12 of the largest |θ|
        expected = p * math.log(1e-12) - math.log(2)
        assert float(policy.log_prob(theta, jnp.int32(1))) == pytest.approx(expected, rel=1e-12)
        # exp(log π) = 1e-12 for p = 1 would add 3e-11 to the entropy
        assert float(policy.entropy(theta)) == pytest.approx(math.log(2), abs=1e-11)
        # from θ to uniform: Σ ½ ln(½ / ⅓), and the absent action adds nothing
        assert float(policy.kl(theta, jnp.ones(3))) == pytest.approx(math.log(1.5), abs=1e-11)
        # the other way round it is large, but no ratio is formed from −inf
        expected = -math.log(3) - 2 / 3 * -math.log(2) - 1 / 3 * (p * math.log(1e-12) - math.log(2))
        assert float(policy.kl(jnp.ones(3), theta)) == pytest.approx(expected, rel=1e-10)


@every_power
def test_the_gradient_is_zero_at_and_below_the_floor_and_whole_above_it(p):
    policy = Escort(3, p)

    def gradient(small):
        return np.asarray(jax.grad(lambda x: policy.log_prob(x, jnp.int32(1)))(jnp.array([1.0, small, 1.0])))

    with jax.enable_x64(True):
        for below in (0.0, 9e-13, -9e-13):
            assert gradient(below)[1] == 0.0
            assert np.all(np.isfinite(gradient(below)))
        # ∂ log π(1)/∂θ(1) = (p/θ)(1 − π(1))
        assert gradient(-2e-12)[1] == pytest.approx(-p / 2e-12, rel=1e-10)


@every_power
def test_autodiff_at_a_theta_of_zero_is_the_closed_form_with_sgn_0_equal_to_0(p):
    """JAX's derivative of |θ| at 0 is 1, which showed at p = 1."""
    policy = Escort(3, p)
    with jax.enable_x64(True):
        theta, rewards = jnp.array([1.0, 0.0, -0.5]), jnp.array([0.0, 1.0, 0.5])
        found = jax.grad(lambda x: jnp.sum(policy.probs(x) * rewards))(theta)
        np.testing.assert_allclose(found, escort_policy_gradient(policy, theta, rewards), rtol=1e-12)
        for score in (
            policy.entropy,
            lambda x: policy.kl(x, jnp.ones(3)),
            lambda x: policy.kl(jnp.ones(3), x),
        ):
            assert jax.grad(score)(theta)[1] == 0


def test_theta_of_all_zeros_counts_as_uniform_and_has_no_gradient():
    policy, zeros = Escort(4, 2), jnp.zeros((2, 4))
    np.testing.assert_array_equal(policy.probs(zeros), np.full((2, 4), 0.25))
    np.testing.assert_allclose(policy.log_probs(zeros), np.full((2, 4), -math.log(4)), rtol=1e-6)
    for score in (policy.entropy, lambda x: policy.log_prob(x, jnp.int32([1, 2])), policy.probs):
        np.testing.assert_array_equal(jax.grad(lambda x, score=score: jnp.sum(score(x)))(zeros), zeros)


def scores(theta, other, p):
    policy = Escort(4, p)
    return jnp.stack([policy.log_prob(theta, jnp.int32(2)), policy.entropy(theta), policy.kl(other, theta)])


scores_jit = jax.jit(scores, static_argnums=2)
gradients_jit = jax.jit(jax.jacobian(scores), static_argnums=2)


@pytest.mark.parametrize("p", [1.0, 2.5, 8.0])
@settings(deadline=None, max_examples=20)
@given(theta=theta_arrays, other=theta_arrays)
def test_derivatives_agree_with_closed_forms_and_central_differences(p, theta, other):
    """(p/θ)(δ − π) for log π; −(p/θ) π (log π + H) for the entropy; (p/θ)(π − π_old) for KL(old ‖ new)."""
    pi, old = definition(theta, p), definition(other, p)
    entropy = -np.sum(pi * np.log(pi))
    closed = p / theta * np.stack([np.eye(4)[2] - pi, -pi * (np.log(pi) + entropy), pi - old])
    with jax.enable_x64(True):
        theta, other = jnp.asarray(theta), jnp.asarray(other)
        found = np.asarray(gradients_jit(theta, other, p))
        np.testing.assert_allclose(found, closed, rtol=1e-9, atol=1e-11)
        h = 1e-5
        for i in range(4):
            step = jnp.zeros(4).at[i].set(h)
            up, down = (np.asarray(scores_jit(theta + s * step, other, p)) for s in (1.0, -1.0))
            # truncation: h²/6 · |f'''| with f''' up to p³/0.2³ = 6e4: 1e-6; rounding: 1e-14 / h
            np.testing.assert_allclose((up - down) / (2 * h), found[:, i], rtol=1e-6, atol=3e-6)


@pytest.mark.parametrize("p", [1.0, 3.0])
def test_samples_pass_a_chi_square_test_and_an_action_of_probability_zero_is_never_drawn(p):
    n, theta, policy = 20_000, np.array([1.0, -2.0, 0.7, 0.0]), Escort(4, p)
    params = jnp.broadcast_to(jnp.asarray(theta, jnp.float32), (n, 4))
    actions = np.asarray(policy.sample(params, policy.draw_noise(jax.random.key(3), (n,))))
    observed, expected = np.bincount(actions, minlength=4), n * definition(theta, p)
    assert observed[3] == 0
    assert expected[:3].min() > 5  # where the chi-square approximation holds
    assert scipy.stats.chisquare(observed[:3], expected[:3]).pvalue > 1e-3


def test_mode_is_the_action_of_the_largest_magnitude():
    np.testing.assert_array_equal(Escort(3, 2).mode(jnp.array([[0.1, 2.0, -3.0], [-1.0, 0.5, 0.0]])), [2, 0])


def test_a_head_that_puts_out_zeros_starts_uniform():
    policy = Escort(5, 2)
    np.testing.assert_array_equal(policy.params(jnp.zeros((2, 5))), np.ones((2, 5)))
    np.testing.assert_array_equal(policy.params(jnp.array([0.5, -3.0, 0, 0, 0])), [1.5, -2.0, 1, 1, 1])
    np.testing.assert_allclose(policy.probs(policy.params(jnp.zeros(5))), np.full(5, 0.2), rtol=1e-6)


def test_a_large_p_tends_to_softmax(rng):
    """(1 + x/p)^p = e^x (1 − x²/2p + …)."""
    x, p = rng.normal(size=(6, 4)), 1e6
    with jax.enable_x64(True):
        log_probs = np.asarray(Escort(4, p).log_probs(jnp.asarray(1 + x / p)))
    # two such corrections of at most max x²/2p, and rounding times p
    tolerance = np.max(x**2) / p + 1e-9
    np.testing.assert_allclose(log_probs, scipy.special.log_softmax(x, axis=-1), atol=tolerance)


@pytest.mark.parametrize("p", [0.99, 0, -1.0, math.nan, math.inf])
def test_a_power_below_one_or_not_finite_is_refused(p):
    with pytest.raises(UserError, match=rf"p = {p}: must be a finite number of at least 1"):
        Escort(3, p)


def test_a_number_of_actions_below_one_is_refused():
    with pytest.raises(UserError, match="num_actions = 0: must be an integer of at least 1"):
        Escort(0, 2)


def test_wrong_last_axis_is_refused():
    policy = Escort(4, 2)
    with pytest.raises(UserError, match=r"outputs.shape = \(2, 3\): must be an array whose last axis has 4"):
        policy.params(jnp.zeros((2, 3)))
    for method in (policy.probs, policy.log_probs, policy.entropy):
        with pytest.raises(UserError, match=r"params.shape = \(3,\): must be an array whose last axis has 4"):
            method(jnp.zeros(3))


def test_families_of_other_powers_are_not_equal():
    assert Escort(3, 2) == Escort(3, 2.0) != Escort(3, 2.5)
    assert hash(Escort(3, 2)) == hash(Escort(3, 2.0))
