"""Concatenated ReLU, as a remedy."""

from dataclasses import dataclass, replace
from typing import ClassVar

from escapevelocity.ppo.config import PPOSpec
from escapevelocity.ppo.remedy import Remedy


@dataclass(frozen=True)
class CReLU(Remedy):
    """Concatenated ReLU in all hidden layers: h = [relu(x), relu(−x)] (Shang et al. 2016, arXiv 1603.05201).

    For every unit one half passes a gradient on, so that none can die; for plasticity: Abbas et al. 2023
    (arXiv 2303.07507). A layer of n units feeds 2n numbers to the next, whose fan-in doubles. The same as
    --activation crelu.
    """

    name: ClassVar[str] = "crelu"

    def configure(self, spec: PPOSpec) -> PPOSpec:
        """Choose the activation."""
        return replace(spec, network=replace(spec.network, activation="crelu"))
