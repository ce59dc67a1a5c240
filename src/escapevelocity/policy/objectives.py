"""Advantages and the clipped objective of PPO: pure functions, one value per sample."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

Scalar = float | Float[Array, ""]
"""A hyper-parameter: a Python number, or a traced scalar when a population trains over it."""

_LOG_RATIO_RANGE = (math.log(1e-7), math.log(1e9))
_MIN_ADVANTAGE_STD = 1e-6


def gae(
    rewards: Float[Array, "time *batch"],
    values: Float[Array, "time *batch"],
    next_values: Float[Array, "time *batch"],
    terminated: Bool[Array, "time *batch"],
    ended: Bool[Array, "time *batch"],
    gamma: Scalar,
    gae_lambda: Scalar,
) -> tuple[Float[Array, "time *batch"], Float[Array, "time *batch"]]:
    """Generalised advantage estimation (Schulman et al. 2016, eq. 16).

    A_t = Σ_l (γλ)^l δ_{t+l},  δ_t = r_t + γ V(s_{t+1}) − V(s_t),

    where the sum stops at the end of the episode and V is 0 after a termination.

    Args:
        rewards: r_t, time first.
        values: V(s_t).
        next_values: V of the true successor of row t: where an episode ended, of its final observation, never
            of the next episode's first. Entries under `terminated` are not read.
        terminated: the episode ended in row t by the task's rules, so nothing follows.
        ended: row t is the last of its stretch: terminated, truncated, or cut by the end of a segment. A
            terminated row counts as ended in any case, and so does the last row.
        gamma: discount γ in [0, 1].
        gae_lambda: λ in [0, 1].

    Returns:
        (advantages, returns), both (time, *batch); returns = advantages + values, the critic's target.

    Example:
        >>> import jax.numpy as jnp
        >>> ones, no = jnp.ones(3), jnp.zeros(3, bool)
        >>> terminated = no.at[2].set(True)
        >>> _, returns = gae(ones, 0 * ones, 0 * ones, terminated, terminated, gamma=0.5, gae_lambda=1.0)
        >>> print(returns)
        [1.75 1.5  1.  ]
    """
    deltas = rewards + gamma * jnp.where(terminated, 0, next_values) - values
    decays = gamma * gae_lambda * jnp.where(ended | terminated, 0, jnp.ones_like(deltas))

    def step(advantage: Array, row: tuple[Array, Array]) -> tuple[Array, Array]:
        delta, decay = row
        advantage = delta + decay * advantage
        return advantage, advantage

    _, advantages = jax.lax.scan(step, jnp.zeros_like(deltas[0]), (deltas, decays), reverse=True)
    return advantages, advantages + values


def normalise_advantages(advantages: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """(x − mean) / max(std, 1e-6) over all entries, with the biased std (Moalla et al. 2024, their code)."""
    return (advantages - jnp.mean(advantages)) / jnp.maximum(jnp.std(advantages), _MIN_ADVANTAGE_STD)


def clipped_log_ratio(log_ratio: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
    """Clamp log(π_new/π_old) to [log 1e-7, log 1e9], so that the ratio and its gradient stay finite.

    For the loss alone; the health measures look at the unclamped ratio. Outside the range the gradient is 0.
    Source: Moalla et al. 2024, their code (`safe_logratio`).
    """
    return jnp.clip(log_ratio, *_LOG_RATIO_RANGE)


def clip_is_active(
    log_ratio: Float[Array, "*batch"], advantages: Float[Array, "*batch"], clip_epsilon: Scalar
) -> Bool[Array, "*batch"]:
    """Whether the clipped term is the strict minimum in PPO's objective, so that the sample has no gradient.

    That is a ratio above 1 + ε with a positive advantage, or below 1 − ε with a negative one.
    """
    ratio = jnp.exp(log_ratio)
    too_high = (advantages > 0) & (ratio > 1 + clip_epsilon)
    too_low = (advantages < 0) & (ratio < 1 - clip_epsilon)
    return too_high | too_low


def clipped_objective(
    log_ratio: Float[Array, "*batch"], advantages: Float[Array, "*batch"], clip_epsilon: Scalar
) -> Float[Array, "*batch"]:
    """PPO's clipped surrogate, to be maximised (Schulman et al. 2017, eq. 7).

    min(ratio · A, clip(ratio, 1 − ε, 1 + ε) · A) per sample, with ratio = exp(log_ratio).

    Args:
        log_ratio: log π_new(a|s) − log π_old(a|s); pass it through `clipped_log_ratio` in a loss.
        advantages: A.
        clip_epsilon: ε in (0, 1).

    Returns:
        One value per sample. Its gradient is ratio · A, and exactly 0 where `clip_is_active`.

    Example:
        >>> import jax.numpy as jnp
        >>> print(clipped_objective(jnp.log(jnp.array([2.0, 0.5])), jnp.array([1.0, 1.0]), 0.2))
        [1.2 0.5]
    """
    active = clip_is_active(log_ratio, advantages, clip_epsilon)
    bound = 1 + clip_epsilon * jnp.sign(advantages)
    # An active sample's exponential is not used; taken at 0, it cannot put an overflow into the gradient.
    ratio = jnp.exp(jnp.where(active, 0, log_ratio))
    return jnp.where(active, bound, ratio) * advantages


def value_loss(values: Float[Array, "*batch"], returns: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
    """Squared error (V − R)² per sample; the caller's coefficient (0.5 in PPO) is not included."""
    return jnp.square(values - returns)


def clipped_value_loss(
    values: Float[Array, "*batch"],
    old_values: Float[Array, "*batch"],
    returns: Float[Array, "*batch"],
    clip_epsilon: Scalar,
) -> Float[Array, "*batch"]:
    """max((V − R)², (V_old + clip(V − V_old, −ε, ε) − R)²) per sample, as in CleanRL and baselines."""
    clipped_values = old_values + jnp.clip(values - old_values, -clip_epsilon, clip_epsilon)
    return jnp.maximum(value_loss(values, returns), value_loss(clipped_values, returns))
