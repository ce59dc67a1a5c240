"""Discrete actions by the escort transform instead of softmax."""

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from escapevelocity.envs import DiscreteActions, Task
from escapevelocity.errors import require
from escapevelocity.policy.escort import scaled_magnitudes
from escapevelocity.ppo.config import PPOSpec
from escapevelocity.ppo.remedy import MinibatchView, Remedy


@dataclass(frozen=True)
class Escort(Remedy):
    """The escort head, π(a) = |θ(a)|^p / ‖θ‖_p^p with θ = 1 + W·h (Mei et al. 2020, NeurIPS, definition 2).

    Where softmax scales an action's gradient by π(a), the escort scales it by π(a)^{1−1/p}: a policy that has nearly
    given an action up comes back sooner. With `adaptive` each sample's objective is multiplied by ‖θ(s)‖_p²/p², without
    a gradient through it: the paper's step size per state, under which the policy does not notice the scale of θ.
    (Adam divides by the size of the gradient, so that only differences between states remain of it.)

    Proved for exact gradients. In deep agents on four MinAtar games, under our presets, p = 2 did harm and p = 4 was
    not told apart from softmax (`studies/escort_minatar`).
    """

    name: ClassVar[str] = "escort"

    p: float = 2.0
    """Power, at least 1; 1 is the most aggressive, large ones tend to softmax (Mei et al. 2020)."""
    adaptive: bool = False
    """Multiply each sample's objective by ‖θ‖_p²/p² (Mei et al. 2020, their adaptive rate)."""

    def __post_init__(self) -> None:
        require(1 <= self.p < math.inf, "escort.p", self.p, "a finite number of at least 1")

    def configure(self, spec: PPOSpec) -> PPOSpec:
        """Choose the head."""
        return replace(spec, network=replace(spec.network, head="escort", escort_p=self.p))

    def check(self, spec: PPOSpec, task: Task) -> None:
        """Raise `UserError` for continuous actions, or another head."""
        accepted = f"left out: {task.name} has continuous actions, and the escort head is for discrete ones"
        require(isinstance(task.actions, DiscreteActions), "remedy", self.name, accepted)
        given, accepted = (spec.network.head, spec.network.escort_p), f"escort beside --remedy {self.name}"
        require(given[0] == "escort", "head", given[0], accepted)
        require(given[1] == self.p, "escort-p", given[1], f"{self.p:g}, that of --remedy {self.name}")

    def weight(self, view: MinibatchView) -> Float[Array, " samples"] | None:
        """‖θ‖_p²/p² of each sample's state, or None."""
        if not self.adaptive:
            return None
        magnitudes, largest = scaled_magnitudes(view.params)
        # Relative to the largest entry, no power can overflow.
        norms = largest[:, 0] * jnp.sum(magnitudes**self.p, axis=-1) ** (1 / self.p)
        return jax.lax.stop_gradient(jnp.square(norms / self.p))
