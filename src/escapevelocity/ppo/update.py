"""The update of one member: epochs × minibatches of Adam as one program, with a guard around every step."""

from collections.abc import Callable
from enum import IntEnum
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int32

from escapevelocity.policy import ActionDistribution
from escapevelocity.ppo.config import PPOSpec
from escapevelocity.ppo.descent import descend
from escapevelocity.ppo.networks import Agent
from escapevelocity.ppo.objective import Batch, Beside, LossTerms, Treated, ppo_loss
from escapevelocity.ppo.remedy import BatchEnd, Step
from escapevelocity.ppo.treatment import Moment, Numbers, Treatment
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
    remedies: tuple[Any, ...] = ()
    """The remedies' states."""


class Carry(NamedTuple):
    """What goes from step to step."""

    parameters: Vectors
    moments: optax.OptState
    remedies: tuple[Any, ...]
    active: Bool[Array, ""]
    """False once a fault has frozen the member."""
    going: Bool[Array, ""] | None
    """False once a remedy has ended the batch's update; None where none can."""
    step: Int32[Array, ""]
    """Number of the minibatch, counted from 0 over all epochs."""


class StepStatistics(NamedTuple):
    """One gradient step."""

    terms: LossTerms
    actor_gradient: Float[Array, ""]
    """Global norm before clipping."""
    critic_gradient: Float[Array, ""]
    fault: Int32[Array, ""]
    """A `Quantity`."""
    applied: Bool[Array, ""]
    ended: Bool[Array, ""]
    """A remedy had ended the update before this step."""
    numbers: Numbers
    """Of the remedies; NaN where the step was not applied."""


class UpdateStatistics(NamedTuple):
    """One batch. Means are over the steps of all epochs that were applied; NaN when none was."""

    objective_last: Float[Array, ""]
    """Objective of the last minibatch whose step was applied."""
    value: Float[Array, ""]
    entropy: Float[Array, ""]
    actor_gradient: Float[Array, ""]
    critic_gradient: Float[Array, ""]
    skipped: Int32[Array, ""]
    """Minibatches that a fault kept from being applied."""
    fault: Int32[Array, ""]
    """`Quantity` of the first minibatch that was not finite."""
    fault_minibatch: Int32[Array, ""]
    """Its number within the batch, counted from 0 over all epochs; −1 if there is none."""
    remedies: dict[str, Array]
    """Columns of the remedies."""


def learning_rate(spec: PPOSpec, batch: int) -> float:
    """Adam's step size for a batch: constant, or falling linearly from the first batch to 0 behind the last."""
    remaining = 1.0 - batch / spec.num_batches if spec.optimizer.anneal == "linear" else 1.0
    return spec.optimizer.learning_rate * remaining


def sample_order(key: Array, samples: int, epochs: int) -> Int32[Array, "epochs samples"]:
    """The order in which every epoch goes through the batch: one random permutation each."""
    return jax.vmap(lambda key: jax.random.permutation(key, samples))(jax.random.split(key, epochs))


class Updater:
    """The update of one member of a run, for tracing.

    Args:
        distribution: family of action distributions.
        spec: the run's settings.
        treatment: its remedies.
        like: an agent of the right shapes.
        learning_rate: Adam's step size for this batch.
        moment: where in the run this batch is; only remedies ask.
    """

    def __init__(
        self,
        distribution: ActionDistribution,
        spec: PPOSpec,
        treatment: Treatment,
        like: Agent,
        learning_rate: Float[Array, ""],
        moment: Moment | None,
    ):
        self._distribution, self._spec, self._treatment, self._like = distribution, spec, treatment, like
        self._learning_rate, self._moment = learning_rate, moment
        self._stops_at_fault = spec.monitoring.on_nonfinite == "stop"

    def epoch(self, carry: Carry, minibatches: Batch) -> tuple[Carry, StepStatistics]:
        """All minibatches of an epoch, one after the other."""
        others = None
        if self._treatment.needs_other_minibatch:
            others = jax.tree.map(lambda x: jnp.roll(x, -1, axis=0), minibatches)
        return jax.lax.scan(self._step, carry, (minibatches, others))

    def _step(self, carry: Carry, both: tuple[Batch, Batch | None]) -> tuple[Carry, StepStatistics]:
        """One step of Adam on one minibatch; applied only where active, going on, and everything is finite."""
        (value, beside), gradients = jax.value_and_grad(self._loss(carry, both[1]), has_aux=True)(
            carry.parameters, both[0]
        )
        descent = descend(
            carry.parameters, gradients, carry.moments, self._learning_rate, self._spec, self._like
        )
        parameters, moments, remedies = self._after_step(carry, descent.parameters, descent.moments, beside)
        finite = jnp.isfinite(parameters.actor).all() & jnp.isfinite(parameters.critic).all()
        fault = jnp.select(
            [~jnp.isfinite(value), ~jnp.isfinite(descent.actor_norm + descent.critic_norm), ~finite],
            [jnp.int32(Quantity.LOSS), jnp.int32(Quantity.GRADIENT), jnp.int32(Quantity.PARAMETER)],
            jnp.int32(Quantity.NONE),
        )
        tries = carry.active if carry.going is None else carry.active & carry.going
        apply = tries & (fault == Quantity.NONE)
        new, old = (parameters, moments, remedies), (carry.parameters, carry.moments, carry.remedies)
        parameters, moments, remedies = jax.tree.map(lambda new, old: jnp.where(apply, new, old), new, old)
        fault = jnp.where(tries, fault, 0)
        active, going = carry.active, carry.going
        if self._stops_at_fault:
            active = active & (fault == Quantity.NONE)
        if going is not None:
            going = going & ~(apply & self._treatment.stops(beside.numbers))
        numbers = jax.tree.map(lambda x: jnp.where(apply, x, jnp.nan), beside.numbers)
        ended = jnp.zeros((), bool) if carry.going is None else ~carry.going
        statistics = StepStatistics(
            beside.terms, descent.actor_norm, descent.critic_norm, fault, apply, ended, numbers
        )
        return Carry(parameters, moments, remedies, active, going, carry.step + 1), statistics

    def _loss(
        self, carry: Carry, other: Batch | None
    ) -> Callable[[Vectors, Batch], tuple[Float[Array, ""], Beside]]:
        treated = None
        if self._treatment.remedies and self._moment is not None:
            treated = Treated(self._treatment, carry.remedies, self._moment.progress, other)

        def loss(parameters: Vectors, minibatch: Batch) -> tuple[Float[Array, ""], Beside]:
            agent = from_vectors(parameters, self._like)
            return ppo_loss(agent, minibatch, self._distribution, self._spec.objective, treated)

        return loss

    def _after_step(
        self, carry: Carry, parameters: Vectors, moments: optax.OptState, beside: Beside
    ) -> tuple[Vectors, optax.OptState, tuple[Any, ...]]:
        if not self._treatment.overrides("after_step") or self._moment is None:
            return parameters, moments, carry.remedies
        step = Step(
            before=from_vectors(carry.parameters, self._like),
            agent=from_vectors(parameters, self._like),
            moments=from_vectors(moments, self._like),
            actor=beside.actor,
            critic=beside.critic,
            fresh=self._like,
            learning_rate=self._learning_rate,
            state=(),
        )
        agent, new_moments, states = self._treatment.after_step(
            step, carry.remedies, self._moment, carry.step
        )
        return to_vectors(agent), to_vectors(new_moments), states


def update(
    learner: Learner,
    batch: Batch,
    order: Int32[Array, "epochs samples"],
    learning_rate: Float[Array, ""],
    active: Bool[Array, ""],
    distribution: ActionDistribution,
    spec: PPOSpec,
    treatment: Treatment | None = None,
    moment: Moment | None = None,
) -> tuple[Learner, UpdateStatistics]:
    """All epochs over one member's batch (Schulman et al. 2017, alg. 1).

    A step that is not finite is not applied. With `on_nonfinite="stop"` no later step is either, so that what
    comes back is the last good state; with `"skip"` the next minibatch goes on from it.

    Args:
        learner: parameters, moments and the remedies' states.
        batch: the samples; their number is a multiple of the minibatch size.
        order: indices of the samples in every epoch (`sample_order`).
        learning_rate: Adam's step size for this batch.
        active: whether this member still learns.
        distribution: family of action distributions.
        spec: the run's settings.
        treatment: its remedies; default none.
        moment: where in the run this batch is; needed with remedies.
    """
    like, treatment = learner.agent, treatment or Treatment((), lambda key: learner.agent)
    updater = Updater(distribution, spec, treatment, like, learning_rate, moment)

    def epoch(carry: Carry, indices: Int32[Array, " samples"]) -> tuple[Carry, StepStatistics]:
        # One shuffle per epoch is cheaper than a gather per minibatch.
        size = spec.optimizer.minibatch_size
        return updater.epoch(carry, jax.tree.map(lambda x: x[indices].reshape(-1, size, *x.shape[1:]), batch))

    going = jnp.ones((), bool) if treatment.overrides("stops") else None
    start = Carry(
        to_vectors(like), to_vectors(learner.moments), learner.remedies, active, going, jnp.int32(0)
    )
    end, steps = jax.lax.scan(epoch, start, order)
    agent = from_vectors(end.parameters, like)
    moments = from_vectors(end.moments, like)
    states, columns = end.remedies, {}
    if treatment.overrides("after_batch") and moment is not None:
        batch_end = BatchEnd(agent, moments, (), batch, {}, like, moment.number, moment.key, distribution)
        agent, moments, states, columns = treatment.after_batch(
            batch_end, states, steps.numbers, moment, end.active
        )
    return Learner(agent, moments, states), _summarise(jax.tree.map(lambda x: x.reshape(-1), steps), columns)


def _summarise(steps: StepStatistics, columns: dict[str, Array]) -> UpdateStatistics:
    """Statistics of a batch from those of its steps, stacked; steps that were not applied are left out of the means."""
    faulty, applied = steps.fault != Quantity.NONE, steps.applied
    any_fault, first = jnp.any(faulty), jnp.argmax(faulty).astype(jnp.int32)
    last = jnp.max(jnp.where(applied, jnp.arange(faulty.shape[0]), 0))

    def mean(x: Array) -> Array:
        return jnp.mean(x, where=applied)  # NaN when no step was applied

    return UpdateStatistics(
        objective_last=jnp.where(jnp.any(applied), steps.terms.objective[last], jnp.nan),
        value=mean(steps.terms.value),
        entropy=mean(steps.terms.entropy),
        actor_gradient=mean(steps.actor_gradient),
        critic_gradient=mean(steps.critic_gradient),
        skipped=jnp.sum(~applied & ~steps.ended, dtype=jnp.int32),
        fault=jnp.where(any_fault, steps.fault[first], 0),
        fault_minibatch=jnp.where(any_fault, first, -1),
        remedies=columns,
    )
