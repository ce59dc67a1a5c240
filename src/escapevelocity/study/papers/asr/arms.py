"""Arms of a comparison of adaptive sampling: how their runs are recognised, what is read from them, how they differ.

Three to five seeds are compared: all intervals are Student's, which a mean of so few can be judged by (see
`study.student`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from escapevelocity.health import measure_well
from escapevelocity.metric_learning.config import ControllerConfig, LearnerConfig, SamplerConfig
from escapevelocity.report._curves import Curve
from escapevelocity.report._panels import Panel, Series
from escapevelocity.study.asr_wells import seeds_interval
from escapevelocity.study.bootstrap import Interval
from escapevelocity.study.history import History, HistoryRun
from escapevelocity.study.student import student_interval

RECALL = "test/recall_at_1"
FINAL_SHARE = 0.1
"""`final` is the mean over the last tenth of the measured points: a single one is noisier than the arms differ."""


@dataclass(frozen=True, eq=False)  # An arm is itself: its mapping could not be hashed.
class Arm:
    """One way to choose negatives.

    Attributes:
        label: in legends and sentences.
        settings: what is set, by the names of `ev asr train`'s options.
    """

    label: str
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def axis_value(self) -> dict[str, Any]:
        """Its entry on a study's axis."""
        return {"label": self.label, **self.settings}


@dataclass(frozen=True, eq=False)
class ArmRuns:
    """The runs of an arm.

    Attributes:
        arm: the arm.
        history: with its runs alone.
    """

    arm: Arm
    history: History

    def scores(self, measure: str, column: str = RECALL) -> dict[int, float]:
        """A number per seed.

        Args:
            measure: first, the first point; final, the mean over the last tenth of the points; mean, over the whole
                training (area under the curve over its length); or a measure of `health.measure_well`, such as depth.
            column: the curve.

        Returns:
            By seed; seeds without a value are left out.
        """
        curves = self._curves_by_seed(column)
        found = {
            seed: _read(measure, steps, values)
            for seed, (steps, values) in curves.items()
            if len(values) >= 2
        }
        return {seed: value for seed, value in found.items() if np.isfinite(value)}

    def interval(self, measure: str, column: str = RECALL) -> Interval | None:
        """Mean over seeds with Student's 95 % interval; None without a value."""
        return seeds_interval(list(self.scores(measure, column).values()), measure)

    def against(self, other: "ArmRuns", measure: str, column: str = RECALL) -> "PairedMean | None":
        """This arm's score minus another's, paired by seed; None where they share no seed."""
        own, others = self.scores(measure, column), other.scores(measure, column)
        shared = tuple(seed for seed in own if seed in others)
        if not shared:
            return None
        return PairedMean(shared, student_interval([own[seed] - others[seed] for seed in shared]))

    def ahead_from(self, other: "ArmRuns", column: str = RECALL) -> float | None:
        """The step from which on the whole interval of this arm minus another, paired by seed, lies above 0.

        None where it does not at the last measurement, or where the two share no seed with as many measurements.
        """
        own, others = self._curves_by_seed(column), other._curves_by_seed(column)
        pairs = [(own[seed], others[seed]) for seed in own.keys() & others.keys()]
        pairs = [
            (a, b) for a, b in pairs if np.array_equal(a[0], b[0]) and np.array_equal(a[0], pairs[0][0][0])
        ]
        if not pairs:
            return None
        differences, since = np.stack([a[1] - b[1] for a, b in pairs]), None
        for step, values in zip(pairs[0][0][0][::-1], differences.T[::-1], strict=True):
            if not student_interval(values).low > 0:
                break
            since = float(step)
        return since

    def _curves_by_seed(self, column: str) -> dict[int, tuple[np.ndarray, np.ndarray]]:
        """Steps and values that were measured, seeds in order."""
        found = {}
        for run in self.history.runs:
            steps, values = self.history.values(run, column)
            kept = np.isfinite(values)
            found |= {seed: (steps[k], own[k]) for seed, own, k in zip(run.seeds, values, kept, strict=True)}
        return dict(sorted(found.items()))

    def series(self, panels: "tuple[Panel, ...]") -> Series:
        """Its curves: mean and min–max over seeds, as measured."""
        curves = {column: self._curve(column) for panel in panels for column in panel.columns}
        ends = [float(curve.steps[-1]) for curve in curves.values() if curve.is_measured]
        return Series(self.arm.label, curves, max(ends, default=0.0), clip_epsilon=None, width=None)

    def _curve(self, column: str) -> Curve:
        parts = [self.history.values(run, column) for run in self.history.runs]
        parts = [part for part in parts if part.steps.size]
        if not parts:
            nothing = np.zeros(0)
            return Curve(nothing, nothing, nothing, nothing)
        steps = np.unique(np.concatenate([part.steps for part in parts]))
        rows = []
        for part in parts:
            own = np.full((part.values.shape[0], steps.size), np.nan)
            own[:, np.searchsorted(steps, part.steps)] = part.values
            rows.append(own)
        values = np.concatenate(rows)
        kept = np.isfinite(values).any(axis=0)
        steps, values = steps[kept], values[:, kept]
        return Curve(steps, np.nanmean(values, 0), np.nanmin(values, 0), np.nanmax(values, 0))


class PairedMean(NamedTuple):
    """The mean of differences between two arms.

    Attributes:
        seeds: that both have.
        mean: of the differences, with Student's 95 % interval.
    """

    seeds: tuple[int, ...]
    mean: Interval

    @property
    def side(self) -> int:
        """1 where the whole interval lies above 0, −1 below; 0 where it holds 0, or one seed gives none."""
        return int(self.mean.low > 0) - int(self.mean.high < 0)


def runs_of(arm: Arm, arms: "tuple[Arm, ...]", history: History) -> ArmRuns:
    """Select an arm's runs: those whose settings are its own; what it does not set is the default.

    Args:
        arm: the arm.
        arms: all arms of the comparison.
        history: with the runs of all of them.
    """
    named = _ALWAYS | {name for one in arms for name in one.settings}
    runs = tuple(run for run in history.runs if _holds(arm, named, run))
    return ArmRuns(arm, History(runs, history.rows, history.left_out))


def finished(history: History) -> History:
    """The runs that came to their end: the last tenth of another is not the end of training."""
    return History(
        tuple(run for run in history.runs if run.state == "finished"), history.rows, history.left_out
    )


def written(found: Interval | None, digits: int = 3, sign: bool = False) -> str:
    """An interval in a sentence or table: 0.512 [0.501, 0.520]; a dash where there is none."""
    if found is None:
        return "–"
    form = f"{'+' if sign else ''}.{digits}f"
    if not np.isfinite(found.low):  # One seed has no interval.
        return f"{found.estimate:{form}}"
    return f"{found.estimate:{form}} [{found.low:{form}}, {found.high:{form}}]"


def _holds(arm: Arm, named: set[str], run: HistoryRun) -> bool:
    wanted = {name: arm.settings.get(name, _default(name)) for name in named}
    return all(run.settings.get(name) == value for name, value in wanted.items())


_ALWAYS = {"sampler", "init", "self_regularisation", "head", "controller_learning_rate", "weight_std"}
"""A store may hold the runs of other figures: these tell them apart, whether or not an arm sets them."""


def _default(name: str) -> Any:
    """What a run has that does not set it."""
    sections = (SamplerConfig(), ControllerConfig(), LearnerConfig())
    return next(getattr(section, name) for section in sections if hasattr(section, name))


def _read(measure: str, steps: np.ndarray, values: np.ndarray) -> float:
    if measure == "first":
        return float(values[0])
    if measure == "final":
        return float(values[-max(1, round(FINAL_SHARE * len(values))) :].mean())
    if measure == "mean":
        return float(np.trapezoid(values, steps) / (steps[-1] - steps[0]))
    return float(np.asarray(measure_well(steps, values).values[measure]))
