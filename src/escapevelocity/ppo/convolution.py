"""Convolutional layers for images, with kernels kept as matrices like every other weight."""

from collections.abc import Sequence
from typing import NamedTuple

from jax import lax
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
    windows = weight.T.reshape(kernel, kernel, x.shape[-1], -1)
    y = lax.conv_general_dilated(
        x, windows, (stride, stride), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    return y + bias[None, None, None, :]
