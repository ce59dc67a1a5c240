"""The sampling distribution: un-normalised masses over bins of distance, what an action does to them, what they say."""

import math
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Int32

from escapevelocity.errors import require

NUM_ACTIONS = 3
"""Actions of a bin: 0 lowers its mass, 1 leaves it, 2 raises it."""

LEAST_MASS, LARGEST_MASS = 1e-25, 1e25
"""What actions are clipped to (PADS, `update_sample_distr`)."""

FLOOR_SHARE = 1e-10
"""A bin counts as being at the floor when its mass is at most this share of the largest: in a million steps of 112
negatives, 1e8 draws, it is hardly drawn once where the largest has as many candidates."""

_ROUNDING = 1e-9
"""Numbers of actions this close above a whole one count as it: log(1.25³)/log 1.25 may come out as 3.0000000000000004.
"""


class DistributionMeasures(NamedTuple):
    """What a sampling distribution is like, each (...) for masses (..., bins).

    With logits ℓ_b = log mass_b, q the normalised masses and temperature 1 the three of statistical mechanics, in nats,
    with F = E − H. While the masses sum to 1, as all starts but `pads_random` do, E = H and F = 0: actions move them.

    Attributes:
        energy: E = −Σ q·ℓ.
        entropy: H = −Σ q·log q.
        free_energy: F = −log Σ exp ℓ.
        distance_mean: mean distance of a density that is constant on each bin.
        distance_std: its standard deviation, exact: the width of the bins counts.
        floor_bins: bins of at most 1e-10 of the largest mass.
    """

    energy: Float[np.ndarray, "..."]
    entropy: Float[np.ndarray, "..."]
    free_energy: Float[np.ndarray, "..."]
    distance_mean: Float[np.ndarray, "..."]
    distance_std: Float[np.ndarray, "..."]
    floor_bins: Int[np.ndarray, "..."]


def normalised(masses: Float[Array, "*batch bins"]) -> Float[Array, "*batch bins"]:
    """q = mass / Σ mass, what negatives are drawn by.

    Divided by the largest first, so that no sum overflows. A share below float32's smallest, 1e-38, becomes 0.

    Example:
        >>> import jax.numpy as jnp
        >>> print(normalised(jnp.array([1e25, 1e25, 2e25])))
        [0.25 0.25 0.5 ]
    """
    relative = masses / jnp.max(masses, axis=-1, keepdims=True)
    return relative / jnp.sum(relative, axis=-1, keepdims=True)


def apply_actions(
    masses: Float[Array, "*batch bins"], actions: Int32[Array, "*batch bins"], step_up: float
) -> Float[Array, "*batch bins"]:
    """masses ← clip(masses · step_up^(a−1), 1e-25, 1e25), a = 0, 1, 2 (PADS: 0.8, 1, 1.25).

    Args:
        masses: un-normalised.
        actions: one for each bin.
        step_up: factor of action 2, above 1; action 0 divides by it.

    Example:
        >>> import jax.numpy as jnp
        >>> print(apply_actions(jnp.ones(3), jnp.array([0, 1, 2], jnp.int32), 1.25))
        [0.8  1.   1.25]
    """
    factors = jnp.asarray([1 / step_up, 1, step_up], masses.dtype)
    return jnp.clip(masses * factors[actions], LEAST_MASS, LARGEST_MASS)


def measure_distribution(
    masses: Float[np.ndarray, "*batch bins"], low: float, high: float
) -> DistributionMeasures:
    """Measure distributions over equal bins on [low, high]; a mass of 0 adds nothing to any sum.

    Args:
        masses: at least 0, not all of them.
        low: lower edge of the first bin.
        high: upper edge of the last.

    Raises:
        UserError: masses that are negative, not finite, or 0 throughout.

    Example:
        >>> found = measure_distribution(np.array([1.0, 3.0]), 0.0, 2.0)
        >>> round(float(found.entropy), 3), float(found.distance_mean)
        (0.562, 1.25)
    """
    masses = _checked(masses)
    total = masses.sum(axis=-1, keepdims=True)
    q, positive = masses / total, masses > 0
    logits = np.log(masses, out=np.zeros_like(masses), where=positive)
    log_q = np.where(positive, logits - np.log(total), 0)
    width = (high - low) / masses.shape[-1]
    centres = low + width * (np.arange(masses.shape[-1]) + 0.5)
    mean = (q * centres).sum(axis=-1)
    # Of a constant density on each bin: variance of the centres, and width²/12 within.
    variance = (q * (centres - mean[..., None]) ** 2).sum(axis=-1) + width**2 / 12
    return DistributionMeasures(
        energy=np.asarray(0 - (q * logits).sum(axis=-1)),
        entropy=np.asarray(0 - (q * log_q).sum(axis=-1)),
        free_energy=np.asarray(0 - np.log(total[..., 0])),
        distance_mean=np.asarray(mean),
        distance_std=np.asarray(np.sqrt(variance)),
        floor_bins=np.asarray((masses <= FLOOR_SHARE * masses.max(axis=-1, keepdims=True)).sum(axis=-1)),
    )


def actions_to_parity(
    masses: Float[np.ndarray, "*batch bins"], step_up: float
) -> Int[np.ndarray, "*batch bins"]:
    """The multiplicative well: consecutive raises until a bin's mass is the largest one's, while that stays.

    ⌈log(largest/m_b)/log step_up⌉ for each bin. From the floor of `pads_normal_low` that is 155 at ×1.25; from that of
    `pads_normal_high` the quotient is 113.4, so that the 114th reaches parity. Where at the same time every other bin
    is lowered, half as many are enough.

    Args:
        masses: above 0.
        step_up: factor of a raise, above 1.

    Raises:
        UserError: a mass that is not above 0, or a factor that is not above 1.

    Example:
        >>> print(actions_to_parity(np.array([1.0, 0.8, 0.1]), 1.25))
        [ 0  1 11]
    """
    require(1 < step_up < math.inf, "step-up", step_up, "a finite number above 1")
    masses = _checked(masses)
    require(bool((masses > 0).all()), "masses", float(masses.min()), "above 0; a bin at 0 is never lifted")
    quotient = np.log(masses.max(axis=-1, keepdims=True) / masses) / math.log(step_up)
    return np.asarray(np.ceil(quotient - _ROUNDING)).astype(np.int64)


def steps_to_parity(
    masses: Float[np.ndarray, "*batch bins"], step_up: float, every: int
) -> Int[np.ndarray, "*batch bins"]:
    """The same in training steps, with a decision after `every` of them.

    Raises:
        UserError: see `actions_to_parity`.

    Example:
        >>> print(steps_to_parity(np.array([1.0, 0.8, 0.1]), 1.25, every=30))
        [  0  30 330]
    """
    return actions_to_parity(masses, step_up) * every


def _checked(masses: np.ndarray) -> np.ndarray:
    masses = np.asarray(masses, np.float64)
    fine = np.isfinite(masses).all() and (masses >= 0).all() and (masses.sum(axis=-1) > 0).all()
    require(bool(fine), "masses", masses.tolist(), "finite numbers of at least 0, not all 0")
    return masses
