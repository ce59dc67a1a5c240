"""PPO with an adaptive KL penalty in place of clipping."""

import math
from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from escapevelocity.errors import require
from escapevelocity.ppo.networks import Agent, Trace
from escapevelocity.ppo.remedies._trail import applied_mean
from escapevelocity.ppo.remedy import BatchEnd, Changed, MinibatchView, Remedy

_SMALLEST, _LARGEST = 1e-30, 1e30  # Beyond them float32 ends, and a coefficient of 0 could never grow again.


@dataclass(frozen=True)
class KLPenalty(Remedy):
    """The plain surrogate with an adaptive KL penalty instead of clipping (Schulman et al. 2017, eq. 8 and Section 4).

    loss = −mean(ratio · A) + β · mean KL(π_old ‖ π), with the exact divergence before any squashing. After each batch
    β doubles where the last epoch's mean divergence exceeds `high`, and halves where it is below `low`. The last epoch
    is the last with a step applied, its mean that over its minibatches. (The code of Moalla et al. 2024 divides by one
    minibatch too many, and estimates the divergence from one sample where actions are squashed.)

    Recorded: `coef`, the β that the batch was trained with, and `kl`, the mean divergence of its last epoch.
    """

    name: ClassVar[str] = "kl-penalty"
    clips: ClassVar[bool] = False

    coef: float = 1.0
    """β of the first batch [M, code]."""
    high: float = 0.015
    """Mean KL, in nats, above which β grows: 1.5 × the target 0.01 [S, Section 4; M, code]."""
    low: float = 0.01 / 1.5
    """Mean KL, in nats, below which β shrinks: the target 0.01 / 1.5 [S, Section 4; M, code]."""
    factor: float = 2.0
    """By how much β grows or shrinks [S, Section 4]."""

    def __post_init__(self) -> None:
        finite = "a finite number above 0"
        require(0 < self.coef < math.inf, "kl-penalty.coef", self.coef, finite)
        require(0 < self.high < math.inf, "kl-penalty.high", self.high, finite)
        require(
            0 <= self.low <= self.high,
            "kl-penalty.low",
            self.low,
            f"at least 0 and at most high = {self.high}",
        )
        require(
            1 <= self.factor < math.inf, "kl-penalty.factor", self.factor, "a finite number of at least 1"
        )

    def initial(self, agent: Agent) -> Float[Array, ""]:
        """β of the first batch."""
        return jnp.asarray(self.coef, jnp.float32)

    def reference(
        self, params: Float[Array, "samples params"], actor: Trace, critic: Trace
    ) -> Float[Array, "samples params"]:
        """The old policy."""
        return params

    def penalty(self, view: MinibatchView) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
        """β times the minibatch's mean divergence."""
        kl = jnp.mean(view.distribution.kl(view.reference, view.params))
        return view.state * kl, {"kl": kl}

    def after_batch(self, end: BatchEnd) -> tuple[Changed, dict[str, Float[Array, ""]]]:
        """Adapt β to the last epoch's mean divergence."""
        by_epoch = jax.vmap(applied_mean)(end.trail["kl"])
        last = jnp.max(jnp.where(jnp.isnan(by_epoch), 0, jnp.arange(by_epoch.shape[0])))
        kl = by_epoch[last]  # NaN, which changes nothing, where no step was applied at all.
        larger = jnp.where(kl > self.high, end.state * self.factor, end.state)
        adapted = jnp.where(kl < self.low, end.state / self.factor, larger)
        state = jnp.clip(adapted, _SMALLEST, _LARGEST)
        return Changed(end.agent, end.moments, state), {"coef": end.state, "kl": kl}
