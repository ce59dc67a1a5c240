"""How deep is the well, and for how long, by where the sampling distribution starts: a grid, measured seed by seed."""

import difflib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from escapevelocity.errors import require
from escapevelocity.health import METRICS, measure_well
from escapevelocity.study.bootstrap import Interval
from escapevelocity.study.grid import Study
from escapevelocity.study.history import History, HistoryRun
from escapevelocity.study.student import student_interval

CURVE = "test/recall_at_1"
"""What wells are measured in, unless another column is asked for."""
_CURVES = ("test/", "validation/", "asr/metric", "health/embedding/")
"""How the columns begin in which a well can be looked for."""
MEASURES = ("depth", "onset", "lasted", "censored", "area", "final", "final_gain")
NARROW = "narrow"
"""The start that `final_gain` is measured from, seed by seed (Dou et al.: the low-variance start)."""


@dataclass(frozen=True, eq=False)
class StartWells:
    """The wells of one start of the distribution.

    Attributes:
        init: the start.
        seeds: in the order of the values.
        values: by measure of `health.measure_well`, a value per seed; NaN where it is undefined, as the onset of a
            curve that never fell.
    """

    init: str
    seeds: tuple[int, ...]
    values: dict[str, np.ndarray]

    def finite(self, measure: str) -> np.ndarray:
        """The values of the seeds that have one."""
        values = self.values[measure]
        return values[np.isfinite(values)]

    def interval(self, measure: str) -> Interval | None:
        """Mean over seeds with Student's 95 % interval; None where no seed has a value.

        Not the interquartile mean: of five seeds it does not see the one that fell into a well.
        """
        return seeds_interval(self.finite(measure), measure)


def seeds_interval(values: Sequence[float] | np.ndarray, measure: str) -> Interval | None:
    """Mean of a measure over seeds with Student's 95 % interval; None without a value.

    Args:
        values: one per seed.
        measure: its name; no curve has a negative depth or area, so that their intervals are cut at 0.
    """
    least = 0.0 if measure in ("depth", "area") else -math.inf
    return student_interval(values, least=least) if len(values) else None


def wells_study(
    data: str,
    means: Sequence[float],
    stds: Sequence[float],
    seeds: Sequence[int],
    steps: int | None = None,
    learner: dict[str, object] | None = None,
) -> Study:
    """The grid: normal starts of every mean and standard deviation, and `narrow` to compare with.

    Args:
        data: the images.
        means: of the distances.
        stds: of the distances.
        seeds: of every cell.
        steps: training steps; by default those that fit the images.
        learner: other settings of every run, by name.

    Raises:
        UserError: no mean or no standard deviation.
    """
    require(len(means) > 0, "means", list(means), "one or more distances")
    require(len(stds) > 0, "stds", list(stds), "one or more positive numbers")
    grid = [f"normal({mean:g},{std:g})" for mean in means for std in stds]
    base = {"data": data, **({} if steps is None else {"steps": steps}), **(learner or {})}
    return Study(
        name=f"asr-wells-{data}", base=base, axes={"init": (NARROW, *grid)}, seeds=tuple(seeds), job="asr"
    )


def require_curve(column: str, window: int) -> None:
    """Find what is wrong with a curve's name and smoothing before anything is trained.

    Raises:
        UserError: a column that no run of adaptive sampling has, or a window that is not odd.
    """
    known = [name for metric in METRICS for name in metric.columns() if name.startswith(_CURVES)]
    near = difflib.get_close_matches(column, known, n=3) or known[:3]
    require(column in known, "column", column, f"a curve such as {', '.join(near)}")
    require(window >= 1 and window % 2 == 1, "window", window, "an odd number of at least 1")


def wells_by_start(history: History, column: str = CURVE, window: int = 1) -> list[StartWells]:
    """Measure the well of every seed of every start.

    Args:
        history: of a `wells_study`'s runs, or of any runs of adaptive sampling that differ in their start alone.
        column: the curve.
        window: points of a running mean before measuring.

    Returns:
        The starts, in the order of the history.
    """
    inits = list(dict.fromkeys(str(run.settings["init"]) for run in history.runs))
    curves = {init: _curves(history, init, column) for init in inits}
    reference = curves.get(NARROW, {})
    return [
        _measured(init, curves[init], reference, window)
        for init in sorted(inits, key=lambda init: (init != NARROW, init))
    ]


def shown_starts(history: History, means: Sequence[float]) -> list[HistoryRun]:
    """The runs whose curves are drawn together: `narrow`, and every spread of the middle mean; eight at most."""
    middle = f"normal({sorted(means)[len(means) // 2]:g},"
    chosen = [
        run
        for run in history.runs
        if run.settings["init"] == NARROW or str(run.settings["init"]).startswith(middle)
    ]
    return sorted(chosen, key=lambda run: (run.settings["init"] != NARROW, str(run.settings["init"])))[:8]


def _curves(history: History, init: str, column: str) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Steps and values by seed."""
    found = {}
    for run in history.where(init=init).runs:
        steps, values = history.values(run, column)
        found |= {seed: (steps, own) for seed, own in zip(run.seeds, values, strict=True)}
    return dict(sorted(found.items()))


def _measured(
    init: str,
    curves: dict[int, tuple[np.ndarray, np.ndarray]],
    reference: dict[int, tuple[np.ndarray, np.ndarray]],
    window: int,
) -> StartWells:
    values = {name: np.full(len(curves), np.nan) for name in MEASURES}
    for index, (seed, (steps, own)) in enumerate(curves.items()):
        if not np.isfinite(own).any():
            continue
        found = measure_well(steps, own, window=window, reference=reference.get(seed))
        for name in MEASURES:
            values[name][index] = float(np.asarray(found.values[name]))
    return StartWells(init, tuple(curves), values)
