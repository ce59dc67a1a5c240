"""Actor and critic: networks that show their features and pre-activations."""

import dataclasses
from collections.abc import Callable
from typing import Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Num

from escapevelocity.ppo.config import Activation
from escapevelocity.ppo.convolution import Convolution, convolve
from escapevelocity.ppo.spectral import largest_singular_value

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "tanh": jnp.tanh,
    "relu": jax.nn.relu,
    "gelu": lambda x: jax.nn.gelu(x, approximate=False),
    "leaky_relu": jax.nn.leaky_relu,
    "crelu": lambda x: jnp.concatenate([jax.nn.relu(x), jax.nn.relu(-x)], axis=-1),
}
_LAYER_NORM_EPSILON = 1e-5  # PyTorch's.


class Trace(NamedTuple):
    """A forward pass with its inside shown."""

    outputs: Float[Array, "batch outputs"]
    features: Float[Array, "batch units"]
    """Φ: activations of the penultimate layer."""
    preactivations: tuple[Float[Array, "batch _"], ...]
    """What goes into every hidden layer's activation, convolutions flattened; the last belong to the features."""


class Network(eqx.Module):
    """Hidden layers, of which the first may be convolutions, and a linear head.

    Attributes:
        weights: one (outputs, inputs) matrix per layer, the head's last. A convolution's is (channels, kernel² ·
            channels_in), its columns ordered by row, column, channel.
        biases: one (outputs,) vector per layer.
        scales: layer normalisation's factors, (outputs,) for each hidden layer; empty without it.
        offsets: its offsets, alike.
        activation: name of the hidden layers' activation.
        convolutions: kernel and stride of the first layers.
        spectral_norm: which hidden layers' weights are divided by their largest singular value.
    """

    weights: tuple[Float[Array, "_ _"], ...]
    biases: tuple[Float[Array, " _"], ...]
    scales: tuple[Float[Array, " _"], ...] = ()
    offsets: tuple[Float[Array, " _"], ...] = ()
    activation: Activation = eqx.field(static=True, default="tanh")
    convolutions: tuple[Convolution, ...] = eqx.field(static=True, default=())
    spectral_norm: Literal["none", "last", "all"] = eqx.field(static=True, default="none")

    def trace(self, observations: Num[Array, "batch ..."]) -> Trace:
        """Forward pass that returns features and pre-activations along with the outputs.

        Args:
            observations: (batch, inputs), or (batch, height, width, channels); bytes are divided by 255.
        """
        hidden, preactivations = _as_floats(observations), []
        for layer, (weight, bias) in enumerate(zip(self.weights[:-1], self.biases[:-1], strict=True)):
            if self.normalises(layer):
                weight = weight / largest_singular_value(weight)
            if layer < len(self.convolutions):
                _, kernel, stride = self.convolutions[layer]
                before = convolve(hidden, weight, bias, kernel, stride)
            else:
                before = hidden.reshape(hidden.shape[0], -1) @ weight.T + bias[None]
            if self.scales:
                before = _layer_norm(before, self.scales[layer], self.offsets[layer])
            preactivations.append(before.reshape(before.shape[0], -1))
            hidden = ACTIVATIONS[self.activation](before)
        features = hidden.reshape(hidden.shape[0], -1)
        outputs = features @ self.weights[-1].T + self.biases[-1][None]
        return Trace(outputs, features, tuple(preactivations))

    def __call__(self, observations: Num[Array, "batch ..."]) -> Float[Array, "batch outputs"]:
        """Outputs of the head."""
        return self.trace(observations).outputs

    def normalises(self, layer: int) -> bool:
        """Whether a hidden layer's weights are divided by their largest singular value."""
        last = layer == len(self.weights) - 2
        return self.spectral_norm == "all" or (self.spectral_norm == "last" and last)

    def folded(self) -> "Network":
        """The same function without spectral normalisation: its weights are divided once, for many passes."""
        weights = [
            weight / largest_singular_value(weight) if self.normalises(layer) else weight
            for layer, weight in enumerate(self.weights[:-1])
        ]
        return dataclasses.replace(self, weights=(*weights, self.weights[-1]), spectral_norm="none")


class Actor(eqx.Module):
    """The policy network; `log_std` holds one entry per action dimension where the std does not depend on the state."""

    network: Network
    log_std: Float[Array, " actions"] | None

    def outputs(self, trace: Trace) -> Float[Array, "batch outputs"]:
        """Inputs of the action distribution: the head's outputs, followed by `log_std` where there is one."""
        if self.log_std is None:
            return trace.outputs
        log_std = jnp.broadcast_to(self.log_std[None], (trace.outputs.shape[0], self.log_std.shape[0]))
        return jnp.concatenate([trace.outputs, log_std], axis=-1)

    def folded(self) -> "Actor":
        """The same policy without spectral normalisation; see `Network.folded`."""
        return Actor(self.network.folded(), self.log_std)


class Agent(eqx.Module):
    """Actor and critic. Where they share a trunk, it is the actor's, and the critic is a head on its features."""

    actor: Actor
    critic: Network

    @property
    def shares_trunk(self) -> bool:
        """Whether the critic is but a head on the actor's features."""
        return len(self.critic.weights) == 1

    def trace(self, observations: Num[Array, "batch ..."]) -> tuple[Trace, Trace]:
        """Forward passes of actor and critic; a shared trunk is run once and shows in both."""
        actor = self.actor.network.trace(observations)
        if not self.shares_trunk:
            return actor, self.critic.trace(observations)
        return actor, Trace(self.critic(actor.features), actor.features, actor.preactivations)

    def values(self, observations: Num[Array, "batch ..."]) -> Float[Array, " batch"]:
        """V(s) of each observation."""
        if self.shares_trunk:
            return self.trace(observations)[1].outputs[:, 0]
        return self.critic(observations)[:, 0]


def _as_floats(observations: Num[Array, "batch ..."]) -> Float[Array, "batch ..."]:
    if jnp.issubdtype(observations.dtype, jnp.integer):
        return observations.astype(jnp.float32) / 255.0
    return observations


def _layer_norm(
    x: Float[Array, "batch ... units"], scale: Float[Array, " units"], offset: Float[Array, " units"]
) -> Float[Array, "batch ... units"]:
    """Ba et al. 2016, eq. 4: over all units of a layer, of a convolution over space and channels."""
    axes = tuple(range(1, x.ndim))
    centred = x - jnp.mean(x, axes, keepdims=True)
    variance = jnp.mean(jnp.square(centred), axes, keepdims=True)
    shape = (1,) * (x.ndim - 1) + scale.shape
    return centred * jax.lax.rsqrt(variance + _LAYER_NORM_EPSILON) * scale.reshape(shape) + offset.reshape(
        shape
    )
