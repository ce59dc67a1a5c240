"""Classifiers against each other, each at its own best learning rate: what `classify` and `many_classes` share."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from escapevelocity.errors import require
from escapevelocity.lab.classifier import OPTIMISERS, Recipe, Training, Tuned, tune
from escapevelocity.lab.classifier_objective import Objective
from escapevelocity.lab.experiments.experiment import Track, require_all
from escapevelocity.lab.images import ImageData
from escapevelocity.lab.problems import corner_starts

GOAL = 0.9
"""The training reward whose epoch is reported."""


class Mean(NamedTuple):
    """A mean over seeds with the ends of its 95 % interval."""

    value: float
    low: float
    high: float


class Entry(NamedTuple):
    """One method in one situation."""

    start: str
    optimiser: str
    objective: Objective

    @property
    def name(self) -> str:
        """For progress."""
        return f"{self.objective.name}, {self.optimiser}, {self.start} start"


class Result(NamedTuple):
    """What one entry reached."""

    entry: Entry
    tuned: Tuned

    @property
    def training(self) -> Training:
        """At the best rate, for the reported seeds."""
        return self.tuned.training

    @property
    def final(self) -> np.ndarray:
        """The final value of what the method is trained on, reward or loss, per seed."""
        is_reward = self.entry.objective.maximises == "reward"
        return (self.training.reward if is_reward else self.training.loss)[0, :, -1]

    @property
    def final_mean(self) -> Mean:
        """Mean of `final` over seeds, geometric for a loss."""
        return MEANS[self.entry.objective.maximises](self.final)

    @property
    def test_accuracy(self) -> np.ndarray:
        """The final test accuracy per seed."""
        return self.training.test_accuracy[0, :, -1]

    @property
    def epochs_to_goal(self) -> float:
        """Median over seeds of the first epoch with a training reward of `GOAL`; infinite for never."""
        reached = self.training.reward[0] >= GOAL
        return float(np.median(np.where(reached.any(axis=1), reached.argmax(axis=1), np.inf)))


@dataclass(frozen=True)
class Contest:
    """How the entries are compared.

    Attributes:
        epochs: passes over the training images.
        batch_size: images per update.
        hidden: ReLU units; 0 for a linear classifier.
        corner_prob: probability of class 0 at the "wrong" start, the others share the rest.
        rates: learning rates to choose from, by optimiser.
        options: the setting that gave them, by optimiser, for messages.
        selection_seeds: how many seeds choose the rate.
        report_seeds: how many other seeds are reported.
        seed: the first seed.
    """

    epochs: int
    batch_size: int
    hidden: int
    corner_prob: float
    rates: Mapping[str, Sequence[float]]
    options: Mapping[str, str]
    selection_seeds: int
    report_seeds: int
    seed: int

    def check(self, starts: Sequence[str], optimisers: Sequence[str]) -> None:
        """Raise `UserError` for a setting out of range."""
        require_all(starts, "starts", lambda start: start in STARTS, f"one of {', '.join(STARTS)}")
        require_all(
            optimisers, "optimisers", lambda one: one in OPTIMISERS, f"one of {', '.join(OPTIMISERS)}"
        )
        for optimiser, rates in self.rates.items():
            name = self.options[optimiser]
            require_all(rates, name, lambda rate: 0 < rate < math.inf, "finite and above 0")
            require(list(rates) == sorted(rates), name, tuple(rates), "in increasing order")
        require(0 < self.corner_prob < 1, "corner_prob", self.corner_prob, "in (0, 1)")
        require(self.selection_seeds >= 1, "selection_seeds", self.selection_seeds, "an integer ≥ 1")
        require(self.report_seeds >= 2, "report_seeds", self.report_seeds, "an integer ≥ 2, for an interval")
        require(self.seed >= 0, "seed", self.seed, "an integer ≥ 0")
        Recipe(self.epochs, self.batch_size, self.hidden)

    def run(self, data: ImageData, entries: Sequence[Entry], track: Track) -> list[Result]:
        """Tune and train every entry."""
        seeds = range(self.seed, self.seed + self.selection_seeds + self.report_seeds)
        selection, report = seeds[: self.selection_seeds], seeds[self.selection_seeds :]
        results = []
        for entry in track(entries, lambda entry: entry.name):
            recipe = Recipe(
                self.epochs, self.batch_size, self.hidden, self._policy(entry.start, data.num_classes)
            )
            rates = self.rates[entry.optimiser]
            tuned = tune(data, entry.objective, entry.optimiser, recipe, rates, selection, report)
            results.append(Result(entry, tuned))
        return results

    def _policy(self, start: str, num_classes: int) -> tuple[float, ...] | None:
        if start == "uniform":
            return None
        other = (1 - self.corner_prob) / (num_classes - 1)
        return tuple(corner_starts(num_classes, 0, [other])[:, 0].tolist())


STARTS = ("uniform", "wrong")
"""The first policies: 1/K each, or nearly all mass on class 0."""


def objectives(escort_powers: Sequence[float | int], scaled_powers: Sequence[float | int]) -> list[Objective]:
    """SPG, EPG(p), EPG(p) with the paper's rate, SCE, ECE(p)."""
    require_all(escort_powers, "escort_powers", lambda p: 1 <= p < math.inf, "finite and ≥ 1")
    for i, p in enumerate(scaled_powers):
        require(1 <= p < math.inf, f"scaled_powers[{i}]", p, "finite and ≥ 1")
    reward = [Objective("reward"), *(Objective("reward", p) for p in escort_powers)]
    scaled = [Objective("reward", p, scaled=True) for p in scaled_powers]
    return [*reward, *scaled, Objective("likelihood"), *(Objective("likelihood", p) for p in escort_powers)]


def mean_interval(values: Float[np.ndarray, " seeds"]) -> Mean:
    """Mean over seeds and its 95 % interval by Student's t; the interval is NaN where a value is infinite.

    Example:
        >>> mean = mean_interval(np.array([1.0, 2.0, 3.0]))
        >>> print(f"{mean.value:.2f} [{mean.low:.2f}, {mean.high:.2f}]")
        2.00 [-0.48, 4.48]
    """
    from scipy.stats import t

    mean = float(np.mean(values))
    if not np.isfinite(values).all():
        return Mean(mean, math.nan, math.nan)
    half = float(t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / math.sqrt(len(values)))
    return Mean(mean, mean - half, mean + half)


def geometric_interval(values: Float[np.ndarray, " seeds"]) -> Mean:
    """Geometric mean over seeds and its 95 % interval: that of the logarithm's mean.

    Example:
        >>> mean = geometric_interval(np.array([0.1, 1.0, 10.0]))
        >>> print(f"{mean.value:.2f} [{mean.low:.4f}, {mean.high:.0f}]")
        1.00 [0.0033, 305]
    """
    return Mean(*(math.exp(end) for end in mean_interval(np.log(np.maximum(values, 1e-300)))))


MEANS = {"reward": mean_interval, "likelihood": geometric_interval}
"""How the seeds' results are averaged, by what a method maximises: losses differ by orders of magnitude."""


def curve_rows(results: Sequence[Result]) -> list[dict[str, Any]]:
    """A row per entry, seed and epoch."""
    return [
        {
            **_key(result),
            "learning_rate": result.tuned.learning_rate,
            "seed_index": seed,
            "epoch": epoch,
            "reward": result.training.reward[0, seed, epoch],
            "loss": result.training.loss[0, seed, epoch],
            "test_accuracy": result.training.test_accuracy[0, seed, epoch],
        }
        for result in results
        for seed in range(result.training.reward.shape[1])
        for epoch in range(result.training.reward.shape[2])
    ]


def final_rows(results: Sequence[Result]) -> list[dict[str, Any]]:
    """A row per entry: its rate, and what it reached, with intervals; the loss's mean is the geometric one."""
    rows = []
    for result in results:
        row = {
            **_key(result),
            "objective": result.entry.objective.maximises,
            "learning_rate": result.tuned.learning_rate,
            "at_edge": result.tuned.at_edge,
            "diverged": int(result.training.diverged.sum()),
            "epochs_to_90_percent": result.epochs_to_goal,
        }
        for name, curve in result.training._asdict().items():
            mean = (geometric_interval if name == "loss" else mean_interval)(curve[0, :, -1])
            row |= {name: mean.value, f"{name}_low": mean.low, f"{name}_high": mean.high}
        rows.append(row)
    return rows


def grid_rows(results: Sequence[Result], rates: Mapping[str, Sequence[float]]) -> list[dict[str, Any]]:
    """A row per entry and learning rate: the mean final reward, or minus the loss, of the selection seeds."""
    return [
        {**_key(result), "learning_rate": float(rate), "score": float(score)}
        for result in results
        for rate, score in zip(rates[result.entry.optimiser], result.tuned.scores, strict=True)
    ]


def _key(result: Result) -> dict[str, str]:
    start, optimiser, objective = result.entry
    return {"start": start, "optimiser": optimiser, "method": objective.name}


def summary_cells(result: Result, epochs: int) -> list[str]:
    """Learning rate (* at the grid's edge), final reward or loss with its interval, test accuracy, epochs."""
    rate = f"{result.tuned.learning_rate:.3g}{'*' if result.tuned.at_edge else ''}"
    is_reward = result.entry.objective.maximises == "reward"
    accuracy, goal = mean_interval(result.test_accuracy), result.epochs_to_goal
    return [
        rate,
        plus_minus(result.final_mean) if is_reward else times_over(result.final_mean),
        f"{100 * accuracy.value:.1f} ± {100 * (accuracy.high - accuracy.value):.1f}",
        f"> {epochs}" if math.isinf(goal) else f"{goal:g}",
    ]


def plus_minus(mean: Mean) -> str:
    """A mean and half its interval, to the interval's second digit."""
    half = mean.high - mean.value
    if not math.isfinite(half):
        return f"{mean.value:.3g}"
    digits = 3 if half == 0 else max(0, 1 - math.floor(math.log10(half)))
    return f"{mean.value:.{digits}f} ± {half:.{digits}f}"


def times_over(mean: Mean) -> str:
    """A geometric mean and the factor from it to either end of its interval."""
    factor = mean.high / mean.value
    return f"{mean.value:.2g} ×÷ {factor:.2g}" if math.isfinite(factor) else f"{mean.value:.2g}"


def against_softmax(results: Sequence[Result], start: str, optimiser: str, maximises: str) -> str:
    """Say how the escort's methods did against softmax, pairwise over seeds, which share weights and minibatches."""
    chosen = [
        result
        for result in results
        if (result.entry.start, result.entry.optimiser) == (start, optimiser)
        and result.entry.objective.maximises == maximises
    ]
    softmax, *others = chosen
    said = [_alone(softmax), *(_compared(other, softmax) for other in others)]
    return f"{optimiser}: {'; '.join(said)}"


def _alone(result: Result) -> str:
    mean = result.final_mean
    return f"{result.entry.objective.name} {mean.value:.3g} [{mean.low:.3g}, {mean.high:.3g}]{_goal(result)}"


def _compared(result: Result, softmax: Result) -> str:
    name = result.entry.objective.name
    if result.training.diverged.any() or softmax.training.diverged.any():
        return f"{name} {result.final_mean.value:.3g}, {result.training.diverged.sum()} seeds diverged{_goal(result)}"
    if result.entry.objective.maximises == "reward":
        change = mean_interval(result.final - softmax.final)
        return f"{name} {change.value:+.3g} [{change.low:+.3g}, {change.high:+.3g}]{_goal(result)}"
    times = geometric_interval(result.final / softmax.final)
    return f"{name} × {times.value:.2g} [{times.low:.2g}, {times.high:.2g}]"


def _goal(result: Result) -> str:
    if result.entry.objective.maximises != "reward":
        return ""
    goal = result.epochs_to_goal
    return " (never at 90 %)" if math.isinf(goal) else f" (90 % after {goal:g})"
