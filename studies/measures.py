"""From histories to numbers: one value per seed, aggregates with intervals, and how they are written."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from escapevelocity.study.bootstrap import Interval, bootstrap_ends, bootstrap_interval
from escapevelocity.study.history import Curves, History
from escapevelocity.study.scores import Scores
from escapevelocity.study.statistics import iqm
from escapevelocity.study.windows import LAST, last_window

BOOTSTRAP_SEED, REPETITIONS = 6, 10_000
Measure = Callable[[Curves], np.ndarray]
"""Curves (seeds, points) to one value per seed."""


def at_end(share: float = LAST) -> Measure:
    """Mean over the last `share` of each run."""
    return lambda curves: last_window(*curves, share=share).mean


def on_average(curves: Curves) -> np.ndarray:
    """Mean over the whole run: the area under the curve, divided by the run's length."""
    return last_window(*curves, share=1.0).mean


def at_start(points: int = 3) -> Measure:
    """Mean over the first few values."""
    return lambda curves: np.nanmean(curves.values[:, :points], axis=1)


def by_seed(history: History, column: str, measure: Measure) -> dict[int, float]:
    """One value for each seed of the runs of one setting, whichever run holds the seed.

    Args:
        history: its runs must not share a seed.
        column: of the records.
        measure: see `Measure`.
    """
    found: dict[int, float] = {}
    for run in history.runs:
        values = measure(history.values(run, column))
        found |= {seed: float(value) for seed, value in zip(run.seeds, values, strict=True)}
    return dict(sorted(found.items()))


def side_by_side(history: History, column: str) -> Curves:
    """The curves of all runs of one setting: (points,), (all seeds, points); NaN where a seed has no value."""
    curves = [history.values(run, column) for run in history.runs]
    steps = np.unique(np.concatenate([one.steps for one in curves])) if curves else np.zeros(0)
    values = np.full((sum(len(one.values) for one in curves), steps.size), np.nan)
    row = 0
    for one in curves:
        values[row : row + len(one.values), np.searchsorted(steps, one.steps)] = one.values
        row += len(one.values)
    return Curves(steps, values)


def known(scores: Mapping[int, float]) -> np.ndarray:
    """The scores that are numbers; a seed has none where nothing was measured, such as no episode that ended."""
    return np.array([value for value in scores.values() if np.isfinite(value)])


def iqm_interval(scores: Mapping[int, float], repetitions: int = REPETITIONS) -> Interval | None:
    """The interquartile mean over seeds with its 95 % bootstrap interval; None without a score."""
    values = known(scores)
    if values.size == 0:
        return None
    return bootstrap_interval(values, iqm, seed=BOOTSTRAP_SEED, repetitions=repetitions)


def difference_interval(
    x: Mapping[int, float], y: Mapping[int, float], repetitions: int = REPETITIONS
) -> Interval | None:
    """IQM of X − IQM of Y with its 95 % bootstrap interval; both are resampled by themselves, unpaired."""
    first, second = known(x), known(y)
    if first.size == 0 or second.size == 0:
        return None

    def difference(a: Scores, b: Scores) -> Any:
        return iqm(a) - iqm(b)

    low, high = bootstrap_ends(
        (first, second), difference, seed=BOOTSTRAP_SEED, level=0.95, repetitions=repetitions
    )
    return Interval(float(difference(first, second)), float(low), float(high))


def written(interval: Interval | None, digits: int = 0, sign: str = "") -> str:
    """Such as `1,234 [1,100, 1,350]`; a dash where there is none.

    Args:
        interval: what to write.
        digits: decimal places.
        sign: "+" writes the sign of positive numbers too.
    """
    if interval is None:
        return "–"
    form = f"{sign},.{digits}f"
    estimate = format(interval.estimate, form)
    if np.isnan(interval.low):
        return f"{estimate} (one seed)"
    return f"{estimate} [{interval.low:{form}}, {interval.high:{form}}]"
