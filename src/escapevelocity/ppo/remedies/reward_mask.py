"""Make rewards sparse."""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from escapevelocity.errors import require
from escapevelocity.ppo.remedy import Remedy


@dataclass(frozen=True)
class RewardMask(Remedy):
    """Zero each reward that training sees with the given probability, independently: r ← b · r, P(b = 0) = probability.

    Less a remedy than a probe: it makes a task sparse, and a shared trunk then no longer protects the representation
    (Moalla et al. 2024, arXiv 2405.00662, Fig. 35). Returns are recorded raw. Recorded: `masked`, the share of the
    batch's rewards that were zeroed.
    """

    name: ClassVar[str] = "reward-mask"

    probability: float = 0.9
    """Probability that a reward is zeroed, in [0, 1] [M, Fig. 35]."""

    def __post_init__(self) -> None:
        require(0 <= self.probability <= 1, "reward-mask.probability", self.probability, "between 0 and 1")

    def is_idle(self) -> bool:
        """Whether nothing is zeroed."""
        return self.probability == 0

    def rewards(
        self, rewards: Float[Array, "time envs"], key: Array
    ) -> tuple[Float[Array, "time envs"], dict[str, Float[Array, ""]]]:
        """Zero rewards, and give the share that was zeroed."""
        masked = jax.random.bernoulli(key, self.probability, rewards.shape)
        return jnp.where(masked, 0.0, rewards), {"masked": jnp.mean(jnp.where(masked, 1.0, 0.0))}
