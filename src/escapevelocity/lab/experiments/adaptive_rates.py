"""Naive adaptive rates: they escape with exact gradients; with sampled actions some commit to a wrong action."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple

import jax
import numpy as np

from escapevelocity.errors import require
from escapevelocity.lab import (
    Method,
    alternate,
    corner_starts,
    delightful,
    epg,
    gnpg,
    inverse_probability,
    npg,
    sampled,
    spg,
    wilson_interval,
)
from escapevelocity.lab.experiments._bandits import follow
from escapevelocity.lab.experiments._commitment import Notes, failure_slope, observer
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

METHODS: dict[str, Callable[[Any], Method]] = {
    "SPG": spg,
    "EPG(2)": lambda rate: epg(rate, 2),
    "EPG(4)": lambda rate: epg(rate, 4),
    "NPG": npg,
    "GNPG": gnpg,
    "inverse-probability": inverse_probability,
    "delightful PG": delightful,
    "alternate": alternate,
}
"""Rates, one per run -> method."""

BASELINES: dict[str, Any] = {"0": 0.0, "true value": "value"}
"""Of the sampled gradients: 0 as in Mei et al. 2021b, or πᵀr."""

ENOUGH = 80
"""Failed runs that it takes to say that fewer than 5 % recover: of fewer than 73, none excludes no 5 %."""

STARTS = ("uniform", "corner")


class Part(NamedTuple):
    """One method with exact gradients (baseline "exact"), or with sampled actions and a baseline."""

    method: str
    baseline: str

    def __str__(self) -> str:
        kind = "exact" if self.baseline == "exact" else f"sampled, baseline {self.baseline}"
        return f"{self.method}, {kind}"


@dataclasses.dataclass(frozen=True)
class AdaptiveRates(Experiment):
    """Do naive adaptive rates escape, and what do they cost when actions are sampled?

    A bandit, from the uniform policy and from the corner of its last action. A run has failed at a horizon when one
    wrong action then holds more than 0.99 of the policy. To tell "for ever" from "slow", failures are counted at
    several horizons, and so are the failed runs that recover. Escaped: π(a*) has reached 0.1.
    """

    question: ClassVar[str] = (
        "Do naive adaptive rates escape, and what do they cost when actions are sampled?"
    )
    quick: ClassVar[Mapping[str, Any]] = {
        "methods": ("SPG", "EPG(2)", "NPG", "GNPG"), "runs": 256, "horizons": (30, 100, 300)
    }  # fmt: skip

    methods: tuple[str, ...] = tuple(METHODS)
    """Names of the methods to compare."""
    rewards: tuple[float, ...] = (0.7, 0.45, 0.2)
    """What the actions pay, in [0, 1]: the best first, the corner's last."""
    reward_noise: float = 0.0
    """Standard deviation of normal noise on sampled rewards."""
    best_prob: float = 0.01
    """π₁ of the corner start: the probability of every action but the last."""
    learning_rates: tuple[float, ...] = (0.1, 0.4)
    """η of every method; the table shows the last."""
    runs: int = 2000
    """Sampled runs per method, baseline, rate and start."""
    horizons: tuple[int, ...] = (100, 300, 1000, 3000, 10000)
    """Updates after which failures are counted, increasing."""
    resamples: int = 200
    """Bootstrap resamples of the runs, for the interval of the slope of log failures against log horizon."""
    seed: int = 0
    """Of sampled actions and of the bootstrap."""

    def run(self, track: Track = silently) -> Findings:
        """Follow every method, exactly and sampled, from both starts and with every rate."""
        self._check()
        parts = [Part(name, baseline) for name in self.methods for baseline in ("exact", *BASELINES)]
        horizons, rows = [], []
        for part in track(parts):
            for key, notes in self._follow(part):
                horizons += self._failures({**part._asdict(), **key}, notes)
                rows.append(self._row({**part._asdict(), **key}, notes))
        tables = {"": stack_rows(horizons), "times": stack_rows(rows)}
        return Findings(tables, self._summary(rows), self._answers(rows))

    def _check(self) -> None:
        require_all(self.methods, "methods", lambda name: name in METHODS, f"one of {', '.join(METHODS)}")
        require(len(self.rewards) >= 2, "rewards", self.rewards, "of at least two actions")
        require_all(self.rewards, "rewards", lambda r: 0 <= r <= 1, "in [0, 1]", distinct=False)
        best_first = self.rewards[0] > max(self.rewards[1:])
        require(best_first, "rewards", self.rewards, "such that the first is the largest, alone")
        require(0 <= self.reward_noise < math.inf, "reward_noise", self.reward_noise, "finite and ≥ 0")
        highest = 1 / len(self.rewards)
        require(0 < self.best_prob < highest, "best_prob", self.best_prob, f"in (0, {highest:g})")
        require_all(self.learning_rates, "learning_rates", lambda r: 0 < r < math.inf, "a finite number > 0")
        require_all(self.horizons, "horizons", lambda h: h >= 1, "an integer ≥ 1")
        increasing = all(a < b for a, b in zip(self.horizons, self.horizons[1:], strict=False))
        require(increasing and len(self.horizons) >= 2, "horizons", self.horizons, "two or more, increasing")
        require_count(self.runs, "runs")
        require_count(self.resamples, "resamples")
        require(self.seed >= 0, "seed", self.seed, "an integer ≥ 0")

    @property
    def judged(self) -> int:
        """Index of the horizon whose failed runs may still recover until the last one."""
        return (len(self.horizons) - 1) // 2

    def _follow(self, part: Part) -> list[tuple[dict[str, Any], Notes]]:
        """The notes of each rate and start."""
        exact = part.baseline == "exact"
        k, runs = len(self.rewards), 1 if exact else self.runs
        corner = corner_starts(k, k - 1, [self.best_prob])
        policies = np.concatenate([np.full((k, 1), 1 / k), corner], axis=1)
        situations = [(rate, start) for rate in self.learning_rates for start in range(len(STARTS))]
        starts = np.repeat(policies[:, [start for _, start in situations]], runs, axis=1)
        method = METHODS[part.method](np.repeat([rate for rate, _ in situations], runs))
        if not exact:
            method = sampled(method, BASELINES[part.baseline], self.reward_noise)
        rewards = np.repeat(np.array(self.rewards)[:, None], starts.shape[1], axis=1)
        # Every part has its own key: methods are compared by independent runs, as the intervals assume.
        index = list(METHODS).index(part.method) * 3 + ("exact", *BASELINES).index(part.baseline)
        key = jax.random.fold_in(jax.random.key(self.seed), index)
        notes = follow(method, rewards, starts, observer(self.horizons), self.horizons[-1], key)
        return [
            (
                {"learning_rate": rate, "start": STARTS[start], "runs": runs},
                Notes(*(np.asarray(note)[..., i * runs : (i + 1) * runs] for note in notes)),
            )
            for i, (rate, start) in enumerate(situations)
        ]

    def _failures(self, key: dict[str, Any], notes: Notes) -> list[dict[str, Any]]:
        """A row per horizon."""
        rows = []
        for horizon, committed in zip(self.horizons, notes.committed, strict=True):
            low, high = wilson_interval(int(committed.sum()), len(committed))
            share = float(committed.mean())
            rows.append({**key, "horizon": horizon, "failed": share, "failed_low": low, "failed_high": high})
        return rows

    def _row(self, key: dict[str, Any], notes: Notes) -> dict[str, Any]:
        last, judged = notes.committed[-1], notes.committed[self.judged]
        low, high = wilson_interval(int(last.sum()), len(last))
        row = {**key, "failed": float(last.mean()), "failed_low": low, "failed_high": high}
        count, recovered = int(judged.sum()), int((judged & ~last).sum())
        low, high = wilson_interval(recovered, count) if count else (math.nan, math.nan)
        share = recovered / count if count else math.nan
        row |= {"failed_before": count, "recovered": share, "recovered_low": low, "recovered_high": high}
        rng = np.random.default_rng([self.seed, 1])
        slope, low, high = failure_slope(self.horizons, np.asarray(notes.committed), self.resamples, rng)
        row |= {"slope": slope, "slope_low": low, "slope_high": high}
        for name, steps in (("escape", notes.escaped), ("solved", notes.solved)):
            there = steps >= 0
            row[f"{name}_share"] = float(there.mean())
            row[f"{name}_median"] = float(np.median(steps[there])) if there.any() else math.nan
        return row

    def _summary(self, rows: list[dict[str, Any]]) -> Summary:
        found = {(r["method"], r["baseline"], r["start"]): r for r in self._shown(rows)}
        lines = []
        for method in self.methods:
            exact = found[method, "exact", "corner"]
            for baseline in BASELINES:
                corner, uniform = (found[method, baseline, start] for start in ("corner", "uniform"))
                recovered = uniform if uniform["failed_before"] >= corner["failed_before"] else corner
                lines.append(
                    [
                        f"{method}, {baseline}",
                        _steps(exact["escape_median"]),
                        _steps(corner["escape_median"]),
                        _percent(corner, "failed"),
                        _percent(uniform, "failed"),
                        _percent(recovered, "recovered"),
                        _slope(recovered),
                    ]
                )
        before, last = self.horizons[self.judged], self.horizons[-1]
        headings = ["method, baseline", "T exact", "T sampled", "failed % from corner", "from uniform"]
        return Summary([*headings, f"recovered % {before}–{last}", "slope"], lines)

    def _shown(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [row for row in rows if row["learning_rate"] == self.learning_rates[-1]]

    def _answers(self, rows: list[dict[str, Any]]) -> list[str]:
        rate, before, last = self.learning_rates[-1], self.horizons[self.judged], self.horizons[-1]
        exact = [r for r in self._shown(rows) if (r["baseline"], r["start"]) == ("exact", "corner")]
        times = ", ".join(f"{r['method']} {_steps(r['escape_median'])}" for r in exact)
        said = [
            f"Exact gradients, η = {rate:g}, updates until the escape from π₁ = {self.best_prob:g}: {times}."
        ]
        said += [self._failed(rows, baseline, rate) for baseline in BASELINES for rate in self.learning_rates]
        tried = [r for r in rows if r["baseline"] != "exact" and r["failed_before"] >= ENOUGH]
        pairs = list(dict.fromkeys((r["method"], r["baseline"]) for r in tried))
        stuck = [
            pair
            for pair in pairs
            if all(r["recovered_high"] < 0.05 for r in tried if (r["method"], r["baseline"]) == pair)
        ]
        slow = [pair for pair in pairs if pair not in stuck]
        said.append(
            f"For ever or slow? Of the runs committed after {before} updates, fewer than 5 % had recovered by {last} "
            f"(by the whole 95 % interval, in every setting with at least {ENOUGH} such runs) with {_named(stuck)}; "
            f"more may recover with {_named(slow)}."
        )
        return said

    def _failed(self, rows: list[dict[str, Any]], baseline: str, rate: float) -> str:
        """Which methods fail from the uniform policy."""
        own = [
            r for r in rows if (r["baseline"], r["start"], r["learning_rate"]) == (baseline, "uniform", rate)
        ]
        some = [f"{r['method']} {_percent(r, 'failed')}" for r in own if r["failed"] > 0]
        none = [r["method"] for r in own if r["failed"] == 0]
        below = 100 * wilson_interval(0, self.runs)[1]
        some += [f"none of {', '.join(none)} (below {below:.2g})"] if none else []
        return (
            f"Sampled actions, baseline {baseline}, η = {rate:g}, uniform start: failed after {self.horizons[-1]} "
            f"updates, in % with 95 % intervals: {'; '.join(some)}."
        )


def _named(pairs: list[tuple[str, str]]) -> str:
    return ", ".join(f"{method} (baseline {baseline})" for method, baseline in pairs) or "none"


def _steps(steps: float) -> str:
    return "never" if math.isnan(steps) else f"{steps:.0f}"


def _percent(row: Mapping[str, Any], name: str) -> str:
    if math.isnan(row[name]):
        return "–"
    value, low, high = (_short(100 * row[name + end]) for end in ("", "_low", "_high"))
    return f"{value} [{low}, {high}]"


def _short(percent: float) -> str:
    """Two digits, no exponent."""
    return f"{percent:.0f}" if percent >= 10 or percent < 1e-6 else f"{percent:.2g}"


def _slope(row: Mapping[str, Any]) -> str:
    if math.isnan(row["slope"]):
        return "–"
    value, low, high = (round(row[name], 2) + 0.0 for name in ("slope", "slope_low", "slope_high"))
    return f"{value:.2f} [{low:.2f}, {high:.2f}]"
