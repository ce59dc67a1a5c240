"""Does the exponent of the NŁ coefficient, C ∝ π(a*)^κ, predict how the escape time grows?"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from scipy.stats import t as student_t

from escapevelocity.errors import require
from escapevelocity.health.gravity import ESCAPE_ODDS
from escapevelocity.lab import corner_starts
from escapevelocity.lab.evaluation import Evaluation
from escapevelocity.lab.experiments._bandits import Observer, follow
from escapevelocity.lab.experiments._speeds import Rule, coefficient, rules, speed
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
"""Slopes are fitted to the four deepest starts that escaped: the laws are asymptotic."""


@dataclasses.dataclass(frozen=True)
class Exponent(Experiment):
    """Does the NŁ exponent predict the escape rate across methods?

    C ∝ π(a*)^κ, with κ = 1 for softmax, 1 − 1/p for escort, 2 − α for Tsallis. The gradient flow's speed is
    ‖∇V‖² ≥ C²·gap², so dπ₁/dt ∝ π₁^{2κ} and T ∝ π₁^{−(2κ−1)}, logarithmic at κ = 1/2 and bounded below it. Rules
    that do not follow the plain gradient of their parameters have another speed, ⟨∇V, direction⟩ ∝ π₁^σ, and
    T ∝ π₁^{−(σ−1)}. Both predictions are compared with measured times, for equal wrong arms and for random ones.
    """

    question: ClassVar[str] = "Does the NŁ exponent predict the escape rate across methods?"
    quick: ClassVar[Mapping[str, Any]] = {
        "bandits": 2, "max_steps": 30_000, "deep_steps": 5_000, "escort_powers": (1.5, 2.0, 3.0, 4.0, 8.0)
    }  # fmt: skip

    escort_powers: tuple[float, ...] = (1.25, 1.5, 2.0, 2.5, 3.0, 4.0, 6.0, 8.0)
    """Exponents p ≥ 1 of the escort transform."""
    tsallis_orders: tuple[float, ...] = (0.5, 0.8)
    """Orders α of the Tsallis divergence, in (0, 1)."""
    temperatures: tuple[float, ...] = (0.01, 0.1)
    """τ > 0 of entropy-regularised gradients."""
    decades: tuple[float, ...] = tuple(-exponent / 2 for exponent in range(4, 17))
    """log₁₀ of the starts' π₁, the probability of every action but the corner's."""
    num_actions: int = 6
    """K, at least 3."""
    base_reward: float = 0.2
    """b, what the corner pays; in [0, 1]."""
    gap: float = 0.5
    """Δ, what the best action pays more; b + Δ is in [0, 1]."""
    bandits: int = 5
    """How many bandits with random wrong arms, beside the one where all pay b; for the interval at least 2."""
    learning_rate: float = 0.4
    """η where the time grows with a power of 1/π₁, by the law."""
    fast_rate: float = 0.01
    """η where it is logarithmic or bounded, so that short times are counted in many updates."""
    deep_rate: float = 20.0
    """η where it grows faster than 1/π₁ (Tsallis): 0.4 would need 50 times as many updates."""
    max_steps: int = 1_000_000
    """Most updates."""
    deep_steps: int = 50_000
    """Most updates where the time grows faster than 1/π₁; each of Tsallis finds a root and is slow."""
    seed: int = 0
    """Of the random arms."""

    def run(self, track: Track = silently) -> Findings:
        """Measure exponents and escape times of every rule."""
        self._check()
        rows, lines = [], []
        for rule in track(self._rules(), lambda rule: rule.name):
            own = self._measure(rule)
            rows += own
            lines.append(self._fit(rule, stack_rows(own)))
        tables = {"": stack_rows(rows), "slopes": stack_rows(lines)}
        return Findings(tables, self._summary(lines), self._answers(lines))

    def rewards(self) -> np.ndarray:
        """Rewards (K, bandits + 1): the first pay b on all wrong arms, the others random; the corner is last.

        Random arms pay from 0 to halfway between corner and best action: worse than the corner, and better.
        """
        wrong = np.random.default_rng(self.seed).random((self.num_actions, self.bandits + 1))
        wrong *= self.base_reward + self.gap / 2
        wrong[:, 0] = wrong[-1] = self.base_reward
        wrong[0] = self.base_reward + self.gap
        return wrong

    def rate(self, rule: Rule) -> float:
        """η of a rule."""
        if rule.slope < -1:
            return self.deep_rate
        return self.learning_rate if rule.slope < 0 else self.fast_rate

    def _rules(self) -> list[Rule]:
        return rules(self.escort_powers, self.tsallis_orders, self.temperatures)

    def _check(self) -> None:
        require(self.num_actions >= 3, "num_actions", self.num_actions, "an integer ≥ 3")
        highest = -math.log10(self.num_actions - 1)
        require_all(self.decades, "decades", lambda d: -300 < d < highest, f"in (-300, {highest:.3g})")
        require(len(set(self.decades)) >= 3, "decades", self.decades, "three or more, for a slope")
        require_all(self.escort_powers, "escort_powers", lambda p: 1 <= p < math.inf, "finite and ≥ 1")
        require_all(self.tsallis_orders, "tsallis_orders", lambda a: 0 < a < 1, "in (0, 1)")
        require_all(self.temperatures, "temperatures", lambda t: 0 < t < math.inf, "a finite number > 0")
        require(0 <= self.base_reward <= 1, "base_reward", self.base_reward, "in [0, 1]")
        require(0 < self.gap <= 1 - self.base_reward, "gap", self.gap, f"in (0, {1 - self.base_reward:g}]")
        require(self.bandits >= 2, "bandits", self.bandits, "an integer ≥ 2")
        for field in ("learning_rate", "fast_rate", "deep_rate"):
            require_positive(getattr(self, field), field)
        for field in ("max_steps", "deep_steps"):
            require_count(getattr(self, field), field)
        require(self.seed >= 0, "seed", self.seed, "an integer ≥ 0")

    def _measure(self, rule: Rule) -> list[dict[str, Any]]:
        """A row per bandit and start that can escape in time."""
        rate = self.rate(rule)
        limit = self.deep_steps if rule.slope < -1 else self.max_steps
        best_probs = 10.0 ** np.array(sorted(self.decades, reverse=True))
        bandits = self.bandits + 1
        rewards = np.repeat(self.rewards(), len(best_probs), axis=1)
        starts = np.tile(corner_starts(self.num_actions, self.num_actions - 1, best_probs), (1, bandits))
        pace = speed(rule, starts, rewards)
        # dπ₁/dt ∝ π₁^{s+1} takes π₁/(s·dπ₁/dt) to escape. Where that is too long the whole batch would run to the
        # limit for nothing; where T is no power law it is short.
        power = -rule.slope if rule.slope < 0 else math.inf
        keep = np.flatnonzero(self.gap * starts[0] <= power * rate * pace * limit)
        steps = np.full(starts.shape[1], -1)
        if len(keep):
            watched = observer(0.9 * self.gap)
            steps[keep] = follow(rule.make(rate), rewards[:, keep], starts[:, keep], watched, limit)
        ratio = coefficient(rule, starts, rewards)
        return [
            {
                "method": rule.name,
                "bandit": i // len(best_probs),
                "best_prob": float(starts[0, i]),
                "learning_rate": rate,
                "steps": int(steps[i]),
                "escaped": bool(steps[i] > 0),
                "coefficient": float(ratio[i]),
                "speed": float(pace[i]),
            }
            for i in range(starts.shape[1])
        ]

    def _fit(self, rule: Rule, rows: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """Exponents and slopes of one rule."""
        fits = []
        for bandit in range(self.bandits + 1):
            own = np.flatnonzero((rows["bandit"] == bandit) & rows["escaped"])
            own = own[np.argsort(rows["best_prob"][own])][:FIT_POINTS]
            if len(own) < 3:
                fits.append([math.nan] * 3)
                continue
            x = np.log(rows["best_prob"][own])
            columns = (rows["coefficient"], rows["speed"], rows["steps"])
            fits.append([float(np.polyfit(x, np.log(column[own]), 1)[0]) for column in columns])
        (kappa, sigma, slope), others = fits[0], np.array([fit[2] for fit in fits[1:]])
        half = student_t.ppf(0.975, len(others) - 1) * others.std(ddof=1) / math.sqrt(len(others))
        return {
            "method": rule.name,
            "plain": rule.plain,
            "learning_rate": self.rate(rule),
            "exponent": rule.exponent,
            "measured_exponent": kappa,
            "slope_by_exponent": -max(2 * kappa - 1, 0.0),
            "slope_by_speed": -max(sigma - 1, 0.0),
            "slope": slope,
            "slope_random": float(others.mean()),
            "slope_random_low": float(others.mean() - half),
            "slope_random_high": float(others.mean() + half),
            "slope_random_farthest": float(np.abs(others - slope).max()),
        }

    def _summary(self, lines: list[dict[str, Any]]) -> Summary:
        headings = ["method", "η", "κ", "of ‖∇V‖/gap", "slope by κ", "by speed", "measured", "random arms"]
        names = ("measured_exponent", "slope_by_exponent", "slope_by_speed", "slope")
        rows = [
            [
                line["method"],
                line["learning_rate"],
                line["exponent"],
                *(_digits(line[name]) for name in names),
                f"{_digits(line['slope_random'])} [{_digits(line['slope_random_low'])}, "
                f"{_digits(line['slope_random_high'])}]",
            ]
            for line in lines
        ]
        return Summary(headings, rows)

    def _answers(self, lines: list[dict[str, Any]]) -> list[str]:
        plain = [line for line in lines if line["plain"]]
        others = [line for line in lines if not line["plain"]]
        deepest = 10.0 ** np.mean(sorted(self.decades)[:FIT_POINTS])
        farthest = max(lines, key=lambda line: np.nan_to_num(line["slope_random_farthest"]))
        return [
            f"Plain gradients ({len(plain)} methods), slope predicted by κ: {_agreement(plain, 'slope_by_exponent')}.",
            f"Other rules ({len(others)}), which all have softmax's κ = 1: {_agreement(others, 'slope_by_exponent')}. "
            f"Predicted by their own speed: {_agreement(others, 'slope_by_speed')}.",
            f"All {len(lines)} by κ: {_agreement(lines, 'slope_by_exponent')}; by speed: "
            f"{_agreement(lines, 'slope_by_speed')}.",
            "Too few starts escaped for the slopes of unequal wrong arms."
            if math.isnan(farthest["slope_random_farthest"])
            else f"Unequal wrong arms changed no slope by more than {farthest['slope_random_farthest']:.2g} "
            f"({farthest['method']}).",
            f"Where T is logarithmic the law says 0 only as π₁ → 0; over the {FIT_POINTS} deepest starts its slope is "
            f"−1/ln({ESCAPE_ODDS:.2g}/π₁) = {-1 / math.log(ESCAPE_ODDS / deepest):.3f}.",
        ]


def observer(threshold: float) -> Observer:
    """Notes the first step with a sub-optimality below the threshold; −1 for never."""

    def first(at: Evaluation) -> Array:
        return jnp.full(at.suboptimality.shape, -1, jnp.int64)

    def see(steps: Array, step: Array, at: Evaluation, flips: Array) -> Array:
        del flips
        return jnp.where((steps < 0) & (at.suboptimality < threshold), step, steps)

    return Observer(first, see, lambda steps: steps >= 0)


def _digits(value: float) -> str:
    """Three decimals, no minus zero, a dash for NaN."""
    return "–" if math.isnan(value) else f"{round(value, 3) + 0.0:.3f}"


def _agreement(lines: list[dict[str, Any]], prediction: str) -> str:
    """Correlation with, and largest deviation from, the measured slopes."""
    usable = [line for line in lines if math.isfinite(line["slope"])]
    predicted = np.array([line[prediction] for line in usable])
    measured = np.array([line["slope"] for line in usable])
    if len(usable) < 3:
        return "too few slopes"
    deviation = np.abs(measured - predicted)
    worst = usable[int(deviation.argmax())]["method"]
    varies = predicted.std() > 0.01  # else it would be of rounding
    correlation = f"correlation {np.corrcoef(predicted, measured)[0, 1]:.3f}, " if varies else ""
    return f"{correlation}largest deviation {deviation.max():.3f} ({worst})"
