"""What the controller is paid: a weighted mean of validation metrics, its change, or the sign of that."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from escapevelocity.errors import require
from escapevelocity.metric_learning.state import METRIC_NAMES

KINDS = ("sign", "change", "level")

WEIGHTED = METRIC_NAMES[:5]
"""Recall@1, 2, 4, 8 and NMI: the metrics that have a weight."""


def reward_metric(metrics: Float[Array, " metrics"], weights: tuple[float, ...]) -> Float[Array, ""]:
    """Σ w_i·metric_i / Σ w over Recall@1, 2, 4, 8 and NMI; metrics of weight 0 may be NaN.

    Args:
        metrics: as `metric_vector` orders them; what follows the first five is not read.
        weights: five, of at least 0, not all of them 0.

    Raises:
        UserError: weights that are not so.

    Example:
        >>> import jax.numpy as jnp
        >>> print(reward_metric(jnp.array([0.5, 0.6, 0.7, 0.8, 0.7]), (0.5, 0.0, 0.0, 0.0, 0.5)))
        0.6
    """
    fine = len(weights) == len(WEIGHTED) and min(weights) >= 0 and sum(weights) > 0
    require(fine, "reward-weights", weights, "five numbers of at least 0, not all 0")
    w = jnp.asarray(weights, metrics.dtype)
    return jnp.sum(w * jnp.where(w > 0, metrics[: len(WEIGHTED)], 0)) / jnp.sum(w)


def reward(kind: str, metric: Float[Array, ""], previous: Float[Array, ""]) -> Float[Array, ""]:
    """Pay for what has become of the metric since the last decision; NaN where that is unknown.

    Args:
        kind: sign (of the change: PADS, ASR's default), change, or level, which needs no previous metric.
        metric: now.
        previous: at the last decision.

    Raises:
        UserError: an unknown kind.

    Example:
        >>> import jax.numpy as jnp
        >>> print(reward("sign", jnp.float32(0.4), jnp.float32(0.5)))
        -1.0
    """
    require(kind in KINDS, "reward", kind, f"one of {', '.join(KINDS)}")
    if kind == "level":
        return metric
    change = metric - previous
    return jnp.sign(change) if kind == "sign" else change
