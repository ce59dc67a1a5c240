"""Embeddings against convolutions written as loops, and distances against SciPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from escapevelocity.errors import UserError
from escapevelocity.metric_learning.config import LearnerConfig
from escapevelocity.metric_learning.distances import paired_distances, pairwise_distances, unit_vectors
from escapevelocity.metric_learning.embedding import (
    layers_that_halve,
    make_network,
    make_small_cnn,
    trainable,
)
from escapevelocity.runs.compiler import convolution_options

embed = jax.jit(lambda network, images: network(images), compiler_options=convolution_options())


def loops(network, images):
    """The network from its definition: windows one by one, in float64."""
    x = np.asarray(images, np.float64)
    for layer, (kernel, bias) in enumerate(zip(network.kernels, network.biases, strict=True)):
        stride = 2 if network.halves[layer] and layer == 0 else 1
        padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        rows, columns = ((size + 2 - 3) // stride + 1 for size in x.shape[1:3])
        y = np.empty((len(x), rows, columns, kernel.shape[3]))
        for i in range(rows):
            for j in range(columns):
                window = padded[:, stride * i : stride * i + 3, stride * j : stride * j + 3]
                y[:, i, j] = np.einsum("nhwc,hwco->no", window, np.asarray(kernel, np.float64))
        x = np.maximum(y + np.asarray(bias, np.float64), 0)
        if network.halves[layer] and stride == 1:
            x = np.array(
                [
                    [x[:, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].max((1, 2)) for j in range(columns // 2)]
                    for i in range(rows // 2)
                ]
            ).transpose(2, 0, 1, 3)
    outputs = x.mean((1, 2)) @ np.asarray(network.weight, np.float64) + np.asarray(network.bias, np.float64)
    return outputs / np.linalg.norm(outputs, axis=1, keepdims=True)


def with_biases(network, rng):
    """Biases that are not 0, so that forgetting one shows."""
    return jax.tree.map(lambda x: x + jnp.asarray(rng.normal(size=x.shape) * 0.1, x.dtype), network)


@pytest.mark.parametrize("shape", [(8, 8, 1), (28, 28, 1), (15, 29, 2)])
def test_the_small_cnn_is_its_definition_for_digits_omniglot_and_odd_sizes(rng, shape):
    network = with_biases(make_small_cnn(16, shape, jax.random.key(1)), rng)
    images = rng.random((3, *shape), np.float32)
    found = embed(network, images)
    assert found.dtype == jnp.float32
    # Sums of up to 576 products in float32, four layers deep.
    np.testing.assert_allclose(found, loops(network, images), atol=3e-6)


@pytest.mark.parametrize(
    ("height", "width", "halves", "left"),
    [
        (8, 8, (False, False, False, False), 8),
        (13, 40, (False, False, False, False), 13),
        (14, 14, (True, False, False, False), 7),
        (28, 28, (True, True, False, False), 7),
        (32, 32, (True, True, False, False), 8),
        (64, 80, (True, True, True, False), 8),
        (105, 105, (True, True, True, False), 13),
        (224, 224, (True, True, True, True), 14),
    ],
)
def test_layers_halve_while_seven_pixels_remain(height, width, halves, left):
    assert layers_that_halve(height, width) == halves
    side = min(height, width)
    for half in halves:
        side = side // 2 if half else side
    assert side == left


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**31 - 1), st.sampled_from([1e-2, 1.0, 1e6]))
def test_embeddings_lie_on_the_unit_sphere_and_each_depends_on_its_image_alone(seed, scale):
    rng = np.random.default_rng(seed)
    network = make_small_cnn(32, (8, 8, 1), jax.random.key(3))
    images = (scale * rng.random((6, 8, 8, 1))).astype(np.float32)
    found, order = np.asarray(embed(network, images)), rng.permutation(6)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)
    # The same sums, but perhaps in another order.
    np.testing.assert_allclose(embed(network, images[order]), found[order], atol=1e-6)


def test_eager_and_compiled_agree_and_a_key_decides_the_weights(rng):
    network = make_network(LearnerConfig(embedding_dim=8), (8, 8, 1), jax.random.key(5))
    images = rng.random((4, 8, 8, 1), np.float32)
    np.testing.assert_allclose(network(jnp.asarray(images)), embed(network, images), atol=1e-6)
    again, other = (make_small_cnn(8, (8, 8, 1), jax.random.key(k)) for k in (5, 6))
    jax.tree.map(np.testing.assert_array_equal, network, again)
    assert not np.array_equal(network.weight, other.weight)


def test_initial_weights_keep_the_scale_of_what_runs_through():
    network = make_small_cnn(128, (28, 28, 1), jax.random.key(0))
    for kernel, fan_in in zip(network.kernels, (9, 288, 288, 576), strict=True):
        # The std of n normal numbers is known to 1/√(2n): 288 of the first layer, 4 standard errors.
        assert np.std(kernel) == pytest.approx(np.sqrt(2 / fan_in), rel=4 / np.sqrt(2 * kernel.size))
    assert np.std(network.weight) == pytest.approx(1 / 8, rel=4 / np.sqrt(2 * 64 * 128))
    assert not any(bias.any() for bias in (*network.biases, network.bias))


def test_every_array_of_the_small_cnn_is_trained():
    network = make_small_cnn(8, (8, 8, 1), jax.random.key(0))
    assert jax.tree.leaves(trainable(network)) == [True] * len(jax.tree.leaves(network))


def test_weights_for_the_small_cnn_are_refused():
    with pytest.raises(
        UserError, match=r"weights = 'x\.safetensors': must be left out with the backbone cnn"
    ):
        make_network(LearnerConfig(weights="x.safetensors"), (8, 8, 1), jax.random.key(0))


def test_an_output_of_length_zero_becomes_the_zero_vector_with_a_finite_gradient():
    outputs = jnp.array([[0.0, 0.0], [3.0, -4.0]])
    np.testing.assert_allclose(unit_vectors(outputs), [[0, 0], [0.6, -0.8]], rtol=1e-6)
    gradient = jax.grad(lambda x: jnp.sum(unit_vectors(x) * jnp.array([[1.0, 2.0], [1.0, 2.0]])))(outputs)
    # (g − (g·u) u) / ‖x‖ with u = (0.6, −0.8), g·u = −1; at 0 it is g / √1e-12.
    np.testing.assert_allclose(gradient, [[1e6, 2e6], [1.6 / 5, 1.2 / 5]], rtol=1e-5)


def test_distances_agree_with_scipy_and_the_diagonal_is_exactly_zero(rng):
    x = rng.normal(size=(20, 16))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    x[7] = x[3]  # a duplicate
    found = np.asarray(pairwise_distances(jnp.asarray(x, jnp.float32)))
    np.testing.assert_array_equal(np.diag(found), np.zeros(20))
    # Squares are right to 5e-7 (unit vectors in float32, 16 products): 5e-7 / d for d > 0.1, and √5e-7 at 0.
    far = cdist(x, x) > 0.1
    np.testing.assert_allclose(found[far], cdist(x, x)[far], atol=5e-6)
    assert found[3, 7] < 1e-3
    first, second = (jnp.asarray(x[rows], jnp.float32) for rows in ([0, 1, 3], [5, 2, 7]))
    # √(d² + 1e-8): 1e-4 for the pair of duplicates
    expected = [cdist(x, x)[0, 5], cdist(x, x)[1, 2], 1e-4]
    np.testing.assert_allclose(paired_distances(first, second), expected, rtol=1e-6)


def test_distances_for_drawing_have_no_gradient_and_those_of_pairs_have_a_finite_one():
    x = jnp.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    np.testing.assert_array_equal(jax.grad(lambda x: jnp.sum(pairwise_distances(x)))(x), np.zeros((3, 2)))
    gradient = jax.grad(lambda x: jnp.sum(paired_distances(x[:2], x[jnp.array([2, 2])])))(x)
    # Of two equal points 0; of (0, 1) and (1, 0) the unit vector between them.
    half = np.sqrt(0.5)
    np.testing.assert_allclose(gradient, [[0, 0], [-half, half], [half, -half]], atol=1e-6)
