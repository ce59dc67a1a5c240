"""How the return goes: its noise, its best, when it last improved, and whether it can improve at all."""

import math

from escapevelocity.health._memory import Series, number
from escapevelocity.health.thresholds import Thresholds

_NOISE_WEIGHT = 0.1
_TO_STD = math.sqrt(math.pi) / 2
"""|x − y| of two normal values has the mean 2·std/√π."""


class Returns:
    """The return of one seed. Multiplying all rewards by a positive constant, or shifting all returns, changes no
    answer.
    """

    def __init__(self, thresholds: Thresholds) -> None:
        self._thresholds = thresholds
        self._series = Series(thresholds)
        self._previous = math.nan
        self._difference = math.nan
        self._best_episode = -math.inf
        self._mark = -math.inf
        self.count = 0
        """Batches with a return."""
        self.start = math.nan
        """Median of the first values."""
        self.best = -math.inf
        """Largest median so far."""
        self.began = self.improved_at = 0
        """Steps of the first value and of the last improvement."""
        self.step = 0

    @property
    def value(self) -> float:
        """The median of the newest values; NaN before there are three."""
        return self._series.value

    @property
    def noise(self) -> float:
        """Standard deviation of a batch's mean return, from the differences between batches."""
        return self._difference * _TO_STD

    @property
    def gained(self) -> float:
        """best − start."""
        return self.best - self.start

    def add(self, step: int, mean: float, largest: object) -> None:
        """Take in a batch's mean return and, where it is known, its largest."""
        if self.count == 0:
            self.began = step
        self.count += 1
        self.step = step
        if self._previous == self._previous:
            size = abs(mean - self._previous)
            first = self._difference != self._difference
            self._difference = size if first else self._difference + _NOISE_WEIGHT * (size - self._difference)
        self._previous = mean
        top = number(largest)
        if top == top:
            self._best_episode = max(self._best_episode, top)
        self._series.add(step, mean, self.count)
        value = self._series.value
        if value != value:
            return
        if self.start != self.start:
            self.start = self._mark = value
            self.improved_at = self.began
        self.best = max(self.best, value)
        if value > self._mark + self._thresholds.return_step.value * self.noise:
            self._mark, self.improved_at = value, step

    def has_fallen(self) -> bool:
        """Say whether much of what had been gained is lost, and more than noise."""
        t = self._thresholds
        fall = self.best - self.value
        return fall > 0 and fall >= max(t.return_fall.value * self.gained, t.return_noise.value * self.noise)

    def flat_share(self) -> float:
        """Give the share of the run so far since the last improvement."""
        return (self.step - self.improved_at) / max(self.step, 1)

    def is_long(self) -> bool:
        """Say whether there are enough batches to call a return flat."""
        return self.count >= self._thresholds.plateau_batches.value

    def has_learned(self) -> bool:
        """Say whether the best is above the start by more than noise."""
        return self.gained > self._thresholds.return_gain.value * self.noise

    def is_flat(self) -> bool:
        """Say whether it has not improved for long, though it could."""
        long = self.is_long() and self.flat_share() >= self._thresholds.plateau_share.value
        return long and not self.at_ceiling()

    def at_ceiling(self) -> bool:
        """Say whether nearly every episode is as good as the best one, and much better than the start."""
        room = self._best_episode - self.start
        near = self._best_episode - self.value <= self._thresholds.ceiling.value * room
        return near and room > 0 and self.has_learned()

    def is_rising(self) -> bool:
        """Say whether it improved lately and has not fallen since."""
        # Before the first improvement `improved_at` is where the run began.
        lately = self._mark > self.start and self.flat_share() <= self._thresholds.rising_share.value
        return lately and not self.has_fallen()
