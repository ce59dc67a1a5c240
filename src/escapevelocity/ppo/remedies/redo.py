"""Recycle the units that hardly ever fire."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from escapevelocity.envs import Task
from escapevelocity.errors import require
from escapevelocity.ppo.config import PPOSpec
from escapevelocity.ppo.networks import Agent
from escapevelocity.ppo.passes import in_passes
from escapevelocity.ppo.remedies.units import Layers, activity, count, forget, hidden_layers, per_unit, renew
from escapevelocity.ppo.remedy import BatchEnd, Changed, Remedy

_TINY = 1e-30  # A layer in which nothing fires has score 0 throughout, not NaN.


@dataclass(frozen=True)
class ReDo(Remedy):
    """Recycling of dormant units, "ReDo" (Sokar et al. 2023, arXiv 2302.12902, eq. 1 and alg. 1).

    The score of unit i in a layer of H units is s_i = E|h_i| / (1/H · Σ_k E|h_k|), over the batch after its update.
    Units with s_i ≤ `threshold` get freshly drawn weights and bias on their way in and zeros on their way out, and
    Adam's moments of exactly these entries are set to zero; its step count, which all entries share, goes on, as in the
    authors' code (see `units.forget`). Actor and critic are both looked through; a shared trunk once, with the columns
    of both heads. A channel of a convolution is one unit, over all positions; a CReLU unit is dormant when both its
    halves are. Only with activations that are 0 or nearly so when a unit is off: a tanh unit dies by saturating, where
    |h| is largest.

    Recorded: `recycled_actor` and `recycled_critic`, units recycled after this batch.
    """

    name: ClassVar[str] = "redo"

    threshold: float = 0.1
    """Largest score τ that counts as dormant, at least 0; 0.1 for PPO in Dohare et al. 2024 [their code]."""
    every: int = 3
    """Batches between two recyclings; 3 are about 1,000 gradient steps of the preset mujoco."""

    def __post_init__(self) -> None:
        require(
            0 <= self.threshold < math.inf, "redo.threshold", self.threshold, "a finite number of at least 0"
        )
        require(self.every >= 1, "redo.every", self.every, "at least 1")

    def check(self, spec: PPOSpec, task: Task) -> None:
        """Raise `UserError` for tanh."""
        accepted = (
            "relu, gelu, leaky_relu or crelu with the remedy redo: its score does not see saturated units"
        )
        require(spec.network.activation != "tanh", "activation", spec.network.activation, accepted)

    def after_batch(self, end: BatchEnd) -> tuple[Changed, dict[str, Float[Array, ""]]]:
        """Recycle after every n-th batch, and count the units."""
        # Nothing is looked at in between: the forward pass over the whole batch is what costs.
        due = (end.number + 1) % self.every == 0
        agent, moments, recycled = jax.lax.cond(due, lambda: self._recycle(end), lambda: self._leave(end))
        numbers = {"recycled_actor": count(recycled.actor), "recycled_critic": count(recycled.critic)}
        return Changed(agent, moments, end.state), numbers

    def dormant(self, agent: Agent, active: Layers) -> Layers:
        """Which units have a score of at most the threshold: Bool (units,) per layer."""

        def layers(active: tuple[Array, ...], sizes: tuple[int, ...]) -> tuple[Array, ...]:
            found = []
            for outputs, units in zip(active, sizes, strict=True):
                of_units = per_unit(outputs, units)
                score = of_units / jnp.maximum(jnp.mean(of_units), _TINY)
                found.append(score <= self.threshold)
            return tuple(found)

        sizes = hidden_layers(agent)
        return Layers(layers(active.actor, sizes.actor), layers(active.critic, sizes.critic))

    def _recycle(self, end: BatchEnd) -> tuple[Agent, Any, Layers]:
        observations = end.batch.observations

        def look(rows: Array) -> Layers:
            """The mean over a pass, as every sample's own: the mean over all is the batch's."""
            active = activity(end.agent, *end.agent.trace(observations[rows]))
            return jax.tree.map(lambda mean: jnp.broadcast_to(mean, (rows.shape[0], *mean.shape)), active)

        active = jax.tree.map(lambda x: jnp.mean(x, axis=0), in_passes(look, observations.shape[0]))
        dormant = self.dormant(end.agent, active)
        return renew(end.agent, dormant, end.fresh), forget(end.moments, dormant), dormant

    def _leave(self, end: BatchEnd) -> tuple[Agent, Any, Layers]:
        sizes = hidden_layers(end.agent)
        none = Layers(*(tuple(jnp.zeros(n, bool) for n in layers) for layers in sizes))
        return end.agent, end.moments, none
