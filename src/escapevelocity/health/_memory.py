"""What the watch remembers of each column: its start, its newest values and its extremes."""

import math
from collections import deque
from collections.abc import Mapping
from typing import Any

from escapevelocity.health.thresholds import Thresholds

_LEAST = 3
"""A median of fewer values is one batch's word."""


class Series:
    """One column of one seed."""

    __slots__ = ("_first", "_many", "high", "recent", "row", "start", "value")

    def __init__(self, thresholds: Thresholds) -> None:
        self._many = int(thresholds.baseline.value)
        self._first: list[float] = []
        self.recent: deque[tuple[int, float]] = deque(maxlen=int(thresholds.smoothing.value))
        """(step, value), the newest last."""
        self.start = math.nan
        """Median of the first values."""
        self.value = math.nan
        """Median of the newest values; NaN before there are three."""
        self.high = -math.inf
        """Largest median so far."""
        self.row = -1
        """Number of the row with the newest value."""

    def add(self, step: int, value: float, row: int) -> None:
        """Take in one defined value."""
        self.row = row
        if len(self._first) < self._many:
            self._first.append(value)
            self.start = median(self._first)
        self.recent.append((step, value))
        if len(self.recent) >= min(_LEAST, self.recent.maxlen or _LEAST):
            self.value = median([number for _, number in self.recent])
            self.high = max(self.high, self.value)


class Memory:
    """All columns of one seed."""

    def __init__(self, columns: tuple[str, ...], thresholds: Thresholds) -> None:
        self._series = {column: Series(thresholds) for column in columns}
        self.step = 0
        self.rows = 0

    def add(self, row: Mapping[str, Any], step: int) -> None:
        """Take in one row; what is null, NaN or text counts as not measured."""
        self.step = step
        self.rows += 1
        for column, series in self._series.items():
            value = number(row.get(column))
            if value == value:
                series.add(step, value, self.rows)

    def get(self, column: str) -> Series | None:
        """Give a column, None if it is not one of those remembered."""
        return self._series.get(column)

    def fresh(self, column: str) -> Series | None:
        """Give the column if this row measured it and it has a median, else None."""
        series = self._series[column]
        return series if series.row == self.rows and series.value == series.value else None


def median(values: list[float]) -> float:
    """Return the median of a few numbers; faster than NumPy's for five."""
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else 0.5 * (ordered[middle - 1] + ordered[middle])


def number(value: Any) -> float:
    """Give a record's value as a float; NaN for null, text and whatever else is no number."""
    if isinstance(value, float):
        return float(value)
    if value is None or isinstance(value, bool | str):
        return math.nan
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan
