"""From a trained agent to the layers and arrays of an ordinary `nn.Sequential`."""

import math
from typing import NamedTuple

import jax
import numpy as np

from escapevelocity.envs import BoxActions
from escapevelocity.envs._observation import MIN_STD
from escapevelocity.errors import require
from escapevelocity.ppo.agent import TrainedAgent
from escapevelocity.ppo.convolution import output_shape
from escapevelocity.ppo.export.description import (
    VERSION,
    HeadDescription,
    Kind,
    Layer,
    ObservationDescription,
    PolicyDescription,
)
from escapevelocity.ppo.networks import Network

_ACTIVATIONS: dict[str, Kind] = {
    "tanh": "Tanh",
    "relu": "ReLU",
    "gelu": "GELU",
    "leaky_relu": "LeakyReLU",
    "crelu": "CReLU",
}


class PlainPolicy(NamedTuple):
    """A policy without any library's objects."""

    description: PolicyDescription
    """All but the weights."""
    arrays: dict[str, np.ndarray]
    """float32 arrays by their names in the state_dict of an `nn.Sequential`: `0.weight`, `0.bias`, …"""


def plain_policy(agent: TrainedAgent) -> PlainPolicy:
    """Take a trained agent apart.

    Raises:
        UserError: it has parameters that are not finite, as members that failed do.
    """
    layers, arrays = sequential_layers(agent.actor.network, agent.task.observation_shape)
    finite = all(np.isfinite(array).all() for array in arrays.values())
    require(finite, "seed", agent.seed, "a member with finite parameters; try an earlier --checkpoint")
    description = PolicyDescription(
        version=VERSION,
        task=agent.task.name,
        seed=agent.seed,
        env_steps=agent.env_steps,
        observation=_observation(agent),
        layers=layers,
        head=_head(agent),
    )
    return PlainPolicy(description, arrays)


def sequential_layers(
    network: Network, shape: tuple[int, ...]
) -> tuple[tuple[Layer, ...], dict[str, np.ndarray]]:
    """The layers of `nn.Sequential` that compute what `network` does, and their arrays.

    Images are (channels, height, width) in PyTorch and (height, width, channels) here, so kernels are transposed, and
    the columns of the layer behind the convolutions come in the order in which `nn.Flatten` leaves their features.
    Spectral normalisation is folded into the weights.

    Args:
        network: the actor's.
        shape: of an observation, (height, width, channels) where there are convolutions.
    """
    if network.spectral_norm != "none":
        with jax.default_matmul_precision("float32"):  # As in training: accelerators would round to 10 bits.
            network = jax.jit(Network.folded)(network)
    layers: list[Layer] = []
    arrays: dict[str, np.ndarray] = {}

    def add(layer: Layer, weight: np.ndarray | None = None, bias: np.ndarray | None = None) -> None:
        for name, array in (("weight", weight), ("bias", bias)):
            if array is not None:
                arrays[f"{len(layers)}.{name}"] = np.ascontiguousarray(array, np.float32)
        layers.append(layer)

    convolutions, head = len(network.convolutions), len(network.weights) - 1
    grid = output_shape((shape[0], shape[1], shape[2]), network.convolutions)[:2] if convolutions else None
    for number, (weight, bias) in enumerate(zip(network.weights, network.biases, strict=True)):
        weight, bias = np.asarray(weight), np.asarray(bias)
        outputs = len(weight)
        if number < convolutions:
            _, kernel, stride = network.convolutions[number]
            weight = _channels_first(weight, kernel, kernel)
            add(Layer("Conv2d", weight.shape[1], outputs, kernel, stride), weight, bias)
        else:
            if grid is not None and number == convolutions:
                weight = _channels_first(weight, *grid).reshape(outputs, -1)
                add(Layer("Flatten"))
            add(Layer("Linear", weight.shape[1], outputs), weight, bias)
        if number == head:
            break
        if network.scales:
            scale, offset = np.asarray(network.scales[number]), np.asarray(network.offsets[number])
            # One group is all channels at every pixel: Ba et al.'s layer normalisation of a convolution.
            add(Layer("GroupNorm" if number < convolutions else "LayerNorm", outputs), scale, offset)
        add(Layer(_ACTIVATIONS[network.activation]))
    return tuple(layers), arrays


def _channels_first(weight: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """(outputs, rows · columns · channels) to (outputs, channels, rows, columns)."""
    return weight.reshape(len(weight), rows, columns, -1).transpose(0, 3, 1, 2)


def _observation(agent: TrainedAgent) -> ObservationDescription:
    task, (mean, std) = agent.task, agent.statistics
    if task.pixels or len(task.observation_shape) > 1:
        dtype = "uint8" if task.pixels else "float32"
        return ObservationDescription(task.observation_shape, dtype, None, None, None)
    unchanged = bool(np.all(mean == 0) and np.all(std == 1))
    return ObservationDescription(
        shape=task.observation_shape,
        dtype="float32" if unchanged else "float64",
        mean=None if unchanged else tuple(mean[0].tolist()),
        std=None if unchanged else tuple(np.maximum(std[0], MIN_STD).tolist()),
        time_limit=task.episode_limit if agent.spec.environment.append_time else None,
    )


def _head(agent: TrainedAgent) -> HeadDescription:
    actions, network, log_std = agent.task.actions, agent.spec.network, agent.actor.log_std
    if isinstance(actions, BoxActions):
        low, high = (
            tuple(bound if math.isfinite(bound) else None for bound in bounds)
            for bounds in (actions.low, actions.high)
        )
        own = () if log_std is None else tuple(np.asarray(log_std).tolist())
        return HeadDescription(network.head, low, high, own)
    p = network.escort_p if network.head == "escort" else 0.0
    return HeadDescription(network.head, num_actions=actions.size, start=actions.start, p=p)
