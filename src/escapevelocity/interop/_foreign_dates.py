"""When an update was made that Stable-Baselines3 logs with the next rollout."""

from collections.abc import Mapping

import numpy as np

from escapevelocity.interop._foreign_log import Vector
from escapevelocity.interop._foreign_tags import OURS, find_tag

Series = Mapping[str, tuple[Vector, Vector]]

_DATE = "health/env_steps"
"""`HealthCallback` logs it beside every row: the step at which its update was made."""
_UPDATE = "train/"
_SINGLE = 6e-8
"""TensorBoard holds numbers in single precision, and steps exactly: relative error of the former."""


def dated(series: Series) -> dict[str, tuple[Vector, Vector]]:
    """Put the rows of `HealthCallback`, and what Stable-Baselines3 says of the same updates, at their own steps.

    The log's step is that of the next rollout, and for the last update that of its own: two updates stood at the end,
    of which one would be lost.

    Args:
        series: tag -> (steps, values); without `health/env_steps` it is given back as it is.
    """
    if _DATE not in series:
        return dict(series)
    written = series[_DATE][0]
    made = _exact(series[_DATE][1], np.unique(np.concatenate([steps for steps, _ in series.values()])))
    lags = written - made
    lag = min(lags[lags > 0], default=0.0)  # Steps of a rollout.
    found = {}
    for tag, (steps, values) in series.items():
        match = find_tag(tag)
        if match is not None and match[1].writer == OURS and np.array_equal(steps, written):
            steps = made
        elif tag.startswith(_UPDATE):
            steps = _of_updates(steps, written, made, lag)
        found[tag] = steps, values
    return found


def _of_updates(steps: Vector, written: Vector, made: Vector, lag: float) -> Vector:
    """A rollout earlier than they were written, but for those that were written without a rollout to come."""
    moved = steps - lag
    for at, step in zip(written[made >= written], made[made >= written], strict=True):
        here = np.flatnonzero(steps == at)
        moved[here[-1:]] = step
    return moved


def _exact(rounded: Vector, known: Vector) -> Vector:
    """Steps without the rounding of single precision, where the log holds them exactly elsewhere."""
    right = np.minimum(np.searchsorted(known, rounded), len(known) - 1)
    left = np.maximum(right - 1, 0)
    nearest = np.where(rounded - known[left] <= known[right] - rounded, known[left], known[right])
    return np.where(np.abs(nearest - rounded) <= _SINGLE * rounded, nearest, rounded)
