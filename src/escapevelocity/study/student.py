"""Student's interval for a mean over seeds: what few runs can tell.

The percentile bootstrap of a mean takes the spread of the runs it has for the true one. Of three runs its "95 %" holds
the truth in about three studies of four, of five in 85 % (see `bootstrap`). Student's keeps what it promises for any
number of normal scores, two included, and is what a mean over three to five seeds is judged by.
"""

import math
from collections.abc import Sequence

import numpy as np
from scipy.stats import t as student_t

from escapevelocity.errors import require
from escapevelocity.study.bootstrap import LEVEL, Interval


def student_interval(
    values: Sequence[float] | np.ndarray, level: float = LEVEL, least: float = -math.inf
) -> Interval:
    """Mean with Student's interval; its ends are NaN for a single value.

    Source:
        Student 1908, "The Probable Error of a Mean", Biometrika 6.

    Args:
        values: one per seed; of a paired comparison, the differences.
        level: coverage, in (0, 1).
        least: value that the mean cannot be below, such as 0 of a depth: the interval is cut there, which loses
            nothing of its coverage.

    Raises:
        UserError: no value, one that is not finite, or a level out of range.

    Example:
        >>> print(student_interval([1.0, 2.0, 3.0]))
        2 [-0.4841, 4.484]
    """
    found = np.asarray(values, np.float64)
    require(bool(0 < level < 1), "level", level, "between 0 and 1, such as 0.95")
    require(
        found.ndim == 1 and found.size > 0 and bool(np.isfinite(found).all()),
        "values", values, "finite numbers, one per seed",
    )  # fmt: skip
    middle = float(found.mean())
    if found.size == 1:
        return Interval(middle, math.nan, math.nan, level)
    quantile = float(student_t.ppf((1 + level) / 2, found.size - 1))
    reach = quantile * float(found.std(ddof=1)) / math.sqrt(found.size)
    return Interval(middle, max(middle - reach, least), middle + reach, level)
