"""Networks that map images to the unit sphere: a small CNN here, ResNet-50 in `resnet.py`."""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Key

from escapevelocity.errors import require
from escapevelocity.metric_learning.config import LearnerConfig
from escapevelocity.metric_learning.distances import unit_vectors
from escapevelocity.metric_learning.resnet import ResNet50, make_resnet50
from escapevelocity.metric_learning.torchvision_weights import read_resnet50

CHANNELS = (32, 32, 64, 64)
"""Of the four convolutions."""

SMALLEST_MAP = 7
"""A layer halves its input while at least this many pixels remain on either side."""

_KERNEL = 3


class SmallCNN(eqx.Module):
    """Embedding network for small images: four 3×3 convolutions with ReLU, mean over positions, a linear layer.

    One pixel of padding keeps sizes. The first convolution halves the image by a stride of 2, later ones by 2×2
    max-pooling, as long as 7 × 7 pixels remain: 28 → 14 → 7 → 7 → 7, and the digits' 8 × 8 stay. There is no batch
    norm, so that an embedding does not depend on its batch. Measured on Omniglot's new classes: with maps halved to
    4 × 4, or flattened instead of averaged, Recall@1 falls from 0.7 to below 0.5.

    Attributes:
        kernels: (3, 3, channels in, channels out) of each convolution.
        biases: (channels out,) of each convolution.
        weight: (channels of the last, dim) of the linear layer.
        bias: (dim,) of the linear layer.
        halves: whether each convolution halves its input.
    """

    kernels: tuple[Float[Array, "3 3 _ _"], ...]
    biases: tuple[Float[Array, " _"], ...]
    weight: Float[Array, "channels dim"]
    bias: Float[Array, " dim"]
    halves: tuple[bool, ...] = eqx.field(static=True)

    def __call__(self, images: Float[Array, "batch height width channels"]) -> Float[Array, "batch dim"]:
        """Embed images with pixels in [0, 1]."""
        x = images
        for layer, (kernel, bias) in enumerate(zip(self.kernels, self.biases, strict=True)):
            strides = self.halves[layer] and layer == 0
            x = _convolve(x, kernel, stride=2 if strides else 1)
            if self.halves[layer] and not strides:
                x = _halve(x)  # Before bias and ReLU, which do not change which pixel is the largest.
            x = jax.nn.relu(x + bias[None, None, None, :])
        features = jnp.mean(x, axis=(1, 2))
        return unit_vectors(features @ self.weight + self.bias[None, :])


EmbeddingNetwork = SmallCNN | ResNet50
"""Whatever maps images (batch, height, width, channels) to unit vectors (batch, dim)."""


def make_network(config: LearnerConfig, shape: tuple[int, int, int], key: Key[Array, ""]) -> EmbeddingNetwork:
    """Make the network that `config` asks for.

    Args:
        config: backbone, its weights, and the embedding's dimension.
        shape: height, width and channels of the images.
        key: random key of the initial weights.

    Raises:
        UserError: weights that cannot be read or belong to another network, or images that it does not take.
    """
    if config.backbone == "resnet50":
        state = None if config.weights is None else read_resnet50(config.weights)
        return make_resnet50(config.embedding_dim, shape, key, state)
    accepted = "left out with the backbone cnn, which starts at random; they are ResNet-50's"
    require(config.weights is None, "weights", config.weights, accepted)
    return make_small_cnn(config.embedding_dim, shape, key)


def make_small_cnn(embedding_dim: int, shape: tuple[int, int, int], key: Key[Array, ""]) -> SmallCNN:
    """Make the small CNN with He-normal kernels (He et al. 2015, arXiv 1502.01852, eq. 10) and biases of 0.

    Args:
        embedding_dim: dimensions of the embedding.
        shape: height, width and channels of the images.
        key: random key.
    """
    height, width, channels = shape
    inputs = (channels, *CHANNELS[:-1])
    *keys, to_linear = jax.random.split(key, len(CHANNELS) + 1)
    kernels = []
    for k, before, after in zip(keys, inputs, CHANNELS, strict=True):
        std = math.sqrt(2 / (_KERNEL * _KERNEL * before))
        kernels.append(std * jax.random.normal(k, (_KERNEL, _KERNEL, before, after)))
    weight = jax.random.normal(to_linear, (CHANNELS[-1], embedding_dim)) / math.sqrt(CHANNELS[-1])
    biases = tuple(jnp.zeros(after) for after in CHANNELS)
    return SmallCNN(
        tuple(kernels), biases, weight, jnp.zeros(embedding_dim), layers_that_halve(height, width)
    )


def layers_that_halve(height: int, width: int) -> tuple[bool, ...]:
    """Which of the four convolutions halve images of this size.

    Example:
        >>> layers_that_halve(28, 28), layers_that_halve(8, 8)
        ((True, True, False, False), (False, False, False, False))
    """
    halves, side = [], min(height, width)
    for _ in CHANNELS:
        halves.append(side // 2 >= SMALLEST_MAP)
        side = side // 2 if halves[-1] else side
    return tuple(halves)


def trainable(network: EmbeddingNetwork) -> Any:
    """Which arrays of a network are trained: all but the statistics of ResNet-50's batch norms.

    Returns:
        A tree like the network with True or False for each array, for `equinox.partition`.
    """
    mask = jax.tree.map(lambda _: True, network)
    if isinstance(network, ResNet50):
        mask = eqx.tree_at(lambda n: n.statistics, mask, dict.fromkeys(network.statistics, False))
    return mask


def _convolve(x: Array, kernel: Array, stride: int) -> Array:
    numbers = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(x, kernel, (stride, stride), ((1, 1), (1, 1)), dimension_numbers=numbers)


def _halve(x: Array) -> Array:
    """2×2 max-pooling that leaves out an odd last row or column.

    On CPUs its gradient is 25 times as fast as that of `lax.reduce_window` (jaxlib 0.10.2).
    """
    _, height, width, _ = x.shape
    x = x[:, : height // 2 * 2, : width // 2 * 2]
    rows = jnp.maximum(x[:, ::2], x[:, 1::2])
    return jnp.maximum(rows[:, :, ::2], rows[:, :, 1::2])
