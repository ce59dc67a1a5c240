"""Which exponent p when: speed, steadiness and safety of EPG(p) beside softmax (figure 8)."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from escapevelocity.errors import require
from escapevelocity.lab import Bandit, epg
from escapevelocity.lab.experiments._p_study_parts import (
    SOFTMAX,
    Row,
    corner_rows,
    random_bandits,
    rate_rows,
    sampled_rows,
    with_exponent,
)
from escapevelocity.lab.experiments._which_p import (
    Situation,
    all_round,
    largest_stable_rate,
    name_of,
    situations,
    stable_rates,
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
from escapevelocity.lab.simulate import require_count

_SHOWN = (1.0, 1.5, 2.0, 4.0, 8.0, SOFTMAX)
"""Exponents whose numbers the summary shows beside the recommended one."""


@dataclasses.dataclass(frozen=True)
class PStudy(Experiment):
    """Which escort exponent p when? Every p, and softmax as p = ∞, at the same rate and at its own best rate.

    Deep wells: bandit (b + Δ, b, …, b) from a wrong corner. Random bandits: rewards U[0, 1] from the uniform policy
    and from anywhere on the simplex; settled means within 1 % of the best reward until the end. Both with exact
    gradients. Sampled: one action per step on the first bandit, from the uniform policy. The rate of EPG(p) is
    η‖θ‖²/p², of softmax η.
    """

    question: ClassVar[str] = "Which p when?"
    quick: ClassVar[Mapping[str, Any]] = {
        "powers": (1.0, 2.0, 4.0),
        "limit_powers": (1024.0,),
        "best_probs": (1e-2, 1e-4),
        "rates": (0.1, 1.0, 10.0),
        "bandits": 100,
        "steps": 1000,
        "sampled_rates": (0.4,),
        "runs": 200,
        "horizons": (200, 1000),
    }

    powers: tuple[float, ...] = (1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0, 6.0, 8.0, 16.0, 32.0, 64.0)
    """Exponents p ≥ 1 of the escort transform, increasing; softmax is always added."""
    limit_powers: tuple[float, ...] = (256.0, 1024.0, 4096.0)
    """Larger p, from the corner only, for the limit p → ∞."""
    best_probs: tuple[float, ...] = (1e-2, 1e-4, 1e-6)
    """π₁ of the wrong corners, decreasing."""
    num_actions: int = 6
    """K, at least 3."""
    base_reward: float = 0.2
    """b, what every action but the best pays; in [0, 1]."""
    gap: float = 0.5
    """Δ, what the best action pays more; b + Δ is in [0, 1]."""
    learning_rate: float = 0.4
    """η from the corners; among `rates` and `sampled_rates` the nearest one is used to compare at the same rate."""
    max_steps: int = 4_000_000
    """Corner starts that are still trapped then are censored."""
    rates: tuple[float, ...] = tuple(float(f"{10 ** (i / 2):.4g}") for i in range(-4, 6))
    """Grid of η on random bandits, increasing: 10⁻² … 10^2.5 in steps of √10."""
    bandits: int = 300
    """Random bandits for each kind of start."""
    steps: int = 3000
    """Updates on each; runs that have not settled count with this number."""
    sampled_rates: tuple[float, ...] = (0.1, 0.4, 1.6)
    """η with sampled actions."""
    runs: int = 1000
    """Sampled runs for each rate."""
    horizons: tuple[int, ...] = (500, 5000)
    """Updates after which they are judged, increasing."""
    seed: int = 0
    """Of rewards, starts, sampled actions and intervals."""

    def run(self, track: Track = silently) -> Findings:
        """Measure every exponent, then say which to take when."""
        self._check()
        bandit = Bandit([self.base_reward + self.gap] + [self.base_reward] * (self.num_actions - 1))
        rewards, starts = random_bandits(self.seed, self.num_actions, self.bandits)
        corners, by_rate, at_best, by_sample = [], [], [], []
        exponents = [*map(float, self.powers), SOFTMAX]
        for p in track(exponents, name_of):
            corners += self._corner(bandit, p)
            rows, best_rows = rate_rows(p, rewards, starts, self.rates, self.steps, self.seed)
            by_rate, at_best = by_rate + rows, at_best + best_rows
            by_sample += sampled_rows(p, bandit, self.sampled_rates, self.runs, self.horizons, self.seed)
        limit = [row for p in self.limit_powers for row in self._corner(bandit, float(p))]
        plain = self._plain_rows(bandit, float(max(self.limit_powers)))
        stable = [largest_stable_rate(by_rate, p, kind) for kind in starts for p in exponents]
        found = situations(corners, by_rate, at_best, stable, by_sample, self.learning_rate)
        tables = {
            "": corners + limit,
            "rates": by_rate,
            "best": at_best,
            "stable": stable,
            "sampled": by_sample,
            "which": [row for one in found for row in one.rows()],
        }
        answers = [
            all_round(found),
            *self._limit_answers(corners, limit, plain),
            *(stable_rates(stable, kind) for kind in starts),
            "Rows marked 'own best η' choose η on one half of the bandits and count on the other. 'As good' are "
            "exponents whose 95 % intervals overlap the best one's.",
        ]
        return Findings({name: stack_rows(rows) for name, rows in tables.items()}, _summary(found), answers)

    def _check(self) -> None:
        highest = 1 / (self.num_actions - 1) if self.num_actions > 1 else 1
        require(self.num_actions >= 3, "num_actions", self.num_actions, "an integer ≥ 3")
        for name in ("powers", "limit_powers"):
            require_all(getattr(self, name), name, lambda p: 1 <= p < math.inf, "finite and ≥ 1")
        require_all(self.best_probs, "best_probs", lambda q: 0 < q < highest, f"in (0, {highest:g})")
        require(0 <= self.base_reward <= 1, "base_reward", self.base_reward, "in [0, 1]")
        require(0 < self.gap <= 1 - self.base_reward, "gap", self.gap, f"in (0, {1 - self.base_reward:g}]")
        require(0 < self.learning_rate < math.inf, "learning_rate", self.learning_rate, "finite and > 0")
        for name in ("rates", "sampled_rates"):
            require_all(getattr(self, name), name, lambda rate: 0 < rate < math.inf, "finite and > 0")
        require_all(self.horizons, "horizons", lambda n: n >= 1, "an integer ≥ 1")
        falls = bool((np.diff(self.best_probs) < 0).all())
        require(falls, "best_probs", self.best_probs, "in decreasing order")
        for name in ("powers", "rates", "horizons"):
            rises = bool((np.diff(getattr(self, name)) > 0).all())
            require(rises, name, getattr(self, name), "in increasing order")
        for name in ("steps", "max_steps"):
            require_count(getattr(self, name), name)
        for name, least in (("bandits", 20), ("steps", 10), ("runs", 10), ("seed", 0)):
            require(getattr(self, name) >= least, name, getattr(self, name), f"an integer ≥ {least}")

    def _corner(self, bandit: Bandit, p: float) -> list[Row]:
        method = with_exponent(p)(self.learning_rate)
        return corner_rows(method, p, bandit, self.best_probs, self.learning_rate, self.max_steps)

    def _plain_rows(self, bandit: Bandit, p: float) -> list[Row]:
        """The largest p with a constant rate η/p², which does not grow with ‖θ‖, from the shallowest corner."""
        method = epg(self.learning_rate / p**2, p, scaled=False)
        return corner_rows(method, p, bandit, self.best_probs[:1], self.learning_rate, self.max_steps)

    def _limit_answers(self, corners: Sequence[Row], limit: Sequence[Row], plain: Sequence[Row]) -> list[str]:
        """Whether p → ∞ is softmax, with the rate η‖θ‖²/p² and with the plain rate."""
        softmax = {row["best_prob"]: row for row in corners if row["p"] == SOFTMAX}
        parts, last = [], max(self.limit_powers)
        at_last = [_share(row, softmax[row["best_prob"]]) for row in limit if row["p"] == last]
        for best_prob in self.best_probs:
            rows = [row for row in [*corners, *limit] if row["best_prob"] == best_prob and row["p"] < SOFTMAX]
            shares = {row["p"]: _share(row, softmax[best_prob]) for row in rows}
            shares = {p: share for p, share in shares.items() if not math.isnan(share)}
            if not shares:
                parts.append(f"π₁ = {best_prob:g}: not measured, cut off after {self.max_steps:,} updates")
                continue
            near = [p for p, share in shares.items() if abs(share - 1) <= 0.05]
            reached = f"from p = {min(near):g}" if near else "at no p tried"
            parts.append(
                f"π₁ = {best_prob:g}: {shares[max(shares)]:.3f} at p = {max(shares):g}, "
                f"within 5 % {reached} (2 ln 1/π₁ = {2 * math.log(1 / best_prob):.1f})"
            )
        known = [share for share in at_last if not math.isnan(share)]
        arrives = "tends" if all(abs(share - 1) <= 0.05 for share in known) else "has not yet come"
        tends = arrives if known else "cannot be said to tend"
        one, shallow = plain[0], _share(plain[0], softmax[plain[0]["best_prob"]])
        constant = f"With a constant rate η/p² p = {one['p']:g}"
        return [
            f"With the rate η‖θ‖²/p² EPG(p) {tends} to softmax at the same η as "
            f"p → ∞. Its escape time over softmax's: {'; '.join(parts)}. By the flow, d ln(π₁/π_c)/dt = "
            "ηΔ(π₁^(1−2/p) + π₁): softmax's well returns for p well above 2 ln(1/π₁), where both terms are alike.",
            f"{constant}, or softmax, was cut off after {self.max_steps:,} updates from π₁ = {one['best_prob']:g}."
            if math.isnan(shallow)
            else f"{constant} takes {shallow:.3f} of softmax's time from π₁ = {one['best_prob']:g}.",
        ]


def _share(row: Row, softmax: Row) -> float:
    """The escape time over softmax's; NaN where either was cut off, or softmax was out from the start."""
    unknown = row["censored"] or softmax["censored"] or softmax["steps"] == 0
    return math.nan if unknown else row["steps"] / softmax["steps"]


def _summary(found: Sequence[Situation]) -> Summary:
    shown = [p for p in _SHOWN if p in found[0].values]
    headings = ["situation", "counted", "take p", "there", "as good", *(name_of(p) for p in shown)]
    rows = []
    for one in found:
        numbers = [one.number(p) for p in shown]
        rows.append([one.name, one.counted, name_of(one.best), one.number(one.best), one.as_good(), *numbers])
    return Summary(headings, rows)
