"""Softmax against torch.distributions.Categorical, SciPy, chi-square tests and closed forms."""

import math

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
import scipy.special
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from escapevelocity.errors import UserError
from escapevelocity.policy import Softmax

logit_arrays = arrays(np.float64, 4, elements=st.floats(-5, 5))


def test_log_prob_entropy_and_kl_agree_with_torch(rng):
    torch = pytest.importorskip("torch")
    old, new, action = rng.normal(size=(9, 4)) * 3, rng.normal(size=(9, 4)), rng.integers(0, 4, 9)
    p, q = (torch.distributions.Categorical(logits=torch.tensor(x)) for x in (old, new))
    policy = Softmax(4)
    with jax.enable_x64(True):
        old, new = jnp.asarray(old), jnp.asarray(new)
        log_prob, entropy, kl = (
            policy.log_prob(old, jnp.asarray(action)),
            policy.entropy(old),
            policy.kl(old, new),
        )
    np.testing.assert_allclose(log_prob, p.log_prob(torch.tensor(action)).numpy(), rtol=1e-12)
    np.testing.assert_allclose(entropy, p.entropy().numpy(), rtol=1e-12)
    np.testing.assert_allclose(kl, torch.distributions.kl_divergence(p, q).numpy(), rtol=1e-12)


def test_temperature_divides_the_logits(rng):
    logits = rng.normal(size=(5, 3))
    with jax.enable_x64(True):
        log_probs = Softmax(3, temperature=0.25).log_probs(jnp.asarray(logits))
    np.testing.assert_allclose(log_probs, scipy.special.log_softmax(logits / 0.25, axis=-1), rtol=1e-12)


def test_a_uniform_policy_has_the_entropy_log_k_and_its_logits_are_the_outputs():
    policy = Softmax(5)
    logits = policy.params(jnp.full(5, 3.0))
    np.testing.assert_array_equal(logits, np.full(5, 3.0))
    assert float(policy.base_entropy(logits)) == pytest.approx(math.log(5), rel=1e-6)
    assert float(policy.entropy(logits)) == float(policy.base_entropy(logits))
    assert (policy.num_outputs, policy.num_params) == (5, 5)


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_samples_pass_a_chi_square_test(temperature):
    n, logits = 20_000, np.array([1.0, -1.0, 0.3, -2.5])
    policy = Softmax(4, temperature)
    params = jnp.broadcast_to(jnp.asarray(logits, jnp.float32), (n, 4))
    actions = policy.sample(params, policy.draw_noise(jax.random.key(3), (n,)))
    observed = np.bincount(np.asarray(actions), minlength=4)
    expected = n * scipy.special.softmax(logits / temperature)
    assert actions.dtype == jnp.int32
    assert expected.min() > 5  # where the chi-square approximation holds
    assert scipy.stats.chisquare(observed, expected).pvalue > 1e-3


def test_noise_is_standard_gumbel():
    noise = np.asarray(Softmax(4).draw_noise(jax.random.key(4), (20_000,))).ravel()
    critical = 1.95 / math.sqrt(noise.size)  # 0.1 %
    assert scipy.stats.kstest(noise, scipy.stats.gumbel_r.cdf).statistic < critical


def test_float32_noise_resolves_probabilities_far_below_two_to_the_minus_23():
    """JAX's default noise has P(noise > g) on a grid of 2^−23, too coarse for actions of p < 1e-7."""
    noise = np.asarray(Softmax(2**10).draw_noise(jax.random.key(5), (2**10,)), np.float64)
    tail = noise[noise > 11]  # 2^20 · e^−11 = 17.5 are expected here
    steps = -np.expm1(-np.exp(-tail)) * 2**23
    off_grid = np.abs(steps - np.round(steps))
    # Off the grid it is uniform in [0, 0.5]: all of 10 values below 0.1 has probability 0.2^10 = 1e-7.
    assert len(tail) >= 10
    assert off_grid.max() > 0.1


def test_sample_is_the_argmax_of_logits_plus_noise(rng):
    logits, noise = rng.normal(size=(200, 4)), rng.gumbel(size=(200, 4))
    with jax.enable_x64(True):
        action = Softmax(4).sample(jnp.asarray(logits), jnp.asarray(noise))
    np.testing.assert_array_equal(action, (logits + noise).argmax(-1))


def test_mode_is_the_most_probable_action_and_the_environment_gets_it_unchanged():
    policy = Softmax(3)
    action = policy.mode(jnp.array([[0.1, 2.0, -1.0], [5.0, 5.0, 0.0]]))
    np.testing.assert_array_equal(action, [1, 0])
    assert action.dtype == jnp.int32
    np.testing.assert_array_equal(policy.to_environment(action), [1, 0])


def test_a_masked_action_is_never_drawn_and_leaves_every_quantity_and_gradient_finite():
    policy, logits = Softmax(3), jnp.array([0.0, -jnp.inf, 0.0])
    noise = policy.draw_noise(jax.random.key(6), (1000,))
    actions = policy.sample(jnp.broadcast_to(logits, (1000, 3)), noise)
    assert set(np.unique(actions)) == {0, 2}
    assert float(policy.log_prob(logits, jnp.int32(1))) == -math.inf
    assert float(policy.entropy(logits)) == pytest.approx(math.log(2), rel=1e-6)
    # old = uniform on two of three actions, new = uniform on three
    assert float(policy.kl(logits, jnp.zeros(3))) == pytest.approx(math.log(1.5), rel=1e-6)
    assert float(policy.kl(logits, logits)) == 0.0
    assert float(policy.kl(jnp.zeros(3), logits)) == math.inf
    for score in (
        policy.entropy,
        lambda x: policy.kl(x, jnp.zeros(3)),
        lambda x: policy.log_prob(x, jnp.int32(0)),
    ):
        assert np.all(np.isfinite(jax.grad(score)(logits)))


def test_huge_logits_and_tiny_temperatures_give_no_nan():
    for policy, logits in [
        (Softmax(2), [1e30, -1e30]),
        (Softmax(2, temperature=1e-30), [1e30, 0.0]),
        (Softmax(2, temperature=1e-30), [3.0, 2.0]),
    ]:
        params = jnp.array(logits)
        np.testing.assert_array_equal(jnp.exp(policy.log_probs(params)), [1.0, 0.0])
        assert float(policy.entropy(params)) == 0.0
        assert np.all(np.isfinite(jax.grad(policy.entropy)(params)))
    uniform = Softmax(2, temperature=1e30).log_probs(jnp.array([1.0, -1.0]))
    np.testing.assert_allclose(uniform, [-math.log(2)] * 2, rtol=1e-6)


def test_log_prob_of_an_action_that_does_not_exist_is_nan():
    assert np.isnan(Softmax(3).log_prob(jnp.zeros(3), jnp.int32(3)))


def scores(logits, action):
    policy, other = Softmax(4, temperature=0.7), jnp.array([0.5, 0.0, -1.0, 2.0])
    return jnp.stack([policy.log_prob(logits, action), policy.entropy(logits), policy.kl(logits, other)])


@jax.jit
def scores_and_gradients(logits, action):
    return scores(logits, action), jax.jacobian(scores)(logits, action)


@settings(deadline=None, max_examples=40)
@given(logits=logit_arrays, shift=st.floats(-1e3, 1e3), action=st.integers(0, 3))
def test_adding_a_constant_to_all_logits_changes_nothing(logits, shift, action):
    with jax.enable_x64(True):
        one, two = (scores_and_gradients(jnp.asarray(x), jnp.int32(action)) for x in (logits, logits + shift))
    # the shift itself rounds the logits by 1e3 · 1e-16
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11), one, two)
    # so no score has a gradient along (1, 1, 1, 1)
    np.testing.assert_allclose(np.sum(np.asarray(one[1]), axis=-1), 0.0, atol=1e-11)


@settings(deadline=None, max_examples=40)
@given(logits=logit_arrays, other=logit_arrays)
def test_probabilities_sum_to_one_entropy_is_bounded_and_kl_is_not_negative(logits, other):
    policy = Softmax(4)
    with jax.enable_x64(True):
        p, q = jnp.asarray(logits), jnp.asarray(other)
        assert float(jnp.sum(jnp.exp(policy.log_probs(p)))) == pytest.approx(1.0, abs=1e-14)
        assert 0.0 <= float(policy.entropy(p)) <= math.log(4) + 1e-14
        assert float(policy.kl(p, q)) >= -1e-14  # rounding of four terms of size one
        # Pinsker: KL ≥ 2 (total variation)²
        gap = 0.5 * np.abs(scipy.special.softmax(logits) - scipy.special.softmax(other)).sum()
        assert float(policy.kl(p, q)) >= 2 * gap**2 - 1e-12


@settings(deadline=None, max_examples=30)
@given(logits=logit_arrays)
def test_gradients_agree_with_central_differences(logits):
    with jax.enable_x64(True):
        logits, h = jnp.asarray(logits), 1e-5
        action = jnp.int32(2)
        _, gradients = scores_and_gradients(logits, action)
        for i in range(4):
            step = jnp.zeros(4).at[i].set(h)
            up, down = (scores_and_gradients(logits + sign * step, action)[0] for sign in (1.0, -1.0))
            numeric = (np.asarray(up) - np.asarray(down)) / (2 * h)
            # truncation h² f''' ~ 1e-9, rounding 1e-15 / h = 1e-10
            np.testing.assert_allclose(np.asarray(gradients)[:, i], numeric, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("num_actions", [0, -2])
def test_a_number_of_actions_below_one_is_refused(num_actions):
    with pytest.raises(UserError, match=rf"num_actions = {num_actions}: must be an integer of at least 1"):
        Softmax(num_actions)


def test_a_number_of_actions_that_is_no_integer_is_refused_rather_than_rounded(monkeypatch):
    # A spec file comes past the annotation, which in tests would answer first.
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(UserError, match=r"num_actions = 2.5: must be an integer of at least 1"):
        Softmax(2.5)
    assert Softmax(np.int64(3)) == Softmax(3)


@pytest.mark.parametrize("temperature", [0.0, -1.0, 1e-40, math.inf, math.nan])
def test_a_temperature_out_of_range_is_refused(temperature):
    with pytest.raises(UserError, match=r"temperature = .*: must be a number in \[1e-30, 1e30\]"):
        Softmax(2, temperature)


def test_wrong_last_axis_is_refused():
    with pytest.raises(UserError, match=r"outputs.shape = \(2, 3\): must be an array whose last axis has 4"):
        Softmax(4).params(jnp.zeros((2, 3)))
    with pytest.raises(UserError, match=r"params.shape = \(3,\): must be an array whose last axis has 4"):
        Softmax(4).entropy(jnp.zeros(3))
