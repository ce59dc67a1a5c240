"""Performance profiles: which share of runs scores above τ, for every τ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from escapevelocity.errors import require
from escapevelocity.study.bootstrap import LEVEL, bootstrap_ends
from escapevelocity.study.scores import Scores, pooled

REPETITIONS = 2_000
"""Resamples per profile (rliable's default)."""


@dataclass(frozen=True)
class Profile:
    """A run-score distribution with pointwise intervals, which are not a band for the whole curve."""

    thresholds: Float[np.ndarray, " thresholds"]
    """τ."""
    share: Float[np.ndarray, " thresholds"]
    """Share of all runs of all tasks with score > τ."""
    low: Float[np.ndarray, " thresholds"]
    high: Float[np.ndarray, " thresholds"]
    level: float = LEVEL
    """Nominal coverage at each τ by itself."""


def performance_profile(
    scores: Scores,
    thresholds: Float[np.ndarray, " thresholds"] | Sequence[float],
    *,
    seed: int,
    level: float = LEVEL,
    repetitions: int = REPETITIONS,
) -> Profile:
    """Estimate the run-score distribution P(score > τ) with stratified bootstrap intervals at every τ.

    Where all runs lie on one side of τ every resample does too, and the interval has no width: it does not
    say that no run could lie on the other.

    Source:
        Agarwal et al. 2021 (arXiv 2108.13264), §4; rliable's `create_performance_profile`.

    Args:
        scores: task → runs, or (runs, tasks).
        thresholds: τ.
        seed: of the resampling.
        level: nominal coverage, in (0, 1).
        repetitions: number of resamples, ≥ 1.

    Returns:
        The profile; the ends are NaN when some task has a single run.

    Raises:
        UserError: for scores that `by_task` refuses, no or NaN thresholds, or settings out of range.
    """
    tau = np.asarray(thresholds, np.float64)
    require(tau.ndim == 1 and tau.size > 0, "thresholds", thresholds, "a list of at least one number")
    require(not np.isnan(tau).any(), "thresholds", thresholds, "numbers, not NaN")

    def shares(drawn: Scores) -> np.ndarray:
        runs = pooled(drawn)
        # One threshold at a time: all at once would hold (repetitions, runs, thresholds).
        return np.stack([(runs > threshold).mean(axis=-1) for threshold in tau], axis=-1)

    low, high = bootstrap_ends((scores,), shares, seed=seed, level=level, repetitions=repetitions)
    return Profile(tau, shares(scores), low, high, level)
