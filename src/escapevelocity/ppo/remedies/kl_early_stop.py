"""End a batch's update when the policy has moved far enough."""

import math
from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from escapevelocity.errors import require
from escapevelocity.ppo.networks import Trace
from escapevelocity.ppo.remedy import BatchEnd, Changed, MinibatchView, Remedy


@dataclass(frozen=True)
class KLEarlyStop(Remedy):
    """End the update of a batch with the minibatch on which KL(π_old ‖ π) > limit; that step is still applied.

    The divergence is the mean over the minibatch, exact and before any squashing, at the parameters the step starts
    from (Moalla et al. 2024, arXiv 2405.00662, code, which estimates it from one sample where actions are squashed).
    Recorded: `steps`, the gradient steps made on the batch.
    """

    name: ClassVar[str] = "kl-early-stop"

    limit: float = 0.01
    """Largest KL divergence, in nats, after which the update still goes on [M, code]."""

    def __post_init__(self) -> None:
        require(self.limit > 0, "kl-early-stop.limit", self.limit, "above 0")

    def is_idle(self) -> bool:
        """Whether the limit is infinite."""
        return math.isinf(self.limit)

    def reference(
        self, params: Float[Array, "samples params"], actor: Trace, critic: Trace
    ) -> Float[Array, "samples params"]:
        """The old policy."""
        return params

    def penalty(self, view: MinibatchView) -> tuple[None, dict[str, Float[Array, ""]]]:
        """No penalty; the minibatch's divergence."""
        return None, {"kl": jnp.mean(view.distribution.kl(view.reference, view.params))}

    def stops(self, numbers: dict[str, Float[Array, ""]]) -> Bool[Array, ""]:
        """Whether the divergence exceeds the limit, or is no number."""
        return ~(numbers["kl"] <= self.limit)

    def after_batch(self, end: BatchEnd) -> tuple[Changed, dict[str, Float[Array, ""]]]:
        """Record how many steps were made."""
        made = jnp.where(jnp.isnan(end.trail["kl"]), 0.0, 1.0)
        return Changed(end.agent, end.moments, end.state), {"steps": jnp.sum(made)}
