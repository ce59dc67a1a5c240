"""PFO inside Stable-Baselines3's PPO, without a copy of its training loop."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.preprocessing import preprocess_obs
from torch import Tensor, nn

from escapevelocity.errors import UserError, require
from escapevelocity.interop._graph import Graph
from escapevelocity.interop.losses import pfo_loss


class PFOPPO(PPO):
    """Stable-Baselines3's PPO with Proximal Feature Optimization (Moalla et al. 2024, arXiv 2405.00662, Eq. 2).

    The loss of every minibatch gains `pfo_coef` × the mean squared change, over states and units, of the actor's
    pre-activations since the rollout. The mean is logged as `train/pfo_loss`, without its coefficient;
    `train/loss` stays what Stable-Baselines3 means by it. With coefficient 0 it is PPO to the bit.

    Every update copies the actor's layers and runs the copy beside each minibatch: a forward pass more, no
    backward pass. A dropout draws the same mask for both, so that the penalty is 0 where nothing has moved. Where
    the features extractor is shared with the critic, as it is by default, the critic moves the same features, and
    is held back with them. Hidden layers inside an action net of your own are not held.

    Example:
        >>> model = PFOPPO("MlpPolicy", "CartPole-v1", pfo_coef=1.0, pfo_layers="all", n_steps=64, device="cpu")
        >>> model.learn(128).num_timesteps
        128
    """

    def __init__(
        self, *args: Any, pfo_coef: float | int = 1.0, pfo_layers: str = "last", **kwargs: Any
    ) -> None:
        """Make the algorithm.

        Args:
            *args: as PPO takes them.
            pfo_coef: coefficient of the penalty, ≥ 0. The paper's: Atari 1 for the last layer and 10 for all;
                MuJoCo 1 with tanh and 10 with ReLU.
            pfo_layers: "last" for the penultimate layer's pre-activations, "all" for all up to it.
            **kwargs: as PPO takes them.

        Raises:
            UserError: if either is out of range.
        """
        require(bool(0 <= pfo_coef < np.inf), "pfo_coef", pfo_coef, "a finite number ≥ 0")
        require(pfo_layers in ("last", "all"), "pfo_layers", pfo_layers, "'last' or 'all'")
        self.pfo_coef = pfo_coef
        self.pfo_layers = pfo_layers
        super().__init__(*args, **kwargs)

    def train(self) -> None:
        """Update the policy from the rollout buffer.

        Raises:
            UserError: if the actor has no activation whose inputs could be held.
        """
        if self.pfo_coef == 0:
            super().train()
            return
        with _penalised(self.policy, float(self.pfo_coef), self.pfo_layers == "last") as losses:
            super().train()
        self.logger.record("train/pfo_loss", float(np.mean(losses)))


@contextmanager
def _penalised(policy: ActorCriticPolicy, coefficient: float, last: bool) -> Iterator[list[float]]:
    """Let every `evaluate_actions` bring the gradient of the penalty with it; yields the penalties so far."""
    policy.set_training_mode(
        True
    )  # As `train` is about to: the copy must treat a dropout or a batch norm alike.
    old_layers, evaluate, losses = copy.deepcopy(_ActorLayers(policy)), policy.evaluate_actions, []

    def evaluate_actions(obs: Any, actions: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        read: list[Tensor] = []
        handle = policy.action_net.register_forward_pre_hook(lambda _, inputs: read.append(inputs[0]))
        devices = [actions.device.index] if actions.device.type == "cuda" else []
        try:
            # The copy first, and its draws undone: then the layers themselves draw the same dropout.
            with torch.random.fork_rng(devices), torch.no_grad(), Graph() as old_graph:
                latent = old_layers(obs)
            with Graph() as graph:
                values, log_prob, entropy = evaluate(obs, actions)
        finally:
            handle.remove()
        new, old = graph.preactivations(read[0]), old_graph.preactivations(latent)
        if not new:
            raise UserError(
                f"pfo_coef: there is nothing to hold, the actor has no known activation: {policy}"
            )
        penalty = pfo_loss(new[-1:], old[-1:]) if last else pfo_loss(new, old)
        losses.append(penalty.item())
        return values, _WithGradientOf.apply(log_prob, coefficient * penalty), entropy

    policy.evaluate_actions = evaluate_actions
    try:
        yield losses
    finally:
        del policy.evaluate_actions


class _ActorLayers(nn.Module):
    """What lies between an observation and the action head."""

    def __init__(self, policy: ActorCriticPolicy) -> None:
        super().__init__()
        self.features_extractor = policy.pi_features_extractor
        self.value_extractor = None if policy.share_features_extractor else policy.vf_features_extractor
        self.mlp_extractor = policy.mlp_extractor
        self.space, self.normalize_images = policy.observation_space, policy.normalize_images

    def forward(self, observations: Any) -> Tensor:
        ready = preprocess_obs(observations, self.space, normalize_images=self.normalize_images)
        features = self.features_extractor(ready)
        if self.value_extractor is not None:
            self.value_extractor(
                ready
            )  # The policy runs it here: what it draws comes before the next layers' draws.
        return self.mlp_extractor.forward_actor(features)


class _WithGradientOf(torch.autograd.Function):
    """The first tensor as it is; a backward pass through it adds the gradient of the second, a scalar loss.

    So a loss that Stable-Baselines3 builds from the log-probabilities is minimised together with the penalty,
    although its value does not contain it.
    """

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, loss: Tensor) -> Tensor:
        ctx.loss = torch.ones_like(loss)
        return tensor.view_as(tensor)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> tuple[Tensor, Tensor]:
        return grad_outputs[0], ctx.loss
