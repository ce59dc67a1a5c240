"""The controller's losses on one transition, PPO's and REINFORCE's; controller.py tells what PADS's code decided."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int32

from escapevelocity.metric_learning.config import ControllerConfig
from escapevelocity.metric_learning.policy_network import PolicyNetwork, action_family, forward
from escapevelocity.policy import clip_is_active, clipped_log_ratio, clipped_objective, value_loss

VALUE_COEFFICIENT = 0.5
"""Of the value's squared error in PPO's loss [PADS]."""


class Transition(NamedTuple):
    """One decision and what came of it.

    Attributes:
        state: s.
        actions: a, one for each bin.
        reward: r.
        next_state: s′.
        metric: measured in s′; V(s) is fitted to it.
    """

    state: Float[Array, " state"]
    actions: Int32[Array, " bins"]
    reward: Float[Array, ""]
    next_state: Float[Array, " state"]
    metric: Float[Array, ""]


class LossTerms(NamedTuple):
    """Beside the loss; NaN where the method has no such thing.

    Attributes:
        advantage: r + γ·V(s′) − V(s), or r − baseline.
        value: V(s).
        ratio: mean over bins of π(a|s)/π_old(a|s).
        clip_fraction: share of bins whose ratio is clipped.
    """

    advantage: Float[Array, ""]
    value: Float[Array, ""]
    ratio: Float[Array, ""]
    clip_fraction: Float[Array, ""]


def ppo_loss(
    network: PolicyNetwork, config: ControllerConfig, old: PolicyNetwork, transition: Transition
) -> tuple[Float[Array, ""], LossTerms]:
    """−mean_b min(r_b·A, clip(r_b, 1 ± ε)·A) + 0.5·(V(s) − metric)², with r_b the ratio of bin b alone.

    A = r + γ·V(s′) − V(s) is without a gradient and the same for every bin.

    Args:
        network: differentiated by.
        config: head, γ and ε.
        old: the policy of the ratio's denominator.
        transition: what is learned from.
    """
    log_probs, value = _log_probs(network, config, transition)
    old_log_probs, _ = _log_probs(old, config, transition)
    _, next_value = forward(network, transition.next_state)
    advantage = jax.lax.stop_gradient(transition.reward + config.gamma * next_value - value)
    log_ratio = log_probs - jax.lax.stop_gradient(old_log_probs)
    each = jnp.broadcast_to(advantage[None], log_ratio.shape)
    objective = jnp.mean(clipped_objective(clipped_log_ratio(log_ratio), each, config.clip_epsilon))
    clipped = clip_is_active(log_ratio, each, config.clip_epsilon).astype(log_ratio.dtype)
    loss = VALUE_COEFFICIENT * value_loss(value, transition.metric) - objective
    return loss, LossTerms(advantage, value, jnp.mean(jnp.exp(log_ratio)), jnp.mean(clipped))


def reinforce_loss(
    network: PolicyNetwork, config: ControllerConfig, baseline: Float[Array, ""], transition: Transition
) -> tuple[Float[Array, ""], LossTerms]:
    """−(r − baseline)·mean_b log π(a_b|s).

    Args:
        network: differentiated by.
        config: head.
        baseline: mean of the rewards before this one.
        transition: what is learned from.
    """
    log_probs, _ = _log_probs(network, config, transition)
    advantage = transition.reward - baseline
    undefined = jnp.full_like(advantage, jnp.nan)
    return -advantage * jnp.mean(log_probs), LossTerms(advantage, undefined, undefined, undefined)


def _log_probs(
    network: PolicyNetwork, config: ControllerConfig, transition: Transition
) -> tuple[Float[Array, " bins"], Float[Array, ""]]:
    """log π(a_b|s) of every bin, and V(s)."""
    family = action_family(config)
    outputs, value = forward(network, transition.state)
    return family.log_prob(family.params(outputs), transition.actions), value
