"""A faster decay of Adam's second moment."""

from dataclasses import dataclass, replace
from typing import ClassVar

from escapevelocity.errors import require
from escapevelocity.ppo.config import PPOSpec
from escapevelocity.ppo.remedy import Remedy


@dataclass(frozen=True)
class AdamBeta2(Remedy):
    """Decay Adam's second moment as fast as its first: v ← β₂ v + (1 − β₂) g² with β₂ = 0.9.

    After a sudden growth of gradients the step then shrinks within ten steps and not a thousand (Dohare et al. 2023,
    "Overcoming policy collapse in deep RL"; for PPO, Moalla et al. 2024, arXiv 2405.00662, Section 4). Nothing but
    the setting `adam-beta2`.
    """

    name: ClassVar[str] = "adam-beta2"

    value: float = 0.9
    """Decay of the second moment, in [0, 1) [M, Section 4]."""

    def __post_init__(self) -> None:
        require(0 <= self.value < 1, "adam-beta2.value", self.value, "at least 0 and below 1")

    def configure(self, spec: PPOSpec) -> PPOSpec:
        """Set the decay."""
        return replace(spec, optimizer=replace(spec.optimizer, adam_beta2=self.value))
