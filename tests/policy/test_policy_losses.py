"""Cross-entropies against torch, the naive formula, autodiff, and hand arithmetic where floats run out."""

import math

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
import scipy.special
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from escapevelocity.errors import UserError
from escapevelocity.policy import EscortCrossEntropy, SoftmaxCrossEntropy

LOSSES = [SoftmaxCrossEntropy(), EscortCrossEntropy(1), EscortCrossEntropy(4.5)]
every_loss = pytest.mark.parametrize("loss", LOSSES, ids=str)
outputs_off_zero = arrays(np.float64, 4, elements=st.floats(0.2, 3) | st.floats(-3, -0.2))
labels = arrays(np.float64, 4, elements=st.floats(0, 1)).filter(lambda y: y.sum() > 0.1)


def naive(loss, outputs, targets):
    """−Σ y log π as a textbook writes it."""
    if isinstance(loss, EscortCrossEntropy):
        powers = jnp.abs(outputs) ** loss.p
    else:
        powers = jnp.exp(outputs)
    return -jnp.sum(targets * jnp.log(powers / jnp.sum(powers)))


naive_jit = jax.jit(naive, static_argnums=0)
naive_gradient = jax.jit(jax.grad(naive, argnums=1), static_argnums=0)
naive_hessian = jax.jit(jax.hessian(naive, argnums=1), static_argnums=0)
gradients = jax.jit(
    lambda loss, x, y: (loss.gradient(x, y), jax.grad(loss)(x, y), jax.jacfwd(loss)(x, y)), static_argnums=0
)
hessian = jax.jit(lambda loss, x, y: jax.hessian(loss)(x, y), static_argnums=0)


def test_softmax_cross_entropy_agrees_with_torch_for_labels_and_soft_labels(rng):
    torch = pytest.importorskip("torch")
    logits, soft = rng.normal(size=(8, 5)) * 4, rng.dirichlet(np.ones(5), 8)
    for targets in (np.eye(5)[rng.integers(0, 5, 8)], soft):
        theirs = torch.tensor(logits, requires_grad=True)
        value = torch.nn.functional.cross_entropy(theirs, torch.tensor(targets), reduction="none")
        value.sum().backward()
        with jax.enable_x64(True):
            loss, x, y = SoftmaxCrossEntropy(), jnp.asarray(logits), jnp.asarray(targets)
            np.testing.assert_allclose(loss(x, y), value.detach().numpy(), rtol=1e-12)
            np.testing.assert_allclose(loss.gradient(x, y), theirs.grad.numpy(), rtol=1e-10, atol=1e-15)


@every_loss
@settings(deadline=None, max_examples=25)
@given(outputs=outputs_off_zero, targets=labels)
def test_loss_and_gradient_agree_with_the_naive_formula_and_central_differences(loss, outputs, targets):
    with jax.enable_x64(True):
        x, y, h = jnp.asarray(outputs), jnp.asarray(targets / targets.sum()), 1e-5
        np.testing.assert_allclose(loss(x, y), naive_jit(loss, x, y), rtol=1e-12, atol=1e-13)
        closed, reverse, forward = (np.asarray(g) for g in gradients(loss, x, y))
        np.testing.assert_allclose(closed, naive_gradient(loss, x, y), rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(reverse, closed, rtol=1e-14)
        np.testing.assert_allclose(forward, closed, rtol=1e-14)
        for i in range(4):
            step = jnp.zeros(4).at[i].set(h)
            slope = (float(naive_jit(loss, x + step, y)) - float(naive_jit(loss, x - step, y))) / (2 * h)
            # truncation h²/6 · f''' with f''' up to (4.5/0.2)³ = 1e4; rounding 1e-15 / h
            np.testing.assert_allclose(closed[i], slope, rtol=1e-6, atol=1e-6)


@every_loss
def test_second_derivatives_and_the_derivative_by_the_targets_are_right_too(loss):
    with jax.enable_x64(True):
        x, y = jnp.array([0.9, -1.4, 0.7]), jnp.array([0.5, 0.2, 0.3])
        np.testing.assert_allclose(hessian(loss, x, y), naive_hessian(loss, x, y), rtol=1e-9, atol=1e-12)
        by_targets, expected = jax.grad(loss, 1)(x, y), jax.grad(lambda t: naive(loss, x, t))(y)
        np.testing.assert_allclose(by_targets, expected, rtol=1e-12)
        # targets that sum to 0.6 and to 0
        for weight in (0.6, 0.0):
            found, expected = loss.gradient(x, weight * y), naive_gradient(loss, x, weight * y)
            np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-15)


def test_near_a_one_hot_target_loss_and_gradient_keep_their_digits():
    """−log(1/(1 + ε)) and 1/(1 + ε) − 1 with ε = 1e-24 are 0 in float64, computed as they are written."""
    y = np.array([1.0, 0.0])
    with jax.enable_x64(True):
        escort, theta = EscortCrossEntropy(3), jnp.array([1.0, 1e-8])
        assert float(escort(theta, jnp.asarray(y))) == pytest.approx(1e-24, rel=1e-12, abs=0)
        # (p/θ)(π − y) = (−3ε, 3ε/1e-8)
        expected = [-3e-24, 3e-16]
        np.testing.assert_allclose(escort.gradient(theta, jnp.asarray(y)), expected, rtol=1e-12)
        softmax, logits, epsilon = SoftmaxCrossEntropy(), jnp.array([60.0, 0.0]), math.exp(-60)
        assert float(softmax(logits, jnp.asarray(y))) == pytest.approx(epsilon, rel=1e-12, abs=0)
        np.testing.assert_allclose(softmax.gradient(logits, jnp.asarray(y)), [-epsilon, epsilon], rtol=1e-12)
    y32 = jnp.asarray(y, jnp.float32)
    single = float(SoftmaxCrossEntropy()(jnp.array([30.0, 0.0]), y32))
    assert single == pytest.approx(math.exp(-30), rel=1e-5, abs=0)


def test_two_classes_that_tie_for_the_largest_are_both_counted():
    logits, y = jnp.array([2.0, 2.0, -jnp.inf]), jnp.array([0.0, 1.0, 0.0])
    assert float(SoftmaxCrossEntropy()(logits, y)) == pytest.approx(math.log(2), rel=1e-6)
    np.testing.assert_allclose(SoftmaxCrossEntropy().gradient(logits, y), [0.5, -0.5, 0.0], rtol=1e-6)


def test_a_masked_class_has_no_derivative_in_either_mode():
    """Reverse mode multiplies by the cotangent alone; forward mode also log π = −inf by the targets' tangent, 0."""
    loss, logits, y = SoftmaxCrossEntropy(), jnp.array([1.0, -jnp.inf, 0.0]), jnp.array([1.0, 0.0, 0.0])
    closed, reverse, forward = gradients(loss, logits, y)
    np.testing.assert_allclose(closed, [-1 / (1 + math.e), 0, 1 / (1 + math.e)], rtol=1e-6)
    np.testing.assert_array_equal(reverse, closed)
    np.testing.assert_array_equal(forward, closed)


@pytest.mark.parametrize("p", [1.0, 3.5, 64.0])
def test_the_escort_loss_is_safe_at_theta_zero(p):
    loss, y = EscortCrossEntropy(p), jnp.array([1.0, 0.0, 0.0])
    value_and_gradient = jax.value_and_grad(loss)
    # all zeros: uniform, no gradient
    value, gradient = value_and_gradient(jnp.zeros(3), y)
    assert float(value) == pytest.approx(math.log(3), rel=1e-6)
    np.testing.assert_array_equal(gradient, np.zeros(3))
    # a class at zero that is not the target's adds nothing
    value, gradient = value_and_gradient(jnp.array([1.0, 0.0, -1.0]), y)
    assert float(value) == pytest.approx(math.log(2), rel=1e-6)
    np.testing.assert_allclose(gradient, [-p / 2, 0.0, -p / 2], rtol=1e-6)
    # the target's class at zero: the floor's loss, p ln 1e12 + ln 2, and no gradient there
    value, gradient = value_and_gradient(jnp.array([0.0, 2.0, -2.0]), y)
    assert float(value) == pytest.approx(p * math.log(1e12) + math.log(2), rel=1e-6)
    np.testing.assert_allclose(gradient, [0.0, p / 4, -p / 4], rtol=1e-6)


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
@pytest.mark.parametrize("p", [1.0, 8.0, 64.0])
def test_the_escort_loss_does_not_see_the_scale_of_theta_in_float32(p, scale):
    loss, base, y = EscortCrossEntropy(p), jnp.array([1.0, -0.9, 0.5]), jnp.array([0.0, 1.0, 0.0])
    value, gradient = jax.value_and_grad(loss)(base * scale, y)
    assert float(value) == pytest.approx(float(loss(base, y)), rel=1e-5)
    scaled = np.asarray(gradient, np.float64) * scale
    np.testing.assert_allclose(scaled, loss.gradient(base, y), rtol=1e-3, atol=1e-7)


@settings(deadline=None, max_examples=30)
@given(outputs=outputs_off_zero, targets=labels, p=st.sampled_from([1.0, 2.0, 4.5]))
def test_the_escort_gradient_has_no_part_along_theta_and_signs_carry_over(outputs, targets, p):
    loss = EscortCrossEntropy(p)
    with jax.enable_x64(True):
        x, y = jnp.asarray(outputs), jnp.asarray(targets / targets.sum())
        gradient = gradients(loss, x, y)[0]
        # Euler's theorem for a function of degree 0; terms of size p
        assert float(jnp.dot(gradient, x)) == pytest.approx(0, abs=1e-13 * p)
        np.testing.assert_array_equal(gradients(loss, -x, y)[0], -gradient)


def test_the_loss_is_the_mean_code_length_under_scipys_softmax(rng):
    logits, y = rng.normal(size=(6, 4)), rng.dirichlet(np.ones(4), 6)
    with jax.enable_x64(True):
        value = SoftmaxCrossEntropy()(jnp.asarray(logits), jnp.asarray(y))
    expected = -(y * scipy.special.log_softmax(logits, axis=-1)).sum(-1)
    np.testing.assert_allclose(value, expected, rtol=1e-12)


@pytest.mark.parametrize("loss", [LOSSES[0], LOSSES[2]], ids=str)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_batches_jit_and_vmap_agree_with_single_rows_and_keep_the_dtype(loss, dtype, rng):
    with jax.enable_x64(dtype == jnp.float64):
        x, y = (
            jnp.asarray(a, dtype) for a in (rng.normal(size=(2, 3, 4)) + 3, rng.dirichlet(np.ones(4), (2, 3)))
        )
        batched, gradient = jax.jit(lambda x, y: (loss(x, y), loss.gradient(x, y)))(x, y)
        assert batched.shape == (2, 3)
        assert (batched.dtype, gradient.dtype) == (dtype, dtype)
        one = jax.jit(loss)
        rows = [[float(one(x[i, j], y[i, j])) for j in range(3)] for i in range(2)]
        np.testing.assert_allclose(batched, rows, rtol=1e-5)
        np.testing.assert_allclose(jax.jit(jax.vmap(jax.vmap(loss)))(x, y), rows, rtol=1e-5)
        mean_gradient = jax.jit(jax.grad(lambda x: jnp.mean(loss(x, y))))(x)
        np.testing.assert_allclose(mean_gradient, gradient / 6, rtol=1e-5, atol=1e-8)


def test_losses_hold_no_arrays_and_compare_by_their_power():
    assert jax.tree.leaves(EscortCrossEntropy(3)) == []
    assert EscortCrossEntropy(3) == EscortCrossEntropy(3.0) != EscortCrossEntropy(4)
    assert hash(EscortCrossEntropy(3)) == hash(EscortCrossEntropy(3.0))


@every_loss
def test_targets_of_another_shape_are_refused(loss, monkeypatch):
    # Class indices are the usual mistake; in tests the annotations would answer first.
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(UserError, match=r"targets.shape = \(2,\): must be that of the outputs, \(2, 3\)"):
        loss(jnp.ones((2, 3)), jnp.ones(2))


@pytest.mark.parametrize("p", [0.5, math.nan, math.inf])
def test_a_power_below_one_or_not_finite_is_refused(p):
    with pytest.raises(UserError, match=rf"p = {p}: must be a finite number of at least 1"):
        EscortCrossEntropy(p)
