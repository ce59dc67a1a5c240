"""Escape times against the start's probability of the best action, for every method, beside the laws (figure 3)."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import numpy as np

from escapevelocity.errors import require
from escapevelocity.health.gravity import ESCAPE_PROB, escape_time_slope
from escapevelocity.lab import (
    Bandit,
    Method,
    corner_starts,
    delightful,
    entropy_regularised,
    epg,
    escape_time,
    gnpg,
    inverse_probability,
    kl_penalised,
    mirror_descent,
    neurd,
    npg,
    predicted_escape_time,
    spg,
    tsallis,
)
from escapevelocity.lab.experiments.experiment import (
    Experiment,
    Findings,
    Summary,
    Track,
    require_all,
    silently,
    stack_rows,
)
from escapevelocity.lab.methods import require_positive
from escapevelocity.lab.simulate import require_count

FIT_POINTS = 4
"""Slopes are fitted to the four smallest π₁ that escaped: decades 10⁻³…10⁻⁶ for SPG, 10⁻⁵…10⁻⁸ for EPG. The
laws are asymptotic, and EPG's are met later."""


class Contender(NamedTuple):
    """A method with its law.

    Attributes:
        method: the update rule.
        law: its name in `predicted_escape_time`, or None where there is no closed form.
        p: exponent of the escort transform, or None.
        rate: η.
        slope: predicted d log T / d log π₁; 0 where T is logarithmic or bounded, NaN without a law.
        growth: how T grows as π₁ → 0, in words.
    """

    method: Method
    law: str | None
    p: float | None
    rate: float
    slope: float
    growth: str


@dataclasses.dataclass(frozen=True)
class Escape(Experiment):
    """How long does each method stay in the well? Escape times from a suboptimal corner, beside the laws.

    A bandit with rewards (b + Δ, b, …, b) starts with nearly all mass on a wrong action and π₁ on every other.
    Escaped means: the first step at which (π* − π)ᵀr < 0.9·Δ. The first five columns of times are the reference
    numbers of the design (K = 6, b = 0.2, Δ = 0.5, η = 0.4).
    """

    question: ClassVar[str] = "How long does each method stay in the well, and does the law predict it?"
    quick: ClassVar[Mapping[str, Any]] = {"best_probs": (1e-2, 1e-3, 1e-4, 1e-5), "max_steps": 300_000}

    best_probs: tuple[float, ...] = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8)
    """π₁ of the starts: the probability of every action but the corner's."""
    num_actions: int = 6
    """K, at least 3."""
    base_reward: float = 0.2
    """b, what every action but the best pays; in [0, 1]."""
    gap: float = 0.5
    """Δ, what the best action pays more; b + Δ is in [0, 1]."""
    learning_rate: float = 0.4
    """η of every method but GNPG."""
    gnpg_rate: float = 1 / 6
    """η of GNPG, whose steps all have this length (Mei et al. 2021)."""
    escort_powers: tuple[float, ...] = (1.0, 1.5, 2.0, 3.0, 4.0, 8.0)
    """Exponents p ≥ 1 of the escort transform."""
    max_steps: int = 3_000_000
    """Starts that are still trapped then are censored."""

    def run(self, track: Track = silently) -> Findings:
        """Measure the escape times of every method from every start."""
        self._check()
        bandit = Bandit([self.base_reward + self.gap] + [self.base_reward] * (self.num_actions - 1))
        starts = corner_starts(self.num_actions, self.num_actions - 1, self.best_probs)
        rows, lines = [], []
        for contender in track(self.contenders(), lambda one: one.method.name):
            times = escape_time(bandit, contender.method, starts, 0.9 * self.gap, self.max_steps)
            predicted = self._predicted(contender)
            fitted = fitted_slope(self.best_probs, times.steps, times.censored)
            rows += [
                {
                    "method": contender.method.name,
                    "p": math.nan if contender.p is None else float(contender.p),
                    "learning_rate": contender.rate,
                    "best_prob": best_prob,
                    "steps": int(times.steps[i]),
                    "censored": bool(times.censored[i]),
                    "sign_flips": int(times.sign_flips[i]),
                    "predicted_steps": float(predicted[i]),
                    "predicted_slope": contender.slope,
                    "fitted_slope": fitted,
                }
                for i, best_prob in enumerate(self.best_probs)
            ]
            lines.append(self._line(contender, times.steps, times.censored, predicted, fitted))
        headings = ["method", *(f"π₁={best_prob:g}" for best_prob in self.best_probs)]
        headings += ["T grows as", "slope", "fitted", "T / law"]
        return Findings({"": stack_rows(rows)}, Summary(headings, lines), self._answers(rows))

    def contenders(self) -> list[Contender]:
        """Every method of the lab that differs from the others with exact gradients."""
        rate = self.learning_rate
        logarithmic = "ln(1/π₁)"
        found = [Contender(spg(rate), "SPG", None, rate, escape_time_slope(), "1/π₁")]
        for p in self.escort_powers:
            growth = f"π₁^−{1 - 2 / p:.3g}" if p > 2 else logarithmic if p == 2 else "bounded"
            found.append(Contender(epg(rate, p), "EPG", p, rate, escape_time_slope(p), growth))
        found += [
            Contender(npg(rate), "NPG", None, rate, 0.0, logarithmic),
            Contender(neurd(rate), "NeuRD", None, rate, 0.0, logarithmic),
            Contender(mirror_descent(rate), "mirror descent", None, rate, 0.0, logarithmic),
            Contender(gnpg(self.gnpg_rate), "GNPG", None, self.gnpg_rate, 0.0, logarithmic),
            Contender(inverse_probability(rate), "inverse-probability", None, rate, 0.0, logarithmic),
        ]
        no_law = [
            kl_penalised(rate),
            entropy_regularised(rate, 0.01),
            entropy_regularised(rate, 0.1),
            delightful(rate, 1.0),
            delightful(rate, 0),
            tsallis(rate, 0.5),
        ]
        return found + [Contender(method, None, None, rate, math.nan, "–") for method in no_law]

    def _check(self) -> None:
        # From ESCAPE_PROB on a start has escaped as it is.
        highest = min(1 / (self.num_actions - 1) if self.num_actions > 1 else 1, ESCAPE_PROB)
        require(self.num_actions >= 3, "num_actions", self.num_actions, "an integer ≥ 3")
        require_all(self.best_probs, "best_probs", lambda q: 0 < q < highest, f"in (0, {highest:g})")
        require_all(self.escort_powers, "escort_powers", lambda p: 1 <= p < math.inf, "finite and ≥ 1")
        require(0 <= self.base_reward <= 1, "base_reward", self.base_reward, "in [0, 1]")
        require(0 < self.gap <= 1 - self.base_reward, "gap", self.gap, f"in (0, {1 - self.base_reward:g}]")
        for field in ("learning_rate", "gnpg_rate"):
            require_positive(getattr(self, field), field)
        require_count(self.max_steps, "max_steps")

    def _predicted(self, contender: Contender) -> np.ndarray:
        if contender.law is None:
            return np.full(len(self.best_probs), math.nan)
        return predicted_escape_time(contender.law, self.best_probs, self.gap, contender.rate, contender.p)

    def _line(
        self, contender: Contender, steps: Any, censored: Any, predicted: np.ndarray, fitted: float
    ) -> list[str | int | float]:
        shown = [f"> {n}" if cut else int(n) for n, cut in zip(steps, censored, strict=True)]
        escaped, ratio = np.flatnonzero(~censored), math.nan
        if escaped.size:
            hardest = escaped[np.argmin(np.asarray(self.best_probs)[escaped])]
            ratio = float(steps[hardest] / predicted[hardest])
        return [contender.method.name, *shown, contender.growth, contender.slope, fitted, ratio]

    def _answers(self, rows: list[dict[str, Any]]) -> list[str]:
        worst = min(self.best_probs)
        at_worst = {row["method"]: row for row in rows if row["best_prob"] == worst}
        softmax = at_worst["SPG"]
        bound = "more than " if softmax["censored"] else ""
        quickest = min(at_worst.values(), key=lambda row: (row["censored"], row["steps"]))
        return [
            f"From π₁ = {worst:g} SPG needs {bound}{softmax['steps']} steps; the quickest, {quickest['method']}, "
            f"needs {quickest['steps']}.",
            "Exact gradients only: with sampled actions NPG and GNPG can commit to a wrong action for ever "
            "(`ev lab adaptive-rates`).",
        ]


def fitted_slope(best_probs: Any, steps: Any, censored: Any) -> float:
    """Least-squares slope of log T against log π₁ over the `FIT_POINTS` smallest π₁ that escaped.

    Returns:
        The slope; NaN with fewer than three points.
    """
    escaped = ~np.asarray(censored) & (np.asarray(steps) > 0)
    order = np.argsort(np.asarray(best_probs)[escaped])[:FIT_POINTS]
    if len(order) < 3:
        return math.nan
    x, y = np.asarray(best_probs)[escaped][order], np.asarray(steps)[escaped][order]
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])
