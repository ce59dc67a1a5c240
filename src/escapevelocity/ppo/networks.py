"""Actor and critic: multilayer perceptrons that show their features and pre-activations."""

from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from escapevelocity.ppo.config import Activation, NetworkConfig

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "tanh": jnp.tanh,
    "relu": jax.nn.relu,
    "gelu": lambda x: jax.nn.gelu(x, approximate=False),
    "leaky_relu": jax.nn.leaky_relu,
}


class Trace(NamedTuple):
    """A forward pass with its inside shown."""

    outputs: Float[Array, "batch outputs"]
    features: Float[Array, "batch units"]
    """Φ: activations of the penultimate layer."""
    preactivations: tuple[Float[Array, "batch _"], ...]
    """Pre-activations of every hidden layer; the last belong to the features."""


class MLP(eqx.Module):
    """Fully connected hidden layers and a linear head.

    Attributes:
        weights: one (outputs, inputs) matrix per layer, the head's last.
        biases: one (outputs,) vector per layer.
        activation: name of the hidden layers' activation.
    """

    weights: tuple[Float[Array, "_ _"], ...]
    biases: tuple[Float[Array, " _"], ...]
    activation: Activation = eqx.field(static=True)

    def trace(self, inputs: Float[Array, "batch inputs"]) -> Trace:
        """Forward pass that returns features and pre-activations along with the outputs."""
        activation = ACTIVATIONS[self.activation]
        hidden, preactivations = inputs, []
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            preactivations.append(hidden @ weight.T + bias[None])
            hidden = activation(preactivations[-1])
        outputs = hidden @ self.weights[-1].T + self.biases[-1][None]
        return Trace(outputs, hidden, tuple(preactivations))

    def __call__(self, inputs: Float[Array, "batch inputs"]) -> Float[Array, "batch outputs"]:
        """Outputs of the head."""
        return self.trace(inputs).outputs


class Actor(eqx.Module):
    """The policy network; `log_std` holds one entry per action dimension where the std does not depend on the state."""

    mlp: MLP
    log_std: Float[Array, " actions"] | None

    def outputs(self, trace: Trace) -> Float[Array, "batch outputs"]:
        """Inputs of the action distribution: the head's outputs, followed by `log_std` where there is one."""
        if self.log_std is None:
            return trace.outputs
        log_std = jnp.broadcast_to(self.log_std[None], (trace.outputs.shape[0], self.log_std.shape[0]))
        return jnp.concatenate([trace.outputs, log_std], axis=-1)


class Agent(eqx.Module):
    """Actor and critic, with nothing shared between them."""

    actor: Actor
    critic: MLP


def initial_agent(key: Array, config: NetworkConfig, inputs: int, num_outputs: int) -> Agent:
    """A freshly initialised agent.

    Args:
        key: PRNG key.
        config: shape, activation and initialisation of both networks.
        inputs: size of an observation.
        num_outputs: outputs that the action distribution needs, its std included.
    """
    actor_key, critic_key = jax.random.split(key)
    independent = config.head == "normal_independent"
    head_outputs = num_outputs // 2 if independent else num_outputs
    return Agent(
        actor=Actor(
            mlp=_initial_mlp(actor_key, config, inputs, head_outputs, head_gain=0.01),
            log_std=jnp.zeros(num_outputs - head_outputs) if independent else None,
        ),
        critic=_initial_mlp(critic_key, config, inputs, 1, head_gain=1.0),
    )


def _initial_mlp(key: Array, config: NetworkConfig, inputs: int, outputs: int, head_gain: float) -> MLP:
    sizes = (inputs, *config.hidden, outputs)
    gains = [2**0.5] * len(config.hidden) + [head_gain]
    count = sum((fan_in + 1) * fan_out for fan_in, fan_out in pairwise(sizes))
    # One draw for all layers: a generator for each of them takes seconds to compile.
    if config.initialization == "torch":
        draws = jax.random.uniform(key, (count,), minval=-1.0, maxval=1.0)
    else:
        draws = jax.random.normal(key, (count,))
    weights, biases = [], []
    for (fan_in, fan_out), gain in zip(pairwise(sizes), gains, strict=True):
        weight, bias, draws = jnp.split(draws, [fan_in * fan_out, (fan_in + 1) * fan_out])
        weight = weight.reshape(fan_out, fan_in)
        if config.initialization == "torch":  # PyTorch's default for nn.Linear.
            weights.append(weight * fan_in**-0.5)
            biases.append(bias * fan_in**-0.5)
        else:
            weights.append(gain * _orthogonal(weight))
            biases.append(jnp.zeros(fan_out))
    return MLP(tuple(weights), tuple(biases), config.activation)


def _orthogonal(normal: Float[Array, "rows columns"]) -> Float[Array, "rows columns"]:
    """A uniformly random matrix with orthonormal rows or columns, whichever are fewer (Saxe et al. 2014)."""
    wide = normal.shape[0] < normal.shape[1]
    q, r = jnp.linalg.qr(normal.T if wide else normal)
    # Without this, QR's choice of signs is not uniform (Mezzadri 2007).
    q = q * jnp.sign(jnp.diagonal(r))[None]
    return q.T if wide else q
