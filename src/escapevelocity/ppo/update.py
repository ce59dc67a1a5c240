"""The update of one member: epochs × minibatches of Adam as one program, with a guard around every step."""

from collections.abc import Callable
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
from escapevelocity.ppo.vectors import Vectors, from_vectors, to_vectors


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


class Carry(NamedTuple):
    """What goes from step to step."""

    parameters: Vectors
    moments: optax.OptState
    active: Bool[Array, ""]


class StepStatistics(NamedTuple):
    """One gradient step."""

    terms: LossTerms
    actor_gradient: Float[Array, ""]
    """Global norm before clipping."""
    critic_gradient: Float[Array, ""]
    fault: Int32[Array, ""]
    """A `Quantity`."""


class UpdateStatistics(NamedTuple):
    """One batch. Means are over the steps of all epochs that were applied; NaN when none was."""

    objective_last: Float[Array, ""]
    """Clipped objective of the last minibatch whose step was applied."""
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


def learning_rate(spec: PPOSpec, batch: int) -> float:
    """Adam's step size for a batch: constant, or falling linearly from the first batch to 0 behind the last."""
    remaining = 1.0 - batch / spec.num_batches if spec.optimizer.anneal == "linear" else 1.0
    return spec.optimizer.learning_rate * remaining


def clip_gradients(
    gradients: Vectors, config: OptimizerConfig
) -> tuple[Vectors, Float[Array, ""], Float[Array, ""]]:
    """Scale gradients down to the largest global norm: actor and critic apart, or by their common norm.

    Returns:
        The clipped gradients, and the norms of actor and critic before.
    """
    actor, critic = (jnp.sqrt(jnp.sum(jnp.square(g))) for g in gradients)
    if config.clip_gradients == "jointly":
        norms = [jnp.sqrt(actor**2 + critic**2)] * 2
    else:
        norms = [actor, critic]
    factors = [jnp.minimum(1.0, config.max_grad_norm / jnp.maximum(norm, 1e-30)) for norm in norms]
    return Vectors(gradients.actor * factors[0], gradients.critic * factors[1]), actor, critic


def gradient_step(
    carry: Carry,
    minibatch: Batch,
    learning_rate: Float[Array, ""],
    loss: Callable[[Vectors, Batch], tuple[Float[Array, ""], LossTerms]],
    config: OptimizerConfig,
) -> tuple[Carry, StepStatistics]:
    """One step of Adam on one minibatch; applied only where `active` and everything is finite."""
    (value, terms), gradients = jax.value_and_grad(loss, has_aux=True)(carry.parameters, minibatch)
    gradients, actor_norm, critic_norm = clip_gradients(gradients, config)
    with jax.numpy_dtype_promotion(
        "standard"
    ):  # Optax does not trace under "strict", which our users may have set.
        directions, moments = adam(config).update(gradients, carry.moments)
    parameters = jax.tree.map(lambda p, u: p - learning_rate * u, carry.parameters, directions)
    finite = jnp.isfinite(parameters.actor).all() & jnp.isfinite(parameters.critic).all()
    fault = jnp.select(
        [~jnp.isfinite(value), ~jnp.isfinite(actor_norm + critic_norm), ~finite],
        [jnp.int32(Quantity.LOSS), jnp.int32(Quantity.GRADIENT), jnp.int32(Quantity.PARAMETER)],
        jnp.int32(Quantity.NONE),
    )
    apply = carry.active & (fault == Quantity.NONE)
    new, old = (parameters, moments), (carry.parameters, carry.moments)
    parameters, moments = jax.tree.map(lambda new, old: jnp.where(apply, new, old), new, old)
    fault = jnp.where(carry.active, fault, 0)
    return Carry(parameters, moments, carry.active), StepStatistics(terms, actor_norm, critic_norm, fault)


def sample_order(key: Array, samples: int, epochs: int) -> Int32[Array, "epochs samples"]:
    """The order in which every epoch goes through the batch: one random permutation each."""
    return jax.vmap(lambda key: jax.random.permutation(key, samples))(jax.random.split(key, epochs))


def update(
    learner: Learner,
    batch: Batch,
    order: Int32[Array, "epochs samples"],
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
        order: indices of the samples in every epoch (`sample_order`).
        learning_rate: Adam's step size for this batch.
        active: whether this member still learns.
        distribution: family of action distributions.
        spec: the run's settings.
    """
    stop = spec.monitoring.on_nonfinite == "stop"

    def loss(parameters: Vectors, minibatch: Batch) -> tuple[Float[Array, ""], LossTerms]:
        return ppo_loss(from_vectors(parameters, learner.agent), minibatch, distribution, spec.objective)

    def step(carry: Carry, minibatch: Batch) -> tuple[Carry, StepStatistics]:
        carry, statistics = gradient_step(carry, minibatch, learning_rate, loss, spec.optimizer)
        if stop:
            carry = carry._replace(active=carry.active & (statistics.fault == Quantity.NONE))
        return carry, statistics

    def epoch(carry: Carry, indices: Int32[Array, " samples"]) -> tuple[Carry, StepStatistics]:
        # One shuffle per epoch is cheaper than a gather per minibatch.
        size = spec.optimizer.minibatch_size
        minibatches = jax.tree.map(lambda x: x[indices].reshape(-1, size, *x.shape[1:]), batch)
        return jax.lax.scan(step, carry, minibatches)

    start = Carry(to_vectors(learner.agent), to_vectors(learner.moments), active)
    end, steps = jax.lax.scan(epoch, start, order)
    learner = Learner(*from_vectors((end.parameters, end.moments), like=learner.agent))
    return learner, _summarise(jax.tree.map(lambda x: x.reshape(-1), steps), stop)


def _summarise(steps: StepStatistics, stop: bool) -> UpdateStatistics:
    """Statistics of a batch from those of its steps, stacked; faulty steps are left out of the means."""
    faulty = steps.fault != Quantity.NONE
    any_fault, first = jnp.any(faulty), jnp.argmax(faulty).astype(jnp.int32)
    numbers = jnp.arange(faulty.shape[0])
    applied = ~any_fault | (numbers < first) if stop else ~faulty
    last = jnp.max(jnp.where(applied, numbers, 0))

    def mean(x: Array) -> Array:
        return jnp.mean(x, where=applied)  # NaN when no step was applied

    return UpdateStatistics(
        objective_last=jnp.where(jnp.any(applied), steps.terms.objective[last], jnp.nan),
        value=mean(steps.terms.value),
        entropy=mean(steps.terms.entropy),
        actor_gradient=mean(steps.actor_gradient),
        critic_gradient=mean(steps.critic_gradient),
        skipped=jnp.sum(~applied, dtype=jnp.int32),
        fault=jnp.where(any_fault, steps.fault[first], 0),
        fault_minibatch=jnp.where(any_fault, first, -1),
    )
