"""The controller's network: an MLP with three outputs for every bin and, where the method wants it, a value."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int32

from escapevelocity.metric_learning.config import ControllerConfig
from escapevelocity.metric_learning.distribution import NUM_ACTIONS
from escapevelocity.policy import Escort, Softmax
from escapevelocity.policy.escort import FLOOR, scaled_magnitudes


class PolicyNetwork(NamedTuple):
    """Weights (outputs, inputs) and biases (outputs,).

    Attributes:
        weights: of the hidden layers.
        biases: of the hidden layers.
        head_weight: (3 · bins, units), the bins' outputs one after the other.
        head_bias: alike.
        value_weight: (1, units); None without a value head.
        value_bias: alike.
    """

    weights: tuple[Float[Array, "_ _"], ...]
    biases: tuple[Float[Array, " _"], ...]
    head_weight: Float[Array, "outputs units"]
    head_bias: Float[Array, " outputs"]
    value_weight: Float[Array, "1 units"] | None
    value_bias: Float[Array, " 1"] | None


class Decision(NamedTuple):
    """What was decided, and how surely. Means are over the bins.

    Attributes:
        actions: 0, 1, 2 for every bin: lower, stay, raise.
        action_down: mean probability of action 0.
        action_stay: of action 1.
        action_up: of action 2.
        entropy: mean entropy of a bin's action, at most log 3 nats.
        energy: mean of −Σ π·ℓ with ℓ the un-normalised log-weights: the logits, or p·log|θ| of the escort.
        free_energy: mean of −log Σ exp ℓ, which is energy − entropy.
        finite: False where the network's outputs were not: such bins act uniformly.
    """

    actions: Int32[Array, "*population bins"]
    action_down: Float[Array, "*population"]
    action_stay: Float[Array, "*population"]
    action_up: Float[Array, "*population"]
    entropy: Float[Array, "*population"]
    energy: Float[Array, "*population"]
    free_energy: Float[Array, "*population"]
    finite: Bool[Array, "*population"]


def action_family(config: ControllerConfig) -> Softmax | Escort:
    """The distribution over the three actions of a bin."""
    return Escort(NUM_ACTIONS, config.escort_p) if config.head == "escort" else Softmax(NUM_ACTIONS)


def initial_network(config: ControllerConfig, inputs: int, bins: int, key: Array) -> PolicyNetwork:
    """A freshly initialised network, float32.

    By default weights and biases are uniform in ±1/√fan_in, as PyTorch's Linear draws them (PADS). With
    `weight_std` all weights, the heads' too, are normal with that standard deviation, and all biases are 0.

    Args:
        config: layers, method and initialisation.
        inputs: size of the state.
        bins: of the distribution.
        key: PRNG key.
    """
    sizes = [inputs, *config.hidden]
    outputs = [*config.hidden, NUM_ACTIONS * bins, 1]
    fan_ins = [*sizes, sizes[-1]]
    keys = jax.random.split(key, 2 * len(outputs))
    weights, biases = [], []
    for i, (fan_in, fan_out) in enumerate(zip(fan_ins, outputs, strict=True)):
        if config.weight_std is None:
            bound = fan_in**-0.5
            weights.append(jax.random.uniform(keys[2 * i], (fan_out, fan_in), jnp.float32, -bound, bound))
            biases.append(jax.random.uniform(keys[2 * i + 1], (fan_out,), jnp.float32, -bound, bound))
        else:
            weights.append(config.weight_std * jax.random.normal(keys[2 * i], (fan_out, fan_in), jnp.float32))
            biases.append(jnp.zeros(fan_out, jnp.float32))
    *hidden_weights, head_weight, value_weight = weights
    *hidden_biases, head_bias, value_bias = biases
    if config.method != "ppo":
        value_weight = value_bias = None
    return PolicyNetwork(
        tuple(hidden_weights), tuple(hidden_biases), head_weight, head_bias, value_weight, value_bias
    )


def forward(
    network: PolicyNetwork, state: Float[Array, " state"]
) -> tuple[Float[Array, "bins 3"], Float[Array, ""]]:
    """Outputs for every bin, and the value, NaN of a network without one."""
    hidden = state
    for weight, bias in zip(network.weights, network.biases, strict=True):
        hidden = jax.nn.relu(weight @ hidden + bias)
    outputs = (network.head_weight @ hidden + network.head_bias).reshape(-1, NUM_ACTIONS)
    if network.value_weight is None or network.value_bias is None:
        return outputs, jnp.full((), jnp.nan, outputs.dtype)
    return outputs, (network.value_weight @ hidden + network.value_bias)[0]


def draw_decision(
    config: ControllerConfig, network: PolicyNetwork, state: Float[Array, " state"], key: Array
) -> Decision:
    """Draw an action for every bin.

    Args:
        config: the head.
        network: the policy.
        state: see `controller_state`.
        key: PRNG key of this decision.
    """
    family = action_family(config)
    outputs, _ = forward(network, state)
    fine = jnp.all(jnp.isfinite(outputs), axis=-1, keepdims=True)
    # Equal outputs are the uniform policy of either head (PADS, `Policy.act`: NaN acts uniformly).
    params = family.params(jnp.where(fine, outputs, 0))
    actions = family.sample(params, family.draw_noise(key, (params.shape[0],), params.dtype))
    probs, entropy = family.probs(params), family.base_entropy(params)
    energy = -jnp.sum(probs * _log_weights(config, params), axis=-1)
    down, stay, up = jnp.mean(probs, axis=0)
    means = map(jnp.mean, (entropy, energy, energy - entropy))
    return Decision(actions, down, stay, up, *means, finite=jnp.all(fine))


def _log_weights(config: ControllerConfig, params: Float[Array, "bins 3"]) -> Float[Array, "bins 3"]:
    """ℓ with π ∝ exp ℓ: the logits, or p·log|θ| of the escort, with the floor that it has inside logarithms."""
    if config.head == "softmax":
        return params
    magnitudes, largest = scaled_magnitudes(params)
    return config.escort_p * (
        jnp.log(jnp.maximum(magnitudes, FLOOR)) + jnp.log(jnp.where(largest > 0, largest, 1))
    )
