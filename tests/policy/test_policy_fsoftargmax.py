"""The f-softargmax against its definition as an argmax, its optimality conditions, and its two limits."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from escapevelocity.errors import UserError
from escapevelocity.policy import FSoftargmax

REFERENCE = [0.1, 0.4, 0.2, 0.3]
thetas = arrays(np.float64, 4, elements=st.floats(-20, 20))
simplex = arrays(np.float64, 4, elements=st.floats(0, 1)).filter(lambda x: x.sum() > 0.1)


def objective(pi, theta, q, alpha):
    """⟨π, θ⟩ − D_f(π ‖ q), from the definition of the divergence."""
    u = pi / q
    return pi @ theta - q @ ((u**alpha - 1 - alpha * (u - 1)) / (alpha * (alpha - 1)))


@pytest.mark.parametrize("alpha", [0.05, 0.5, 0.95])
@settings(deadline=None, max_examples=25)
@given(theta=thetas, other=simplex)
def test_no_other_distribution_has_a_higher_objective(alpha, theta, other):
    with jax.enable_x64(True):
        pi = np.asarray(FSoftargmax(4, alpha, REFERENCE).probs(jnp.asarray(theta)))
    assert pi.sum() == pytest.approx(1, abs=1e-14)
    other, q = other / other.sum(), np.array(REFERENCE)
    best = objective(pi, theta, q, alpha)
    for step in (1.0, 1e-2):  # far away and near by; rounding of terms of size 20/(α(1 − α)) = 400
        assert objective((1 - step) * pi + step * other, theta, q, alpha) <= best + 1e-12


@pytest.mark.parametrize("num_actions", [2, 300])
@pytest.mark.parametrize("alpha", [0.001, 0.5, 0.999])
def test_theta_minus_the_derivative_of_f_is_the_same_multiplier_for_every_action(rng, num_actions, alpha):
    """Stationarity on the simplex, θ(a) − f'(π(a)/q(a)) = τ, with f'(u) = (u^{α−1} − 1)/(α − 1)."""
    q = rng.dirichlet(np.full(num_actions, 0.5)) + 1e-7
    q /= q.sum()
    sizes = 10.0 ** rng.uniform(-3, 6, (100, 1))
    spread = -(10.0 ** rng.uniform(-8, 6, (100, num_actions)))  # every scale at once: hardest for the root
    theta = np.concatenate([rng.normal(size=(100, num_actions)) * sizes, spread])
    with jax.enable_x64(True):
        log_u = np.asarray(FSoftargmax(num_actions, alpha, q).log_probs(jnp.asarray(theta))) - np.log(q)
    tau = theta - np.expm1((alpha - 1) * log_u) / (alpha - 1)
    # τ is a difference of numbers as large as θ, each with a few roundings
    np.testing.assert_array_less(np.ptp(tau, axis=-1), 1e-13 * (1 + np.ptp(theta, axis=-1)))


def test_alpha_near_one_is_softmax_with_the_reference_as_prior(rng):
    theta, c = rng.normal(size=(6, 4)) * 3, 1e-7
    with jax.enable_x64(True):
        log_probs = FSoftargmax(4, 1 - c, REFERENCE).log_probs(jnp.asarray(theta))
    expected = scipy.special.log_softmax(theta + np.log(REFERENCE), axis=-1)
    # log1p(c·y)/c = y − c·y²/2, with y up to the spread of θ
    tolerance = c * np.ptp(theta) ** 2
    np.testing.assert_allclose(log_probs, expected, atol=tolerance)


@pytest.mark.parametrize("distance", [1e-6, 0.3, 2.0, 1e6])
def test_alpha_near_zero_with_two_actions_solves_a_quadratic(distance):
    """At α = 0, q₁/z + q₂/(z + d) = 1, so z² − (1 − d) z − q₁ d = 0 and π = (q₁/z, q₂/(z + d))."""
    q = np.array([0.3, 0.7])
    root = math.sqrt((1 - distance) ** 2 + 4 * q[0] * distance)
    # of the two forms of the root, the one in which nothing cancels
    z = ((1 - distance) + root) / 2 if distance < 1 else 2 * q[0] * distance / (root - (1 - distance))
    with jax.enable_x64(True):
        probs = FSoftargmax(2, 1e-9, q).probs(jnp.array([5.0, 5.0 - distance]))
    # α changes the exponent 1/(1−α) by 1e-9, and log(1e6/0.3) is 15
    np.testing.assert_allclose(probs, [q[0] / z, q[1] / (z + distance)], rtol=1e-7)


def test_a_logit_far_below_costs_a_power_of_the_distance_where_softmax_pays_an_exponential():
    """α = 1/2, two actions: π(worse) → ½ (1 + d/2)^{−2} · z-corrections that vanish: 2/d² as d → ∞, z → 1/√2."""
    with jax.enable_x64(True):
        for distance in (1e4, 1e6):
            log_prob = FSoftargmax(2, 0.5).log_prob(jnp.array([0.0, -distance]), jnp.int32(1))
            # ½ (z + d/2)^{−2} = (2/d²)(1 − 4z/d + …)
            assert float(log_prob) == pytest.approx(math.log(2 / distance**2), abs=4 / distance)


@jax.jit
def scores(theta):
    policy = FSoftargmax(4, 0.4, REFERENCE)
    other = jnp.array([0.5, 0.0, -1.0, 2.0])
    return jnp.stack([policy.log_prob(theta, jnp.int32(1)), policy.entropy(theta), policy.kl(other, theta)])


reverse, forward = jax.jit(jax.jacrev(scores)), jax.jit(jax.jacfwd(scores))
second = jax.jit(jax.jacfwd(jax.jacrev(scores)))


@settings(deadline=None, max_examples=20)
@given(theta=arrays(np.float64, 4, elements=st.floats(-5, 5)), shift=st.floats(-100, 100))
def test_implicit_derivatives_agree_with_central_differences_and_a_shift_changes_nothing(theta, shift):
    with jax.enable_x64(True):
        theta, h = jnp.asarray(theta), 1e-5
        gradient, hessian = np.asarray(reverse(theta)), np.asarray(second(theta))
        np.testing.assert_allclose(forward(theta), gradient, rtol=1e-10, atol=1e-13)
        np.testing.assert_allclose(scores(theta + shift), scores(theta), rtol=1e-11, atol=1e-12)
        for i in range(4):
            step = jnp.zeros(4).at[i].set(h)
            up, down = theta + step, theta - step
            # truncation h² f''' ~ 1e-10, rounding 1e-15 / h = 1e-10
            slope = (np.asarray(scores(up)) - np.asarray(scores(down))) / (2 * h)
            np.testing.assert_allclose(gradient[:, i], slope, rtol=1e-6, atol=1e-8)
            curvature = (np.asarray(reverse(up)) - np.asarray(reverse(down))) / (2 * h)
            np.testing.assert_allclose(hessian[:, :, i], curvature, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("alpha", [0.01, 0.5, 0.99])
def test_float32_agrees_with_float64(rng, alpha):
    theta = (rng.normal(size=(50, 5)) * 10.0 ** rng.uniform(-2, 4, (50, 1))).astype(np.float32)
    policy = FSoftargmax(5, alpha, [0.9, 0.09, 0.009, 0.0009, 0.0001])
    single = np.asarray(policy.log_probs(jnp.asarray(theta)))
    with jax.enable_x64(True):
        double = np.asarray(policy.log_probs(jnp.asarray(theta, jnp.float64)))
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, double, rtol=2e-6, atol=2e-6)


def test_a_mask_and_huge_logits_leave_everything_finite_where_it_should_be():
    policy = FSoftargmax(3, 0.5)
    masked = jnp.array([0.0, -jnp.inf, 0.0])
    np.testing.assert_allclose(policy.probs(masked), [0.5, 0.0, 0.5], rtol=1e-6)
    assert float(policy.entropy(masked)) == pytest.approx(math.log(2), rel=1e-6)
    for theta in (masked, jnp.array([1e30, -1e30, 0.0]), jnp.array([1e-30, 0.0, -1e-30])):
        assert float(jnp.sum(policy.probs(theta))) == pytest.approx(1, rel=1e-6)
        for score in (policy.entropy, lambda x: policy.log_prob(x, jnp.int32(0))):
            assert np.all(np.isfinite(jax.grad(score)(theta)))


@pytest.mark.parametrize("alpha", [0.0, 1.0, -0.5, 2.0, math.nan])
def test_an_alpha_outside_the_open_unit_interval_is_refused(alpha):
    with pytest.raises(UserError, match=rf"alpha = {alpha}: must be a number strictly between 0 and 1"):
        FSoftargmax(3, alpha)


@pytest.mark.parametrize(
    ("reference", "accepted"),
    [
        ([0.5, 0.5], "one probability for each of 3 actions"),
        ([0.5, 0.5, 0.0], "positive probabilities that sum to 1"),
        ([0.5, 0.5, 0.1], "positive probabilities that sum to 1"),
        ([0.5, 0.5, math.nan], "positive probabilities that sum to 1"),
    ],
)
def test_a_reference_that_is_no_positive_distribution_is_refused(reference, accepted):
    with pytest.raises(UserError, match=rf"reference = \[0.5, 0.5.*\]: must be {accepted}"):
        FSoftargmax(3, 0.5, reference)


def test_other_sizes_are_refused():
    with pytest.raises(UserError, match="num_actions = 0: must be an integer of at least 1"):
        FSoftargmax(0, 0.5)
    policy = FSoftargmax(4, 0.5)
    with pytest.raises(UserError, match=r"outputs.shape = \(3,\): must be an array whose last axis has 4"):
        policy.params(jnp.zeros(3))
    with pytest.raises(UserError, match=r"params.shape = \(3,\): must be an array whose last axis has 4"):
        policy.log_probs(jnp.zeros(3))
