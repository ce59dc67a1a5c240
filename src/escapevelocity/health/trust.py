"""What the probability ratios of a whole batch say about the trust region, after the update.

ratio r = π_new(a|s) / π_old(a|s) for the actions that π_old took. An enormous ratio is a finding, not an
error: everything is computed from float64 log-ratios within ±700, where exp neither overflows nor vanishes.
"""

from typing import Any

import numpy as np

from escapevelocity.errors import UserError, require
from escapevelocity.health._arrays import as_numpy, quiet
from escapevelocity.health.measured import Measured, explain

LOG_RATIO_LIMIT = 700.0
"""exp(±700) is finite and non-zero in float64."""

CONTINUOUS_MEAN_LIMITS = (1e-12, 1e12)
"""Continuous densities have no upper bound: the paper's code holds the two means of its quotient in here."""


@quiet
def trust_region(log_ratio: Any, advantages: Any, clip_epsilon: float, continuous: bool) -> Measured:
    """Measure how far the policy has left the trust region of PPO on the batch it was trained on.

    Ratio statistics and excess ratio: Moalla et al. 2024 (arXiv 2405.00662), Figures 3, 4, 6 and code. k1,
    k3: Schulman 2020, "Approximating KL divergence" (joschu.net/blog/kl-approx.html), for KL(old‖new).

    Args:
        log_ratio: log π_new(a|s) − log π_old(a|s) (..., N), in nats; any numpy, jax or torch array.
        advantages: as the objective saw them (..., N); only their sign is used.
        clip_epsilon: ε of the clipped objective, > 0.
        continuous: whether actions are continuous; then each mean of `excess_ratio` is first clipped to
            [1e-12, 1e12], as in the paper's code.

    Returns:
        Each of shape (...):
        `ratio_mean`, `ratio_std` (ddof 1), `ratio_min`, `ratio_max`;
        `ratio_above_mean`, `ratio_above_count`: over ratios > 1 + ε;
        `ratio_below_mean`, `ratio_below_count`: over ratios < 1 − ε;
        `excess_ratio`: mean above / mean below;
        `clip_fraction`: share of samples whose clipped term is the strict minimum, clip(r)·A < r·A;
        `ratio_outside_fraction`: share with |r − 1| > ε, which Stable-Baselines3 calls clip fraction;
        `kl_k1` = mean(−log r); `kl_k3` = mean((r − 1) − log r).
        NaN with a reason: the means of an empty side and `excess_ratio` with them; everything where the
        log-ratios contain NaN or N = 0; `clip_fraction` where the advantages do; `ratio_std` when N = 1.

    Raises:
        UserError: if `clip_epsilon` is not positive and finite, or the shapes or types do not fit.

    Example:
        >>> trust_region(np.log([1.5, 1.0, 0.5, 1.0]), np.ones(4), 0.2, False).values["excess_ratio"]
        3.0
    """
    log_r, signs = _checked(log_ratio, advantages, clip_epsilon)
    if log_r.shape[-1] == 0:
        nothing = np.full(log_r.shape[:-1], np.nan)
        return explain(dict.fromkeys(map(str, TRUST_NAMES), nothing), "the batch has no samples")
    broken = np.asarray(np.isnan(log_r).any(axis=-1))
    log_r = np.clip(np.where(broken[..., None], 0.0, log_r), -LOG_RATIO_LIMIT, LOG_RATIO_LIMIT)
    r = np.exp(log_r)
    above, below = r > 1 + clip_epsilon, r < 1 - clip_epsilon
    mean_above, mean_below = _mean(r, above), _mean(r, below)
    low, high = CONTINUOUS_MEAN_LIMITS if continuous else (0.0, np.inf)
    # The clipped term is the strict minimum where moving r further would no longer raise the objective.
    clipped = np.mean((above & (signs > 0)) | (below & (signs < 0)), axis=-1)
    values = {
        "ratio_mean": _mean(r),
        "ratio_std": _std(r),
        "ratio_min": r.min(axis=-1),
        "ratio_max": r.max(axis=-1),
        "ratio_above_mean": mean_above,
        "ratio_below_mean": mean_below,
        "ratio_above_count": above.sum(axis=-1),
        "ratio_below_count": below.sum(axis=-1),
        "excess_ratio": np.clip(mean_above, low, high) / np.clip(mean_below, low, high),
        "clip_fraction": np.where(np.isnan(signs).any(axis=-1), np.nan, clipped),
        "ratio_outside_fraction": np.mean(np.abs(r - 1) > clip_epsilon, axis=-1),
        "kl_k1": -log_r.mean(axis=-1),
        "kl_k3": _mean(np.expm1(log_r) - log_r),
    }
    values = {name: np.where(broken, np.nan, value) for name, value in values.items()}
    return explain(values, _reasons(broken, above, below, clip_epsilon))


TRUST_NAMES = (
    "ratio_mean",
    "ratio_std",
    "ratio_min",
    "ratio_max",
    "ratio_above_mean",
    "ratio_below_mean",
    "ratio_above_count",
    "ratio_below_count",
    "excess_ratio",
    "clip_fraction",
    "ratio_outside_fraction",
    "kl_k1",
    "kl_k3",
)
"""What `trust_region` measures."""


def _checked(log_ratio: Any, advantages: Any, clip_epsilon: float) -> tuple[np.ndarray, np.ndarray]:
    require(bool(0 < clip_epsilon < np.inf), "clip_epsilon", clip_epsilon, "a finite number > 0")
    log_r = as_numpy(log_ratio, "log_ratio", min_ndim=1).astype(np.float64)
    signs = as_numpy(advantages, "advantages", min_ndim=1)
    if signs.shape != log_r.shape:
        raise UserError(f"advantages has shape {signs.shape}: must be the shape of log_ratio, {log_r.shape}")
    return log_r, signs


def _mean(x: np.ndarray, where: np.ndarray | None = None) -> np.ndarray | np.float64:
    """Return the mean of non-negative x (..., N) where `where` holds, NaN where it nowhere does.

    Relative to the largest entry: the sum of many ratios near e^700 would overflow.
    """
    if where is None:
        where = np.ones(x.shape, dtype=bool)
    scale = _scale(x)
    total = np.sum(np.where(where, x / scale, 0.0), axis=-1)
    return scale[..., 0] * (total / where.sum(axis=-1))


def _std(x: np.ndarray) -> np.ndarray | np.float64:
    """Return the standard deviation (ddof 1) of non-negative x (..., N); NaN when N = 1."""
    if x.shape[-1] < 2:
        return np.full(x.shape[:-1], np.nan)
    scale = _scale(x)
    return scale[..., 0] * np.std(x / scale, axis=-1, ddof=1)


def _scale(x: np.ndarray) -> np.ndarray:
    largest = x.max(axis=-1, keepdims=True)
    return np.where(largest > 0, largest, 1.0)


def _reasons(
    broken: np.ndarray, above: np.ndarray, below: np.ndarray, clip_epsilon: float
) -> dict[str, np.ndarray]:
    """Say for every value of `trust_region` why it would be NaN."""
    no_above = np.where(above.any(axis=-1), "", f"no ratio is above {1 + clip_epsilon:g}")
    no_below = np.where(below.any(axis=-1), "", f"no ratio is below {1 - clip_epsilon:g}")
    specific = {
        "ratio_above_mean": no_above,
        "ratio_below_mean": no_below,
        "excess_ratio": np.where(no_above == "", no_below, no_above),
        "clip_fraction": np.asarray("advantages contain NaN"),
        "ratio_std": np.asarray("one sample has no standard deviation"),
    }
    return {name: np.where(broken, "log-ratios contain NaN", specific.get(name, "")) for name in TRUST_NAMES}
