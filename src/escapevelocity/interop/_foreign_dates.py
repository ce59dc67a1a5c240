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
    # Steps of a rollout, the commonest: entries that an evaluation writes come sooner, those of a log that shows few
    # updates later.
    lags, times = np.unique((written - made)[written > made], return_counts=True)
    lag = float(lags[times.argmax()]) if len(lags) else 0.0
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
    """When the row says that was written with them; without such a row, a rollout earlier.

    Two are written at the last step: the update before the last rollout, and the one after it.
    """
    moved = steps - lag
    for at in np.unique(written):
        here, own = np.flatnonzero(steps == at), made[written == at]
        count = min(len(here), len(own))
        moved[here[len(here) - count :]] = own[len(own) - count :]
    return moved


def _exact(rounded: Vector, known: Vector) -> Vector:
    """Steps without the rounding of single precision, where the log holds them exactly elsewhere."""
    right = np.minimum(np.searchsorted(known, rounded), len(known) - 1)
    left = np.maximum(right - 1, 0)
    nearest = np.where(rounded - known[left] <= known[right] - rounded, known[left], known[right])
    return np.where(np.abs(nearest - rounded) <= _SINGLE * rounded, nearest, rounded)
