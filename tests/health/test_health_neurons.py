"""Dead neurons and pre-activation norms against torch, NumPy and hand arithmetic."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from escapevelocity.errors import UserError
from escapevelocity.health import ACTIVATIONS, dead_neurons, preactivation_norm


@pytest.mark.parametrize(("activation", "dead"), [("relu", 2), ("gelu", 2), ("leaky_relu", 1)])
def test_structurally_dead_units_are_counted_by_hand(activation, dead):
    # Units: always 0 | 0 but once | always negative | always positive | 0 and negative | always 0 (as −0.0)
    activations = np.array([[0.0, 0.0, -1.0, 1.0, 0.0, -0.0], [0.0, 0.1, -0.01, 2.0, -1.0, 0.0]])
    assert dead_neurons(activations, activation) == dead


def test_sparse_units_are_not_dead():
    # 90 % zeros, yet every unit answers to some state.
    assert dead_neurons(np.eye(10), "relu") == 0


def test_tanh_units_are_dead_when_their_sample_std_is_below_a_thousandth():
    # Two states ±h about any level have sample std √2·h (ddof 1): below 0.001 for h = 0.0007 (9.9e-4), above
    # for h = 0.00072 (1.018e-3). With ddof 0 both would be dead, at 7.0e-4 and 7.2e-4.
    level, h = 0.5, np.array([0.0007, 0.00072, 0.0, 0.3])
    activations = np.stack([level - h, level + h])
    assert dead_neurons(activations, "tanh") == 2


def test_a_saturated_tanh_unit_is_dead_though_far_from_zero():
    assert dead_neurons(np.tanh(np.full((8, 3), 50.0)), "tanh") == 3


@pytest.mark.parametrize(
    ("name", "module"), [("relu", "ReLU"), ("gelu", "GELU"), ("tanh", "Tanh"), ("leaky_relu", "LeakyReLU")]
)
def test_dead_units_of_a_torch_layer_are_those_that_were_killed(name, module):
    torch = pytest.importorskip("torch")
    generator = torch.Generator().manual_seed(0)
    preactivations = torch.randn(256, 32, generator=generator)
    # Far below zero: ReLU and GELU give 0 (GELU underflows), LeakyReLU a negative, tanh −1 throughout.
    preactivations[:, :11] -= 1000.0
    activations = getattr(torch.nn, module)()(preactivations)
    assert float(dead_neurons(activations, name)) == 11


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_numpy_jax_and_torch_count_the_same_also_under_jit(activation, rng):
    torch = pytest.importorskip("torch")
    x = rng.standard_normal((3, 2, 20, 8)).astype(np.float32)
    x[0, 1, :, :3] = 0.0
    x[1, 0, :, 4] = -1.0
    expected = dead_neurons(x, activation)
    assert expected.shape == (3, 2)
    assert expected.max() >= 1
    for result in (
        dead_neurons(jnp.asarray(x), activation),
        jax.jit(dead_neurons, static_argnums=1)(jnp.asarray(x), activation),
        dead_neurons(torch.from_numpy(x), activation),
    ):
        np.testing.assert_array_equal(np.asarray(result), expected)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_nan_activations_give_nan_for_that_member_and_never_a_healthy_count(activation, rng):
    x = rng.standard_normal((2, 10, 4))
    x[1, 3, 2] = np.nan
    assert np.isnan(dead_neurons(x, activation)).tolist() == [False, True]
    assert np.isnan(
        jax.jit(dead_neurons, static_argnums=1)(jnp.asarray(x, jnp.float32), activation)
    ).tolist() == [
        False,
        True,
    ]


def test_an_infinite_unit_is_alive():
    assert dead_neurons(np.array([[np.inf, 0.0], [0.0, 0.0]]), "relu") == 1


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_batch_without_states_has_no_count(activation):
    assert np.isnan(dead_neurons(np.zeros((2, 0, 4)), activation)).tolist() == [True, True]
    assert np.isnan(np.asarray(dead_neurons(jnp.zeros((0, 4)), activation)))


def test_a_single_state_has_no_spread_for_tanh_but_zeros_for_relu():
    one_state = np.array([[0.0, 0.0, 1.0]])
    assert np.isnan(dead_neurons(one_state, "tanh"))
    assert dead_neurons(one_state, "relu") == 2


@pytest.mark.parametrize("dtype", [np.float16, jnp.bfloat16])
def test_half_precision_is_counted_in_single_precision(dtype):
    # bfloat16 itself holds whole numbers up to 256, float16 up to 2048: 2049 dead units would be 2048.
    x = jnp.asarray(np.append(np.zeros((2, 2049)), np.ones((2, 3)), axis=1), dtype=dtype)
    assert float(dead_neurons(x, "relu")) == 2049


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1), st.sampled_from(ACTIVATIONS))
def test_dead_units_do_not_depend_on_the_order_of_states_or_units(seed, activation):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((12, 6)) * (rng.random(6) < 0.5)
    moved = rng.permutation(rng.permutation(x, axis=0), axis=1)
    assert dead_neurons(moved, activation) == dead_neurons(x, activation)


def test_an_unknown_activation_is_refused_with_the_known_ones():
    with pytest.raises(UserError, match=r"activation = 'swish': must be one of relu, gelu, tanh, leaky_relu"):
        dead_neurons(np.zeros((2, 2)), "swish")


@pytest.mark.parametrize("function", [lambda x: dead_neurons(x, "relu"), preactivation_norm])
def test_what_is_no_array_of_floats_with_two_axes_is_refused(function):
    with pytest.raises(UserError, match=r"activations.* has shape \(3,\): must be \(\.\.\., N, D\)"):
        function(np.zeros(3))
    with pytest.raises(UserError, match=r"activations has dtype int64: must be a real floating type"):
        function(np.zeros((3, 2), dtype=np.int64))
    with pytest.raises(UserError, match=r"activations.*: must be a numpy, jax or torch array, got "):
        function("text")


def test_preactivation_norm_is_the_mean_of_the_rows_norms(rng):
    x = rng.standard_normal((3, 50, 16)) * 10.0 ** rng.integers(-3, 4, (3, 1, 1))
    expected = np.linalg.norm(x, axis=-1).mean(axis=-1)
    np.testing.assert_allclose(preactivation_norm(x), expected, rtol=1e-12)


def test_norm_over_all_layers_is_the_norm_of_their_concatenation(rng):
    layers = [rng.standard_normal((2, 30, width)) * 5**width for width in (4, 7, 2)]
    expected = np.linalg.norm(np.concatenate(layers, axis=-1), axis=-1).mean(axis=-1)
    np.testing.assert_allclose(preactivation_norm(layers), expected, rtol=1e-12)
    np.testing.assert_allclose(preactivation_norm(tuple(layers)), expected, rtol=1e-12)


@pytest.mark.parametrize("scale", [1e30, 1e-30])
def test_norms_whose_square_would_leave_float32_are_right(scale):
    # (3, 4) has length 5; 25e60 overflows and 25e-60 underflows float32.
    x = np.array([[3.0, 4.0], [6.0, 8.0]], dtype=np.float32) * np.float32(scale)
    for array in (x, jnp.asarray(x)):
        np.testing.assert_allclose(preactivation_norm(array), 7.5 * scale, rtol=1e-6)
        np.testing.assert_allclose(preactivation_norm([array, array]), 7.5 * np.sqrt(2) * scale, rtol=1e-6)


def test_norms_agree_between_numpy_jax_torch_and_jit(rng):
    torch = pytest.importorskip("torch")
    x = rng.standard_normal((2, 40, 8)).astype(np.float32)
    expected = np.linalg.norm(x.astype(np.float64), axis=-1).mean(axis=-1)
    for result in (
        preactivation_norm(x),
        preactivation_norm(jnp.asarray(x)),
        jax.jit(preactivation_norm)(jnp.asarray(x)),
        preactivation_norm(torch.from_numpy(x)),
    ):
        np.testing.assert_allclose(np.asarray(result), expected, rtol=1e-6)


def test_norm_of_non_finite_entries_shows_them_for_that_member_alone():
    x = np.ones((4, 3, 4))
    x[1, 0, 0], x[2, 0, 0] = np.nan, np.inf
    np.testing.assert_array_equal(preactivation_norm(x), [2.0, np.nan, np.inf, 2.0])


def test_norm_of_zeros_is_zero_and_of_an_empty_batch_nan():
    assert preactivation_norm(np.zeros((3, 2))) == 0
    assert np.isnan(preactivation_norm(np.zeros((0, 2))))


def test_layers_that_do_not_fit_together_are_refused():
    with pytest.raises(UserError, match=r"shape \(3, 2\) and \(4, 2\): must agree in all but the last axis"):
        preactivation_norm([np.zeros((3, 2)), np.zeros((4, 2))])
    with pytest.raises(UserError, match=r"preactivations = \[\]: must hold at least one layer"):
        preactivation_norm([])
