"""Advantages of a rollout: which values of successors are needed, and how a time limit counts."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Num

from escapevelocity.policy import gae
from escapevelocity.ppo.config import PPOSpec
from escapevelocity.ppo.networks import Agent


class Rewards(NamedTuple):
    """What a rollout brought, and where its episodes ended."""

    rewards: Float[Array, "time envs"]
    """As training sees them."""
    terminated: Bool[Array, "time envs"]
    truncated: Bool[Array, "time envs"]


def advantages_and_returns(
    agent: Agent,
    values: Float[Array, "time envs"],
    next_observations: Num[Array, "rows envs ..."],
    outcome: Rewards,
    episode_limit: int | None,
    spec: PPOSpec,
) -> tuple[Float[Array, "time envs"], Float[Array, "time envs"]]:
    """GAE over one member's rollout (Schulman et al. 2016, eq. 16).

    Args:
        agent: the parameters that acted.
        values: V of the observations.
        next_observations: the true successors; for images the last row is enough where a time limit terminates.
        outcome: rewards and ends.
        episode_limit: of the task, in steps.
        spec: the run's settings.

    Returns:
        Advantages, and the critic's targets.
    """
    rewards, terminated, truncated = outcome
    ended = terminated | truncated
    if next_observations.ndim > 3:
        next_values = _few_next_values(agent, values, next_observations, outcome, episode_limit, spec)
    else:
        flat = next_observations.reshape(-1, *next_observations.shape[2:])
        next_values = agent.values(flat).reshape(rewards.shape)
    if spec.environment.time_limit == "termination":
        terminated = ended
    return gae(
        rewards, values, next_values, terminated, ended, spec.objective.gamma, spec.objective.gae_lambda
    )


def _few_next_values(
    agent: Agent,
    values: Float[Array, "time envs"],
    next_observations: Num[Array, "rows envs ..."],
    outcome: Rewards,
    episode_limit: int | None,
    spec: PPOSpec,
) -> Float[Array, "time envs"]:
    """V of the successors with few passes over images: within an episode the successor is the next row's observation.

    The critic only has to look at the last row, and where truncations are bootstrapped at the last image of a truncated
    episode: at most as many as the limit lets fit into a batch.
    """
    last = agent.values(next_observations[-1])
    next_values = jnp.concatenate([values[1:], last[None]])
    if spec.environment.time_limit == "termination":
        return next_values
    length, envs = values.shape
    most = envs * (length // (episode_limit or 1) + 1)
    time, env = jnp.nonzero(outcome.truncated, size=most, fill_value=length)  # Beyond the last row: dropped.
    inside = jnp.minimum(time, length - 1)
    final = agent.values(next_observations[inside, env])
    return next_values.at[time, env].set(final, mode="drop")
