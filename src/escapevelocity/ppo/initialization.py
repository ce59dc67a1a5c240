"""Freshly initialised agents."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from escapevelocity.ppo.config import NetworkConfig
from escapevelocity.ppo.convolution import MINATAR, NATURE, Convolution, output_shape
from escapevelocity.ppo.networks import Actor, Agent, Network

CONVOLUTIONS: dict[str, tuple[Convolution, ...]] = {"none": (), "nature": NATURE, "minatar": MINATAR}
_SMALL_GAIN = 0.01


class Layer(NamedTuple):
    """Shape and gain of one layer's weights."""

    fan_in: int
    fan_out: int
    gain: float


def initial_agent(
    key: Array, config: NetworkConfig, inputs: int | tuple[int, ...], num_outputs: int
) -> Agent:
    """A freshly initialised agent.

    Args:
        key: PRNG key.
        config: shape, activation and initialisation of both networks.
        inputs: shape of an observation, or its size.
        num_outputs: outputs that the action distribution needs, its std included.
    """
    shape = (inputs,) if isinstance(inputs, int) else inputs
    actor_key, critic_key = jax.random.split(key)
    independent = config.head == "normal_independent"
    head_outputs = num_outputs // 2 if independent else num_outputs
    hidden = hidden_layers(config, shape)
    features = feature_size(config)
    critic_head = Layer(features, 1, 1.0)
    actor = _initial_network(actor_key, config, [*hidden, Layer(features, head_outputs, _SMALL_GAIN)])
    if config.head == "escort":  # θ = 1 + W·h starts near 1, whichever initialisation (Mei et al. 2020).
        actor = _with_uniform_start(actor, config)
    critic = _initial_network(
        critic_key, config, [critic_head] if config.trunk == "shared" else [*hidden, critic_head]
    )
    return Agent(Actor(actor, jnp.zeros(num_outputs - head_outputs) if independent else None), critic)


def hidden_layers(config: NetworkConfig, shape: tuple[int, ...]) -> list[Layer]:
    """The hidden layers of either network, for observations of `shape`."""
    convolutions, widening = CONVOLUTIONS[config.convolutions], _widening(config)
    layers, channels = [], shape[-1]
    for convolution in convolutions:
        layers.append(Layer(convolution.kernel**2 * channels, convolution.channels, 2**0.5))
        channels = convolution.channels * widening
    size = 1
    if convolutions:
        height, width, _ = output_shape((shape[0], shape[1], shape[2]), convolutions)
        shape = (height, width, channels)
    for entries in shape:
        size *= entries
    for units in config.hidden:
        layers.append(Layer(size, units, 2**0.5))
        size = units * widening
    return layers


def feature_size(config: NetworkConfig) -> int:
    """Length of the penultimate layer's activations."""
    return config.hidden[-1] * _widening(config)


def _widening(config: NetworkConfig) -> int:
    return 2 if config.activation == "crelu" else 1  # Concatenated: activations of x and of −x.


def _initial_network(key: Array, config: NetworkConfig, layers: list[Layer]) -> Network:
    count = sum((fan_in + 1) * fan_out for fan_in, fan_out, _ in layers)
    # One draw for all layers: a generator for each of them takes seconds to compile.
    if config.initialization == "torch":
        draws = jax.random.uniform(key, (count,), minval=-1.0, maxval=1.0)
    else:
        draws = jax.random.normal(key, (count,))
    weights, biases = [], []
    for fan_in, fan_out, gain in layers:
        weight, bias, draws = jnp.split(draws, [fan_in * fan_out, (fan_in + 1) * fan_out])
        weight = weight.reshape(fan_out, fan_in)
        if config.initialization == "torch":  # PyTorch's default for nn.Linear and nn.Conv2d.
            weights.append(weight * fan_in**-0.5)
            biases.append(bias * fan_in**-0.5)
        else:
            weights.append(gain * _orthogonal(weight))
            biases.append(jnp.zeros(fan_out))
    units = [layer.fan_out for layer in layers[:-1]] if config.layer_norm else []
    is_head = len(layers) == 1
    return Network(
        weights=tuple(weights),
        biases=tuple(biases),
        scales=tuple(jnp.ones(n) for n in units),
        offsets=tuple(jnp.zeros(n) for n in units),
        activation=config.activation,
        convolutions=() if is_head else CONVOLUTIONS[config.convolutions],
        spectral_norm=config.spectral_norm,
    )


def _with_uniform_start(network: Network, config: NetworkConfig) -> Network:
    weight, bias = network.weights[-1], network.biases[-1]
    if config.initialization == "torch":
        weight = _SMALL_GAIN * weight
    return dataclasses.replace(
        network, weights=(*network.weights[:-1], weight), biases=(*network.biases[:-1], jnp.zeros_like(bias))
    )


def _orthogonal(normal: Float[Array, "rows columns"]) -> Float[Array, "rows columns"]:
    """A uniformly random matrix with orthonormal rows or columns, whichever are fewer (Saxe et al. 2014)."""
    wide = normal.shape[0] < normal.shape[1]
    q, r = _qr(normal.T if wide else normal)
    # Without this, QR's choice of signs is not uniform (Mezzadri 2007).
    q = q * jnp.sign(jnp.diagonal(r))[None]
    return q.T if wide else q


@jax.custom_batching.sequential_vmap
def _qr(matrix: Float[Array, "rows columns"]) -> tuple[Array, Array]:
    """Factor one matrix of a population after another.

    A batch of them is spread over XLA's threads on CPU, which then wait for one another: with as many matrices as
    threads, jaxlib 0.10.2 hangs for ever in one of a few hundred to a few thousand calls.
    """
    return jnp.linalg.qr(matrix)
