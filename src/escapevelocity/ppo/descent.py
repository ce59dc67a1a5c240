"""From a gradient to new parameters: clipping by the global norm, and Adam."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from escapevelocity.ppo.config import OptimizerConfig, PPOSpec
from escapevelocity.ppo.networks import Actor, Agent, Network
from escapevelocity.ppo.vectors import Vectors, from_vectors, to_vectors


class Descent(NamedTuple):
    """What one step makes of parameters and moments."""

    parameters: Vectors
    moments: optax.OptState
    actor_norm: Float[Array, ""]
    """Global norm of the gradient before clipping."""
    critic_norm: Float[Array, ""]
    """Likewise; of a trunk in two optimisers it counts what the actor's clipping has left."""


def adam(config: OptimizerConfig) -> optax.GradientTransformation:
    """Adam's direction, without the learning rate (Kingma & Ba 2015, alg. 1)."""
    return optax.scale_by_adam(b1=config.adam_beta1, b2=config.adam_beta2, eps=config.adam_eps)


def initial_moments(agent: Agent, config: OptimizerConfig) -> optax.OptState:
    """Adam's moments at the start."""
    parameters: Any = agent  # An Equinox module is a pytree, which Optax's types leave out.
    return adam(config).init(parameters)


def descend(
    parameters: Vectors,
    gradients: Vectors,
    moments: optax.OptState,
    learning_rate: Float[Array, ""],
    spec: PPOSpec,
    like: Agent,
) -> Descent:
    """One clipped step of Adam.

    Args:
        parameters: where the gradients were taken.
        gradients: alike.
        moments: Adam's, as vectors.
        learning_rate: step size.
        spec: the run's settings.
        like: an agent of the parameters' shape.
    """
    if spec.network.trunk == "shared" and spec.network.trunk_updates == "twice":
        return _descend_twice(parameters, gradients, moments, learning_rate, spec, like)
    jointly = spec.optimizer.clip_gradients == "jointly" or spec.network.trunk == "shared"
    gradients, actor_norm, critic_norm = clip_gradients(gradients, spec.optimizer.max_grad_norm, jointly)
    directions, moments = _direction(gradients, moments, spec)
    parameters = jax.tree.map(lambda p, u: p - learning_rate * u, parameters, directions)
    return Descent(parameters, moments, actor_norm, critic_norm)


def clip_gradients(
    gradients: Vectors, max_norm: float, jointly: bool
) -> tuple[Vectors, Float[Array, ""], Float[Array, ""]]:
    """Scale gradients down to the largest global norm: actor and critic apart, or by their common norm.

    Returns:
        The clipped gradients, and the norms of actor and critic before.
    """
    actor, critic = (jnp.sqrt(jnp.sum(jnp.square(g))) for g in gradients)
    norms = [jnp.sqrt(actor**2 + critic**2)] * 2 if jointly else [actor, critic]
    factors = [_clip_factor(norm, max_norm) for norm in norms]
    return Vectors(gradients.actor * factors[0], gradients.critic * factors[1]), actor, critic


def _clip_factor(norm: Float[Array, ""], max_norm: float) -> Float[Array, ""]:
    return jnp.minimum(1.0, max_norm / jnp.maximum(norm, 1e-30))


def _direction(gradients: Any, moments: optax.OptState, spec: PPOSpec) -> tuple[Any, optax.OptState]:
    with jax.numpy_dtype_promotion(
        "standard"
    ):  # Optax does not trace under "strict", which our users may have set.
        return adam(spec.optimizer).update(gradients, moments)


def _descend_twice(
    parameters: Vectors,
    gradients: Vectors,
    moments: optax.OptState,
    learning_rate: Float[Array, ""],
    spec: PPOSpec,
    like: Agent,
) -> Descent:
    """The shared trunk is clipped with the actor's head, what is left of it with the critic's, and then stepped by both
    optimisers (Moalla et al. 2024, code). Both see the same gradient of the trunk, so that their moments of it are the
    same and are kept once, and the trunk moves by twice the learning rate."""
    largest = spec.optimizer.max_grad_norm
    gradient: Agent = from_vectors(gradients, like)
    actor_norm = jnp.sqrt(jnp.sum(jnp.square(gradients.actor)))
    actor = jax.tree.map(lambda g: g * _clip_factor(actor_norm, largest), gradient.actor)
    critic_norm = optax.tree.norm((_trunk(actor.network), gradient.critic))
    factor = _clip_factor(critic_norm, largest)
    actor = Actor(_with_scaled_trunk(actor.network, factor), actor.log_std)
    critic = jax.tree.map(lambda g: g * factor, gradient.critic)
    directions, moments = _direction(to_vectors(Agent(actor, critic)), moments, spec)
    step: Agent = from_vectors(directions, like)
    step = Agent(Actor(_with_scaled_trunk(step.actor.network, 2.0), step.actor.log_std), step.critic)
    parameters = jax.tree.map(lambda p, u: p - learning_rate * u, parameters, to_vectors(step))
    return Descent(parameters, moments, actor_norm, critic_norm)


def _trunk(network: Network) -> tuple[Any, ...]:
    return network.weights[:-1], network.biases[:-1], network.scales, network.offsets


def _with_scaled_trunk(network: Network, factor: float | Float[Array, ""]) -> Network:
    weights, biases, scales, offsets = jax.tree.map(lambda x: x * factor, _trunk(network))
    return dataclasses.replace(
        network,
        weights=(*weights, network.weights[-1]),
        biases=(*biases, network.biases[-1]),
        scales=scales,
        offsets=offsets,
    )
