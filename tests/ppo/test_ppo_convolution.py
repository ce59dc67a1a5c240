"""Convolutional layers: shapes, values and gradients against PyTorch's convolution, and how they are compiled."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from escapevelocity.errors import UserError
from escapevelocity.ppo import convolution
from escapevelocity.ppo.convolution import (
    MINATAR,
    NATURE,
    Convolution,
    convolve,
    output_shape,
)
from escapevelocity.runs.compiler import convolution_options

# (height, width, channels) of the input and the layer: those of both trunks, and sizes that no window divides.
LARGE = [
    pytest.param((84, 84, 4), NATURE[0], id="nature-1"),
    pytest.param((20, 20, 32), NATURE[1], id="nature-2"),
    pytest.param((9, 9, 64), NATURE[2], id="nature-3"),
]
SMALL = [
    pytest.param((10, 10, 4), MINATAR[0], id="minatar"),
    pytest.param((11, 14, 3), Convolution(5, 4, 2), id="rest of rows"),
    pytest.param((9, 12, 2), Convolution(3, 5, 3), id="stride no divisor of the window"),
    pytest.param((7, 8, 2), Convolution(3, 1, 2), id="window smaller than the stride"),
]


@pytest.fixture(params=["product", "convolution"])
def way(request, monkeypatch):
    """Both ways of computing a layer, whatever its size."""
    monkeypatch.setattr(convolution, "_SMALL", {"product": 10**9, "convolution": 0}[request.param])


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


@pytest.mark.parametrize(("shape", "layer"), LARGE)
def test_values_and_gradients_of_the_large_trunk_are_those_of_torch(rng, shape, layer):
    check_against_torch(rng, shape, layer)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize(("shape", "layer"), SMALL)
def test_values_and_gradients_are_those_of_torch(rng, shape, layer):
    check_against_torch(rng, shape, layer)


def check_against_torch(rng, shape, layer):
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


@pytest.mark.usefixtures("way")
def test_columns_of_a_weight_go_by_row_then_column_then_channel():
    # One window covers the whole image, so the weight's row lies over the image as NumPy flattens it.
    image = np.arange(2 * 2 * 3, dtype=np.float32).reshape(1, 2, 2, 3)
    for column in range(12):
        weight = np.zeros((1, 12), np.float32)
        weight[0, column] = 1
        y = convolve(jnp.asarray(image), jnp.asarray(weight), jnp.zeros(1, jnp.float32), 2, 1)
        assert y.shape == (1, 1, 1, 1)
        assert y[0, 0, 0, 0] == column


@pytest.mark.usefixtures("way")
def test_members_of_a_population_are_computed_as_each_alone(rng):
    shape, layer = (9, 9, 4), Convolution(16, 3, 2)
    members = [layer_inputs(rng, shape, layer) for _ in range(3)]
    cotangent = jnp.asarray(rng.normal(size=(3, 4, 4, 16)), jnp.float32)

    def gradients(x, weight, bias):
        y, pull = jax.vjp(lambda x, w, b: convolve(x, w, b, layer.kernel, layer.stride), x, weight, bias)
        return y, pull(cotangent)

    together = jax.jit(jax.vmap(gradients))(*(np.stack(part) for part in zip(*members, strict=True)))
    # All members look at the same images, as they do in a probe of their capacity.
    x, weights = members[0][0], np.stack([weight for _, weight, _ in members])
    bias = members[0][2]
    shared = jax.jit(jax.vmap(gradients, in_axes=(None, 0, None)))(x, weights, bias)
    alone = jax.jit(gradients)
    for number, member in enumerate(members):
        for several, own in ((together, member), (shared, (x, weights[number], bias))):
            mine = jax.tree.map(lambda a, i=number: a[i], several)
            jax.tree.map(
                lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), mine, alone(*own)
            )


def training_program(shape, layer, samples=8):
    """The compiled text of a loop of gradient steps on bytes, as training has it, for a population of one."""

    def step(weight, images):
        def loss(weight):
            x = images.astype(jnp.float32) / 255
            return jnp.sum(convolve(x, weight, jnp.zeros(layer.channels), layer.kernel, layer.stride) ** 2)

        return weight - 1e-3 * jax.grad(loss)(weight), None

    weight = jnp.zeros((1, layer.channels, layer.kernel**2 * shape[2]))
    images = jnp.zeros((1, 2, samples, *shape), jnp.uint8)
    run = jax.jit(jax.vmap(lambda weight, images: jax.lax.scan(step, weight, images)[0]))
    return str(run.lower(weight, images).compile().as_text())


def test_convolutions_in_a_loop_have_the_form_of_the_fast_routine_and_bytes_get_no_gradient():
    # Other forms, which are those of JAX's own gradients in a loop, are compiled to plain nested loops.
    text = training_program((84, 84, 4), NATURE[0])
    forms = re.findall(r" convolution\(.*dim_labels=(\S+?)[,\s]", text)
    # The forward pass and the gradient of the weights; a third would be that of the images.
    assert forms == ["b01f_01io->b01f"] * 2


def test_small_layers_are_matrix_products():
    assert " convolution(" not in training_program((10, 10, 4), MINATAR[0])


def test_options_of_the_compiler_are_known_to_this_jaxlib_and_keep_the_values(rng):
    x, weight, bias = layer_inputs(rng, (20, 20, 32), NATURE[1])
    plain, with_options = (
        jax.jit(convolve, static_argnums=(3, 4), compiler_options=options)(x, weight, bias, 4, 2)
        for options in (None, convolution_options())
    )
    np.testing.assert_allclose(plain, with_options, rtol=1e-5, atol=1e-5)


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
