"""Layer normalisation, as a remedy."""

from dataclasses import dataclass, replace
from typing import ClassVar

from escapevelocity.ppo.config import PPOSpec
from escapevelocity.ppo.remedy import Remedy


@dataclass(frozen=True)
class LayerNorm(Remedy):
    """Layer normalisation of every hidden layer before its activation, in actor and critic (Ba et al. 2016, eq. 4).

    x ← scale · (x − mean(x)) / √(var(x) + 1e-5) + offset over the layer's units, with learned scale and offset. For
    plasticity: Lyle et al. 2023 (arXiv 2303.01486). Pre-activations are recorded after it. The same as --layer-norm.
    """

    name: ClassVar[str] = "layer-norm"

    def configure(self, spec: PPOSpec) -> PPOSpec:
        """Switch it on."""
        return replace(spec, network=replace(spec.network, layer_norm=True))
