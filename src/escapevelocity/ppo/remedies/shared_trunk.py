"""One trunk for actor and critic."""

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from escapevelocity.ppo.config import PPOSpec
from escapevelocity.ppo.remedy import Remedy


@dataclass(frozen=True)
class SharedTrunk(Remedy):
    """Let actor and critic share all hidden layers, each with a linear head of its own.

    The critic's loss then shapes the actor's features too. Moalla et al. 2024 (arXiv 2405.00662, Section 4 and Fig. 35)
    saw that keep their rank up in games with dense rewards, and lose it in a sparse one. Nothing but the settings
    `trunk` and `trunk-updates`.
    """

    name: ClassVar[str] = "shared-trunk"

    updates: Literal["once", "twice"] = "once"
    """Clip and step the trunk once per minibatch, or once by each of two optimisers [M, code]."""

    def configure(self, spec: PPOSpec) -> PPOSpec:
        """Share the trunk."""
        return replace(spec, network=replace(spec.network, trunk="shared", trunk_updates=self.updates))
