"""Pull all parameters towards where they started."""

import math
from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from escapevelocity.errors import require
from escapevelocity.ppo.networks import Agent
from escapevelocity.ppo.remedies._trail import applied_mean
from escapevelocity.ppo.remedy import BatchEnd, Changed, MinibatchView, Remedy


@dataclass(frozen=True)
class L2Init(Remedy):
    """Regenerative regularisation, "L2 Init" (Kumar et al. 2023, arXiv 2308.11958).

    The loss gains coef · ‖θ − θ₀‖², a sum over all parameters of actor and critic, θ₀ being the member's own start. Its
    gradient is clipped together with the loss's. In a branch θ₀ is the member's start as well, not where it branched
    off.

    Recorded: `distance`, ‖θ − θ₀‖² averaged over the batch's steps.
    """

    name: ClassVar[str] = "l2-init"

    coef: float = 1e-3
    """Weight of the squared distance to the start, at least 0 (the paper searches over it; the default is ours)."""

    def __post_init__(self) -> None:
        require(0 <= self.coef < math.inf, "l2-init.coef", self.coef, "a finite number of at least 0")

    def is_idle(self) -> bool:
        """Whether nothing pulls."""
        return self.coef == 0

    def initial(self, agent: Agent) -> Agent:
        """θ₀."""
        return agent

    def penalty(self, view: MinibatchView) -> tuple[Float[Array, ""] | None, dict[str, Float[Array, ""]]]:
        """coef · ‖θ − θ₀‖²."""
        squares = jax.tree.map(lambda now, start: jnp.sum(jnp.square(now - start)), view.agent, view.state)
        distance = jnp.sum(jnp.stack(jax.tree.leaves(squares)))
        return self.coef * distance, {"distance": distance}

    def after_batch(self, end: BatchEnd) -> tuple[Changed, dict[str, Float[Array, ""]]]:
        """Record the mean distance."""
        numbers = {"distance": applied_mean(end.trail["distance"])}
        return Changed(end.agent, end.moments, end.state), numbers
