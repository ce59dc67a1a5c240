"""What is read off a member's curve: means over windows of training that are the same for the arms compared."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from escapevelocity.report._curves import BINS
from escapevelocity.study.papers.nrnt.judge import interval_text
from escapevelocity.study.papers.nrnt.members import Group, Member, Readings, Track
from escapevelocity.study.papers.nrnt.panels import ABOVE, BELOW, PANELS
from escapevelocity.study.windows import LAST, LEAST_POINTS, excess_ratio, last_window


@dataclass(frozen=True)
class Span:
    """The part of training that all compared runs have behind them.

    Attributes:
        total: environment steps of a whole run.
        end: the step that every run has reached; `total`, or a batch less, when all have ended. Runs that ended
            because all their members became non-finite are not waited for.
    """

    total: float
    end: float

    @property
    def is_whole(self) -> bool:
        """Whether the last 5 % have begun to be read: no run lacks more than that."""
        return self.end >= (1 - LAST) * self.total

    @property
    def when(self) -> str:
        """What `last` reads, in words."""
        return "last 5 %" if self.is_whole else f"5 % before step {self.end:,.0f} of {self.total:,.0f}"

    @property
    def untold(self) -> str:
        """Why nothing is judged yet; "" at the end."""
        return "" if self.is_whole else "runs have not ended"

    @classmethod
    def of(cls, groups: Sequence[Group]) -> "Span":
        """The span of several arms; those without runs have no say."""
        there = [one for one in groups if one.runs]
        total = max((one.total for one in there), default=1.0)
        return cls(total, min((one.furthest for one in there), default=total))

    def last(self, track: Track) -> float:
        """Mean over the last 5 % (Figure 6); over those before the last value where none is defined there."""
        return self._mean(track, LAST)

    def last_and_one_before(self, track: Track) -> float:
        """Mean over the measurements later than 95 % of the member's own and the one before them: how the paper's code
        reads capacity losses in Figure 6, of which the last 5 % hold but two or three.
        """
        there = np.isfinite(track.values) & (track.steps <= self.end)
        steps, values = track.steps[there], track.values[there]
        if not steps.size:
            return float("nan")
        first = int(np.searchsorted(steps, (1 - LAST) * steps[-1], side="right"))
        return float(values[max(first - 1, 0) :].mean())

    def is_earlier(self, track: Track) -> bool:
        """Whether `last` reads an earlier window than the member's last 5 %, in which nothing is defined: no episode
        has ended there, or no ratio was low.
        """
        defined = track.steps[np.isfinite(track.values)]
        end = min(self.end, track.end)
        return bool(defined.size) and float(defined[-1]) < (1 - LAST) * end

    def whole(self, track: Track) -> float:
        """Mean over the whole span."""
        return self._mean(track, 1.0)

    def first(self, track: Track) -> float:
        """Mean over the first 5 %."""
        return self._between(track, 0.0, LAST)

    def middle(self, track: Track) -> float:
        """Mean over the 5 % around the middle of the run."""
        return self._between(track, 0.5 * (1 - LAST), 0.5 * (1 + LAST))

    def of_best(self, track: Track) -> float:
        """Logarithm of the last 5 % over the best of the run's windows of 5 %; 0 where the last is the best.

        Both count as 1 at least: a rank of 0, of features that are all zero, is the furthest fall and no missing value.
        """
        last, best = self.last(track), max(self._windows(track), default=float("nan"))
        return float(np.log(max(last, 1.0) / max(last, best, 1.0))) if last == last else float("nan")

    def height(self, track: Track) -> float:
        """Where the last 5 % lies between the worst (0) and the best (1) of the run's windows of 5 %; 1 where all are
        the same. Unlike a share of the best it means the same for returns below 0.
        """
        last = self.last(track)
        seen = [*self._windows(track), last]
        low, high = min(seen), max(seen)
        return (last - low) / (high - low) if high > low else 1.0 if high == low else float("nan")

    def excess(self, one: Group, continuous: bool) -> Readings:
        """The excess ratio in the latest 5 % in which it can be measured (`windows.excess_ratio`).

        The paper asks for 10 points in a window of 50; of a run that is planned with fewer points than 1,000 the same
        share is asked.
        """
        found: Readings = {}
        below = one.tracks(BELOW)
        for member, track in one.tracks(ABOVE).items():
            steps, above, under = _aligned(track, below[member])
            if not steps.size:
                continue
            spacing = float(np.median(np.diff(steps))) if steps.size > 1 else self.total
            least = min(LEAST_POINTS, max(2, int(LEAST_POINTS * self.total / spacing) // BINS))
            ends = np.array([min(self.end, track.end)])
            window = excess_ratio(
                steps, above[None], under[None], continuous=continuous, ends=ends, least=least
            )
            found[member] = float(window.ratio[0])
        return {member: ratio for member, ratio in found.items() if np.isfinite(ratio)}

    def _windows(self, track: Track) -> list[float]:
        """Means over 0–5 %, 5–10 % … of training, of those that have values."""
        edges = np.arange(0.0, 1.0, LAST)
        means = (self._between(track, low, low + LAST) for low in edges if low * self.total < self.end)
        return [value for value in means if np.isfinite(value)]

    def _mean(self, track: Track, share: float) -> float:
        defined = track.steps[np.isfinite(track.values)]
        if not defined.size:
            return float("nan")
        # A member that was frozen is read where it ended, as in the paper's code; see `is_earlier` for the others.
        end = min(self.end, float(defined[-1]))
        values = np.where(np.isfinite(track.values), track.values, np.nan)[None]
        return float(last_window(track.steps, values, ends=np.array([end]), share=share).mean[0])

    def _between(self, track: Track, low: float, high: float) -> float:
        inside = (track.steps > low * self.total) & (track.steps <= high * self.total)
        values = track.values[inside & np.isfinite(track.values)]
        return float(values.mean()) if values.size else float("nan")


def within(groups: Sequence[Group]) -> tuple[list[Group], Span]:
    """The arms whose runs have all ended, for checks within each run; where none has, all arms and where they are."""
    there = [one for one in groups if one.runs]
    whole = [one for one in there if Span.of([one]).is_whole]
    return whole or there, Span.of(whole or there)


def comparable(first: Group, second: Group) -> tuple[Group, Group, Span]:
    """Two arms at the epochs at which the runs of both have ended; where there are none, at all that both have."""
    both = first.epochs & second.epochs
    ended = {count for count in both if Span.of([first.at({count}), second.at({count})]).is_whole}
    first, second = first.at(ended or both), second.at(ended or both)
    return first, second, Span.of([first, second])


def at_end(groups: Sequence[Group], keys: Sequence[str]) -> list[str]:
    """A sentence for each arm that has runs: interquartile means at its end, of the panels with these keys."""
    said = []
    for one in groups:
        if one.runs:
            span = Span.of([one])
            readings = {key: one.readings(PANELS[key].columns[0], span.last) for key in keys}
            said.append(end_sentence(one, span, readings))
    return said


def end_sentence(one: Group, span: Span, readings: Mapping[str, Readings]) -> str:
    """Interquartile means of an arm's readings, by the panel's key."""
    shown = ", ".join(
        f"{PANELS[key].title} {interval_text(row)}{_rests_on(one, span, key, row)}"
        for key, row in readings.items()
    )
    return f"{one.label}, {len(one.members)} runs, {span.when} (IQM over seeds): {shown}."


def _rests_on(one: Group, span: Span, key: str, row: Readings) -> str:
    """How many of the arm's members have the reading, and how many of these are read before the window that the
    sentence names (the excess ratio has a window of its own); "" where all have it there.
    """
    said = [f"of {len(row)} runs"] if 0 < len(row) < len(one.members) else []
    tracks = one.tracks(PANELS[key].columns[0])
    earlier = sum(map(span.is_earlier, tracks.values())) if key != "excess" else 0
    if earlier:
        said.append(f"{earlier} of them read earlier, where it was last defined")
    return f" ({', '.join(said)})" if said else ""


def by_seed(readings: Readings) -> Readings:
    """Readings of different epochs, to be paired by seed alone."""
    return {Member(0, member.seed): number for member, number in readings.items()}


def _aligned(first: Track, second: Track) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two columns at the steps that have both."""
    steps, one, two = np.intersect1d(first.steps, second.steps, return_indices=True)
    return steps, first.values[one], second.values[two]
