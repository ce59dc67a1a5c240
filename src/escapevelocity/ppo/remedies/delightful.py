"""Gate each sample by advantage times surprise."""

import math
from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from escapevelocity.errors import require
from escapevelocity.ppo.remedy import MinibatchView, Remedy


@dataclass(frozen=True)
class Delightful(Remedy):
    """Delightful gating: a sample's objective times w = σ(A · (−log π_old(a|s)) / temperature), without a gradient
    through w (Osband 2026, arXiv 2603.14608; for softmax gravity wells arXiv 2605.11908).

    Rare successes count fully, rare failures hardly at all, and what is common about half. The papers gate a plain
    policy gradient by the current policy's surprise; in PPO's surrogate, clipped or not, the surprise is the behaviour
    policy's, which is theirs in the batch's first step and does not drift while the batch is used. A is the advantage
    as the objective uses it, so with normalisation the temperature is in nats times standard deviations.
    For continuous actions −log π is that of a density and may be negative, which turns the gate around: mind the
    units of the action space.
    """

    name: ClassVar[str] = "delightful"

    temperature: float = 1.0
    """Softness of the gate, at least 0, in units of advantage times nats; 0 is the limit w = 1 for A > 0, else 0."""

    def __post_init__(self) -> None:
        accepted = "a finite number of at least 0"
        require(0 <= self.temperature < math.inf, "delightful.temperature", self.temperature, accepted)

    def weight(self, view: MinibatchView) -> Float[Array, " samples"] | None:
        """The gate, in [0, 1]."""
        if self.temperature == 0:
            return jnp.where(view.advantages > 0, 1.0, 0.0)
        delight = view.advantages * -view.minibatch.log_probs
        return jax.lax.stop_gradient(jax.nn.sigmoid(delight / self.temperature))
