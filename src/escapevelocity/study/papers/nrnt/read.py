"""What is read off a member's curve: means over windows of training that are the same for all arms compared."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from escapevelocity.report._curves import BINS
from escapevelocity.study.papers.nrnt.members import Group, Member, Readings, Track
from escapevelocity.study.papers.nrnt.panels import ABOVE, BELOW
from escapevelocity.study.windows import LAST, LEAST_POINTS, excess_ratio, last_window


@dataclass(frozen=True)
class Span:
    """The part of training that all compared runs have behind them.

    Attributes:
        total: environment steps of a whole run.
        end: the step that every run has reached; `total`, or a batch less, when all have ended.
    """

    total: float
    end: float

    @classmethod
    def of(cls, groups: Sequence[Group]) -> "Span":
        """The span of several arms; those without runs have no say."""
        there = [one for one in groups if one.runs]
        total = max((one.total for one in there), default=1.0)
        return cls(total, min((one.furthest for one in there), default=total))

    def last(self, track: Track) -> float:
        """Mean over the last 5 % (Figure 6)."""
        return self._mean(track, LAST)

    def whole(self, track: Track) -> float:
        """Mean over the whole span."""
        return self._mean(track, 1.0)

    def first(self, track: Track) -> float:
        """Mean over the first 5 %."""
        return self._between(track, 0.0, LAST)

    def middle(self, track: Track) -> float:
        """Mean over the 5 % around the middle of the run."""
        return self._between(track, 0.5 * (1 - LAST), 0.5 * (1 + LAST))

    def excess(self, one: Group, continuous: bool) -> Readings:
        """The excess ratio in the latest 5 % in which it can be measured (`windows.excess_ratio`).

        The paper asks for 10 points in a window of 50; of a run with fewer points than 1,000 the same share is asked.
        """
        found: Readings = {}
        below = one.tracks(BELOW)
        for member, track in one.tracks(ABOVE).items():
            steps, above, under = _aligned(track, below[member])
            if not steps.size:
                continue
            least = min(LEAST_POINTS, max(2, LEAST_POINTS * steps.size // BINS))
            ends = np.array([self.end])
            window = excess_ratio(
                steps, above[None], under[None], continuous=continuous, ends=ends, least=least
            )
            found[member] = float(window.ratio[0])
        return {member: ratio for member, ratio in found.items() if np.isfinite(ratio)}

    def _mean(self, track: Track, share: float) -> float:
        defined = track.steps[np.isfinite(track.values)]
        if not defined.size:
            return float("nan")
        # A member that was frozen is read where it ended, as in the paper's code.
        end = min(self.end, float(defined[-1]))
        values = np.where(np.isfinite(track.values), track.values, np.nan)[None]
        return float(last_window(track.steps, values, ends=np.array([end]), share=share).mean[0])

    def _between(self, track: Track, low: float, high: float) -> float:
        inside = (track.steps > low * self.total) & (track.steps <= high * self.total)
        values = track.values[inside & np.isfinite(track.values)]
        return float(values.mean()) if values.size else float("nan")


def by_seed(readings: Readings) -> Readings:
    """Readings of different epochs, to be paired by seed alone."""
    return {Member(0, member.seed): number for member, number in readings.items()}


def _aligned(first: Track, second: Track) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two columns at the steps that have both."""
    steps, one, two = np.intersect1d(first.steps, second.steps, return_indices=True)
    return steps, first.values[one], second.values[two]
