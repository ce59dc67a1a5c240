"""Which learning rate is best for random bandits with K actions, and how that rate grows with K."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from escapevelocity.lab import Bandit, Method, log_spaced, trajectory, wilson_interval
from escapevelocity.lab.experiments._contest import Mean, geometric_interval

_POINTS = 80
_PENALTY = 10
_RESAMPLES = 1000


class Study(NamedTuple):
    """Times of one method on random bandits of one size.

    Attributes:
        name: the method's.
        num_actions: K.
        rates: the grid of η, (L,).
        steps: updates until the sub-optimality is below a tenth of the start's for good, (bandits, L).
        censored: whether it never was, (bandits, L).
    """

    name: str
    num_actions: int
    rates: Float[np.ndarray, " rates"]
    steps: Float[np.ndarray, "bandits rates"]
    censored: Bool[np.ndarray, "bandits rates"]

    @property
    def best(self) -> int:
        """Index of the rate that is best for the first half of the bandits; the smallest on a tie."""
        return int(np.argmin(np.log(self._penalised()[: self._half]).mean(axis=0)))

    @property
    def at_edge(self) -> bool:
        """Whether the best rate is the first or last of the grid."""
        return self.best in (0, len(self.rates) - 1)

    @property
    def reported(self) -> np.ndarray:
        """Times of the other half at that rate, ten times the limit where censored."""
        return self._penalised()[self._half :, self.best]

    @property
    def lost(self) -> int:
        """How many of the other half were censored."""
        return int(self.censored[self._half :, self.best].sum())

    def resampled_best(self, chosen: np.ndarray) -> int:
        """Index of the best rate when the first half's bandits are replaced by `chosen` ones of them."""
        return int(np.argmin(np.log(self._penalised()[chosen]).mean(axis=0)))

    def shown(self) -> str:
        """η* (* at the grid's edge) and the time it takes."""
        mean = geometric_interval(self.reported)
        return f"{self.rates[self.best]:g}{'*' if self.at_edge else ''} ({mean.value:.3g})"

    def rows(self) -> list[dict[str, Any]]:
        """A row per bandit and rate."""
        return [
            {
                "method": self.name,
                "num_actions": self.num_actions,
                "learning_rate": float(rate),
                "bandit": bandit,
                "selects": bandit < self._half,
                "steps": float(self.steps[bandit, i]),
                "censored": bool(self.censored[bandit, i]),
            }
            for bandit in range(len(self.steps))
            for i, rate in enumerate(self.rates)
        ]

    def best_row(self) -> dict[str, Any]:
        """The best rate and the time it takes the other half, geometric mean with its 95 % interval."""
        mean = geometric_interval(self.reported)
        return {
            "method": self.name,
            "num_actions": self.num_actions,
            "learning_rate": float(self.rates[self.best]),
            "at_edge": self.at_edge,
            "steps": mean.value,
            "steps_low": mean.low,
            "steps_high": mean.high,
            "censored": self.lost,
            "bandits": len(self.reported),
        }

    @property
    def _half(self) -> int:
        return len(self.steps) // 2

    def _penalised(self) -> np.ndarray:
        return np.where(self.censored, _PENALTY * self.steps, self.steps)


def study(
    name: str,
    method: Callable[[Any], Method],
    num_actions: int,
    rates: Sequence[float],
    bandits: int,
    max_steps: int,
    seed: int,
) -> Study:
    """Run a method with every rate on random bandits: rewards uniform in [0, 1], starts uniform on the simplex.

    Not from the uniform policy: there SPG's first step is proportional to the advantage, so that with exact
    gradients an unbounded rate would be best, and say nothing.

    Args:
        name: the method's.
        method: rates (L,) -> the method, every start with a rate of its own.
        num_actions: K.
        rates: the grid.
        bandits: how many; the same for every method.
        max_steps: updates after which a run is censored.
        seed: of rewards and starts.
    """
    generator = np.random.default_rng([seed, num_actions])
    ruled = method(np.asarray(rates))
    record_at = log_spaced(max_steps, _POINTS)
    steps, censored = [], []
    for _ in range(bandits):
        bandit = Bandit(generator.random(num_actions))
        start = np.tile(generator.dirichlet(np.ones(num_actions))[:, None], (1, len(rates)))
        path = trajectory(bandit, ruled, start, record_at)
        times, late = settled(path.steps, path.suboptimality, path.suboptimality[0] / 10)
        steps.append(times)
        censored.append(late)
    return Study(name, num_actions, np.asarray(rates), np.stack(steps), np.stack(censored))


def settled(
    record_at: np.ndarray, values: Float[np.ndarray, "records starts"], limit: Float[np.ndarray, " starts"]
) -> tuple[np.ndarray, np.ndarray]:
    """The first recorded step from which all values stay below the limit, and whether there is none.

    Returns:
        Steps, the last recorded one where there is none, and flags, (B,) each.

    Example:
        >>> steps, censored = settled(np.array([0, 1, 2, 3]), np.array([[9.0], [0.0], [9.0], [0.0]]), np.array([1.0]))
        >>> print(steps, censored)
        [3.] [False]
    """
    # NaN, of a policy that overflowed, is not below.
    outside = ~(values < limit[None])
    last_outside = np.where(outside.any(axis=0), len(outside) - 1 - outside[::-1].argmax(axis=0), -1)
    censored = last_outside == len(outside) - 1
    first = np.minimum(last_outside + 1, len(outside) - 1)
    return record_at[first].astype(np.float64), censored


def growth_of_best_rate(studies: Sequence[Study], seed: int = 0) -> Mean:
    """Slope of log η* against log K, with a 95 % bootstrap interval over the selecting bandits."""
    generator = np.random.default_rng(seed)
    sizes = np.log([one.num_actions for one in studies])

    def slope(best: Sequence[int]) -> float:
        logs = np.log([one.rates[i] for one, i in zip(studies, best, strict=True)])
        return round(float(np.polyfit(sizes, logs, 1)[0]), 9) + 0.0  # equal rates: 0, not the fit's −4e-17

    half = len(studies[0].steps) // 2
    resampled = [
        slope([one.resampled_best(generator.integers(half, size=half)) for one in studies])
        for _ in range(_RESAMPLES)
    ]
    low, high = np.quantile(resampled, (0.025, 0.975))
    return Mean(slope([one.best for one in studies]), float(low), float(high))


def answers(studies: Sequence[Study]) -> list[str]:
    """Say how the best rate grows with K, and what each method needs at its own best rate."""
    by_method: dict[str, list[Study]] = {}
    for one in studies:
        by_method.setdefault(one.name, []).append(one)
    said = []
    for name, ones in by_method.items():
        edges = sum(one.at_edge for one in ones)
        slope = growth_of_best_rate(ones)
        edge = f", at the grid's edge for {edges} of {len(ones)} K" if edges else ""
        said.append(f"{name} K^{slope.value:.2f} [{slope.low:.2f}, {slope.high:.2f}]{edge}")
    compared = [f"{name} {_against(ones[-1], by_method['SPG'][-1])}" for name, ones in by_method.items()]
    last = studies[-1]
    selecting, reported = len(last.steps) - len(last.reported), len(last.reported)
    return [
        f"Random rewards from random starts, best η ∝ {'; '.join(said)} (bootstrap over {selecting} bandits).",
        f"At K = {last.num_actions}, each at that rate, updates until 90 % of the sub-optimality is gone for good: "
        f"{'; '.join(compared)} (geometric means over {reported} other bandits, 95 % t-intervals; a run that did not "
        "get there counts as ten times the limit).",
    ]


def _against(study: Study, softmax: Study) -> str:
    time = geometric_interval(study.reported)
    text = f"{time.value:.3g} [{time.low:.3g}, {time.high:.3g}]"
    if study.lost:
        low, high = wilson_interval(study.lost, len(study.reported))
        text += f", {study.lost} not there ({low:.0%}–{high:.0%})"
    if study.name == softmax.name:
        return text
    ratio = geometric_interval(study.reported / softmax.reported)
    return f"{text}, {ratio.value:.2g} × SPG's [{ratio.low:.2g}, {ratio.high:.2g}]"
