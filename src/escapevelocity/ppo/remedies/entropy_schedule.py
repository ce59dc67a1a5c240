"""Anneal the entropy bonus."""

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Float

from escapevelocity.envs import Task
from escapevelocity.errors import require
from escapevelocity.ppo.config import PPOSpec
from escapevelocity.ppo.remedies._trail import applied_mean
from escapevelocity.ppo.remedy import BatchEnd, Changed, MinibatchView, Remedy


@dataclass(frozen=True)
class EntropySchedule(Remedy):
    """An entropy bonus c · E_s H(π(·|s)) (Schulman et al. 2017, eq. 9) with c falling or rising linearly over the run.

    c = start + (end − start) · (share of the batches that are done): exactly `start` in the first batch, and `end`
    would be reached behind the last. It takes the place of --entropy-coef. Distributions without a closed form use the
    one-sample estimate, as the constant bonus does.

    Recorded: `coef`, c in this batch.
    """

    name: ClassVar[str] = "entropy-schedule"

    start: float = 0.01
    """Weight in the first batch, at least 0, in units of the objective per nat; 0.01 as for Atari [M, Table 2]."""
    end: float = 0.0
    """Weight behind the last batch, at least 0."""

    def __post_init__(self) -> None:
        accepted = "a finite number of at least 0"
        require(0 <= self.start < math.inf, "entropy-schedule.start", self.start, accepted)
        require(0 <= self.end < math.inf, "entropy-schedule.end", self.end, accepted)
        accepted = "above 0 unless start is (for no bonus at all: --entropy-coef 0)"
        require(self.start > 0 or self.end > 0, "entropy-schedule.end", self.end, accepted)

    def configure(self, spec: PPOSpec) -> PPOSpec:
        """Switch the constant bonus off."""
        return replace(spec, objective=replace(spec.objective, entropy_coef=0.0))

    def check(self, spec: PPOSpec, task: Task) -> None:
        """Raise `UserError` for a constant bonus beside it."""
        del task
        coef, accepted = spec.objective.entropy_coef, f"0 beside --remedy {self.name}, which takes its place"
        require(coef == 0, "entropy-coef", coef, accepted)

    def penalty(self, view: MinibatchView) -> tuple[Float[Array, ""] | None, dict[str, Float[Array, ""]]]:
        """−c · entropy, averaged over the minibatch."""
        coef = self.start + (self.end - self.start) * view.progress
        entropy = jnp.mean(view.distribution.entropy(view.params, view.minibatch.noise))
        return -coef * entropy, {"coef": coef}

    def after_batch(self, end: BatchEnd) -> tuple[Changed, dict[str, Float[Array, ""]]]:
        """Record the weight."""
        return Changed(end.agent, end.moments, end.state), {"coef": applied_mean(end.trail["coef"])}
