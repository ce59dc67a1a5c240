"""The loss of one minibatch, and the batch it is taken from."""

from typing import Any, NamedTuple

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
from escapevelocity.ppo.networks import Agent, Trace
from escapevelocity.ppo.remedy import MinibatchView
from escapevelocity.ppo.treatment import Numbers, Treatment


class Batch(NamedTuple):
    """One member's samples, flattened over time and environments. A minibatch has the same fields."""

    observations: Num[Array, "samples ..."]
    actions: Num[Array, "samples ..."]
    """As the action distribution drew them (before any squashing)."""
    noise: Float[Array, "samples _"]
    """Standard noise for the one-sample entropy estimate of distributions without a closed form: that of the sample's
    own action, the same in every epoch. The first step's gradient is unbiased; later ones see parameters that were
    fitted to these samples, as the rest of the objective does."""
    log_probs: Float[Array, " samples"]
    """log π_old(a|s)."""
    advantages: Float[Array, " samples"]
    returns: Float[Array, " samples"]
    """Targets of the critic."""
    values: Float[Array, " samples"]
    """V_old(s)."""
    references: tuple[Any, ...] = ()
    """What each remedy keeps of the old parameters for its penalty: arrays with the samples as first axis."""


class LossTerms(NamedTuple):
    """Means over a minibatch."""

    objective: Float[Array, ""]
    """The objective to be maximised, clipped (Schulman et al. 2017, eq. 7) and weighted as the remedies have it."""
    value: Float[Array, ""]
    """Squared error of the critic, without its coefficient."""
    entropy: Float[Array, ""]


class Treated(NamedTuple):
    """The remedies of a run on their way through one minibatch."""

    treatment: Treatment
    states: tuple[Any, ...]
    progress: Float[Array, ""]
    other: Batch | None
    """Another minibatch of the same epoch, where a remedy wants one."""


class Beside(NamedTuple):
    """What a loss gives beside its value."""

    terms: LossTerms
    numbers: Numbers
    """Of the remedies' penalties."""
    actor: Trace
    critic: Trace


def ppo_loss(
    agent: Agent,
    minibatch: Batch,
    distribution: ActionDistribution,
    config: ObjectiveConfig,
    treated: Treated | None = None,
) -> tuple[Float[Array, ""], Beside]:
    """The loss to minimise (Schulman et al. 2017, eq. 9): −objective + c_v · value − c_e · entropy + penalties.

    Returns:
        The loss, and its terms.
    """
    actor, critic = agent.trace(minibatch.observations)
    params = distribution.params(agent.actor.outputs(actor))
    log_ratio = clipped_log_ratio(distribution.log_prob(params, minibatch.actions) - minibatch.log_probs)
    advantages = minibatch.advantages
    if config.normalize_advantages:
        advantages = normalise_advantages(advantages)
    values = critic.outputs[:, 0]
    if config.clip_value:
        errors = clipped_value_loss(values, minibatch.values, minibatch.returns, config.clip_epsilon)
    else:
        errors = value_loss(values, minibatch.returns)
    objective = clipped_objective(log_ratio, advantages, config.clip_epsilon)
    penalty, numbers = None, ()
    if treated is not None:
        view = MinibatchView(
            agent=agent,
            actor=actor,
            critic=critic,
            params=params,
            log_ratio=log_ratio,
            advantages=advantages,
            minibatch=minibatch,
            reference=(),
            other=treated.other,
            state=(),
            progress=treated.progress,
            distribution=distribution,
        )
        if not treated.treatment.clips:
            objective = jnp.exp(log_ratio) * advantages
        weights = treated.treatment.weights(view, treated.states)
        objective = objective if weights is None else weights * objective
        penalty, numbers = treated.treatment.penalty(view, treated.states)
    terms = LossTerms(
        objective=jnp.mean(objective),
        value=jnp.mean(errors),
        entropy=jnp.mean(distribution.entropy(params, minibatch.noise)),
    )
    loss = -terms.objective + config.value_coef * terms.value
    if config.entropy_coef:  # A coefficient of 0 leaves no trace in the program.
        loss = loss - config.entropy_coef * terms.entropy
    if penalty is not None:
        loss = loss + penalty
    return loss, Beside(terms, numbers, actor, critic)
