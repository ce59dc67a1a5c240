"""Intervals for small numbers."""

import numpy as np

Z = 1.959963984540054
"""97.5 % quantile of the normal distribution."""


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """95 % interval of a proportion (Wilson 1927), which also holds for few trials and for none or all of them.

    Returns:
        Its ends; (0, 1) without trials.

    Example:
        >>> [round(end, 3) for end in wilson(9, 10)]
        [0.596, 0.982]
    """
    if trials == 0:
        return 0.0, 1.0
    share, weight = successes / trials, Z**2 / trials
    centre = (share + weight / 2) / (1 + weight)
    half = Z / (1 + weight) * np.sqrt(share * (1 - share) / trials + weight / (4 * trials))
    return max(0.0, float(centre - half)), min(1.0, float(centre + half))


def bootstrap_median(values: np.ndarray, seed: int, draws: int = 10_000) -> tuple[float, float, float]:
    """Median, and its 95 % percentile interval over resampled runs; NaN without values.

    Args:
        values: (runs,).
        seed: of the resampling; the same seed gives the same interval.
        draws: resamples.
    """
    if len(values) == 0:
        return np.nan, np.nan, np.nan
    picks = np.random.default_rng(seed).integers(len(values), size=(draws, len(values)))
    low, high = np.quantile(np.median(values[picks], axis=1), [0.025, 0.975])
    return float(np.median(values)), float(low), float(high)
