"""Convolutional layers: shapes, and values and gradients against PyTorch's convolution."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from escapevelocity.errors import UserError
from escapevelocity.ppo.convolution import MINATAR, NATURE, Convolution, convolve, output_shape

# (height, width, channels) of the input and the layer: those of both trunks, and sizes that no window divides.
CASES = [
    pytest.param((84, 84, 4), NATURE[0], id="nature-1"),
    pytest.param((20, 20, 32), NATURE[1], id="nature-2"),
    pytest.param((9, 9, 64), NATURE[2], id="nature-3"),
    pytest.param((10, 10, 4), MINATAR[0], id="minatar"),
    pytest.param((11, 14, 3), Convolution(5, 4, 2), id="rest of rows"),
    pytest.param((9, 12, 2), Convolution(3, 5, 3), id="stride no divisor of the window"),
    pytest.param((7, 8, 2), Convolution(3, 1, 2), id="window smaller than the stride"),
]


def layer_inputs(rng, shape, layer, batch=3):
    window = layer.kernel**2 * shape[2]
    x = rng.uniform(size=(batch, *shape)).astype(np.float32)
    weight = (rng.normal(size=(layer.channels, window)) / np.sqrt(window)).astype(np.float32)
    bias = rng.normal(size=layer.channels).astype(np.float32)
    return x, weight, bias


def torch_convolution(x, weight, bias, layer, cotangent):
    """PyTorch's output and gradients, in float64; its kernels are (out, in, row, column), its images (n, c, h, w)."""
    torch = pytest.importorskip("torch")
    images, rows, offsets = (
        torch.tensor(a, dtype=torch.float64, requires_grad=True) for a in (x, weight, bias)
    )
    kernel = rows.reshape(layer.channels, layer.kernel, layer.kernel, x.shape[3]).permute(0, 3, 1, 2)
    y = torch.nn.functional.conv2d(images.permute(0, 3, 1, 2), kernel, offsets, stride=layer.stride)
    y = y.permute(0, 2, 3, 1)
    gradients = torch.autograd.grad((y * torch.tensor(cotangent)).sum(), (images, rows, offsets))
    return y.detach().numpy(), [g.numpy() for g in gradients]


@pytest.mark.parametrize(("shape", "layer"), CASES)
def test_values_and_gradients_are_those_of_torch(rng, shape, layer):
    x, weight, bias = layer_inputs(rng, shape, layer)
    cotangent = rng.normal(size=(3, *output_shape(shape, [layer])))
    expected, gradients = torch_convolution(x, weight, bias, layer, cotangent)

    @jax.jit
    def both(x, weight, bias, cotangent):
        y, pull = jax.vjp(lambda x, w, b: convolve(x, w, b, layer.kernel, layer.stride), x, weight, bias)
        return y, pull(cotangent)

    y, ours = both(x, weight, bias, cotangent.astype(np.float32))
    # float32 sums of up to 1,200 products of order 1: errors near 1200^0.5 · 6e-8 of their size.
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)
    for mine, theirs in zip(ours, gradients, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-5 * np.abs(theirs).max())


def test_columns_of_a_weight_go_by_row_then_column_then_channel():
    # One window covers the whole image, so the weight's row lies over the image as NumPy flattens it.
    image = np.arange(2 * 2 * 3, dtype=np.float32).reshape(1, 2, 2, 3)
    for column in range(12):
        weight = np.zeros((1, 12), np.float32)
        weight[0, column] = 1
        y = convolve(jnp.asarray(image), jnp.asarray(weight), jnp.zeros(1, jnp.float32), 2, 1)
        assert y.shape == (1, 1, 1, 1)
        assert y[0, 0, 0, 0] == column


def test_members_of_a_population_are_computed_as_each_alone(rng):
    shape, layer = (10, 10, 4), MINATAR[0]
    members = [layer_inputs(rng, shape, layer) for _ in range(4)]
    cotangent = rng.normal(size=(3, 8, 8, 16)).astype(np.float32)

    def gradients(x, weight, bias):
        y, pull = jax.vjp(lambda x, w, b: convolve(x, w, b, layer.kernel, layer.stride), x, weight, bias)
        return y, pull(cotangent)

    together = jax.jit(jax.vmap(gradients))(*(np.stack(part) for part in zip(*members, strict=True)))
    alone = jax.jit(gradients)
    for number, member in enumerate(members):
        mine = jax.tree.map(lambda a, i=number: a[i], together)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), mine, alone(*member)
        )


def test_shapes_after_both_trunks():
    assert output_shape((84, 84, 4), NATURE) == (7, 7, 64)  # Mnih et al. 2015: 3,136 features.
    assert output_shape((84, 84, 4), NATURE[:1]) == (20, 20, 32)
    assert output_shape((84, 84, 4), NATURE[:2]) == (9, 9, 64)
    assert output_shape((10, 10, 7), MINATAR) == (8, 8, 16)
    assert output_shape((10, 12, 7), ()) == (10, 12, 7)


def test_an_image_too_small_for_its_windows_is_a_users_error():
    # (30 − 8) // 4 + 1 = 6 and (6 − 4) // 2 + 1 = 2 rows; 40 columns become 9, then 3.
    with pytest.raises(UserError, match=r"3 × 3 windows in layer 3: .* 2 × 3 are left .* has 30 × 40 × 4"):
        output_shape((30, 40, 4), NATURE)
    with pytest.raises(UserError, match=r"8 × 8 windows in layer 1: .* 7 × 84 are left"):
        output_shape((7, 84, 4), NATURE)
