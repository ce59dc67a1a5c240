"""From histories to numbers: one value per seed, aggregates with intervals, and how they are written."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from escapevelocity.study.bootstrap import REPETITIONS, Interval, bootstrap_ends, bootstrap_interval
from escapevelocity.study.history import History, HistoryRun
from escapevelocity.study.scores import Scores
from escapevelocity.study.statistics import iqm
from escapevelocity.study.windows import LAST, last_window
from studies.running import deaths

BOOTSTRAP_SEED = 0

DEAD_RETURN = 0.0
"""What the return of a dead seed counts as from its death on: it acts no more and earns nothing. For tasks whose
returns are positive, such as Hopper-v4 and MinAtar's games; where every step costs, dying would pay."""


class Lives(NamedTuple):
    """A column of some seeds' records, with where their training ended."""

    steps: np.ndarray
    """(points,) environment steps, increasing."""
    values: np.ndarray
    """(seeds, points), NaN where a seed has no finite value."""
    died: np.ndarray
    """(seeds,) steps at which a seed's numbers stopped being finite, NaN where they did not (`running.deaths`)."""
    total: float
    """Environment steps of a whole run."""


Measure = Callable[[Lives], np.ndarray]
"""The lives of some seeds to one value per seed."""


def at_end(share: float = LAST, dead: float | None = None) -> Measure:
    """Mean over the last `share` of a run.

    Args:
        share: of the whole run.
        dead: what a dead seed counts as from its death on (such as `DEAD_RETURN`). None: it is read over the last
            `share` of its own life, as in the code of Moalla et al. 2024.
    """
    if dead is None:
        return lambda lives: _over_own_lives(lives, share)
    return lambda lives: _over_run(lives, share, dead)


def _over_own_lives(lives: Lives, share: float) -> np.ndarray:
    ends = np.where(np.isnan(lives.died), lives.total, lives.died)
    return last_window(lives.steps, lives.values, ends, share).mean


def _over_run(lives: Lives, share: float, dead: float) -> np.ndarray:
    ends = np.full(len(lives.values), lives.total)
    living = last_window(lives.steps, lives.values, ends, share).mean
    alive = np.clip(1 - (1 - lives.died / lives.total) / share, 0, 1)  # Share of the window.
    mixed = np.where(np.isnan(living), dead, alive * living + (1 - alive) * dead)
    return np.where(np.isnan(lives.died), living, mixed)


def on_average(dead: float | None = None) -> Measure:
    """Mean over the whole run: the area under the curve, divided by the run's length; for `dead` see `at_end`."""
    return at_end(1.0, dead)


def at_start(points: int = 3) -> Measure:
    """Mean over the first few values."""
    return lambda lives: finite_mean(lives.values[:, :points])


def by_seed(history: History, column: str, measure: Measure) -> dict[int, float]:
    """One value for each seed of the runs of one setting, whichever run holds the seed.

    Args:
        history: its runs must not share a seed.
        column: of the records.
        measure: see `Measure`.
    """
    found: dict[int, float] = {}
    for run in history.runs:
        values = measure(lives_of(history, run, column))
        found |= {seed: float(value) for seed, value in zip(run.seeds, values, strict=True)}
    return dict(sorted(found.items()))


def lives_of(history: History, run: HistoryRun, column: str) -> Lives:
    """A column of one run."""
    steps, values = history.values(run, column)
    # The last row of a dead seed may hold infinities.
    values = np.where(np.isfinite(values), values, np.nan)
    return Lives(steps, values, deaths(history, run), float(run.steps_total))


def side_by_side(history: History, column: str) -> Lives:
    """A column of all runs of one setting, seeds below each other on the steps of all of them."""
    parts = [lives_of(history, run, column) for run in history.runs]
    steps = np.unique(np.concatenate([one.steps for one in parts])) if parts else np.zeros(0)
    values = np.full((sum(len(one.values) for one in parts), steps.size), np.nan)
    row = 0
    for one in parts:
        values[row : row + len(one.values), np.searchsorted(steps, one.steps)] = one.values
        row += len(one.values)
    died = np.concatenate([one.died for one in parts]) if parts else np.zeros(0)
    return Lives(steps, values, died, max((one.total for one in parts), default=0.0))


def finite_mean(values: np.ndarray) -> np.ndarray:
    """Mean over the last axis of what is not NaN; NaN where nothing is."""
    count = np.isfinite(values).sum(axis=1)
    return np.divide(np.nansum(values, axis=1), count, out=np.full(len(values), np.nan), where=count > 0)


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
