"""Mix a little of a fresh network into the weights, again and again."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import jax
from jaxtyping import Array, Float

from escapevelocity.errors import require
from escapevelocity.ppo.networks import Agent
from escapevelocity.ppo.remedy import BatchEnd, Changed, Remedy, Step


@dataclass(frozen=True)
class ShrinkPerturb(Remedy):
    """Shrink and perturb, θ ← (1 − shrink)·θ + perturb·θ_fresh (Ash & Adams 2020, arXiv 1910.08475, section 4).

    θ_fresh is a newly drawn initialisation each time, of all parameters. Ash & Adams do it once per new data set; after
    every gradient step, with a tiny shrink = perturb, it is the "soft" form that Juliani & Ash 2024 (arXiv 2405.19153)
    found to help on-policy agents. Adam's moments are left as they are.
    """

    name: ClassVar[str] = "shrink-perturb"

    shrink: float = 1e-6
    """Share α of the old parameters that goes, in [0, 1]; 1e-6 per step in public implementations of the soft form."""
    perturb: float = 1e-6
    """Factor β of the fresh ones that come in, at least 0; as large as `shrink` in the soft form."""
    when: Literal["step", "batch"] = "step"
    """After every gradient step (soft), or once after every batch."""

    def __post_init__(self) -> None:
        require(0 <= self.shrink <= 1, "shrink-perturb.shrink", self.shrink, "between 0 and 1")
        accepted = "a finite number of at least 0"
        require(0 <= self.perturb < math.inf, "shrink-perturb.perturb", self.perturb, accepted)

    def is_idle(self) -> bool:
        """Whether nothing goes and nothing comes in."""
        return self.shrink == 0 and self.perturb == 0

    def after_step(self, step: Step) -> Changed:
        """Mix after a gradient step."""
        agent = self._mixed(step.agent, step.fresh) if self.when == "step" else step.agent
        return Changed(agent, step.moments, step.state)

    def after_batch(self, end: BatchEnd) -> tuple[Changed, dict[str, Float[Array, ""]]]:
        """Mix after a batch."""
        agent = self._mixed(end.agent, end.fresh) if self.when == "batch" else end.agent
        return Changed(agent, end.moments, end.state), {}

    def _mixed(self, agent: Agent, fresh: Agent) -> Any:
        return jax.tree.map(lambda x, new: (1 - self.shrink) * x + self.perturb * new, agent, fresh)
