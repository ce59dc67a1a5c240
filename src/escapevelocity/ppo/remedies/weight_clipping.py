"""Keep every weight within a multiple of its initial range."""

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array

from escapevelocity.errors import require
from escapevelocity.ppo.networks import Agent, Network
from escapevelocity.ppo.remedy import Changed, Remedy, Step


@dataclass(frozen=True)
class WeightClipping(Remedy):
    """Weight clipping (Elsayed et al. 2024, arXiv 2407.01704).

    After every gradient step, w ← clip(w, −κ·s, κ·s) for all weights and biases, heads included, where s = 1/√fan_in of
    the layer is the bound of the initialisation `torch` (kernel² · channels for a convolution), whatever the run's own.
    Layer normalisation's scales and a state-independent log-std have no such bound and are left alone.
    """

    name: ClassVar[str] = "weight-clipping"

    kappa: float = 3.0
    """Multiple κ of the initial bound, above 0; inf clips nothing; 3 for PPO [their code]."""

    def __post_init__(self) -> None:
        require(self.kappa > 0, "weight-clipping.kappa", self.kappa, "above 0 (inf: no clipping)")

    def is_idle(self) -> bool:
        """Whether nothing is clipped."""
        return math.isinf(self.kappa)

    def after_step(self, step: Step) -> Changed:
        """Clip weights and biases."""
        actor = replace(step.agent.actor, network=self._clipped(step.agent.actor.network))
        agent = Agent(actor, self._clipped(step.agent.critic))
        return Changed(agent, step.moments, step.state)

    def _clipped(self, network: Network) -> Network:
        bounds = [self.kappa * weight.shape[1] ** -0.5 for weight in network.weights]

        def clip(arrays: tuple[Array, ...]) -> tuple[Array, ...]:
            return tuple(jnp.clip(x, -bound, bound) for x, bound in zip(arrays, bounds, strict=True))

        return replace(network, weights=clip(network.weights), biases=clip(network.biases))
