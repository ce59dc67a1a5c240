"""Convolutional layers for images, with kernels kept as matrices like every other weight."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_batching import sequential_vmap
from jaxtyping import Array, Float

from escapevelocity.errors import UserError


class Convolution(NamedTuple):
    """One convolutional layer, without padding."""

    channels: int
    """Output channels."""
    kernel: int
    """Height and width of the window, in pixels."""
    stride: int
    """Pixels between neighbouring windows."""


NATURE = (Convolution(32, 8, 4), Convolution(64, 4, 2), Convolution(64, 3, 1))
"""Mnih et al. 2015 (Nature 518, 529), as Moalla et al. 2024, Table 2: 84 × 84 × 4 becomes 7 × 7 × 64."""

MINATAR = (Convolution(16, 3, 1),)
"""Young and Tian 2019 (arXiv 1903.03176), Section 3: 10 × 10 × channels becomes 8 × 8 × 16."""

# Numbers in all windows of one image up to which they are laid out side by side: MinAtar has 64 · 9 · channels.
_SMALL = 8192


def output_shape(shape: tuple[int, int, int], layers: Sequence[Convolution]) -> tuple[int, int, int]:
    """Height, width and channels after `layers`, from those of the image.

    Raises:
        UserError: a window is larger than what the layers before it leave.

    Example:
        >>> output_shape((84, 84, 4), NATURE)
        (7, 7, 64)
    """
    height, width, channels = shape
    for number, layer in enumerate(layers, 1):
        if min(height, width) < layer.kernel:
            given = " × ".join(map(str, shape))
            raise UserError(
                f"convolutions = {layer.kernel} × {layer.kernel} windows in layer {number}: must be no larger than "
                f"the image, of which {height} × {width} are left there (the observation has {given})"
            )
        height, width = ((size - layer.kernel) // layer.stride + 1 for size in (height, width))
        channels = layer.channels
    return height, width, channels


def convolve(
    x: Float[Array, "batch height width channels"],
    weight: Float[Array, "outputs window"],
    bias: Float[Array, " outputs"],
    kernel: int,
    stride: int,
) -> Float[Array, "batch rows columns outputs"]:
    """Cross-correlate images with a kernel, without padding, and add the bias.

    Args:
        x: images, pixels scaled.
        weight: one row per output channel, kernel · kernel · channels columns in the order (row, column, channel).
        bias: one number per output channel.
        kernel: height and width of the window, in pixels.
        stride: pixels between neighbouring windows.

    Returns:
        Pre-activations; windows that would leave the image are left out.
    """
    _, height, width, _ = x.shape
    windows = ((height - kernel) // stride + 1) * ((width - kernel) // stride + 1)
    small = windows * weight.shape[1] <= _SMALL
    y = _by_windows(x, weight, kernel, stride) if small else _by_convolution(x, weight, kernel, stride)
    return y + bias[None, None, None, :]


def _by_windows(x: Array, weight: Array, kernel: int, stride: int) -> Array:
    """One matrix product with all windows side by side; for a population it becomes one batched product."""
    _, height, width, _ = x.shape
    windows = [
        x[:, row : height - kernel + row + 1 : stride, column : width - kernel + column + 1 : stride]
        for row in range(kernel)
        for column in range(kernel)
    ]
    return jnp.concatenate(windows, axis=-1) @ weight.T


# XLA turns a convolution into the form that its fast routine for CPUs takes (images b01f, kernels 01io) only at a
# program's top level. Inside a loop, such as the one over minibatches, the gradients that JAX derives stay in another
# form and run many times slower (17 times for 3 × 3 windows of 10 × 10 × 4); so they are written out in that form.


def _correlate(x: Array, weight: Array, kernel: int, stride: int) -> Array:
    @sequential_vmap
    def forward(x, weight):
        return _convolution(x, weight.T.reshape(kernel, kernel, x.shape[3], -1), (stride, stride))

    return forward(x, weight)


def _forward(x: Array, weight: Array, kernel: int, stride: int) -> tuple[Array, tuple[Array, Array]]:
    return _correlate(x, weight, kernel, stride), (x, weight)


def _backward(kernel: int, stride: int, inputs: tuple[Array, Array], cotangent: Array) -> tuple[Array, Array]:
    x, weight = inputs
    _, height, width, channels = x.shape

    @sequential_vmap
    def input_gradient(cotangent, weight):
        return _input_gradient(cotangent, weight, kernel, stride, (height, width, channels))

    @sequential_vmap
    def weight_gradient(x, cotangent):
        # Samples are summed over, so they stand where a convolution has its input channels.
        images, windows = x.transpose(3, 1, 2, 0), cotangent.transpose(1, 2, 0, 3)
        gradient = _convolution(images, windows, rhs_dilation=(stride, stride))[:, :kernel, :kernel]
        return gradient.transpose(3, 1, 2, 0).reshape(weight.shape)

    return input_gradient(cotangent, weight), weight_gradient(x, cotangent)


_by_convolution: Callable[[Array, Array, int, int], Array] = jax.custom_vjp(
    _correlate, nondiff_argnums=(2, 3)
)
_by_convolution.defvjp(_forward, _backward)  # pyright: ignore[reportFunctionMemberAccess]


def _input_gradient(
    cotangent: Array, weight: Array, kernel: int, stride: int, shape: tuple[int, int, int]
) -> Array:
    """Gradient with respect to the images, computed for blocks of stride × stride pixels with a stride of 1.

    A window covers `reach` blocks each way, so that no zeros need to be put between the cotangent's pixels.
    """
    samples, rows, columns, outputs = cotangent.shape
    height, width, channels = shape
    reach = -(-kernel // stride)
    beyond = reach * stride - kernel
    windows = weight.reshape(outputs, kernel, kernel, channels)
    windows = jnp.pad(windows, ((0, 0), (0, beyond), (0, beyond), (0, 0)))
    windows = windows.reshape(outputs, reach, stride, reach, stride, channels)[:, ::-1, :, ::-1]
    windows = windows.transpose(1, 3, 0, 2, 4, 5).reshape(reach, reach, outputs, -1)
    blocks = _convolution(cotangent, windows, padding=((reach - 1, reach - 1),) * 2)
    rows, columns = rows + reach - 1, columns + reach - 1
    pixels = blocks.reshape(samples, rows, columns, stride, stride, channels).transpose(0, 1, 3, 2, 4, 5)
    pixels = pixels.reshape(samples, rows * stride, columns * stride, channels)[:, :height, :width]
    missing = (height - pixels.shape[1], width - pixels.shape[2])
    return jnp.pad(pixels, ((0, 0), (0, missing[0]), (0, missing[1]), (0, 0)))


def _convolution(
    images: Array, kernels: Array, strides: Sequence[int] = (1, 1), padding: Any = "VALID", **options: Any
) -> Array:
    numbers = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(images, kernels, strides, padding, dimension_numbers=numbers, **options)
