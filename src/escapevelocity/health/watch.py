"""The online engine: rows in, signs out. A few ten microseconds a row, and the same rules as the diagnosis."""

from collections import defaultdict, deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from escapevelocity.health._memory import Memory, number
from escapevelocity.health._reading import Degree, Patient, Reading, began_at
from escapevelocity.health._retrieval import Retrieval, followed
from escapevelocity.health._returns import Returns
from escapevelocity.health._rules import RULES
from escapevelocity.health.context import Context
from escapevelocity.health.signs import RETRIEVAL_COLUMNS, SIGNS, Instrument, Sign
from escapevelocity.health.thresholds import Thresholds
from escapevelocity.health.verdict import Found

COLUMNS = tuple(
    dict.fromkeys(column for info in SIGNS.values() for column in info.columns if column != "fault")
)
"""Columns that the signs are read off, besides the text `fault`."""


@dataclass(frozen=True)
class Onset:
    """A sign that has appeared.

    Attributes:
        sign: which.
        seed: the member it appeared in.
        step: environment steps where it began.
        confirmed: environment steps where it had held long enough to count.
        text: what was seen, with its numbers.
        ended: environment steps since which it is gone again; None while it lasts.
    """

    sign: Sign
    seed: int
    step: int
    confirmed: int
    text: str
    ended: int | None = None


class Watch:
    """Watches the rows of one run, every seed for itself.

    Baselines (a column's start, the best return, the largest gradient) are remembered, so a run that goes on
    after a break must be given its earlier rows first. A value that is null, NaN or missing is not measured:
    it neither raises a sign nor ends one.

    Args:
        thresholds: what to judge by.
        context: the run's settings.

    Example:
        >>> watch = Watch(context=Context(width=64))
        >>> rows = [{"env_steps": 10 * i, "health/actor/dead_neurons": 60.0} for i in range(1, 9)]
        >>> [onset.text for row in rows for onset in watch.update(row)]
        ['60 of 64 neurons dead, 60 at the start']
    """

    def __init__(self, thresholds: Thresholds | None = None, context: Context | None = None) -> None:
        self.thresholds = thresholds or Thresholds()
        self.context = context or Context()
        self._seeds: dict[int, _SeedWatch] = defaultdict(lambda: _SeedWatch(self.thresholds, self.context))

    def update(self, row: Mapping[str, Any]) -> list[Onset]:
        """Take in one row and give the signs that it confirms, earliest first.

        Args:
            row: a record: `env_steps`, `seed` (0 if it has none) and whatever was measured.
        """
        seed, step = number(row.get("seed")), number(row.get("env_steps"))
        seed = 0 if seed != seed else int(seed)
        before = self._seeds[seed]
        return before.update(row, seed, before.last_step if step != step else int(step))

    def seeds(self) -> list[int]:
        """List the seeds that have had a row."""
        return sorted(self._seeds)

    def onsets(self, seed: int = 0) -> list[Onset]:
        """List all signs that a seed has shown, in the order of their onset."""
        return sorted(self._seeds[seed].onsets.values(), key=onset_order)

    def active(self, seed: int = 0) -> frozenset[Sign]:
        """Give the signs that a seed shows now."""
        return frozenset(sign for sign, onset in self._seeds[seed].onsets.items() if onset.ended is None)

    def measured(self, seed: int = 0) -> frozenset[Sign]:
        """Give the signs that could have been seen: measured often enough to count."""
        least = int(self.thresholds.persistence.value)
        times = self._seeds[seed].times
        return frozenset(s for s in Sign if times[s] >= (1 if SIGNS[s].immediate else least))

    def found(self, seed: int = 0) -> Found:
        """Give what a verdict is made of."""
        active, watched = self.active(seed), self._seeds[seed]
        since = {sign: float(onset.step) for sign, onset in watched.onsets.items()}
        degrees = {sign: min(watched.degrees[sign]) for sign in active}
        return Found(active, self.measured(seed), degrees, since)

    def last_step(self, seed: int = 0) -> int:
        """Give the environment steps of a seed's newest row."""
        return self._seeds[seed].last_step

    def returns(self, seed: int = 0) -> Returns:
        """Give how a seed's return goes."""
        return self._seeds[seed].returns

    def retrieval(self, seed: int = 0) -> Retrieval:
        """Give how a seed's retrieval goes, where an embedding is learned; on the test classes, if measured."""
        return self._seeds[seed].retrieval


def onset_order(onset: Onset) -> tuple[int, int]:
    """Sort by step; signs of one step by their place in `Sign`."""
    return onset.step, list(Sign).index(onset.sign)


class _Streak:
    """How often in a row a sign has held, or been absent, and since when."""

    __slots__ = ("length", "since")

    def __init__(self) -> None:
        self.length = 0
        self.since = 0


class _SeedWatch:
    def __init__(self, thresholds: Thresholds, context: Context) -> None:
        self._memory = Memory(COLUMNS, thresholds)
        self.returns = Returns(thresholds)
        self._curves = [Retrieval(column, thresholds) for column in RETRIEVAL_COLUMNS]
        self._thresholds, self._context = thresholds, context
        self._streaks = {sign: _Streak() for sign in Sign}
        self.onsets: dict[Sign, Onset] = {}
        self.times = dict.fromkeys(Sign, 0)
        """How often each sign was measured."""
        least = int(thresholds.persistence.value)
        self.degrees = {sign: deque([Degree.BEYOND] * least, maxlen=least) for sign in Sign}
        """How far beyond its bound each sign was, the newest last: as far as at all of them, it is."""

    @property
    def last_step(self) -> int:
        return self._memory.step

    @property
    def retrieval(self) -> Retrieval:
        return followed(self._curves)

    def update(self, row: Mapping[str, Any], seed: int, step: int) -> list[Onset]:
        self._memory.add(row, step)
        mean = number(row.get("perf/return_mean"))
        if abs(mean) < float("inf"):
            length = number(row.get("perf/length_mean"))
            shared = (self._context.return_episodes or 0) * (length if length > 0 else 0.0)
            self.returns.add(step, mean, row.get("perf/return_max"), shared)
        for curve in self._curves:
            curve.add_row(row, step)
        patient = Patient(row, self._memory, self.returns, self._thresholds, self._context, self.retrieval)
        found = []
        for sign, rule in RULES.items():
            reading = rule(patient)
            if reading is None:
                continue
            self.times[sign] += 1
            self.degrees[sign].append(reading.degree if reading.holds else Degree.BEYOND)
            onset = self.onsets.get(sign)
            lasting = onset is not None and onset.ended is None
            if self._confirmed(sign, reading, step, reading.holds != lasting):
                since = self._streaks[sign].since
                if onset is None:
                    onset = Onset(sign, seed, since, step, self._tell(sign, reading, row))
                    found.append(onset)
                # A sign that comes back keeps its first onset.
                self.onsets[sign] = replace(onset, ended=since if lasting else None)
        return sorted(found, key=onset_order)

    def _confirmed(self, sign: Sign, reading: Reading, step: int, is_change: bool) -> bool:
        """Say whether a change, from absent to present or back, has held long enough."""
        streak = self._streaks[sign]
        if not is_change:
            streak.length = 0
            return False
        if streak.length == 0:
            streak.since = began_at(reading, self._memory) if reading.holds else step
        streak.length += 1
        needed = 1 if SIGNS[sign].immediate else int(self._thresholds.persistence.value)
        if streak.length < needed:
            return False
        streak.length = 0
        return True

    def _tell(self, sign: Sign, reading: Reading, row: Mapping[str, Any]) -> str:
        fault = row.get("fault")
        if sign is Sign.NON_FINITE and fault:
            return str(fault)
        judged = self.retrieval if SIGNS[sign].instrument is Instrument.RETRIEVAL else self.returns
        return SIGNS[sign].text.format(
            name=reading.column,
            value=reading.value,
            bound=reading.bound,
            side="below" if reading.value < reading.bound else "above",
            start=reading.start,
            best=judged.best,
            width=self._context.width or "an unknown number",
        )
