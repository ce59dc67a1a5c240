"""ResNet-50 as torchvision has it, for fine-tuning: its names of weights, batch norm with fixed statistics.

He et al. 2015 (arXiv 1512.03385) in the version called v1.5: a bottleneck's stride stands in its 3×3 convolution.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Key

from escapevelocity.errors import require
from escapevelocity.metric_learning.distances import unit_vectors

BLOCKS = (3, 4, 6, 3)
FEATURES = 2048
_EXPANSION = 4  # A bottleneck's output has four times its inner channels.
_BATCH_NORM_EPSILON = 1e-5  # torchvision's.


class Bottleneck(NamedTuple):
    """One residual block: 1×1, 3×3 and 1×1 convolutions beside a shortcut."""

    name: str
    """Prefix of its tensors' names."""
    inputs: int
    """Channels that come in."""
    inner: int
    """Channels between its convolutions; four times as many go out."""
    stride: int
    """Of the 3×3 convolution, and of the shortcut."""
    projects: bool
    """Whether the shortcut is a convolution, because the shapes differ."""


class ResNet50(eqx.Module):
    """Embedding network: ResNet-50's 2,048 pooled features, a linear layer, unit length.

    Batch norm uses its stored mean and variance in training too and never moves them, as PADS's code does; its scale
    and offset are trained. Weights from ImageNet expect images normalised as `photographs.py` does it.

    Attributes:
        parameters: what is trained, under torchvision's names and in its layout (convolutions: outputs, inputs, height,
            width), and the last layer as `embedding.weight` (dim, 2048) and `embedding.bias` (dim,).
        statistics: `….running_mean` and `….running_var` of every batch norm; never trained.
    """

    parameters: dict[str, Float[Array, "..."]]
    statistics: dict[str, Float[Array, " channels_"]]

    def __call__(self, images: Float[Array, "batch height width 3"]) -> Float[Array, "batch dim"]:
        """Embed images."""
        x = _max_pool(jax.nn.relu(self._normalised(images, "conv1", "bn1", stride=2, padding=3)))
        for block in bottlenecks():
            x = self._bottleneck(x, block)
        features = jnp.mean(x, axis=(1, 2))
        outputs = (
            features @ self.parameters["embedding.weight"].T + self.parameters["embedding.bias"][None, :]
        )
        return unit_vectors(outputs)

    def _bottleneck(self, x: Array, block: Bottleneck) -> Array:
        name = block.name
        inner = jax.nn.relu(self._normalised(x, f"{name}.conv1", f"{name}.bn1"))
        inner = jax.nn.relu(self._normalised(inner, f"{name}.conv2", f"{name}.bn2", block.stride, 1))
        inner = self._normalised(inner, f"{name}.conv3", f"{name}.bn3")
        if block.projects:
            x = self._normalised(x, f"{name}.downsample.0", f"{name}.downsample.1", block.stride)
        return jax.nn.relu(inner + x)

    def _normalised(self, x: Array, convolution: str, norm: str, stride: int = 1, padding: int = 0) -> Array:
        """Convolution and batch norm in one: fixed statistics make the norm a factor on the kernels and an offset."""
        kernels = self.parameters[f"{convolution}.weight"]
        deviation = jnp.sqrt(self.statistics[f"{norm}.running_var"] + _BATCH_NORM_EPSILON)
        factor = self.parameters[f"{norm}.weight"] / deviation
        offset = self.parameters[f"{norm}.bias"] - self.statistics[f"{norm}.running_mean"] * factor
        y = lax.conv_general_dilated(
            x,
            kernels * factor[:, None, None, None],
            (stride, stride),
            ((padding, padding),) * 2,
            dimension_numbers=("NHWC", "OIHW", "NHWC"),
        )
        return y + offset[None, None, None, :]


def make_resnet50(
    embedding_dim: int, shape: tuple[int, int, int], key: Key[Array, ""], state: dict[str, np.ndarray] | None
) -> ResNet50:
    """Make the network, from weights or at random.

    Random convolutions are He-normal by their outputs and batch norm starts as the identity, as in torchvision; but
    with statistics that never move, nothing then normalises what runs through: train from weights where there are any.

    Args:
        embedding_dim: dimensions of the embedding.
        shape: height, width and channels of the images.
        key: random key of the last layer, and of all others without `state`.
        state: tensors by name, such as `read_resnet50` returns.

    Raises:
        UserError: images that do not have three channels.
    """
    require(shape[2] == 3, "backbone", "resnet50", f"cnn for images of {shape[2]} channels; resnet50 takes 3")
    to_body, to_head = jax.random.split(key)
    shapes = tensor_shapes()
    if state is None:
        keys = jax.random.split(to_body, len(shapes))
        tensors = {name: _initial(name, shapes[name], k) for name, k in zip(shapes, keys, strict=True)}
    else:
        tensors = {name: jnp.asarray(state[name]) for name in shapes}
    statistics = {name: tensor for name, tensor in tensors.items() if ".running_" in name}
    parameters = {name: tensor for name, tensor in tensors.items() if name not in statistics}
    head = jax.random.normal(to_head, (embedding_dim, FEATURES)) / math.sqrt(FEATURES)
    parameters |= {"embedding.weight": head, "embedding.bias": jnp.zeros(embedding_dim)}
    return ResNet50(parameters, statistics)


def bottlenecks() -> Iterator[Bottleneck]:
    """The sixteen blocks in order."""
    inputs = 64
    for layer, blocks in enumerate(BLOCKS):
        inner = 64 * 2**layer
        for number in range(blocks):
            stride = 2 if layer > 0 and number == 0 else 1
            yield Bottleneck(f"layer{layer + 1}.{number}", inputs, inner, stride, number == 0)
            inputs = _EXPANSION * inner


def tensor_shapes() -> dict[str, tuple[int, ...]]:
    """Shape of every tensor that the network takes from torchvision, by name."""
    shapes = _norm_shapes("bn1", 64) | {"conv1.weight": (64, 3, 7, 7)}
    for name, inputs, inner, _, projects in bottlenecks():
        outputs = _EXPANSION * inner
        shapes |= {f"{name}.conv1.weight": (inner, inputs, 1, 1)} | _norm_shapes(f"{name}.bn1", inner)
        shapes |= {f"{name}.conv2.weight": (inner, inner, 3, 3)} | _norm_shapes(f"{name}.bn2", inner)
        shapes |= {f"{name}.conv3.weight": (outputs, inner, 1, 1)} | _norm_shapes(f"{name}.bn3", outputs)
        if projects:
            shapes |= {f"{name}.downsample.0.weight": (outputs, inputs, 1, 1)}
            shapes |= _norm_shapes(f"{name}.downsample.1", outputs)
    return shapes


def _norm_shapes(name: str, channels: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.{part}": (channels,) for part in ("weight", "bias", "running_mean", "running_var")}


def _initial(name: str, shape: tuple[int, ...], key: Key[Array, ""]) -> Float[Array, "..."]:
    if len(shape) == 4:
        outputs, _, height, width = shape
        return jax.random.normal(key, shape) * math.sqrt(2 / (outputs * height * width))
    return jnp.ones(shape) if name.endswith((".weight", ".running_var")) else jnp.zeros(shape)


def _max_pool(x: Array) -> Array:
    """3×3 windows, stride 2, one pixel of padding that never wins."""
    padding = ((0, 0), (1, 1), (1, 1), (0, 0))
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, 3, 3, 1), (1, 2, 2, 1), padding)
