"""An escort head for Stable-Baselines3."""

from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3.common.distributions import CategoricalDistribution
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.type_aliases import Schedule
from torch import Tensor

from escapevelocity.errors import require
from escapevelocity.interop.escort import EscortCategorical, require_power


class EscortPolicy(ActorCriticPolicy):
    """Stable-Baselines3's actor-critic policy with the escort transform in place of the softmax.

    θ = 1 + the outputs of the last layer, whose orthogonal initialisation has gain 0.01: the start is uniform.
    For Discrete actions. Images: `policy_kwargs={"features_extractor_class": NatureCNN}`. It is saved and
    loaded with the model like any policy. See `EscortCategorical` for what it is good for.

    Example:
        >>> from stable_baselines3 import PPO
        >>> model = PPO(EscortPolicy, "CartPole-v1", policy_kwargs={"p": 2.0}, device="cpu")
        >>> type(model.policy.action_dist).__name__
        'EscortDistribution'
    """

    action_dist: "EscortDistribution"

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        *args: Any,
        p: float | int = 2.0,
        **kwargs: Any,
    ) -> None:
        """Make the policy.

        Args:
            observation_space: of the environment.
            action_space: a Discrete one.
            *args: as `ActorCriticPolicy` takes them.
            p: the power; finite and at least 1.
            **kwargs: as `ActorCriticPolicy` takes them.

        Raises:
            UserError: if p is out of range or the actions are not Discrete.
        """
        require_power(p)
        is_discrete = isinstance(action_space, spaces.Discrete)
        require(
            is_discrete,
            "action_space",
            action_space,
            "Discrete: the escort transform is over finitely many actions",
        )
        self.p = float(p)
        super().__init__(observation_space, action_space, *args, **kwargs)

    def _build(self, lr_schedule: Schedule) -> None:
        """Put our distribution where the softmax was, before the layers are built for it."""
        self.action_dist = EscortDistribution(self.action_dist.action_dim, self.p)
        super()._build(lr_schedule)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {**super()._get_constructor_parameters(), "p": self.p}


class EscortDistribution(CategoricalDistribution):
    """`EscortCategorical` with the face that Stable-Baselines3 expects."""

    def __init__(self, action_dim: int, p: float) -> None:
        super().__init__(action_dim)
        self.p = p

    def proba_distribution(self, action_logits: Tensor) -> "EscortDistribution":
        """Take the outputs of the last layer."""
        # Everything that is asked of a torch Categorical here is answered by ours too.
        self.distribution = EscortCategorical(1 + action_logits, self.p)  # pyright: ignore
        return self

    def mode(self) -> Tensor:
        """The most probable actions."""
        return torch.argmax(self.distribution.probs, dim=1)
