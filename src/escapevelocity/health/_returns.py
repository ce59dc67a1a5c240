"""How the return goes: its noise, its best, when it last improved, and whether it can improve at all."""

import math
from collections import deque

from escapevelocity.health._memory import Series, number
from escapevelocity.health.thresholds import Thresholds

_NOISE_WEIGHT = 0.1
_TO_STD = math.sqrt(math.pi) / 2
"""|x − y| of two normal values has the mean 2·std/√π."""


MEDIAN_STD = math.sqrt(math.pi / 2)
"""Standard deviation of a median of n normal values of standard deviation 1, times √n."""
_FEWEST_APART = 4
"""Independent differences before the noise of a running mean says whether a fall is more than noise."""


class _Scatter:
    """Standard deviation of a mean return, from the differences between values that have no episode in common."""

    def __init__(self) -> None:
        self._past: deque[tuple[int, float]] = deque()
        self._difference = math.nan
        self._count = 0
        self._independent = 0.0
        self.shares = False
        """Whether values share episodes with their neighbours."""
        self.is_known = False
        """Whether there are differences enough to go by."""

    @property
    def std(self) -> float:
        """NaN before there are two values apart from each other."""
        return self._difference * _TO_STD

    def add(self, step: int, mean: float, shared: float) -> None:
        """Take in a value whose episodes took `shared` steps, or 0 where no other value has any of them."""
        while len(self._past) > 1 and self._past[1][0] <= step - shared:
            self._past.popleft()
        if self._past and self._past[0][0] <= step - shared:
            self._take(abs(mean - self._past[0][1]), len(self._past))
        self._past.append((step, mean))

    def _take(self, size: float, apart: int) -> None:
        """Average the differences of values that are `apart` rows from each other."""
        self._count += 1
        self._independent += 1 / apart  # Neighbouring differences share episodes too.
        self.shares = apart > 1
        self.is_known = not self.shares or self._independent >= _FEWEST_APART
        # One alone of a running mean's is as good as none: at first they are averaged evenly.
        weight = _NOISE_WEIGHT if apart == 1 else max(_NOISE_WEIGHT / apart, 1 / self._count)
        first = self._difference != self._difference
        self._difference = size if first else self._difference + weight * (size - self._difference)


class Returns:
    """The return of one seed. Multiplying all rewards by a positive constant, or shifting all returns, changes no
    answer.
    """

    def __init__(self, thresholds: Thresholds) -> None:
        self._thresholds = thresholds
        self._series = Series(thresholds)
        self._scatter = _Scatter()
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
        """Standard deviation of a batch's mean return, from the differences between batches.

        Of running means, that of batches whose medians would be as noisy as theirs: values that share their episodes
        have a median that is no smoother than one of them.
        """
        smoother = math.sqrt(self._thresholds.smoothing.value) / MEDIAN_STD if self._scatter.shares else 1.0
        return self._scatter.std * max(1.0, smoother)

    @property
    def gained(self) -> float:
        """best − start."""
        return self.best - self.start

    def add(self, step: int, mean: float, largest: object, shared: float = 0.0) -> None:
        """Take in a mean return.

        Args:
            step: environment steps.
            mean: of the episodes that ended in the batch.
            largest: of these episodes, where it is known.
            shared: where `mean` is that of the last so many episodes instead, the steps that these took: such values
                differ from their neighbours by less than their noise.
        """
        if self.count == 0:
            self.began = step
        self.count += 1
        self.step = step
        self._scatter.add(step, mean, shared)
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
        if not self._scatter.is_known:
            return False
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
