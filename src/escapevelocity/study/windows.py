"""What the figures of Moalla et al. take from curves: smoothed bands, the last 5 %, the excess ratio, low ratios.

Moalla et al. 2024 (arXiv 2405.00662); the windows are those of its public code (`plotting.ipynb`). Every curve has
one row per seed, NaN where a value is undefined (no episode ended, no ratio below 1−ε) or the seed has no record.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from escapevelocity.errors import require
from escapevelocity.health.trust import CONTINUOUS_MEAN_LIMITS
from escapevelocity.report._curves import Curve, moving_average, newest_weight, thinned

LAST = 0.05
"""Share of training that Figure 6 averages over."""
LEAST_POINTS = 10
"""Points at which both means must exist in the window of the excess ratio."""
LOW_WINDOWS = 20
"""Windows of 1 % with the lowest ratios that Figure 4 takes from each run."""


@dataclass(frozen=True)
class LastWindow:
    """Means over the end of training, per seed."""

    mean: Float[np.ndarray, " seeds"]
    """NaN where no value is defined in the window."""
    points: Int[np.ndarray, " seeds"]
    """How many values the mean is over."""


@dataclass(frozen=True)
class ExcessRatio:
    """Mean of (mean ratio above 1+ε)/(mean ratio below 1−ε) over its window, per seed."""

    ratio: Float[np.ndarray, " seeds"]
    """NaN where no window holds enough points."""
    start: Float[np.ndarray, " seeds"]
    """Environment steps of the window's first and last point; NaN where there is no window."""
    end: Float[np.ndarray, " seeds"]
    points: Int[np.ndarray, " seeds"]
    """Points in the window at which both means exist; 0 where there is no window."""


@dataclass(frozen=True)
class LowRatios:
    """The windows with the lowest means of ratios below 1−ε, lowest first; NaN where a seed has fewer."""

    ratio: Float[np.ndarray, "seeds windows"]
    """Mean over the window."""
    steps: Float[np.ndarray, "seeds windows"]
    """Environment steps at which the window ends."""
    others: dict[str, Float[np.ndarray, "seeds windows"]]
    """Means of other columns over the same points."""


def last_steps(
    steps: Float[np.ndarray, " points"], recorded: Float[np.ndarray, "seeds points"]
) -> Float[np.ndarray, " seeds"]:
    """Find how far each seed got: the steps of its last record; NaN for a seed that has none.

    Args:
        steps: environment steps.
        recorded: a column that every record has, such as `wall_time`.
    """
    _require_curves(steps, recorded=recorded)
    furthest = np.where(np.isnan(recorded), -np.inf, steps).max(axis=1, initial=-np.inf)
    return np.where(np.isfinite(furthest), furthest, np.nan)


def smoothed(
    steps: Float[np.ndarray, " points"],
    values: Float[np.ndarray, "seeds points"],
    total: float,
    ends: Float[np.ndarray, " seeds"] | None = None,
) -> Curve:
    """Thin to 0.1 % of the run, take mean, minimum and maximum over seeds, then smooth each of the three.

    The seeds that are defined at a point make its mean: one that was frozen drops out of what follows. It is
    marked where it ended, if at least two points of the curve lie beyond (a run interrupted within a batch
    lacks the last point of some seeds, which were not frozen).

    Source:
        Moalla et al. 2024, code; `report` draws a single run by the same functions.

    Args:
        steps: environment steps, increasing.
        values: one row per seed.
        total: environment steps of the whole run.
        ends: how far each seed got (`last_steps`), to mark those that were frozen; without it none is marked.

    Raises:
        UserError: when the shapes do not fit, steps do not increase, or `total` is not positive.
    """
    _require_curves(steps, values=values)
    require(bool(total > 0), "total", total, "positive")
    chosen = thinned(steps, total)
    steps, values = steps[chosen], np.asarray(values, np.float64)[:, chosen]
    alpha = newest_weight(steps, total)
    with warnings.catch_warnings():  # a point at which no seed is defined is NaN, as it should be
        warnings.simplefilter("ignore", RuntimeWarning)
        bands = [reduce(values, axis=0) for reduce in (np.nanmean, np.nanmin, np.nanmax)]
    marks = [] if ends is None else _marks(steps, values, ends, alpha)
    return Curve(steps, *(moving_average(band, alpha) for band in bands), ends=tuple(marks))


def last_window(
    steps: Float[np.ndarray, " points"],
    values: Float[np.ndarray, "seeds points"],
    ends: Float[np.ndarray, " seeds"] | None = None,
    share: float = LAST,
) -> LastWindow:
    """Average over the last 5 % of training (Figure 6), seed by seed: points at (1 − share)·end or later.

    Args:
        steps: environment steps, increasing.
        values: one row per seed, not smoothed.
        ends: how far each seed got (`last_steps`); the window of a seed that was frozen ends there, as in
            the paper's code, which knows a run's own length only. Without it all end at the last step, and
            a frozen seed has no points.
        share: of the seed's own length, in (0, 1].

    Raises:
        UserError: when the shapes do not fit, steps do not increase, or `share` is out of range.
    """
    _require_curves(steps, values=values)
    _require_share(share)
    ends = _ends(steps, values, ends)
    values = np.asarray(values, np.float64)
    inside = (steps >= (1 - share) * ends[:, None]) & (steps <= ends[:, None]) & ~np.isnan(values)
    points = inside.sum(axis=1)
    sums = np.where(inside, values, 0.0).sum(axis=1)
    return LastWindow(np.divide(sums, points, out=np.full(len(values), np.nan), where=points > 0), points)


def excess_ratio(
    steps: Float[np.ndarray, " points"],
    above: Float[np.ndarray, "seeds points"],
    below: Float[np.ndarray, "seeds points"],
    *,
    continuous: bool,
    ends: Float[np.ndarray, " seeds"] | None = None,
    share: float = LAST,
    least: int = LEAST_POINTS,
) -> ExcessRatio:
    """Average the excess ratio over the latest 5 % of training in which it can be measured (Figure 6).

    A window ends at a point at which both means exist, and reaches back by 5 % of the seed's length. The latest
    that holds at least ten such points counts; the result is the mean of the quotients at its points.

    Source:
        Moalla et al. 2024, Figure 6 and code. The code clips continuous means on one side each, at 1e13 and
        1e-11; here both are held in [1e-12, 1e12], as in `health.trust`.

    Args:
        steps: environment steps, increasing.
        above: `trust/ratio_above_mean`, one row per seed.
        below: `trust/ratio_below_mean`, one row per seed.
        continuous: whether actions are continuous; then each mean is first clipped to [1e-12, 1e12].
        ends: how far each seed got (`last_steps`); without it, all to the last step.
        share: of the seed's own length, in (0, 1].
        least: points a window must hold, ≥ 1.

    Raises:
        UserError: when the shapes do not fit, steps do not increase, or `share` or `least` is out of range.
    """
    _require_curves(steps, above=above, below=below)
    _require_share(share)
    require(least >= 1, "least", least, "at least 1")
    ends = _ends(steps, above, ends)
    above, below = np.asarray(above, np.float64), np.asarray(below, np.float64)
    low, high = CONTINUOUS_MEAN_LIMITS if continuous else (0.0, np.inf)
    found = []
    for over, under, end in zip(above, below, ends, strict=True):
        both = np.flatnonzero(~np.isnan(over) & ~np.isnan(under) & (steps <= end))
        at = steps[both]
        first = np.searchsorted(at, at - np.floor(share * end))
        enough = np.flatnonzero(np.arange(at.size) - first + 1 >= least)
        if enough.size == 0:
            found.append((np.nan, np.nan, np.nan, 0))
            continue
        window = both[first[enough[-1]] : enough[-1] + 1]
        with np.errstate(
            divide="ignore", over="ignore"
        ):  # discrete ratios may underflow: infinity, not an error
            quotients = np.clip(over[window], low, high) / np.clip(under[window], low, high)
        found.append((quotients.mean(), steps[window[0]], steps[window[-1]], window.size))
    ratio, start, stop, points = np.array(found, np.float64).reshape(-1, 4).T
    return ExcessRatio(ratio, start, stop, points.astype(np.int64))


def low_ratios(
    steps: Float[np.ndarray, " points"],
    below: Float[np.ndarray, "seeds points"],
    others: Mapping[str, Float[np.ndarray, "seeds points"]],
    total: float,
    *,
    windows: int = 100,
    lowest: int = LOW_WINDOWS,
) -> LowRatios:
    """Take each seed's windows of 1 % with the lowest mean ratios below 1−ε, and what else was measured there.

    Window k is (k·total/100, (k+1)·total/100], so that it holds ten of the points thinned to 0.1 %. Points
    without a ratio below 1−ε are left out of all means, windows without any such point altogether. (The code's
    windows are closed on the left: they begin one point earlier and lose the last point of the run.)

    Source:
        Moalla et al. 2024, Figure 4 and code; the paper shows dead neurons, rank and norm before the update.

    Args:
        steps: environment steps, increasing.
        below: `trust/ratio_below_mean`, one row per seed.
        others: name → values at the same steps and seeds.
        total: environment steps of the whole run.
        windows: number of windows in the whole run, ≥ 1.
        lowest: number of windows to take, ≥ 1.

    Raises:
        UserError: when the shapes do not fit, steps do not increase, or a number is out of range.
    """
    _require_curves(steps, **{"below": below, **others})
    require(bool(total > 0), "total", total, "positive")
    require(windows >= 1, "windows", windows, "at least 1")
    require(lowest >= 1, "lowest", lowest, "at least 1")
    width = total / windows
    # Rounded: a point exactly at a window's end must not fall into the next by the last bit of a division.
    member = np.ceil(np.round(steps / width, 9)).astype(int)
    shape = (len(below), lowest)
    result = LowRatios(
        np.full(shape, np.nan), np.full(shape, np.nan), {k: np.full(shape, np.nan) for k in others}
    )
    for seed, ratios in enumerate(np.asarray(below, np.float64)):
        there = ~np.isnan(ratios)
        numbers = np.unique(member[there])
        means = {number: np.flatnonzero(there & (member == number)) for number in numbers}
        averages = np.array([ratios[points].mean() for points in means.values()])
        for place, index in enumerate(np.argsort(averages, kind="stable")[:lowest]):
            points = means[numbers[index]]
            result.ratio[seed, place] = averages[index]
            result.steps[seed, place] = numbers[index] * width
            for name, values in others.items():
                result.others[name][seed, place] = _mean(np.asarray(values[seed, points], np.float64))
    return result


def _marks(
    steps: np.ndarray, values: np.ndarray, ends: np.ndarray, alpha: float
) -> list[tuple[float, float]]:
    """Give the last step and smoothed value of the seeds that ended two points or more before the others."""
    marks = []
    for own, end in zip(values, ends, strict=True):
        points = int(np.searchsorted(steps, end, side="right"))
        averages = moving_average(own[:points], alpha)
        defined = averages[~np.isnan(averages)]
        if points <= steps.size - 2 and defined.size:
            marks.append((float(steps[points - 1]), float(defined[-1])))
    return marks


def _mean(values: np.ndarray) -> float:
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else np.nan


def _ends(steps: np.ndarray, values: np.ndarray, ends: np.ndarray | None) -> np.ndarray:
    if ends is None:
        return np.full(len(values), steps[-1] if steps.size else np.nan)
    return np.asarray(ends, np.float64)


def _require_share(share: float) -> None:
    require(bool(0 < share <= 1), "share", share, "in (0, 1], such as 0.05")


def _require_curves(steps: np.ndarray, **curves: np.ndarray) -> None:
    increasing = steps.ndim == 1 and bool(np.all(np.diff(steps) > 0))
    require(increasing, "steps", steps, "one axis of increasing environment steps")
    seeds = {values.shape[0] if values.ndim == 2 else -1 for values in curves.values()}
    for name, values in curves.items():
        fits = values.ndim == 2 and values.shape[1] == steps.size and len(seeds) == 1
        require(fits, f"{name}.shape", values.shape, f"(seeds, {steps.size}), as many seeds for every column")
