"""Pull all parameters towards 0."""

import math
from dataclasses import dataclass
from typing import ClassVar

import jax

from escapevelocity.errors import require
from escapevelocity.ppo.remedy import Changed, Remedy, Step


@dataclass(frozen=True)
class WeightDecay(Remedy):
    """Decoupled weight decay, AdamW (Loshchilov & Hutter 2019, arXiv 1711.05101, alg. 2, line 12).

    θ_t = θ_{t−1} − lr · (Adam's direction + coef · θ_{t−1}): with `lr` the batch's learning rate, so that annealing
    anneals the decay as well. As `torch.optim.AdamW` does over all parameters, it acts on biases, on layer
    normalisation's scales and on a state-independent log-std too.
    """

    name: ClassVar[str] = "weight-decay"

    coef: float = 0.01
    """Decay per gradient step in units of the learning rate, at least 0; 0.01 is PyTorch's default."""

    def __post_init__(self) -> None:
        accepted = "a finite number of at least 0"
        require(0 <= self.coef < math.inf, "weight-decay.coef", self.coef, accepted)

    def is_idle(self) -> bool:
        """Whether nothing decays."""
        return self.coef == 0

    def after_step(self, step: Step) -> Changed:
        """Take lr · coef of the parameters that the step started from off those it led to."""
        share = step.learning_rate * self.coef
        agent = jax.tree.map(lambda now, before: now - share * before, step.agent, step.before)
        return Changed(agent, step.moments, step.state)
