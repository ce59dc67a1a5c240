"""The gradient of the expected reward πᵀr with respect to a policy's parameters, in closed form."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from escapevelocity.policy.categorical import Softmax
from escapevelocity.policy.escort import Escort, scaled_magnitudes
from escapevelocity.policy.fsoftargmax import FSoftargmax


def softmax_policy_gradient(
    policy: Softmax, logits: Float[Array, "*batch actions"], rewards: Float[Array, "*batch actions"]
) -> Float[Array, "*batch actions"]:
    """∂(πᵀr)/∂θ(a) = π(a) (r(a) − πᵀr) / temperature (Mei et al. 2020, lemma 1).

    Args:
        policy: the family, which holds the temperature.
        logits: θ, shape (*batch, K).
        rewards: r(a), or Q(s, a) per state, shape (*batch, K).

    Returns:
        The gradient, shape (*batch, K).

    Example:
        >>> import jax.numpy as jnp
        >>> print(softmax_policy_gradient(Softmax(2), jnp.zeros(2), jnp.array([1.0, 0.0])))
        [ 0.25 -0.25]
    """
    probs = policy.probs(logits)
    return probs * _advantages(probs, rewards) / policy.temperature


def escort_policy_gradient(
    policy: Escort, theta: Float[Array, "*batch actions"], rewards: Float[Array, "*batch actions"]
) -> Float[Array, "*batch actions"]:
    """∂(πᵀr)/∂θ(a) = (p/‖θ‖_p) · sgn θ(a) · π(a)^{1−1/p} · (r(a) − πᵀr) (Mei et al. 2020, section 3).

    It is 0 where θ(a) = 0, also for p = 1, where the derivative from either side is not.

    Args:
        policy: the family, which holds p.
        theta: θ, shape (*batch, K).
        rewards: r(a), or Q(s, a) per state, shape (*batch, K).

    Returns:
        The gradient, shape (*batch, K).

    Example:
        >>> import jax.numpy as jnp
        >>> print(escort_policy_gradient(Escort(2, p=1.0), jnp.array([1.0, 3.0]), jnp.array([1.0, 0.0])))
        [ 0.1875 -0.0625]
    """
    probs = policy.probs(theta)
    magnitudes, largest = scaled_magnitudes(theta)
    # ‖θ‖_p from the scaled magnitudes, so that the powers cannot overflow; any positive number where θ = 0.
    norm = largest * jnp.sum(magnitudes**policy.p, axis=-1, keepdims=True) ** (1 / policy.p)
    step = policy.p / jnp.where(norm > 0, norm, 1)
    return step * jnp.sign(theta) * probs ** (1 - 1 / policy.p) * _advantages(probs, rewards)


def f_softargmax_policy_gradient(
    policy: FSoftargmax, theta: Float[Array, "*batch actions"], rewards: Float[Array, "*batch actions"]
) -> Float[Array, "*batch actions"]:
    """∂(πᵀr)/∂θ = w ⊙ (r − wᵀr / Σw) with w(a) = π(a) · (π(a)/π_ref(a))^{1−α}.

    Source: the implicit function theorem on Σπ = 1; Roulet et al. 2025, for any f-divergence.

    Args:
        policy: the family, which holds α and π_ref.
        theta: θ, shape (*batch, K).
        rewards: r(a), or Q(s, a) per state, shape (*batch, K).

    Returns:
        The gradient, shape (*batch, K).

    Example:
        >>> import jax.numpy as jnp
        >>> policy = FSoftargmax(2, alpha=0.5)
        >>> print(f_softargmax_policy_gradient(policy, jnp.zeros(2), jnp.array([1.0, 0.0])))
        [ 0.25 -0.25]
    """
    probs = policy.probs(theta)
    reference = jnp.broadcast_to(jnp.asarray(policy.reference, probs.dtype), probs.shape)
    weights = probs * (probs / reference) ** (1 - policy.alpha)
    return weights * _advantages(weights / jnp.sum(weights, axis=-1, keepdims=True), rewards)


def _advantages(probs: jax.Array, rewards: jax.Array) -> jax.Array:
    """r − πᵀr."""
    return rewards - jnp.sum(probs * rewards, axis=-1, keepdims=True)
