"""The largest learning rate at which softmax and escort policy gradients still climb, by sweeping it."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from escapevelocity.errors import require
from escapevelocity.lab import Method, epg, spg, wilson_interval
from escapevelocity.lab.evaluation import Evaluation
from escapevelocity.lab.experiments._bandits import Observer, follow
from escapevelocity.lab.experiments.experiment import (
    Experiment,
    Findings,
    Summary,
    Track,
    require_all,
    silently,
    stack_rows,
)
from escapevelocity.lab.simulate import require_count

ROUNDING = 1e-12
"""A value in [0, 1] that falls by less has not fallen: sums of up to 50 products round at about 1e-15."""

STABLE_SHARE = 0.95
"""A rate counts as stable when this share of the runs is."""

SMOOTHNESS = 5 / 2
"""πᵀr is 5/2-smooth in softmax's θ for rewards in [0, 1] (Mei et al. 2020, arXiv 2005.06392, lemma 2)."""


class Notes(NamedTuple):
    """What is noted about each run, (B,): its sub-optimality, whether it ever rose, and sign flips so far."""

    suboptimality: Array
    fell_back: Array
    sign_flips: Array


class Part(NamedTuple):
    """One method and number of actions; p is NaN for softmax."""

    method: str
    p: float
    num_actions: int

    def __str__(self) -> str:
        return f"{self.method}, K = {self.num_actions}"

    def make(self, rates: np.ndarray) -> Method:
        """The method with a rate per run."""
        return spg(rates) if math.isnan(self.p) else epg(rates, self.p)


class Threshold(NamedTuple):
    """The largest rate up to which a share of the runs is stable, on the grid of rates; 0 for none.

    Attributes:
        rate: by the measured shares.
        low: where the lower ends of their 95 % Wilson intervals are still above the share.
        high: where the upper ends are.
    """

    rate: float
    low: float
    high: float


@dataclasses.dataclass(frozen=True)
class StableRate(Experiment):
    """What is the largest stable learning rate of softmax and of escort, with rate η‖θ‖²/p²?

    Random bandits with exact gradients: rewards uniform and then stretched to reach from 0 to 1, the widest range
    that the theory allows; starts uniform on the simplex. Monotone: πᵀr never falls in any update. Converged: the
    sub-optimality of the last policy is below the tolerance. A rate is stable when 95 % of the runs are.
    """

    question: ClassVar[str] = "What is the largest stable learning rate of softmax and of escort?"
    quick: ClassVar[Mapping[str, Any]] = {"num_actions": (2, 10), "runs": 100, "steps": 100}

    num_actions: tuple[int, ...] = (2, 5, 10, 50)
    """K, each at least 2."""
    escort_powers: tuple[float, ...] = (1.0, 1.5, 2.0, 3.0, 4.0, 8.0)
    """Exponents p ≥ 1 of the escort transform."""
    runs: int = 1000
    """Bandits, with a start each, per K; every method and rate gets the same ones."""
    steps: int = 1000
    """Updates of each run."""
    lowest_power: int = -4
    """The smallest η is 2 to this power."""
    highest_power: int = 10
    """The largest η is 2 to this power."""
    rates_per_octave: int = 2
    """How many η between one power of 2 and the next."""
    tolerance: float = 0.01
    """Sub-optimality in (0, 1) below which a run has converged."""
    seed: int = 0
    """Of rewards and starts."""

    def run(self, track: Track = silently) -> Findings:
        """Sweep the rate for every method and number of actions."""
        self._check()
        rows, thresholds = [], []
        for part in track(self._parts()):
            own = self._sweep(part)
            rows += own
            thresholds.append(self._thresholds(part, own))
        tables = {"": stack_rows(rows), "thresholds": stack_rows(thresholds)}
        return Findings(tables, self._summary(thresholds), self._answers(thresholds))

    @property
    def rates(self) -> np.ndarray:
        """The η that are tried."""
        count = (self.highest_power - self.lowest_power) * self.rates_per_octave + 1
        return 2.0 ** np.linspace(self.lowest_power, self.highest_power, count)

    def _check(self) -> None:
        require_all(self.num_actions, "num_actions", lambda k: k >= 2, "an integer ≥ 2")
        require_all(self.escort_powers, "escort_powers", lambda p: 1 <= p < math.inf, "finite and ≥ 1")
        for field in ("runs", "steps", "rates_per_octave"):
            require_count(getattr(self, field), field)
        # Beyond 2^±60 squares of rates and parameters leave float64.
        require(self.lowest_power >= -60, "lowest_power", self.lowest_power, "an integer ≥ -60")
        above = self.lowest_power < self.highest_power <= 60
        require(above, "highest_power", self.highest_power, f"an integer in {self.lowest_power + 1}..60")
        require(0 < self.tolerance < 1, "tolerance", self.tolerance, "in (0, 1)")
        require(self.seed >= 0, "seed", self.seed, "an integer ≥ 0")

    def _parts(self) -> list[Part]:
        named = [("SPG", math.nan), *((f"EPG({p:g})", float(p)) for p in self.escort_powers)]
        return [Part(name, p, k) for name, p in named for k in self.num_actions]

    def _sweep(self, part: Part) -> list[dict[str, Any]]:
        """A row per rate."""
        rewards, starts = random_bandits(self.seed, part.num_actions, self.runs)
        rates = self.rates
        method = part.make(np.repeat(rates, self.runs))
        tiled = np.tile(rewards, (1, len(rates))), np.tile(starts, (1, len(rates)))
        notes = follow(method, *tiled, OBSERVER, self.steps)
        monotone = ~notes.fell_back.reshape(len(rates), self.runs)
        converged = (notes.suboptimality < self.tolerance).reshape(len(rates), self.runs)
        flips = notes.sign_flips.reshape(len(rates), self.runs).mean(axis=1)
        rows = []
        for i, rate in enumerate(rates):
            row = {**part._asdict(), "learning_rate": float(rate), "runs": self.runs}
            for name, stable in (("monotone", monotone[i]), ("converged", converged[i])):
                low, high = wilson_interval(int(stable.sum()), self.runs)
                row |= {name: float(stable.mean()), f"{name}_low": low, f"{name}_high": high}
            rows.append({**row, "sign_flips": float(flips[i])})
        return rows

    def _thresholds(self, part: Part, rows: list[dict[str, Any]]) -> dict[str, Any]:
        own = stack_rows(rows)
        found: dict[str, Any] = {**part._asdict(), "law_two_actions": two_action_limit(part.p)}
        for name, value in threshold(own, "monotone", from_below=True)._asdict().items():
            found[f"monotone_{name}"] = value
        for name, value in threshold(own, "converged", from_below=False)._asdict().items():
            found[f"converged_{name}"] = value
        everyone = np.flatnonzero(own["monotone"] < 1)
        found["all_monotone"] = _before(own["learning_rate"], everyone)
        found["most_converged"] = float(own["converged"].max())
        found["most_converged_rate"] = float(own["learning_rate"][own["converged"].argmax()])
        return found

    def _summary(self, thresholds: list[dict[str, Any]]) -> Summary:
        lines = []
        for method in dict.fromkeys(row["method"] for row in thresholds):
            own = [row for row in thresholds if row["method"] == method]
            monotone = [self._cell(row, "monotone") for row in own]
            converged = [self._cell(row, "converged") for row in own]
            lines.append([method, *monotone, *converged, _limit(own[0]["law_two_actions"])])
        sizes = [f"K={k}" for k in self.num_actions]
        headings = ["method", f"monotone up to η: {sizes[0]}", *sizes[1:]]
        headings += [f"converges at η: {sizes[0]}", *sizes[1:], "law, K=2"]
        return Summary(headings, lines)

    def _cell(self, row: Mapping[str, Any], name: str) -> str:
        """The rate, with its interval where the intervals of the shares leave a choice."""
        found = [row[f"{name}_{end}"] for end in ("rate", "low", "high")]
        shown = [f"{rate:.4g}" for rate in found]
        shown[0] = "none" if found[0] == 0 else f"≥ {shown[0]}" if found[0] == self.rates[-1] else shown[0]
        return shown[0] if len(set(found)) == 1 else f"{shown[0]} [{shown[1]}, {shown[2]}]"

    def _answers(self, thresholds: list[dict[str, Any]]) -> list[str]:
        softmax = [row for row in thresholds if row["method"] == "SPG"]
        every = self._by_size(softmax, lambda row: f"{row['all_monotone']:.4g}")
        best = self._by_size(
            softmax,
            lambda row: f"{100 * row['most_converged']:.0f} % at η = {row['most_converged_rate']:.3g}",
        )
        answers = [
            f"Softmax: every run was monotone up to η = {every}, of at most {self.rates[-1]:g}; the law says any η. "
            f"Smoothness promises it below 2/β = {2 / SMOOTHNESS:g} only. Converged within {self.steps} updates at "
            f"the best rate: {best}."
        ]
        for p in self.escort_powers:
            own = [row for row in thresholds if row["p"] == p]
            each = self._by_size(own, lambda row: self._cell(row, "monotone"))
            best = self._by_size(own, lambda row: f"{100 * row['most_converged']:.0f} %")
            answers.append(
                f"EPG({p:g}) is monotone up to η = {each}; the law of two actions says "
                f"{_limit(own[0]['law_two_actions'])}. Converged within {self.steps} updates at the best rate: {best}."
            )
        return answers

    @staticmethod
    def _by_size(rows: list[dict[str, Any]], cell: Callable[[dict[str, Any]], str]) -> str:
        return ", ".join(f"{cell(row)} (K = {row['num_actions']})" for row in rows)


def random_bandits(seed: int, num_actions: int, runs: int) -> tuple[np.ndarray, np.ndarray]:
    """Rewards that reach from 0 to 1 and starts uniform on the simplex, both (K, B)."""
    rng = np.random.default_rng([seed, num_actions])
    rewards = rng.random((num_actions, runs))
    low, high = rewards.min(axis=0), rewards.max(axis=0)
    starts = rng.dirichlet(np.ones(num_actions), runs).T
    return (rewards - low) / (high - low), starts / starts.sum(axis=0)


def two_action_limit(p: float) -> float:
    """The rate up to which every update climbs for two actions with rewards 1 and 0; p is NaN for softmax.

    Let q = π(wrong), ‖θ‖_p = 1. One update multiplies θ(wrong) by 1 − (η/p)·q^{1−2/p}·(1 − q) and θ(right) by
    1 + (η/p)·(1 − q)^{1−2/p}·q. The value falls when the first is further below −1 than the second is above 1:

        η > 2p / max_q [q^{1−2/p}·(1 − q) − (1 − q)^{1−2/p}·q],

    4 for p = 2 (q → 0); for p < 2 the bracket has no bound, and no rate is safe. Softmax climbs at any rate and for
    any K: the new policy is ∝ π·e^{ηπA}, and as πA has the sign of A, Σ π·e^{ηπA}·A ≥ Σ π·A = 0.
    """
    if math.isnan(p):
        return math.inf
    if p <= 2:
        return 4.0 if p == 2 else 0.0
    from scipy.optimize import minimize_scalar

    power = 1 - 2 / p
    # Beyond 1/2 the bracket is negative; below, it has one maximum.
    found = minimize_scalar(
        lambda q: (1 - q) ** power * q - q**power * (1 - q), bounds=(0, 0.5), method="bounded",
        options={"xatol": 1e-12},
    )  # fmt: skip
    return 2 * p / -found.fun


def threshold(rows: Mapping[str, np.ndarray], name: str, from_below: bool) -> Threshold:
    """The largest rate at which `STABLE_SHARE` of the runs are stable.

    Args:
        rows: columns learning_rate (ascending), and `name` with its _low and _high ends.
        name: "monotone" or "converged".
        from_below: whether all smaller rates must be stable too. Small rates do not converge in time.
    """
    found = []
    for column in (name, f"{name}_low", f"{name}_high"):
        stable = rows[column] >= STABLE_SHARE
        if from_below:
            found.append(_before(rows["learning_rate"], np.flatnonzero(~stable)))
        else:
            found.append(float(rows["learning_rate"][stable].max(initial=0.0)))
    return Threshold(*found)


def _before(rates: np.ndarray, failures: np.ndarray) -> float:
    """The last rate before the first failure; 0 when the first one fails."""
    count = failures[0] if len(failures) else len(rates)
    return float(rates[count - 1]) if count else 0.0


def _limit(rate: float) -> str:
    return "any η" if math.isinf(rate) else "no η" if rate == 0 else f"η < {rate:.3g}"


def _first(at: Evaluation) -> Notes:
    none = jnp.zeros(at.suboptimality.shape, jnp.int64)
    return Notes(at.suboptimality, none > 0, none)


def _see(notes: Notes, step: Array, at: Evaluation, flips: Array) -> Notes:
    del step
    # Not "≥": NaN is no progress either.
    rose = ~(at.suboptimality <= notes.suboptimality + ROUNDING)
    return Notes(at.suboptimality, notes.fell_back | rose, flips)


OBSERVER = Observer(_first, _see, lambda notes: jnp.zeros_like(notes.fell_back))
"""Follows every run to its end."""
