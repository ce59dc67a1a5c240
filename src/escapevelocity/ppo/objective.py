"""The loss of one minibatch, and the batch it is taken from."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Num

from escapevelocity.policy import (
    ActionDistribution,
    clipped_log_ratio,
    clipped_objective,
    clipped_value_loss,
    normalise_advantages,
    value_loss,
)
from escapevelocity.ppo.config import ObjectiveConfig
from escapevelocity.ppo.networks import Agent


class Batch(NamedTuple):
    """One member's samples, flattened over time and environments. A minibatch has the same fields."""

    observations: Float[Array, "samples inputs"]
    actions: Num[Array, "samples ..."]
    """As the action distribution drew them (before any squashing)."""
    noise: Float[Array, "samples _"]
    """Standard noise for the one-sample entropy estimate of distributions without a closed form."""
    log_probs: Float[Array, " samples"]
    """log π_old(a|s)."""
    advantages: Float[Array, " samples"]
    returns: Float[Array, " samples"]
    """Targets of the critic."""
    values: Float[Array, " samples"]
    """V_old(s)."""


class LossTerms(NamedTuple):
    """Means over a minibatch."""

    objective: Float[Array, ""]
    """The clipped objective, to be maximised (Schulman et al. 2017, eq. 7)."""
    value: Float[Array, ""]
    """Squared error of the critic, without its coefficient."""
    entropy: Float[Array, ""]


def ppo_loss(
    agent: Agent, minibatch: Batch, distribution: ActionDistribution, config: ObjectiveConfig
) -> tuple[Float[Array, ""], LossTerms]:
    """The loss to minimise (Schulman et al. 2017, eq. 9): −objective + c_v · value − c_e · entropy.

    Returns:
        The loss, and its terms.
    """
    outputs = agent.actor.outputs(agent.actor.mlp.trace(minibatch.observations))
    params = distribution.params(outputs)
    log_ratio = clipped_log_ratio(distribution.log_prob(params, minibatch.actions) - minibatch.log_probs)
    advantages = minibatch.advantages
    if config.normalize_advantages:
        advantages = normalise_advantages(advantages)
    values = agent.critic(minibatch.observations)[:, 0]
    if config.clip_value:
        errors = clipped_value_loss(values, minibatch.values, minibatch.returns, config.clip_epsilon)
    else:
        errors = value_loss(values, minibatch.returns)
    terms = LossTerms(
        objective=jnp.mean(clipped_objective(log_ratio, advantages, config.clip_epsilon)),
        value=jnp.mean(errors),
        entropy=jnp.mean(distribution.entropy(params, minibatch.noise)),
    )
    loss = -terms.objective + config.value_coef * terms.value
    if config.entropy_coef:  # A coefficient of 0 leaves no trace in the program.
        loss = loss - config.entropy_coef * terms.entropy
    return loss, terms
