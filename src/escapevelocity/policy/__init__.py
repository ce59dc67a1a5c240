"""From network outputs to distributions over actions, and the objectives that train them. Pure JAX."""

from escapevelocity.policy.categorical import Categorical, Softmax
from escapevelocity.policy.continuous import DiagonalNormal, StdRule, TanhNormal
from escapevelocity.policy.distribution import ActionDistribution
from escapevelocity.policy.escort import Escort
from escapevelocity.policy.fsoftargmax import FSoftargmax
from escapevelocity.policy.gradients import (
    escort_policy_gradient,
    f_softargmax_policy_gradient,
    softmax_policy_gradient,
)
from escapevelocity.policy.losses import CrossEntropy, EscortCrossEntropy, SoftmaxCrossEntropy
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
    "CrossEntropy",
    "DiagonalNormal",
    "Escort",
    "EscortCrossEntropy",
    "FSoftargmax",
    "Softmax",
    "SoftmaxCrossEntropy",
    "StdRule",
    "TanhNormal",
    "clip_is_active",
    "clipped_log_ratio",
    "clipped_objective",
    "clipped_value_loss",
    "escort_policy_gradient",
    "f_softargmax_policy_gradient",
    "gae",
    "normalise_advantages",
    "softmax_policy_gradient",
    "value_loss",
]
