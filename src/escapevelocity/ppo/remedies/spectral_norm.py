"""Spectral normalisation, as a remedy."""

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from escapevelocity.ppo.config import PPOSpec
from escapevelocity.ppo.remedy import Remedy


@dataclass(frozen=True)
class SpectralNorm(Remedy):
    """Hidden layers compute with W/σ(W), σ the largest singular value (Miyato et al. 2018, arXiv 1802.05957, eq. 8).

    In reinforcement learning: Gogianu et al. 2021 (arXiv 2105.05246), who normalise one layer near the end. Heads are
    never normalised. The same as --spectral-norm.
    """

    name: ClassVar[str] = "spectral-norm"

    layers: Literal["last", "all"] = "last"
    """The penultimate layer (Gogianu et al. 2021), or all hidden layers (Miyato et al. 2018)."""

    def configure(self, spec: PPOSpec) -> PPOSpec:
        """Choose the layers."""
        return replace(spec, network=replace(spec.network, spectral_norm=self.layers))
