"""The middle of several seeds at every point: interquartile mean with interval, over the seeds that live there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from jaxtyping import Float

from escapevelocity.report.charts import Mark

LEVEL = 0.95
RESAMPLES = 400
"""Of the bootstrap: its 2.5 % are then ten resamples, enough for the edge of a band that is looked at."""
_TRIMMED = 4  # A quarter from either end: the interquartile mean.
_MOST_MARKS = 3  # More would cover a chart.


def held(
    steps: Float[np.ndarray, " points"],
    seeds: Sequence[int],
    values: Float[np.ndarray, "seeds points"],
    ends: Mapping[int, float],
) -> Float[np.ndarray, "seeds points"]:
    """Hold a seed's last value where it has none and others have, as when no episode ended: it has not gone.

    So the middle is over the same seeds from point to point, and does not jump between them. A point at which no seed
    has a value stays a gap; before its first value a seed has none, nor after its end.

    Args:
        steps: environment steps, increasing.
        seeds: whose values they are.
        values: NaN where undefined.
        ends: by seed, the step of its last row, where others go on.
    """
    there = np.isfinite(values)
    newest = np.maximum.accumulate(np.where(there, np.arange(steps.size), 0), axis=1)
    lives = steps <= np.array([ends.get(seed, np.inf) for seed in seeds])[:, None]
    return np.where(there.any(axis=0) & lives, np.take_along_axis(values, newest, axis=1), np.nan)


def frozen_marks(frozen: Mapping[int, float], group: int) -> tuple[Mark, ...]:
    """Mark where seeds were frozen: from there the middle goes on over the others.

    Args:
        frozen: by seed, the step of its last row.
        group: of the run or cell.

    Example:
        >>> [(mark.x, mark.label) for mark in frozen_marks({3: 10.0, 1: 20.0, 2: 20.0}, 0)]
        [(10.0, 'seed 3 frozen'), (20.0, 'seeds 1 2 frozen')]
    """
    together: dict[float, list[int]] = {}
    for seed, step in sorted(frozen.items(), key=lambda item: (item[1], item[0])):
        together.setdefault(step, []).append(seed)
    if len(together) > _MOST_MARKS:
        return (Mark(min(together), f"{len(frozen)} seeds frozen from here on", group),)
    marks = []
    for step, seeds in together.items():
        several = f"seeds {' '.join(map(str, seeds))}" if len(seeds) <= _MOST_MARKS else f"{len(seeds)} seeds"
        marks.append(Mark(step, f"{several if len(seeds) > 1 else f'seed {seeds[0]}'} frozen", group))
    return tuple(marks)


def middle_name(counts: Iterable[int]) -> str:
    """Say what the middle of so many seeds is: of fewer than four nothing is trimmed.

    Example:
        >>> middle_name([3, 2]), middle_name([3, 5])
        ('mean', 'interquartile mean')
    """
    return "interquartile mean" if max(counts, default=0) >= _TRIMMED else "mean"


def interquartile_band(
    values: Float[np.ndarray, "seeds points"], resamples: int = RESAMPLES
) -> tuple[Float[np.ndarray, " points"], Float[np.ndarray, " points"], Float[np.ndarray, " points"]]:
    """Take the interquartile mean over seeds at every point, with its percentile bootstrap interval (95 %).

    The seeds are drawn with replacement, the same ones at every point, so that the band is as smooth as the curves;
    undefined values are left out. With one seed there is no interval: both ends are NaN. With few it is too narrow
    (`study.bootstrap` says by how much), which is why the page draws the seeds as well.

    Args:
        values: NaN where undefined.
        resamples: number of resamples, from a fixed seed.

    Returns:
        The mean, and the ends of the interval.
    """
    count = values.shape[0]
    middle = interquartile_mean(values)
    if count < 2:
        nothing = np.full(middle.shape, np.nan)
        return middle, nothing, nothing
    chosen = np.random.default_rng(0).integers(count, size=(count, resamples))
    drawn = interquartile_mean(values[chosen])
    # A resample may hold only seeds that are undefined here: it says nothing.
    ordered = np.sort(drawn, axis=0)
    defined = np.isfinite(drawn).sum(axis=0)
    ends = []
    for share in ((1 - LEVEL) / 2, (1 + LEVEL) / 2):
        at = np.clip(np.round(share * (defined - 1)).astype(int), 0, None)
        ends.append(np.where(defined > 0, np.take_along_axis(ordered, at[None], axis=0)[0], np.nan))
    return middle, ends[0], ends[1]


def interquartile_mean(values: Float[np.ndarray, "seeds ..."]) -> np.ndarray:
    """Over the first axis, of the values that are defined; NaN where none is."""
    finite = np.isfinite(values)
    ordered = np.sort(np.where(finite, values, np.inf), axis=0)
    counts = finite.sum(axis=0)
    cut = counts // _TRIMMED
    place = np.arange(values.shape[0]).reshape(-1, *[1] * (values.ndim - 1))
    kept = (place >= cut) & (place < counts - cut)
    total = np.where(kept, ordered, 0.0).sum(axis=0)
    return np.where(counts > 0, total / np.maximum(kept.sum(axis=0), 1), np.nan)
