"""Replace the least useful units, a few at a time."""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int32

from escapevelocity.errors import require
from escapevelocity.ppo.networks import Agent
from escapevelocity.ppo.remedies.units import (
    Layers,
    activity,
    contributions,
    count,
    forget,
    hidden_layers,
    renew,
)
from escapevelocity.ppo.remedy import BatchEnd, Changed, Remedy, Step


class LayerTest(NamedTuple):
    """What is kept of one hidden layer."""

    utility: Float[Array, " units"]
    """Running average of each unit's contribution."""
    age: Int32[Array, " units"]
    """Gradient steps since it was made."""
    owed: Float[Array, ""]
    """Units to replace that have added up."""


class GenerateAndTest(NamedTuple):
    """The remedy's state."""

    layers: Layers
    """A `LayerTest` per hidden layer."""
    replaced: Layers
    """Units replaced in this batch: one number per network."""


@dataclass(frozen=True)
class ContinualBackprop(Remedy):
    """Continual backpropagation (Dohare et al. 2024, Nature 632, eq. 1 and alg. 1).

    After every gradient step each hidden layer updates u_i ← η·u_i + (1 − η)·E|h_i|·Σ_k|w_ki|, the unit's contribution
    to what it feeds, and ages by 1. Of the n units older than `maturity`, n · `replacement_rate` are owed per step;
    what is owed adds up, and its whole part is taken from the mature units with the least u: fresh weights and bias on
    their way in, zeros on their way out, utility and age 0, Adam's moments of exactly these entries 0 (its step count,
    shared by all, goes on). The expectation is over the minibatch and a convolution's positions: its units are
    channels. A CReLU unit's utility is the sum over its two outputs. A shared trunk is treated once, for both heads.

    Where the paper draws weights and zeroes the bias, both are drawn as at the run's start. The paper's code also moves
    the mean of what is lost into the next layer's bias; alg. 1 does not, nor do we.

    Recorded: `replaced_actor` and `replaced_critic`, units replaced during this batch.
    """

    name: ClassVar[str] = "continual-backprop"

    replacement_rate: float = 1e-4
    """Share ρ of the mature units that is replaced per gradient step, in [0, 1]; 1e-4 for PPO [their code]."""
    maturity: int = 10_000
    """Gradient steps m during which a new unit is safe; 10,000 for PPO [their code]."""
    decay: float = 0.99
    """Decay η of the running utility, in [0, 1) [the paper, in all experiments]."""

    def __post_init__(self) -> None:
        rate, accepted = self.replacement_rate, "between 0 and 1"
        require(0 <= rate <= 1, "continual-backprop.replacement-rate", rate, accepted)
        require(self.maturity >= 0, "continual-backprop.maturity", self.maturity, "at least 0")
        require(0 <= self.decay < 1, "continual-backprop.decay", self.decay, "at least 0 and below 1")

    def is_idle(self) -> bool:
        """Whether nothing is ever replaced."""
        return self.replacement_rate == 0

    def initial(self, agent: Agent) -> GenerateAndTest:
        """Utilities, ages and debts of 0."""

        def start(sizes: tuple[int, ...]) -> tuple[LayerTest, ...]:
            return tuple(LayerTest(jnp.zeros(n), jnp.zeros(n, jnp.int32), jnp.float32(0)) for n in sizes)

        sizes = hidden_layers(agent)
        return GenerateAndTest(Layers(start(sizes.actor), start(sizes.critic)), _none_replaced())

    def after_step(self, step: Step) -> Changed:
        """Update the utilities, and replace what is owed."""
        active = activity(step.before, step.actor, step.critic)
        useful = contributions(step.agent, active)
        state: GenerateAndTest = step.state
        tested = Layers(
            *(
                tuple(self._test(*both) for both in zip(layers, of_layers, strict=True))
                for layers, of_layers in zip(state.layers, useful, strict=True)
            )
        )
        chosen = Layers(*(tuple(mask for _, mask in layers) for layers in tested))
        replaced = Layers(
            *((before[0] + count(masks),) for before, masks in zip(state.replaced, chosen, strict=True))
        )
        kept = Layers(*(tuple(layer for layer, _ in layers) for layers in tested))
        agent, moments = renew(step.agent, chosen, step.fresh), forget(step.moments, chosen)
        return Changed(agent, moments, GenerateAndTest(kept, replaced))

    def after_batch(self, end: BatchEnd) -> tuple[Changed, dict[str, Float[Array, ""]]]:
        """Record how many units were replaced, and count anew."""
        replaced = end.state.replaced
        numbers = {"replaced_actor": replaced.actor[0], "replaced_critic": replaced.critic[0]}
        return Changed(end.agent, end.moments, end.state._replace(replaced=_none_replaced())), numbers

    def _test(
        self, layer: LayerTest, contribution: Float[Array, " units"]
    ) -> tuple[LayerTest, Bool[Array, " units"]]:
        """Alg. 1 for one layer: what is kept of it, and which units to replace."""
        age = layer.age + 1
        utility = self.decay * layer.utility + (1 - self.decay) * contribution
        mature = age > self.maturity
        owed = layer.owed + self.replacement_rate * jnp.sum(mature, dtype=jnp.float32)
        due = jnp.floor(owed)
        rank = jnp.argsort(jnp.argsort(jnp.where(mature, utility, jnp.inf)))
        chosen = mature & (rank < due.astype(rank.dtype))
        kept = LayerTest(jnp.where(chosen, 0.0, utility), jnp.where(chosen, 0, age), owed - due)
        return kept, chosen


def _none_replaced() -> Layers:
    return Layers((jnp.float32(0),), (jnp.float32(0),))
