"""The members (one seed of one run each) of an arm of a figure, and what is read off their records."""

import math
import warnings
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from escapevelocity.report._curves import Curve, early_ends, moving_average, newest_weight
from escapevelocity.study.ended import deaths

if TYPE_CHECKING:
    from escapevelocity.study.history import History, HistoryRun


class Member(NamedTuple):
    """What two arms' members have in common when they are paired."""

    epochs: int
    seed: int


class Track(NamedTuple):
    """A column of one member; NaN where it is undefined."""

    steps: np.ndarray
    values: np.ndarray
    end: float = math.inf
    """Environment steps of the member's last record, whatever it says of this column."""


Readings: TypeAlias = dict[Member, float]
"""A number for each member."""


@dataclass(frozen=True)
class Group:
    """The runs of one arm."""

    label: str
    runs: "tuple[HistoryRun, ...]"
    history: "History"
    seed: int | None = None
    """The only seed that is read; None: all."""

    @property
    def members(self) -> tuple[Member, ...]:
        """All members, without repetition."""
        found = (Member(epochs_of(run), seed) for run in self.runs for seed in run.seeds if self._reads(seed))
        return tuple(dict.fromkeys(found))

    def _reads(self, seed: int) -> bool:
        return self.seed in (None, seed)

    def only(self, seed: int) -> "Group":
        """The same arm with one seed alone."""
        return replace(self, seed=seed)

    @property
    def epochs(self) -> set[int]:
        """Numbers of epochs that its runs have."""
        return {epochs_of(run) for run in self.runs}

    def at(self, epochs: Collection[int]) -> "Group":
        """The same arm with its runs of these numbers of epochs alone."""
        return replace(self, runs=tuple(run for run in self.runs if epochs_of(run) in epochs))

    def tracks(self, column: str) -> dict[Member, Track]:
        """A column of every member; empty tracks where it was not recorded."""
        found: dict[Member, Track] = {}
        for run in self.runs:
            steps, values = self.history.values(run, column)
            rows, seeds = (self.history.rows.column(run.name, key)[0] for key in ("env_steps", "seed"))
            for seed, own in zip(run.seeds, values, strict=True):
                if self._reads(seed):
                    end = float(np.max(rows[seeds == seed], initial=0))
                    found[Member(epochs_of(run), seed)] = Track(steps, own, end)
        return found

    def readings(self, column: str, read: Callable[[Track], float]) -> Readings:
        """A number for each member that has one."""
        numbers = {member: read(track) for member, track in self.tracks(column).items()}
        return {member: number for member, number in numbers.items() if math.isfinite(number)}

    def curve(self, column: str) -> Curve:
        """Mean, minimum and maximum over the members, smoothed; where no member has a value there is no point, but for
        the ratios, which are undefined there. A member that was frozen is marked where it ended before others.
        """
        found = {member: track for member, track in self.tracks(column).items() if track.steps.size}
        tracks = list(found.values())
        if not tracks:
            nothing = np.zeros(0)
            return Curve(nothing, nothing, nothing, nothing)
        steps = np.unique(np.concatenate([track.steps for track in tracks]))
        values = np.full((len(tracks), steps.size), np.nan)
        for row, track in zip(values, tracks, strict=True):
            row[np.searchsorted(steps, track.steps)] = track.values
        if not column.startswith("trust/"):  # a batch in which no episode ended, a snapshot that is not due
            there = np.isfinite(values).any(axis=0)
            steps, values = steps[there], values[:, there]
        if not steps.size:
            return Curve(steps, steps, steps, steps)
        alpha = newest_weight(steps, self.total)
        with (
            warnings.catch_warnings()
        ):  # a point at which no member has a value is NaN, which is what is wanted
            warnings.simplefilter("ignore", RuntimeWarning)
            mean, low, high = (
                moving_average(reduce(values, axis=0), alpha) for reduce in (np.nanmean, np.nanmin, np.nanmax)
            )
        return Curve(steps, mean, low, high, self._early_ends(found, steps, values, alpha))

    def _early_ends(
        self, tracks: Mapping[Member, Track], steps: np.ndarray, values: np.ndarray, alpha: float
    ) -> tuple[tuple[float, float], ...]:
        """Where frozen members left the mean of a curve; a single member's line ends there by itself."""
        died = self.deaths if self.seed is None else {}
        frozen = np.array([member in died for member in tracks], bool)
        present = np.array([steps <= track.end for track in tracks.values()], bool)
        return early_ends(steps, values[frozen], present[frozen], alpha)

    @cached_property
    def deaths(self) -> dict[Member, float]:
        """The members that were frozen because their numbers became non-finite, with the steps of their last row."""
        found = {
            Member(epochs_of(run), seed): float(step)
            for run in self.runs
            for seed, step in zip(run.seeds, deaths(self.history, run), strict=True)
            if self._reads(seed)
        }
        return {member: step for member, step in found.items() if math.isfinite(step)}

    @property
    def total(self) -> float:
        """Environment steps of a whole run."""
        return float(max((run.steps_total for run in self.runs), default=0)) or self.furthest

    @property
    def furthest(self) -> float:
        """Environment steps up to which every run has come; one whose members all are dead is not waited for."""
        waited = (run for run in self.runs if not is_dead(run, self.history))
        ends = (self.history.rows.column(run.name, "env_steps")[0] for run in waited)
        planned = float(max((run.steps_total for run in self.runs), default=0))
        return min((float(np.max(steps, initial=0)) for steps in ends), default=planned)

    @property
    def width(self) -> int:
        """Units of the last hidden layer."""
        return int(self.runs[0].settings["hidden"][-1])


def is_dead(run: "HistoryRun", history: "History") -> bool:
    """Whether it ended because the numbers of all its members were no longer finite."""
    return run.state == "failed" and bool(np.isfinite(deaths(history, run)).all())


def epochs_of(run: "HistoryRun") -> int:
    """Passes over each batch."""
    return int(run.settings.get("epochs", 0))


def group(
    history: "History", label: str, holds: Callable[[Mapping[str, Any]], bool], **settings: Any
) -> Group:
    """The runs whose settings `holds` accepts and that have these settings."""
    runs = (run for run in history.runs if holds(run.settings))
    fitting = (run for run in runs if all(_same(run.settings.get(k), v) for k, v in settings.items()))
    return Group(label, tuple(fitting), history)


def _same(value: Any, wanted: Any) -> bool:
    if isinstance(value, float) and isinstance(wanted, float):
        return math.isclose(value, wanted, rel_tol=1e-6)
    return value == wanted
