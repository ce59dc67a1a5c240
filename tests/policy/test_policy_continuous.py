"""TanhNormal and DiagonalNormal against torch.distributions, SciPy, quadrature and sampling tests."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from escapevelocity.policy import DiagonalNormal, TanhNormal

LOW, HIGH = [-0.4, -2.0, 1.0], [0.4, 3.0, 1.5]


def some_params(rng, shape=(7,), dtype=np.float64):
    mean = rng.normal(size=(*shape, 3))
    std = np.exp(rng.normal(size=(*shape, 3)))
    return np.concatenate([mean, std], axis=-1).astype(dtype)


def torch_tanh_normal(torch, params):
    """The same distribution, put together from torch's own pieces."""
    mean, std = torch.tensor(params).split(3, dim=-1)
    low, high = torch.tensor(LOW, dtype=mean.dtype), torch.tensor(HIGH, dtype=mean.dtype)
    d = torch.distributions
    affine = d.transforms.AffineTransform((low + high) / 2, (high - low) / 2)
    squashed = d.TransformedDistribution(d.Normal(mean, std), [d.transforms.TanhTransform(), affine])
    return d.Independent(squashed, 1)


@pytest.mark.parametrize("family", [TanhNormal, DiagonalNormal])
def test_std_rule_softplus_is_the_papers_formula(family):
    policy = family([0.0], [1.0], std="softplus")
    with jax.enable_x64(True):
        outputs = jnp.array([[3.0, 0.0], [-1.0, 2.5], [0.0, -4.0], [0.0, 800.0], [0.0, -800.0]])
        mean, std = np.asarray(policy.params(outputs)).T
    x = np.asarray(outputs)[:, 1]
    expected = np.logaddexp(0.0, x + np.log(np.exp(0.99) - 1)) + 0.01
    np.testing.assert_array_equal(mean, np.asarray(outputs)[:, 0])
    np.testing.assert_allclose(std, expected, rtol=1e-14)
    assert std[0] == pytest.approx(1.0, abs=1e-15)
    assert std[-1] == 0.01


def test_std_rule_exp_takes_outputs_as_log_std_and_stays_positive_and_finite():
    policy = DiagonalNormal([0.0], [1.0], std="exp")
    outputs = jnp.array([[0.5, 0.0], [0.5, -1.5], [0.5, 1e30], [0.5, -1e30], [0.5, jnp.inf], [0.5, -jnp.inf]])
    std = np.asarray(policy.params(outputs))[:, 1]
    np.testing.assert_allclose(std[:2], [1.0, math.exp(-1.5)], rtol=1e-6)
    # exp of a float32 near 69 is good to 69 float32 roundings
    np.testing.assert_allclose(std[2:], [1e30, 1e-30, 1e30, 1e-30], rtol=69 * np.finfo(np.float32).eps)


def test_sample_is_mean_plus_std_times_noise_and_mode_is_the_mean():
    params, noise = jnp.array([1.0, -2.0, 0.5, 4.0]), jnp.array([2.0, -1.0])
    for policy in (TanhNormal([0.0, 0.0], [1.0, 1.0]), DiagonalNormal([0.0, 0.0], [1.0, 1.0])):
        np.testing.assert_array_equal(policy.sample(params, noise), [2.0, -6.0])
        np.testing.assert_array_equal(policy.mode(params), [1.0, -2.0])


def test_diagonal_normal_agrees_with_scipy_in_density_and_entropy(rng):
    params, action = some_params(rng), rng.normal(size=(7, 3)) * 3
    truth = scipy.stats.norm(params[:, :3], params[:, 3:])
    policy = DiagonalNormal(LOW, HIGH)
    with jax.enable_x64(True):
        log_prob = policy.log_prob(jnp.asarray(params), jnp.asarray(action))
        entropy = policy.entropy(jnp.asarray(params), jnp.asarray(action))
    np.testing.assert_allclose(log_prob, truth.logpdf(action).sum(-1), rtol=1e-12)
    np.testing.assert_allclose(entropy, truth.entropy().sum(-1), rtol=1e-12)


def test_tanh_normal_log_prob_agrees_with_torchs_transformed_distribution(rng):
    torch = pytest.importorskip("torch")
    params, latent = some_params(rng), rng.normal(size=(7, 3))
    policy = TanhNormal(LOW, HIGH)
    with jax.enable_x64(True):
        action = np.asarray(policy.to_environment(jnp.asarray(latent)))
        log_prob = policy.log_prob(jnp.asarray(params), jnp.asarray(latent))
    truth = torch_tanh_normal(torch, params).log_prob(torch.tensor(action)).numpy()
    # torch inverts tanh, which at |u| < 4 loses cosh²(4) ≈ 750 roundings of 1e-16
    np.testing.assert_allclose(log_prob, truth, rtol=1e-10)


@pytest.mark.parametrize("family", [TanhNormal, DiagonalNormal])
def test_kl_and_base_entropy_agree_with_torch(family, rng):
    torch = pytest.importorskip("torch")
    normal = torch.distributions.Normal
    old, new = some_params(rng), some_params(rng)
    p, q = (normal(*torch.tensor(x).split(3, dim=-1)) for x in (old, new))
    policy = family(LOW, HIGH)
    with jax.enable_x64(True):
        kl = policy.kl(jnp.asarray(old), jnp.asarray(new))
        base_entropy = policy.base_entropy(jnp.asarray(old))
    np.testing.assert_allclose(kl, torch.distributions.kl_divergence(p, q).sum(-1).numpy(), rtol=1e-12)
    np.testing.assert_allclose(base_entropy, p.entropy().sum(-1).numpy(), rtol=1e-12)


def test_kl_between_close_policies_keeps_its_digits_in_float32():
    # KL ≈ δ² = 1e-8 for s_new = (1 + δ) s_old; the textbook form in float32 is wrong by about 1e-7.
    policy = DiagonalNormal([0.0], [1.0])
    old, new = np.float32([0.5, 3.0]), np.float32([0.5, 3.0003])
    r = float(old[1]) / float(new[1])
    truth = -math.log(r) + (r * r - 1) / 2
    # 3e-3: the float32 logarithms near log 3 carry 1e-7, d is 1e-4, and KL goes with d²
    assert float(policy.kl(jnp.asarray(old), jnp.asarray(new))) == pytest.approx(truth, rel=3e-3)
    assert float(policy.kl(jnp.asarray(old), jnp.asarray(old))) == 0.0


def test_tanh_normal_density_integrates_to_one_over_the_box():
    """Trapezoids in the environment's own coordinates, so that a wrong Jacobian cannot hide."""
    low, high = -0.4, 1.6
    policy = TanhNormal([low], [high])
    with jax.enable_x64(True):
        # Past |u| = 17 tanh rounds to ±1; these params have less than 1e-15 of their mass there.
        latent = jnp.linspace(-17.0, 17.0, 200_001)[:, None]
        action = np.asarray(policy.to_environment(latent))[:, 0]
        for mean, std in [(0.0, 1.0), (1.2, 0.3), (-0.7, 2.0)]:
            params = jnp.broadcast_to(jnp.array([mean, std]), (latent.shape[0], 2))
            density = np.exp(np.asarray(policy.log_prob(params, latent)))
            # step h = 1.7e-4 in u: the rule's error is of order h² ≈ 3e-8
            assert np.trapezoid(density, action) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("mean", [0.3, 2.0, -4.0])
def test_tanh_normal_samples_follow_their_own_distribution_function(mean):
    """Kolmogorov–Smirnov: P(action ≤ x) = Φ((artanh(x scaled to ±1) − mean)/std)."""
    n, low, high, std = 20_000, -1.0, 3.0, 0.8
    policy = TanhNormal([low], [high])
    params = jnp.broadcast_to(jnp.array([mean, std]), (n, 2))
    latent = policy.sample(params, policy.draw_noise(jax.random.key(0), (n,)))
    action = np.asarray(policy.to_environment(latent), dtype=np.float64)[:, 0]
    scaled = np.clip((action - low) / (high - low) * 2 - 1, -1 + 1e-9, 1 - 1e-9)
    result = scipy.stats.kstest(np.arctanh(scaled), scipy.stats.norm(mean, std).cdf)
    assert result.statistic < 1.95 / math.sqrt(n)  # the 0.1 % critical value for large n


def test_diagonal_normal_samples_follow_the_normal_distribution_in_every_dimension():
    n, mean, std = 20_000, [1.0, -3.0], [0.5, 2.0]
    policy = DiagonalNormal([-9.0, -9.0], [9.0, 9.0])
    params = jnp.broadcast_to(jnp.array(mean + std), (n, 4))
    samples = np.asarray(policy.sample(params, policy.draw_noise(jax.random.key(1), (n,))))
    for i in range(2):
        result = scipy.stats.kstest(samples[:, i], scipy.stats.norm(mean[i], std[i]).cdf)
        assert result.statistic < 1.95 / math.sqrt(n)  # 0.1 % critical value
    # independent dimensions: |correlation| < 4/√n happens but once in 16,000 by chance
    assert abs(np.corrcoef(samples.T)[0, 1]) < 4 / math.sqrt(n)


def test_tanh_normal_entropy_estimate_averages_to_the_entropy_by_quadrature():
    n, low, high, mean, std = 50_000, -2.0, 2.0, 0.4, 0.7
    policy = TanhNormal([low], [high])
    params = jnp.broadcast_to(jnp.array([mean, std]), (n, 2))
    estimates = np.asarray(policy.entropy(params, policy.draw_noise(jax.random.key(2), (n,))), np.float64)
    # H = H(normal) + E[log(half_range · (1 − tanh² u))], Gauss–Hermite in u
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    slope = np.log((high - low) / 2 / np.cosh(mean + std * nodes) ** 2)
    truth = scipy.stats.norm(mean, std).entropy() + weights @ slope / weights.sum()
    assert abs(estimates.mean() - truth) < 4 * estimates.std() / math.sqrt(n)


def test_tanh_normal_entropy_estimate_is_minus_the_log_prob_torch_gives_that_sample(rng):
    torch = pytest.importorskip("torch")
    params, noise = some_params(rng), rng.normal(size=(7, 3)) * 0.5
    params[:, 3:] = np.minimum(params[:, 3:], 2.0)
    policy = TanhNormal(LOW, HIGH)
    with jax.enable_x64(True):
        entropy = policy.entropy(jnp.asarray(params), jnp.asarray(noise))
    mean, std = params[:, :3], params[:, 3:]
    low, high = np.array(LOW), np.array(HIGH)
    action = low + (high - low) * (np.tanh(mean + std * noise) + 1) / 2
    truth = -torch_tanh_normal(torch, params).log_prob(torch.tensor(action)).numpy()
    np.testing.assert_allclose(
        entropy, truth, rtol=1e-8
    )  # torch's inverse tanh loses up to cosh²(6) roundings


@pytest.mark.parametrize("latent", [-50.0, 50.0, -1e30, 1e30])
def test_log_prob_of_a_saturated_action_is_finite_and_exact(latent):
    """Where tanh(u) = ±1 in floats, log(1 − tanh² u) = 2 log 2 − 2|u| to 40 digits and more."""
    policy = TanhNormal([-1.0], [1.0])
    params = jnp.array([latent, 1.0])
    log_prob, slope = jax.value_and_grad(lambda u: policy.log_prob(params, u[None]))(jnp.float32(latent))
    truth = -0.5 * math.log(2 * math.pi) - (2 * math.log(2) - 2 * abs(latent))
    assert float(log_prob) == pytest.approx(truth, rel=1e-6)
    assert float(slope) == pytest.approx(2 * math.copysign(1, latent), rel=1e-6)


@pytest.mark.parametrize("std", [1e-30, 1e30])
def test_extreme_std_gives_no_nan(std):
    for policy in (TanhNormal([-1.0], [1.0]), DiagonalNormal([-1.0], [1.0])):
        params, other = jnp.array([0.5, std]), jnp.array([0.0, 1.0])
        action = policy.sample(params, jnp.array([0.3]))
        assert not jnp.isnan(policy.log_prob(params, action))
        # entropy of the normal: 0.5 log(2πe) + log std
        expected = 0.5 * math.log(2 * math.pi * math.e) + math.log(std)
        assert float(policy.base_entropy(params)) == pytest.approx(expected, rel=1e-6)
        # KL(std ‖ 1) = std²/2 − log std + ..., which float32 holds for the small one only
        small = 0.5 * (0.25 - 1) - math.log(std)
        assert float(policy.kl(params, other)) == (pytest.approx(small, rel=1e-6) if std < 1 else math.inf)


finite = st.floats(-3, 3)


@partial(jax.jit, static_argnums=0)
def scores(policy, outputs, noise):
    params, target = policy.params(outputs), policy.params(jnp.full(6, 0.3))
    fixed = policy.log_prob(params, jnp.array([0.1, -0.4, 0.9]))
    return jnp.stack([fixed, policy.entropy(params, noise), policy.kl(params, target)])


jacobian = jax.jit(jax.jacobian(scores, argnums=1), static_argnums=0)


@settings(deadline=None, max_examples=30)
@given(
    mean=st.lists(finite, min_size=3, max_size=3),
    x=st.lists(finite, min_size=3, max_size=3),
    noise=st.lists(finite, min_size=3, max_size=3),
    family=st.sampled_from([TanhNormal, DiagonalNormal]),
    std=st.sampled_from(["softplus", "exp"]),
)
def test_gradients_agree_with_central_differences(mean, x, noise, family, std):
    policy = family(LOW, HIGH, std=std)
    with jax.enable_x64(True):
        outputs, noise = jnp.array(mean + x), jnp.array(noise)
        gradients = np.asarray(jacobian(policy, outputs, noise))
        h = 1e-5
        for i in range(6):
            step = jnp.zeros(6).at[i].set(h)
            up, down = (np.asarray(scores(policy, outputs + sign * step, noise)) for sign in (1.0, -1.0))
            numeric = (up - down) / (2 * h)
            # truncation h² · f''' ~ 1e-10 · 1e4, rounding 1e-16 · |f| / h: both relative to the size of f
            np.testing.assert_allclose(
                gradients[:, i], numeric, rtol=1e-5, atol=1e-7 * (1 + np.abs(up).max())
            )


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**31), order=st.permutations(range(3)))
def test_sums_over_action_dimensions_do_not_depend_on_their_order(seed, order):
    generator = np.random.default_rng(seed)
    old, new, action = some_params(generator, ()), some_params(generator, ()), generator.normal(size=3)
    order = np.array(order)
    both = np.concatenate([order, order + 3])
    for family in (TanhNormal, DiagonalNormal):
        one, other = family(LOW, HIGH), family(np.array(LOW)[order], np.array(HIGH)[order])
        with jax.enable_x64(True):
            p, q, a = map(jnp.asarray, (old, new, action))
            p2, q2, a2 = map(jnp.asarray, (old[both], new[both], action[order]))
            np.testing.assert_allclose(one.log_prob(p, a), other.log_prob(p2, a2), rtol=1e-10, atol=1e-10)
            np.testing.assert_allclose(one.kl(p, q), other.kl(p2, q2), rtol=1e-10, atol=1e-10)


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 2**31))
def test_kl_is_zero_for_equal_policies_and_positive_otherwise(seed):
    generator = np.random.default_rng(seed)
    policy = DiagonalNormal(LOW, HIGH)
    p, q = (jnp.asarray(some_params(generator, (), np.float32)) for _ in range(2))
    assert float(policy.kl(p, p)) == 0.0
    assert float(policy.kl(p, q)) > 0.0
