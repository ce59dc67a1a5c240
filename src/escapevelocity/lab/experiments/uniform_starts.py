"""Random bandits from the uniform policy: how often is a run trapped at a wrong action, and how much time is lost?"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import jax
import numpy as np
from sklearn.metrics import roc_auc_score

from escapevelocity.errors import require
from escapevelocity.lab import Method, epg, npg, sampled, spg, wilson_interval
from escapevelocity.lab.experiments._bandits import follow
from escapevelocity.lab.experiments._corners import observer
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
from escapevelocity.lab.simulate import MOST, require_count

METHODS = {"SPG": spg, "EPG(2)": lambda rate: epg(rate, 2), "EPG(4)": lambda rate: epg(rate, 4), "NPG": npg}
"""Rate -> method."""


class Part(NamedTuple):
    """One method in one situation."""

    num_actions: int
    gradients: str
    learning_rate: float
    method: str

    def __str__(self) -> str:
        return (
            f"K = {self.num_actions}, {self.gradients} gradients, η = {self.learning_rate:g}, {self.method}"
        )


@dataclasses.dataclass(frozen=True)
class UniformStarts(Experiment):
    """How often is a run from the uniform policy trapped, and how much time is lost?

    Every run has its own bandit, r ~ U[0, 1]^K, and starts at 1/K. It is solved when (π* − π)ᵀr < tolerance. It was
    trapped when in more than half of the updates until then one wrong action held more than 0.9 of the policy:
    that is what a well is. Exact gradients, and sampled actions with the true value as the baseline.
    """

    question: ClassVar[str] = "How often is a run from uniform starts trapped, and what is lost?"
    quick: ClassVar[Mapping[str, Any]] = {
        "num_actions": (30,), "runs": 500, "sampled_runs": 128, "horizon": 400.0, "sampled_rates": (0.4,)
    }  # fmt: skip

    methods: tuple[str, ...] = tuple(METHODS)
    """Names of the methods to compare."""
    num_actions: tuple[int, ...] = (5, 10, 30, 100)
    """K, each at least 2."""
    runs: int = 5000
    """Bandits per K with exact gradients; every method gets the same ones."""
    learning_rate: float = 0.4
    """η of all methods with exact gradients."""
    sampled_runs: int = 400
    """Bandits per K and rate with sampled actions."""
    sampled_rates: tuple[float, ...] = (0.1, 0.4)
    """η with sampled actions."""
    tolerance: float = 0.01
    """Sub-optimality in (0, 1) below which a run is solved, in units of reward."""
    horizon: float = 1000.0
    """Learning rate × updates after which an unsolved run is given up: 2,500 updates at η = 0.4."""
    early_steps: int = 50
    """Updates in which the dip of π(a*) is looked at as a warning."""
    seed: int = 0
    """Of rewards and sampled actions."""

    def run(self, track: Track = silently) -> Findings:
        """Follow every run and summarise each method in each situation."""
        self._check()
        runs = {part: self._follow(part) for part in track(self._parts())}
        fastest = self._fastest(runs)
        rows = [self._row(part, columns, fastest[part[:3]]) for part, columns in runs.items()]
        tables = {"": stack_rows(rows), "runs": _joined(runs)}
        return Findings(tables, self._summary(rows), self._answers(rows, runs))

    def max_steps(self, learning_rate: float) -> int:
        """Updates after which an unsolved run is given up."""
        return math.ceil(self.horizon / learning_rate)

    def _check(self) -> None:
        require_all(self.methods, "methods", lambda name: name in METHODS, f"one of {', '.join(METHODS)}")
        require_all(self.num_actions, "num_actions", lambda k: k >= 2, "an integer ≥ 2")
        require_all(self.sampled_rates, "sampled_rates", lambda r: 0 < r < math.inf, "a finite number > 0")
        for field in ("learning_rate", "horizon"):
            require_positive(getattr(self, field), field)
        for field in ("runs", "sampled_runs", "early_steps"):
            require_count(getattr(self, field), field)
        longest = MOST * min(self.learning_rate, *self.sampled_rates)
        require(self.horizon <= longest, "horizon", self.horizon, f"at most {longest:.3g}")
        require(0 < self.tolerance < 1, "tolerance", self.tolerance, "in (0, 1)")
        require(self.seed >= 0, "seed", self.seed, "an integer ≥ 0")

    def _parts(self) -> list[Part]:
        situations = [("exact", self.learning_rate), *(("sampled", rate) for rate in self.sampled_rates)]
        return [
            Part(k, gradients, rate, method)
            for k in self.num_actions
            for gradients, rate in situations
            for method in self.methods
        ]

    def _follow(self, part: Part) -> dict[str, np.ndarray]:
        """One row per run."""
        count = self.runs if part.gradients == "exact" else self.sampled_runs
        k = part.num_actions
        rewards = random_rewards(self.seed, k, count)
        method: Method = METHODS[part.method](part.learning_rate)
        if part.gradients == "sampled":
            method = sampled(method, "value")
        key = jax.random.fold_in(jax.random.key(self.seed), k)
        limit = self.max_steps(part.learning_rate)
        watch = observer(self.tolerance, self.early_steps)
        notes = follow(method, rewards, np.full((k, count), 1 / k), watch, limit, key)
        solved = notes.steps >= 0
        steps = np.where(solved, notes.steps, limit)
        top = np.sort(rewards, axis=0)
        return {
            "steps": steps,
            "solved": solved,
            "trapped": notes.in_corner > steps / 2,
            "reward_gap": top[-1] - top[-2],
            "lowest_best_prob": notes.lowest,
            "early_best_prob": notes.early_lowest,
        }

    @staticmethod
    def _fastest(runs: Mapping[Part, Mapping[str, np.ndarray]]) -> dict[tuple, np.ndarray]:
        """Per situation, the steps of the quickest method on each bandit."""
        situations = dict.fromkeys(part[:3] for part in runs)
        return {
            situation: np.min(
                [columns["steps"] for part, columns in runs.items() if part[:3] == situation], axis=0
            )
            for situation in situations
        }

    def _row(self, part: Part, run: Mapping[str, np.ndarray], fastest: np.ndarray) -> dict[str, Any]:
        trapped, steps, count = run["trapped"], run["steps"], len(run["steps"])
        low, high = wilson_interval(int(trapped.sum()), count)
        return {
            **part._asdict(),
            "runs": count,
            "max_steps": self.max_steps(part.learning_rate),
            "median_steps": float(np.median(steps)),
            "steps_90": float(np.quantile(steps, 0.9)),
            "unsolved": float(np.mean(~run["solved"])),
            "ratio_to_fastest": float(np.median(np.maximum(steps, 1) / np.maximum(fastest, 1))),
            "trapped": float(trapped.mean()),
            "trapped_low": low,
            "trapped_high": high,
            "dipped": float(np.mean(run["lowest_best_prob"] * part.num_actions < 0.5)),
            "gap_auc": separation(trapped, -run["reward_gap"]),
            "early_dip_auc": separation(trapped, -run["early_best_prob"]),
        }

    def _summary(self, rows: list[dict[str, Any]]) -> Summary:
        def cell(row: dict[str, Any]) -> str:
            limit = row["max_steps"]
            steps = (row["median_steps"], row["steps_90"])
            median, tail = (f"> {limit}" if n >= limit else f"{n:.0f}" for n in steps)
            return f"{median}, {tail}, {100 * row['trapped']:.3g} %"

        situations = dict.fromkeys((r["gradients"], r["learning_rate"], r["num_actions"]) for r in rows)
        lines = []
        for gradients, rate, k in sorted(situations):
            own = [
                r for r in rows
                if (r["gradients"], r["learning_rate"], r["num_actions"]) == (gradients, rate, k)
            ]  # fmt: skip
            lines.append([f"{gradients}, η = {rate:g}", int(k), *map(cell, own)])
        first, *others = self.methods
        return Summary(["gradients", "K", f"{first}: median, 90 %, trapped", *others], lines)

    def _answers(self, rows: list[dict[str, Any]], runs: Mapping[Part, Mapping[str, Any]]) -> list[str]:
        hardest = max(self.num_actions)
        exact = [row for row in rows if row["gradients"] == "exact"]
        said = [_exactly(runs), _lost([row for row in exact if row["num_actions"] == hardest], hardest)]
        for rate in self.sampled_rates:
            own = [
                row for row in rows
                if row["gradients"] == "sampled" and (row["num_actions"], row["learning_rate"]) == (hardest, rate)
            ]  # fmt: skip
            shares = ", ".join(f"{row['method']} {_percent(row)}" for row in own)
            said.append(f"Sampled actions, K = {hardest}, η = {rate:g}, trapped runs: {shares}.")
        return [*said, *_predictors(rows)]


def random_rewards(seed: int, num_actions: int, runs: int) -> np.ndarray:
    """Rewards (K, B), uniform in [0, 1]."""
    return np.random.default_rng([seed, num_actions]).random((num_actions, runs))


def separation(trapped: np.ndarray, score: np.ndarray) -> float:
    """Chance that a trapped run scores higher than a free one (area under the ROC curve); NaN without both kinds.

    Example:
        >>> separation(np.array([True, False, True, False]), np.array([3, 2, 1, 0]))
        0.75
    """
    return float(roc_auc_score(trapped, score)) if 0 < trapped.sum() < len(trapped) else math.nan


def _percent(row: Mapping[str, Any]) -> str:
    return f"{100 * row['trapped']:.3g} % [{100 * row['trapped_low']:.3g}, {100 * row['trapped_high']:.3g}]"


def _exactly(runs: Mapping[Part, Mapping[str, Any]]) -> str:
    own = [(part, columns) for part, columns in runs.items() if part.gradients == "exact"]
    trapped = sum(int(columns["trapped"].sum()) for _, columns in own)
    count = sum(len(columns["trapped"]) for _, columns in own)
    # 1e-9: the rounding of a start of 1/K
    fell = sum(int((c["lowest_best_prob"] * part.num_actions < 1 - 1e-9).sum()) for part, c in own)
    _, high = wilson_interval(trapped, count)
    return (
        f"Exact gradients: {trapped} of {count} runs were trapped (95 %: below {100 * high:.2g} %), and π(a*) "
        f"fell below 1/K in {fell}."
    )


def _lost(rows: list[dict[str, Any]], num_actions: int) -> str:
    each = "; ".join(
        f"{row['method']} {row['median_steps']:.0f} ({row['steps_90']:.0f}), {row['ratio_to_fastest']:.2g}×"
        for row in rows
    )
    return (
        f"Exact gradients, K = {num_actions}, median (90 %) updates and median ratio to the quickest on the same "
        f"bandit: {each}."
    )


def _predictors(rows: list[dict[str, Any]]) -> list[str]:
    """How well each quantity tells trapped runs from free ones, where there are enough of both."""
    enough = [row for row in rows if 20 <= row["trapped"] * row["runs"] <= row["runs"] - 20]
    if not enough:
        return ["Too few runs were trapped, or free, to say what predicts it."]
    gap, dip = ([row[name] for row in enough] for name in ("gap_auc", "early_dip_auc"))
    return [
        f"Trapped runs told from free ones (area under the ROC curve, median and range over {len(enough)} situations; "
        f"0.5 is chance): by a small gap between the two best rewards {_range(gap)}, by a low π(a*) in the "
        f"first updates {_range(dip)}."
    ]


def _range(values: list[float]) -> str:
    return f"{np.median(values):.2f} ({min(values):.2f}–{max(values):.2f})"


def _joined(runs: Mapping[Part, Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """A row per run; its bandit is known by K, the kind of gradients and `run`."""
    pieces: dict[str, list[np.ndarray]] = {}
    for part, columns in runs.items():
        count = len(columns["steps"])
        keys = {name: np.repeat(value, count) for name, value in part._asdict().items()}
        for name, column in {**keys, "run": np.arange(count), **columns}.items():
            pieces.setdefault(name, []).append(column)
    return {name: np.concatenate(column) for name, column in pieces.items()}
