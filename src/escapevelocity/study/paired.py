"""Paired comparison of two settings over the seeds they share.

In this library a seed fixes initialisation, environments and sampling whatever the remedy, so that two settings
with one seed share their start. Differences per seed leave out what the start contributes to both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from escapevelocity.errors import require
from escapevelocity.study.bootstrap import LEVEL, REPETITIONS, Interval, bootstrap_interval
from escapevelocity.study.scores import by_task
from escapevelocity.study.statistics import iqm, mean
from escapevelocity.study.student import student_interval

EXACT_PAIRS = 20
"""Up to here all 2ⁿ sign patterns are counted (8 MB); beyond, as many as `repetitions` are drawn."""


@dataclass(frozen=True)
class PairedComparison:
    """X against Y on the seeds that both have."""

    seeds: tuple[int, ...]
    """Shared seeds, in the order of x."""
    differences: Float[np.ndarray, " seeds"]
    """Score of X − score of Y, per seed."""
    mean: Interval
    iqm: Interval
    p_value: float
    """Two-sided, of the sign-flip test; with n seeds never below 2/2ⁿ: 0.0625 for five."""
    unshared: tuple[int, ...]
    """Seeds that one of the two lacks, left out."""

    @property
    def student(self) -> Interval:
        """The mean with Student's interval of the same level: what judges a comparison of a handful of seeds."""
        return student_interval(self.differences, self.mean.level)


def paired_comparison(
    x: Mapping[int, float],
    y: Mapping[int, float],
    *,
    seed: int,
    level: float = LEVEL,
    repetitions: int = REPETITIONS,
) -> PairedComparison:
    """Compare two settings on one task over their shared seeds.

    The intervals come from resampling the differences over seeds. Of five they are too narrow, as the module
    `bootstrap` says; `student` of what is returned is not. The p-value is exact for any number of seeds, and with five
    can call nothing significant at 5 %.

    Args:
        x: seed → score of X.
        y: seed → score of Y.
        seed: of the resampling.
        level: nominal coverage of the intervals, in (0, 1).
        repetitions: number of resamples, ≥ 1.

    Raises:
        UserError: when they share no seed, a shared score is not finite, or settings are out of range.
    """
    shared = tuple(key for key in x if key in y)
    require(len(shared) > 0, "seeds of y", sorted(y), f"to share at least one with those of x, {sorted(x)}")
    first, second = ([scores[key] for key in shared] for scores in (x, y))
    checked = by_task({"x, seeds shared with y": first, "y, seeds shared with x": second})
    differences = np.subtract(*checked.values())
    of_mean, of_iqm = (
        bootstrap_interval(differences, statistic, seed=seed, level=level, repetitions=repetitions)
        for statistic in (mean, iqm)
    )
    p_value = sign_flip_test(differences, seed=seed, repetitions=repetitions)
    unshared = tuple(sorted(x.keys() ^ y.keys()))
    return PairedComparison(shared, differences, of_mean, of_iqm, p_value, unshared)


def sign_flip_test(
    differences: Float[np.ndarray, " pairs"] | Sequence[float], *, seed: int, repetitions: int = REPETITIONS
) -> float:
    """Test whether paired differences are symmetric around 0: had X and Y been swapped in any pair, at will.

    The share of the 2ⁿ sign patterns whose |mean| reaches the one observed; exact up to 20 pairs (`seed` is not
    used), beyond with as many random patterns as `repetitions`, the observed one counted among them.

    Source:
        Fisher 1935, "The Design of Experiments", §21 (paired permutation test).

    Args:
        differences: one per pair.
        seed: of the random patterns.
        repetitions: number of random patterns, ≥ 1.

    Returns:
        Two-sided p-value in (0, 1].

    Raises:
        UserError: when there is no difference, one is not finite, or settings are out of range.

    Example:
        >>> sign_flip_test([1.0, 2.0, 3.0, 4.0, 5.0], seed=0)
        0.0625
    """
    require(seed >= 0, "seed", seed, "at least 0")
    require(repetitions >= 1, "repetitions", repetitions, "at least 1")
    (values,) = by_task({"differences": differences}).values()
    require(values.ndim == 1, "differences.ndim", values.ndim, "1: one number per pair")
    # Patterns with equal sums may differ by rounding: they count as reaching it.
    reached = abs(values.sum()) - 1e-12 * np.abs(values).sum()
    if values.size <= EXACT_PAIRS:
        sums = np.zeros(1)
        for value in values:
            sums = np.concatenate((sums + value, sums - value))
        return float(np.mean(np.abs(sums) >= reached))
    generator = np.random.default_rng(seed)
    count = 0
    for start in range(0, repetitions, 10_000):
        signs = generator.integers(2, size=(min(10_000, repetitions - start), values.size)) * 2.0 - 1.0
        count += int(np.sum(np.abs(signs @ values) >= reached))
    return (count + 1) / (repetitions + 1)
