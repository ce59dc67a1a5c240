"""What is known of a run under way: latest values, speed, time left. Cheap to feed, rendered elsewhere."""

from __future__ import annotations

import contextlib
import math
import statistics
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from escapevelocity.errors import UserError
from escapevelocity.report._shown import (
    RANGED,
    find_setting,
    first_rows,
    first_values,
    is_marked,
    layer_width,
    number,
    shown_of,
    task_name,
    worst_of,
    write_number,
)
from escapevelocity.runs import RunInfo, whole_records

MAX_LINES = 12
"""Members shown one by one; a larger population collapses to median and worst."""
_SPEED_WINDOW = 30.0  # seconds: long enough to be steady, short enough to follow a machine that slows down
_HELD = ("perf/return_mean", "perf/return_max", "perf/length_mean")


class Cell(NamedTuple):
    """One number as it is shown."""

    text: str
    marked: bool


class Line(NamedTuple):
    """One row of the table."""

    label: str
    cells: list[Cell]
    frozen: bool


class _Mark(NamedTuple):
    time: float
    all_steps: int
    step: int


class Progress:
    """The latest of every member.

    Rows are never changed once stored, so that another thread may read while the run goes on.

    Args:
        info: what the observer was told at the start.
        clock: seconds, monotonic.
    """

    def __init__(self, info: RunInfo, clock: Callable[[], float]) -> None:
        self.info = info
        self.task = task_name(info.spec, info.job)
        self.shown = shown_of(info.job)
        self.width = layer_width(info.spec)
        self.members = len(find_setting(info.spec, "seeds") or (0,))
        self.starts: dict[str, float] = {}
        if info.segments_done:
            # Only what the run goes on from: damage behind it is why it is resumed. Without a past to read, marks
            # that depend on where the run began are less sure, which is no reason not to go on.
            with contextlib.suppress(UserError):
                past, _ = whole_records(info.path, info.parent, info.segments_done)
                self.starts = first_values(first_rows(past))
        self.latest: dict[int, dict[str, Any]] = {}
        self.faults: dict[int, str] = {}
        self.step = info.steps_done
        self.batch = -1
        self._all_steps = 0
        self._clock, self._began = clock, clock()
        self._marks: deque[_Mark] = deque()

    def add(self, row: Mapping[str, Any]) -> None:
        """Take in a record. A column it does not have keeps its last value: it was not measured this time."""
        seed = row.get("seed", 0)
        old = self.latest.get(seed, {})
        new = {**old, **row}
        for name in _HELD:  # no episode ended in this batch: the last ones that did are what is known
            if math.isnan(number(row.get(name))) and name in old:
                new[name] = old[name]
        steps = row.get("env_steps", self.step)
        if steps > self.step or not self._marks:
            self._mark()
        self._all_steps += steps - old.get("env_steps", self.info.steps_done)
        self.step, self.batch = max(self.step, steps), max(self.batch, row.get("batch", 0))
        if not old and not self.info.segments_done:
            self.starts = first_values([row, self.starts])
        self.latest[seed] = new
        if row.get("fault"):
            self.faults[seed] = row["fault"]

    def elapsed(self) -> float:
        """Seconds of running, over all sessions."""
        return self.info.wall_time + self._clock() - self._began

    def steps_per_second(self) -> float:
        """Environment steps of all members per second, lately; NaN before two batches have been seen."""
        first, last = self._ends()
        return (
            (last.all_steps - first.all_steps) / (last.time - first.time)
            if last.time > first.time
            else math.nan
        )

    def time_left(self) -> float:
        """Seconds until the end at the speed of late; NaN before two batches have been seen."""
        first, last = self._ends()
        if last.step <= first.step or last.time <= first.time:
            return math.nan
        return (self.info.steps_total - self.step) * (last.time - first.time) / (last.step - first.step)

    def share(self) -> float:
        """How much of the run is done, 0 to 1."""
        return min(1.0, self.step / max(1, self.info.steps_total))

    def segment(self) -> int:
        """The segment being computed, counted from 1."""
        return 1 + max(
            (row.get("segment", 0) for row in list(self.latest.values())), default=self.info.segments_done
        )

    def lines(self) -> list[Line]:
        """Give a line per member, or median and worst when there are many."""
        rows = sorted(self.latest.items())
        if self.members > MAX_LINES:
            return [self.median_line(), self._worst_line()]
        return [
            Line(
                str(seed),
                [self._cell(s.column, number(row.get(s.column))) for s in self.shown],
                self._is_frozen(seed, row),
            )
            for seed, row in rows
        ]

    def median_line(self) -> Line:
        """Give the median over the members that are still learning, where a value is defined."""
        active = [row for seed, row in list(self.latest.items()) if not self._is_frozen(seed, row)]
        cells = []
        for shown in self.shown:
            values = [v for v in (number(row.get(shown.column)) for row in active) if not math.isnan(v)]
            cells.append(self._cell(shown.column, statistics.median(values) if values else math.nan))
        return Line("median", cells, False)

    def _worst_line(self) -> Line:
        rows = list(self.latest.values())
        worst = [worst_of([number(row.get(s.column)) for row in rows], s.worst) for s in self.shown]
        return Line("worst", [self._cell(s.column, v) for s, v in zip(self.shown, worst, strict=True)], False)

    def also_outside(self) -> list[str]:
        """List what is outside its healthy range and has no column in the table: "name value (seed 3)"."""
        shown = {s.column for s in self.shown} | {"trust/kl_k1"}  # an estimate of the KL that is shown
        return [text for column in RANGED if column not in shown and (text := self.outside(column))]

    def outside(self, column: str) -> str:
        """Say which members are outside the healthy range of `column`: "name value (seed 3)", or ""."""
        found = [(seed, number(row.get(column))) for seed, row in sorted(self.latest.items())]
        found = [(seed, value) for seed, value in found if self.is_marked(column, value)]
        if not found:
            return ""
        values = sorted({value for _, value in found})
        span = write_number(values[0]) + (f" to {write_number(values[-1])}" if len(values) > 1 else "")
        seeds = ", ".join(str(seed) for seed, _ in found[:5]) + (", …" if len(found) > 5 else "")
        return f"{column} {span} (seed{'s' if len(found) > 1 else ''} {seeds})"

    def is_marked(self, column: str, value: float) -> bool:
        """Say whether a value is outside its healthy range."""
        return is_marked(column, value, self.width, self.starts.get(column))

    def _cell(self, column: str, value: float) -> Cell:
        return Cell(write_number(value), self.is_marked(column, value))

    def _is_frozen(self, seed: int, row: Mapping[str, Any]) -> bool:
        # One batch behind is a member whose row of this batch has not come yet.
        return seed in self.faults and self.batch - row.get("batch", 0) > 1

    def _mark(self) -> None:
        self._marks.append(_Mark(self._clock(), self._all_steps, self.step))
        while len(self._marks) > 2 and self._marks[-1].time - self._marks[1].time > _SPEED_WINDOW:
            self._marks.popleft()

    def _ends(self) -> tuple[_Mark, _Mark]:
        nothing = _Mark(0.0, 0, 0)
        return (self._marks[0], self._marks[-1]) if self._marks else (nothing, nothing)
