"""Start Adam afresh on every batch."""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from escapevelocity.ppo.remedy import BatchEnd, Changed, Remedy


@dataclass(frozen=True)
class AdamReset(Remedy):
    """After every batch set both of Adam's moments and its step count to zero, for actor and critic.

    m ← 0, v ← 0, t ← 0: each batch is an objective of its own, and the moments belong to the last one (Asadi et al.
    2023, arXiv 2306.17833; for PPO, Moalla et al. 2024, arXiv 2405.00662, Section 4).
    """

    name: ClassVar[str] = "adam-reset"

    def after_batch(self, end: BatchEnd) -> tuple[Changed, dict[str, Float[Array, ""]]]:
        """Zero the moments and the step count."""
        return Changed(end.agent, jax.tree.map(jnp.zeros_like, end.moments), end.state), {}
