"""How retrieval goes: its best, how far it is below that, and how much of this may be noise."""

import math
from bisect import insort
from collections.abc import Mapping, Sequence
from typing import Any

from escapevelocity.health._memory import number
from escapevelocity.health._returns import MEDIAN_STD, Returns
from escapevelocity.health.thresholds import Thresholds
from escapevelocity.health.wells import NOISE_POINTS, TO_STD, noise_depth

_RESIDUAL = 1 / math.sqrt(1.5)
"""v_i − (v_{i−1} + v_{i+1})/2 has 1.5 times the variance of the noise."""
_SPREAD = 1.17
"""Relative standard error of a median of n absolute normal values, times √n."""


class Retrieval(Returns):
    """Recall@1 of one seed, in one column."""

    def __init__(self, column: str, thresholds: Thresholds) -> None:
        super().__init__(thresholds)
        self.column = column
        self.best_at = 0
        """Step of the best: of the middle one of the values that its median was taken of."""
        self._newest: list[float] = []
        self._residuals: list[float] = []

    def add_row(self, row: Mapping[str, Any], step: int) -> None:
        """Take in a record, if it measured the column."""
        value = number(row.get(self.column))
        if abs(value) < math.inf:
            self.add(step, value, 1.0)  # Nothing is better than 1: a run that is nearly there cannot improve.

    def add(self, step: int, mean: float, largest: object, shared: float = 0.0) -> None:
        """Take in a value and the best that it could be."""
        best = self.best
        super().add(step, mean, largest, shared)
        if self.best > best:
            recent = self._series.recent
            self.best_at = recent[len(recent) // 2][0]
        self._newest = [*self._newest[-2:], mean]
        if len(self._newest) == 3:
            before, middle, after = self._newest
            insort(self._residuals, abs(middle - (before + after) / 2) * _RESIDUAL)

    @property
    def fall(self) -> float:
        """How far the median of the newest values is below the best."""
        return self.best - self.value

    def least_fall(self) -> float:
        """Give the fall from which it is a plunge: more than noise, and a share of the best; NaN before noise is known.

        The noise is that of the medians, taken two of its standard errors larger than it looks: few values may agree by
        chance.
        """
        if len(self._residuals) < NOISE_POINTS - 2:
            return math.nan
        t = self._thresholds
        noise = self._noise() * (1 + 2 * _SPREAD / math.sqrt(len(self._residuals)))
        of_median = noise * min(1.0, MEDIAN_STD / math.sqrt(t.smoothing.value))
        return max(t.plunge_share.value * abs(self.best), noise_depth(of_median, self.count))

    def is_unmoved(self) -> bool:
        """Say whether there are enough values to say that it has not risen, though it could."""
        room = 1 - self.value > self._thresholds.ceiling.value
        return room and self.is_long() and not self.has_learned() and not self.is_rising()

    def _noise(self) -> float:
        """As `wells.curve_noise`, of evenly spaced values, a value at a time."""
        ordered = self._residuals
        middle = len(ordered) // 2
        median = ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
        return TO_STD * median


def followed(curves: Sequence[Retrieval]) -> Retrieval:
    """Give the first curve that has a value, the most telling first; the last where none has."""
    return next((curve for curve in curves if curve.count), curves[-1])
