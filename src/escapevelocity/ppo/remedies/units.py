"""Hidden units: how active they are, what they contribute, and how to make some of them new.

A unit is a row of a hidden layer's weights: of a convolution it is a channel, wherever in the image, and with CReLU
it feeds two outputs, relu(x) and relu(−x). In each case the next layer's columns repeat the units in their order, so
that column c belongs to unit c mod units (`Network`).
"""

from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from escapevelocity.ppo.networks import ACTIVATIONS, Agent, Network, Trace


class Layers(NamedTuple):
    """One entry per hidden layer of either network; a shared trunk is the actor's, and the critic has none."""

    actor: tuple[Any, ...]
    critic: tuple[Any, ...]


def hidden_layers(agent: Agent) -> Layers:
    """How many units every hidden layer has."""

    def sizes(network: Network) -> tuple[int, ...]:
        return tuple(weight.shape[0] for weight in network.weights[:-1])

    return Layers(sizes(agent.actor.network), sizes(agent.critic))


def activity(agent: Agent, actor: Trace, critic: Trace) -> Layers:
    """E|h| over the samples (and a convolution's positions): (units,) per layer, with CReLU (2 · units,)."""
    return Layers(
        _activity(agent.actor.network, actor), () if agent.shares_trunk else _activity(agent.critic, critic)
    )


def per_unit(of_outputs: Float[Array, " outputs"], units: int) -> Float[Array, " units"]:
    """Add up what belongs to the two outputs of a CReLU unit; the same numbers for other activations."""
    return jnp.sum(of_outputs.reshape(-1, units), axis=0)


def contributions(agent: Agent, active: Layers) -> Layers:
    """E|h| · Σ|w| over all weights that leave a unit: (units,) per layer (Dohare et al. 2024, eq. 1)."""
    actor, critic = agent.actor.network, agent.critic
    beside = (critic.weights[0],) if agent.shares_trunk else ()
    return Layers(_contributions(actor, active.actor, beside), _contributions(critic, active.critic))


def renew(agent: Agent, chosen: Layers, incoming: Agent) -> Agent:
    """Give units the weights of another agent on their way in, and zeros on their way out.

    On the way in are the weights, the bias, and layer normalisation's scale and offset. A weight from one chosen unit
    to another is 0.

    Args:
        agent: the agent, or one of Adam's moments in its shape.
        chosen: which units, Bool (units,) per layer.
        incoming: an agent of the same shape.
    """
    actor = _renew(agent.actor.network, chosen.actor, incoming.actor.network)
    critic = _renew(agent.critic, chosen.critic, incoming.critic)
    if agent.shares_trunk:
        head = _without_columns(critic.weights[0], chosen.actor[-1])
        critic = replace(critic, weights=(head,))
    return Agent(replace(agent.actor, network=actor), critic)


def forget(moments: Any, chosen: Layers) -> Any:
    """Zero Adam's moments of exactly the entries that `renew` replaces.

    The step count stays: Optax keeps one for all entries. Bias correction is then over for a renewed entry, and its
    first steps are up to (1 − β₁)/√(1 − β₂) times Adam's usual first step (3.2 times for β = 0.9, 0.999). The authors
    of ReDo leave their count alone as well.
    """

    def change(x: Any) -> Any:
        return renew(x, chosen, jax.tree.map(jnp.zeros_like, x)) if isinstance(x, Agent) else x

    return jax.tree.map(change, moments, is_leaf=lambda x: isinstance(x, Agent))


def count(chosen: tuple[Bool[Array, " _"], ...]) -> Float[Array, ""]:
    """How many units are chosen in all layers together."""
    return sum((jnp.sum(mask, dtype=jnp.float32) for mask in chosen), jnp.float32(0))


def _activity(network: Network, trace: Trace) -> tuple[Array, ...]:
    activation = ACTIVATIONS[network.activation]
    active = []
    for weight, before in zip(network.weights[:-1], trace.preactivations, strict=True):
        # Channels are a convolution's fastest axis, so that positions fold into the samples.
        outputs = activation(before.reshape(-1, weight.shape[0]))
        active.append(jnp.mean(jnp.abs(outputs), axis=0))
    return tuple(active)


def _contributions(
    network: Network, active: tuple[Array, ...], beside: tuple[Array, ...] = ()
) -> tuple[Array, ...]:
    """`beside`: further weights that the last hidden layer feeds."""
    found = []
    for layer, outputs in enumerate(active):
        is_last = layer == len(active) - 1
        leaving = (network.weights[layer + 1], *(beside if is_last else ()))
        sizes = sum(jnp.sum(jnp.abs(weight), axis=0) for weight in leaving)
        of_outputs = outputs * jnp.sum(jnp.reshape(sizes, (-1, outputs.size)), axis=0)
        found.append(per_unit(of_outputs, network.weights[layer].shape[0]))
    return tuple(found)


def _renew(network: Network, chosen: tuple[Array, ...], incoming: Network) -> Network:
    def rows(now: tuple[Array, ...], new: tuple[Array, ...]) -> tuple[Array, ...]:
        """Hidden layers with the chosen units' rows from `new`; the head as it is."""
        changed = [
            jnp.where(jnp.expand_dims(mask, tuple(range(1, old.ndim))), fresh, old)
            for mask, old, fresh in zip(chosen, now, new, strict=False)
        ]
        return (*changed, *now[len(changed) :])

    weights = list(rows(network.weights, incoming.weights))
    for layer, mask in enumerate(chosen):
        weights[layer + 1] = _without_columns(weights[layer + 1], mask)
    return replace(
        network,
        weights=tuple(weights),
        biases=rows(network.biases, incoming.biases),
        scales=rows(network.scales, incoming.scales),
        offsets=rows(network.offsets, incoming.offsets),
    )


def _without_columns(
    weight: Float[Array, "outputs columns"], mask: Bool[Array, " units"]
) -> Float[Array, "outputs columns"]:
    """Zero the columns that the units feed."""
    columns = jnp.tile(mask, weight.shape[1] // mask.size)
    return jnp.where(columns[None], jnp.zeros_like(weight), weight)
