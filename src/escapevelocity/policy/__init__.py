"""From network outputs to distributions over actions, and the objectives that train them. Pure JAX."""

from escapevelocity.policy.categorical import Categorical, Softmax
from escapevelocity.policy.continuous import DiagonalNormal, StdRule, TanhNormal
from escapevelocity.policy.distribution import ActionDistribution
from escapevelocity.policy.escort import Escort
from escapevelocity.policy.objectives import (
    clip_is_active,
    clipped_log_ratio,
    clipped_objective,
    clipped_value_loss,
    gae,
    normalise_advantages,
    value_loss,
)

__all__ = [
    "ActionDistribution",
    "Categorical",
    "DiagonalNormal",
    "Escort",
    "Softmax",
    "StdRule",
    "TanhNormal",
    "clip_is_active",
    "clipped_log_ratio",
    "clipped_objective",
    "clipped_value_loss",
    "gae",
    "normalise_advantages",
    "value_loss",
]
