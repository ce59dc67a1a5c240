"""What classifiers are trained on: the expected reward of a contextual bandit, or cross-entropy, in closed form."""

import math
from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from escapevelocity.errors import require
from escapevelocity.policy import Categorical, Escort, EscortCrossEntropy, Softmax, SoftmaxCrossEntropy


@dataclass(frozen=True)
class Objective:
    """What a classifier is trained on.

    Attributes:
        maximises: "reward", the expected reward π(label) of a contextual bandit, or "likelihood", log π(label).
        p: exponent of an escort transform, ≥ 1; None for softmax.
        scaled: multiply each example's gradient by ‖θ‖_p²/p², the paper's rate, in which only the policy
            matters and not the length of θ; for an escort's reward only (Mei et al. 2020, section 3).

    Example:
        >>> Objective("reward").name, Objective("likelihood", p=4).name
        ('SPG', 'ECE(4)')
    """

    maximises: Literal["reward", "likelihood"]
    p: float | int | None = None
    scaled: bool = False

    def __post_init__(self) -> None:
        known = self.maximises in ("reward", "likelihood")
        require(known, "maximises", self.maximises, "'reward' or 'likelihood'")
        in_range = self.p is None or (math.isfinite(self.p) and self.p >= 1)
        require(in_range, "p", self.p, "a finite number ≥ 1, or None for softmax")
        may_scale = self.p is not None and self.maximises == "reward"
        require(may_scale or not self.scaled, "scaled", self.scaled, "False but for an escort's reward")

    @property
    def name(self) -> str:
        """SPG, EPG(p), SCE or ECE(p), with ", scaled" for the paper's rate."""
        last = "PG" if self.maximises == "reward" else "CE"
        scaled = ", scaled" if self.scaled else ""
        return f"S{last}" if self.p is None else f"E{last}({self.p:g}){scaled}"

    def family(self, num_classes: int) -> Categorical:
        """The output layer's family of distributions."""
        return Softmax(num_classes) if self.p is None else Escort(num_classes, self.p)

    def loss(
        self, params: Float[Array, "batch classes"], targets: Float[Array, "batch classes"]
    ) -> Float[Array, " batch"]:
        """What gradient descent is to lower, per example: minus the reward, times the rate, or cross-entropy.

        Args:
            params: logits or θ.
            targets: one-hot labels.
        """
        if self.maximises == "likelihood":
            return self.cross_entropy(params, targets)
        reward = expected_reward(self.family(params.shape[-1]), params, targets)
        return -self._rate(params) * reward

    def cross_entropy(
        self, params: Float[Array, "batch classes"], targets: Float[Array, "batch classes"]
    ) -> Float[Array, " batch"]:
        """−log π(label), in nats."""
        loss = SoftmaxCrossEntropy() if self.p is None else EscortCrossEntropy(self.p)
        return loss(params, targets)

    def outputs_at(self, policy: Float[Array, " classes"]) -> Float[Array, " classes"]:
        """A network's outputs that mean `policy`: mean-centred logits, or θ − 1 with ‖θ‖_p = K^{1/p}.

        That length is the one of the uniform start, θ = 1, so that the same learning rates suit both.
        """
        if self.p is None:
            logits = jnp.log(policy)
            return logits - jnp.mean(logits)
        return (len(policy) * policy) ** (1 / self.p) - 1

    def _rate(self, params: Array) -> Array:
        if self.p is None or not self.scaled:
            return jnp.ones_like(params[:, 0])
        norm = jnp.linalg.norm(params, ord=self.p, axis=-1)
        return jax.lax.stop_gradient((norm / self.p) ** 2)


def expected_reward(
    family: Categorical, params: Float[Array, "batch classes"], targets: Float[Array, "batch classes"]
) -> Float[Array, " batch"]:
    """πᵀr with reward 1 for the right label, which is π(label)."""
    return jnp.sum(family.probs(params) * targets, axis=-1)
