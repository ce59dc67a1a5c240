"""The update of one member: epochs × minibatches of Adam as one program, with a guard around every step."""

from enum import IntEnum
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int32

from escapevelocity.policy import ActionDistribution
from escapevelocity.ppo.config import OptimizerConfig, PPOSpec
from escapevelocity.ppo.networks import Agent
from escapevelocity.ppo.objective import Batch, LossTerms, ppo_loss


class Quantity(IntEnum):
    """What was not finite, in the order of looking."""

    NONE = 0
    LOSS = 1
    GRADIENT = 2
    PARAMETER = 3


class Learner(NamedTuple):
    """What an update changes."""

    agent: Agent
    moments: optax.OptState
    """Adam's first and second moments and step count."""


class StepStatistics(NamedTuple):
    """One gradient step."""

    terms: LossTerms
    actor_gradient: Float[Array, ""]
    """Global norm before clipping."""
    critic_gradient: Float[Array, ""]
    fault: Int32[Array, ""]
    """A `Quantity`."""


class UpdateStatistics(NamedTuple):
    """One batch. Means are over the minibatches of all epochs."""

    objective_last: Float[Array, ""]
    """Clipped objective of the last minibatch."""
    value: Float[Array, ""]
    entropy: Float[Array, ""]
    actor_gradient: Float[Array, ""]
    critic_gradient: Float[Array, ""]
    skipped: Int32[Array, ""]
    """Minibatches that were not applied."""
    fault: Int32[Array, ""]
    """`Quantity` of the first minibatch that was not finite."""
    fault_minibatch: Int32[Array, ""]
    """Its number within the batch, counted from 0 over all epochs; −1 if there is none."""


def adam(config: OptimizerConfig) -> optax.GradientTransformation:
    """Adam's direction, without the learning rate (Kingma & Ba 2015, alg. 1)."""
    return optax.scale_by_adam(b1=config.adam_beta1, b2=config.adam_beta2, eps=config.adam_eps)


def clip_gradients(
    gradients: Agent, config: OptimizerConfig
) -> tuple[Agent, Float[Array, ""], Float[Array, ""]]:
    """Scale gradients down to the largest global norm: actor and critic apart, or by their common norm.

    Returns:
        The clipped gradients, and the norms of actor and critic before.
    """
    actor, critic = optax.global_norm(gradients.actor), optax.global_norm(gradients.critic)
    if config.clip_gradients == "jointly":
        norms = [jnp.sqrt(actor**2 + critic**2)] * 2
    else:
        norms = [actor, critic]
    factors = [jnp.minimum(1.0, config.max_grad_norm / jnp.maximum(norm, 1e-30)) for norm in norms]
    clipped = Agent(
        actor=jax.tree.map(lambda g: g * factors[0], gradients.actor),
        critic=jax.tree.map(lambda g: g * factors[1], gradients.critic),
    )
    return clipped, actor, critic


def gradient_step(
    learner: Learner,
    minibatch: Batch,
    learning_rate: Float[Array, ""],
    active: Bool[Array, ""],
    distribution: ActionDistribution,
    spec: PPOSpec,
) -> tuple[Learner, StepStatistics]:
    """One step of Adam on one minibatch; applied only where `active` and everything is finite."""
    (loss, terms), gradients = jax.value_and_grad(ppo_loss, has_aux=True)(
        learner.agent, minibatch, distribution, spec.objective
    )
    gradients, actor_norm, critic_norm = clip_gradients(gradients, spec.optimizer)
    directions, moments = adam(spec.optimizer).update(gradients, learner.moments)
    agent = jax.tree.map(lambda p, u: p - learning_rate * u, learner.agent, directions)
    fault = jnp.select(
        [
            ~jnp.isfinite(loss),
            ~jnp.isfinite(actor_norm + critic_norm),
            ~jnp.isfinite(optax.global_norm(agent)),
        ],
        [jnp.int32(Quantity.LOSS), jnp.int32(Quantity.GRADIENT), jnp.int32(Quantity.PARAMETER)],
        jnp.int32(Quantity.NONE),
    )
    apply = active & (fault == Quantity.NONE)
    chosen = jax.tree.map(lambda new, old: jnp.where(apply, new, old), Learner(agent, moments), learner)
    return chosen, StepStatistics(terms, actor_norm, critic_norm, jnp.where(active, fault, 0))


def update(
    learner: Learner,
    batch: Batch,
    key: Array,
    learning_rate: Float[Array, ""],
    active: Bool[Array, ""],
    distribution: ActionDistribution,
    spec: PPOSpec,
) -> tuple[Learner, UpdateStatistics]:
    """All epochs over one member's batch (Schulman et al. 2017, alg. 1).

    A step that is not finite is not applied. With `on_nonfinite="stop"` no later step is either, so that what
    comes back is the last good state; with `"skip"` the next minibatch goes on from it.

    Args:
        learner: parameters and moments.
        batch: the samples; their number is a multiple of the minibatch size.
        key: decides the order of samples in every epoch.
        learning_rate: Adam's step size for this batch.
        active: whether this member still learns.
        distribution: family of action distributions.
        spec: the run's settings.
    """
    size, minibatch_size = batch.log_probs.shape[0], spec.optimizer.minibatch_size
    stop = spec.monitoring.on_nonfinite == "stop"

    def epoch(carry, epoch_key):
        order = jax.random.permutation(epoch_key, size).reshape(-1, minibatch_size)

        def step(carry, indices):
            learner, active = carry
            minibatch = jax.tree.map(lambda x: x[indices], batch)
            learner, statistics = gradient_step(learner, minibatch, learning_rate, active, distribution, spec)
            if stop:
                active = active & (statistics.fault == Quantity.NONE)
            return (learner, active), statistics

        return jax.lax.scan(step, carry, order)

    keys = jax.random.split(key, spec.optimizer.epochs)
    (learner, _), steps = jax.lax.scan(epoch, (learner, active), keys)
    return learner, _summarise(jax.tree.map(lambda x: x.reshape(-1), steps), stop)


def _summarise(steps: StepStatistics, stop: bool) -> UpdateStatistics:
    """Statistics of a batch from those of its steps, stacked; faulty steps are left out of the means."""
    faulty = steps.fault != Quantity.NONE
    any_fault, first = jnp.any(faulty), jnp.argmax(faulty).astype(jnp.int32)
    after = (jnp.arange(faulty.shape[0]) >= first) & any_fault
    skipped = after if stop else faulty

    def mean(x: Array) -> Array:
        return jnp.sum(jnp.where(skipped, 0.0, x)) / jnp.sum(~skipped)

    return UpdateStatistics(
        objective_last=steps.terms.objective[-1],
        value=mean(steps.terms.value),
        entropy=mean(steps.terms.entropy),
        actor_gradient=mean(steps.actor_gradient),
        critic_gradient=mean(steps.critic_gradient),
        skipped=jnp.sum(skipped, dtype=jnp.int32),
        fault=jnp.where(any_fault, steps.fault[first], 0),
        fault_minibatch=jnp.where(any_fault, first, -1),
    )
