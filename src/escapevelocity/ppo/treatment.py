"""How a run's remedies step into the update of one member. Without remedies nothing here leaves a trace."""

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int32

from escapevelocity.ppo.networks import Agent, Trace
from escapevelocity.ppo.remedy import BatchEnd, Changed, MinibatchView, Remedy, Step

Numbers = tuple[dict[str, Array], ...]
"""What each remedy's penalty returned beside it."""


class Moment(NamedTuple):
    """Where in the run a member is; all that is random or scheduled in remedies follows from it."""

    key: Array
    """PRNG key of this member's remedies."""
    number: Int32[Array, ""]
    """Number of the batch."""
    progress: Float[Array, ""]
    """Share of the run's batches that are done."""


@dataclass(frozen=True)
class Treatment:
    """The remedies of a run that change something, and how to make a fresh agent for those that reset parts."""

    remedies: tuple[Remedy, ...]
    fresh: Callable[[Array], Agent]
    """PRNG key -> a freshly initialised agent."""

    def overrides(self, place: str) -> list[int]:
        """Which remedies override a place of training."""
        return [
            i
            for i, remedy in enumerate(self.remedies)
            if getattr(type(remedy), place) is not getattr(Remedy, place)
        ]

    @property
    def clips(self) -> bool:
        """Whether the objective is clipped."""
        return all(remedy.clips for remedy in self.remedies)

    @property
    def needs_other_minibatch(self) -> bool:
        """Whether a second minibatch has to come with each."""
        return any(remedy.needs_other_minibatch for remedy in self.remedies)

    def initial(self, agent: Agent) -> tuple[Any, ...]:
        """The remedies' states at the start."""
        return tuple(remedy.initial(agent) for remedy in self.remedies)

    def rewards(
        self, rewards: Float[Array, "time envs"], moment: Moment
    ) -> tuple[Float[Array, "time envs"], dict[str, Array]]:
        """What training sees of the rewards, and numbers to record."""
        columns: dict[str, Array] = {}
        for i in self.overrides("rewards"):
            remedy = self.remedies[i]
            rewards, numbers = remedy.rewards(rewards, _batch_key(remedy, moment, _Place.REWARDS))
            columns |= _columns(remedy, numbers)
        return rewards, columns

    def references(self, params: Array, actor: Trace, critic: Trace) -> tuple[Any, ...]:
        """What the remedies' losses need of the old parameters, per sample."""
        return tuple(remedy.reference(params, actor, critic) for remedy in self.remedies)

    def weights(self, view: MinibatchView, states: tuple[Any, ...]) -> Float[Array, " samples"] | None:
        """The product of all factors on the samples' objectives."""
        product = None
        for i in self.overrides("weight"):
            weight = self.remedies[i].weight(_seen_by(view, i, states))
            if weight is not None:
                product = weight if product is None else product * weight
        return product

    def penalty(
        self, view: MinibatchView, states: tuple[Any, ...]
    ) -> tuple[Float[Array, ""] | None, Numbers]:
        """The sum of all penalties, and the numbers that came with them."""
        total, numbers = None, []
        for i, remedy in enumerate(self.remedies):
            term, beside = remedy.penalty(_seen_by(view, i, states))
            numbers.append(beside)
            if term is not None:
                total = term if total is None else total + term
        return total, tuple(numbers)

    def stops(self, numbers: Numbers) -> Bool[Array, ""]:
        """Whether any remedy ends the batch's update with this step."""
        answers = [remedy.stops(own) for remedy, own in zip(self.remedies, numbers, strict=True)]
        return jnp.any(jnp.stack([jnp.asarray(answer) for answer in answers if answer is not None]))

    def after_step(
        self, step: Step, states: tuple[Any, ...], moment: Moment, index: Array
    ) -> tuple[Agent, Any, tuple[Any, ...]]:
        """Agent, moments and states after all remedies have seen a gradient step."""
        agent, moments, new_states = step.agent, step.moments, list(states)
        for i in self.overrides("after_step"):
            remedy = self.remedies[i]
            key = jax.random.fold_in(_batch_key(remedy, moment, _Place.STEP), index)
            own = step._replace(agent=agent, moments=moments, state=states[i], fresh=self.fresh(key))
            agent, moments, new_states[i] = remedy.after_step(own)
        return agent, moments, tuple(new_states)

    def after_batch(
        self,
        end: BatchEnd,
        states: tuple[Any, ...],
        trail: tuple[dict[str, Array], ...],
        moment: Moment,
        active: Bool[Array, ""],
    ) -> tuple[Agent, Any, tuple[Any, ...], dict[str, Array]]:
        """Agent, moments, states and columns after all remedies have seen a batch; an inactive member keeps its own."""
        agent, moments, new_states = end.agent, end.moments, list(states)
        columns: dict[str, Array] = {}
        for i in self.overrides("after_batch"):
            remedy = self.remedies[i]
            key, fresh_key = jax.random.split(_batch_key(remedy, moment, _Place.BATCH))
            own = end._replace(
                agent=agent,
                moments=moments,
                state=states[i],
                trail=trail[i],
                key=key,
                fresh=self.fresh(fresh_key),
            )
            changed, numbers = remedy.after_batch(own)
            before = Changed(agent, moments, states[i])
            kept = jax.tree.map(lambda new, old: jnp.where(active, new, old), changed, before)
            agent, moments, new_states[i] = kept
            columns |= _columns(remedy, numbers)
        return agent, moments, tuple(new_states), columns


def _seen_by(view: MinibatchView, index: int, states: tuple[Any, ...]) -> MinibatchView:
    return view._replace(reference=view.minibatch.references[index], state=states[index])


class _Place:
    """Places of training, each with random numbers of its own."""

    REWARDS, STEP, BATCH = range(3)


def _batch_key(remedy: Remedy, moment: Moment, place: int) -> Array:
    """A key of this remedy, batch and place, whichever other remedies there are."""
    key = jax.random.fold_in(moment.key, zlib.crc32(remedy.name.encode()))
    return jax.random.fold_in(jax.random.fold_in(key, moment.number), place)


def _columns(remedy: Remedy, numbers: dict[str, Array]) -> dict[str, Array]:
    return {f"remedy/{remedy.name}/{name}": value for name, value in numbers.items()}
