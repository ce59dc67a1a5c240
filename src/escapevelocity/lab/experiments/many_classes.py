"""Up to 1,000 actions: does the escort's advantage survive, and how should η scale with K? And characters."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from escapevelocity.errors import require
from escapevelocity.health.gravity import ESCAPE_PROB
from escapevelocity.lab.experiments import _contest, _rate_study
from escapevelocity.lab.experiments._contest import Contest, Entry, Result, against_softmax, objectives
from escapevelocity.lab.experiments._escapes_by_size import contenders, escape_answers, escapes, growth
from escapevelocity.lab.experiments.experiment import (
    Experiment,
    Findings,
    Summary,
    Track,
    require_all,
    silently,
    stack_rows,
)
from escapevelocity.lab.images import load_images
from escapevelocity.lab.simulate import require_count

MOST_UPDATES = 100_000_000
"""Corners that SPG needs more updates to leave are refused: these take a core minutes."""


@dataclasses.dataclass(frozen=True)
class ManyClasses(Experiment):
    """Does the escort's advantage survive many actions, and how should η scale with their number K?

    First the bandit with rewards (b + Δ, b, …, b), exact gradients and one η for all: updates until π(a*) > 1/2
    from the uniform policy, and until the escape from a wrong corner with the same π₁ at every K, beside the laws.
    Then random rewards from random starts, each method at the rate that is best for other bandits. With
    --data-dir: classifiers of Omniglot's characters (136 or 242 classes), each at its own best rate; this part
    takes a quarter of an hour.
    """

    question: ClassVar[str] = (
        "Does the escort's advantage survive many classes, and how should η scale with K?"
    )
    quick: ClassVar[Mapping[str, Any]] = {
        "num_actions": (10, 30, 100),
        "corner_prob": 1e-4,
        "escort_powers": (2.0, 4.0),
        "bandits": 10,
        "max_steps": 300,
    }

    num_actions: tuple[int, ...] = (10, 30, 100, 300, 1000)
    """K, increasing, at least three of them, at least 3 each."""
    base_reward: float = 0.2
    """b, what every action but the best pays."""
    gap: float = 0.5
    """Δ, what the best action pays more; b + Δ is at most 1."""
    learning_rate: float = 0.4
    """η of the comparison with the laws."""
    corner_prob: float = 1e-5
    """π₁, the probability of every action but the corner's; below 1/(K − 1) and 0.1."""
    escort_powers: tuple[float, ...] = (1.5, 2.0, 4.0)
    """Exponents p ≥ 1 of EPG."""
    study_rates: tuple[float, ...] = tuple(4.0**k for k in range(-4, 9))
    """The grid of η for random rewards, increasing."""
    bandits: int = 80
    """Random bandits per K: half of them choose the rate, the others are reported."""
    max_steps: int = 1000
    """Updates of a random bandit; runs that have not got rid of 90 % of their sub-optimality by then count as ten
    times as long when the rate is chosen."""
    data_dir: str | None = None
    """Folder with Omniglot's zip files; by default this part is skipped."""
    optimisers: tuple[str, ...] = ("SGD", "Adam")
    """Optimisers of the characters' classifiers."""
    class_powers: tuple[float, ...] = (2.0, 4.0)
    """Exponents p of the classifiers' EPG and ECE."""
    class_rates: tuple[float, ...] = tuple(10.0 ** (k / 2) for k in range(-2, 6))
    """The classifiers' grid for SGD and momentum, increasing."""
    adam_rates: tuple[float, ...] = tuple(10.0 ** (k / 2) for k in range(-8, 1))
    """The classifiers' grid for Adam, increasing."""
    epochs: int = 30
    """Passes over the characters."""
    hidden: int = 64
    """ReLU units of the classifiers' hidden layer; 0 for linear ones."""
    selection_seeds: int = 4
    """How many seeds choose a classifier's rate."""
    report_seeds: int = 8
    """How many other seeds are reported."""
    seed: int = 0
    """Of the random bandits, and the classifiers' first seed."""

    def run(self, track: Track = silently) -> Findings:
        """Measure escape times at every K, study the rates, and train on characters when they are given."""
        contest = self._contest()
        self._check()
        contest.check(("uniform",), self.optimisers)
        classes = objectives(self.class_powers, ())
        images = None if self.data_dir is None else load_images("omniglot", self.data_dir)
        methods = contenders(self.escort_powers)
        rows = [
            row
            for actions in track(
                self.num_actions, lambda actions: f"escape from equal rewards, K = {actions}"
            )
            for one in methods
            for row in escapes(one, actions, self.base_reward, self.gap, self.learning_rate, self.corner_prob)
        ]
        parts = [(contender, actions) for contender in methods for actions in self.num_actions]
        studies = [
            _rate_study.study(
                contender.name,
                contender.method,
                actions,
                self.study_rates,
                self.bandits,
                self.max_steps,
                self.seed,
            )
            for contender, actions in track(parts, lambda part: f"best η of {part[0].name}, K = {part[1]}")
        ]
        tables: dict[str, Any] = {
            "": stack_rows(rows),
            "rates": stack_rows([row for study in studies for row in study.rows()]),
            "best-rates": stack_rows([study.best_row() for study in studies]),
        }
        answers = [*escape_answers(rows, self.learning_rate, self.corner_prob), *_rate_study.answers(studies)]
        if images is None:
            answers.append(
                "Characters: skipped; --data-dir with Omniglot's zip files trains classifiers on them."
            )
        else:
            entries = [Entry("uniform", optimiser, one) for one in classes for optimiser in self.optimisers]
            results = contest.run(images, entries, track)
            tables["characters"] = stack_rows(_contest.curve_rows(results))
            tables["characters-best"] = stack_rows(_contest.final_rows(results))
            tables["characters-grid"] = stack_rows(_contest.grid_rows(results, contest.rates))
            answers += self._class_answers(images.name, len(images.train_y), results)
        return Findings(tables, self._summary(rows, studies), answers)

    def _check(self) -> None:
        require_all(self.num_actions, "num_actions", lambda k: k >= 3, "an integer ≥ 3")
        increasing = len(self.num_actions) >= 3 and bool((np.diff(self.num_actions) > 0).all())
        require(increasing, "num_actions", self.num_actions, "three or more numbers, increasing")
        require_all(self.escort_powers, "escort_powers", lambda p: 1 <= p < math.inf, "finite and ≥ 1")
        require_all(self.study_rates, "study_rates", lambda rate: 0 < rate < math.inf, "finite and above 0")
        require(bool((np.diff(self.study_rates) > 0).all()), "study_rates", self.study_rates, "increasing")
        require(0 <= self.base_reward <= 1, "base_reward", self.base_reward, "in [0, 1]")
        require(0 < self.gap <= 1 - self.base_reward, "gap", self.gap, f"in (0, {1 - self.base_reward:g}]")
        require(0 < self.learning_rate < math.inf, "learning_rate", self.learning_rate, "finite and above 0")
        highest = min(1 / (max(self.num_actions) - 1), ESCAPE_PROB)
        require(0 < self.corner_prob < highest, "corner_prob", self.corner_prob, f"in (0, {highest:g})")
        updates = 2 * self.learning_rate * self.gap * MOST_UPDATES  # by SPG's law, times 2·η·Δ
        accepted = f"large enough for SPG to leave the corner in {MOST_UPDATES:,} updates"
        require(updates * highest > 1, "learning_rate", self.learning_rate, accepted)
        accepted = f"at least {1 / updates:.2g}, from where SPG needs {MOST_UPDATES:,} updates"
        require(self.corner_prob * updates >= 1, "corner_prob", self.corner_prob, accepted)
        require(self.bandits >= 4, "bandits", self.bandits, "an integer ≥ 4")
        require_count(self.max_steps, "max_steps")

    def _contest(self) -> Contest:
        rates = dict.fromkeys(self.optimisers, self.class_rates) | {"Adam": self.adam_rates}
        options = dict.fromkeys(self.optimisers, "class_rates") | {"Adam": "adam_rates"}
        return Contest(
            self.epochs, 128, self.hidden, 0.97,
            rates, options, self.selection_seeds, self.report_seeds, self.seed,
        )  # fmt: skip

    def _summary(self, rows: list[dict[str, Any]], studies: list[_rate_study.Study]) -> Summary:
        headings = ["start, method", *(f"K = {actions}" for actions in self.num_actions), "T ∝ K^"]
        lines: dict[str, list[str | int | float]] = {}
        for row in sorted(rows, key=lambda row: row["start"], reverse=True):  # stable: uniform before corner
            name = f"{row['start']}, {row['method']}"
            shown = f"{'> ' if row['censored'] else ''}{row['steps']} ({row['steps'] / row['law']:.2f})"
            lines.setdefault(name, [name]).append(shown)
        for name, line in lines.items():
            start, method = name.split(", ")
            line.append(growth([r for r in rows if (r["start"], r["method"]) == (start, method)]))
        for study in studies:
            name = f"best η, {study.name}"
            lines.setdefault(name, [name]).append(study.shown())
        for contender in contenders(self.escort_powers):
            lines[f"best η, {contender.name}"].append("–")
        return Summary(headings, list(lines.values()))

    def _class_answers(self, name: str, images: int, results: list[Result]) -> list[str]:
        answers = []
        for maximises, what in (
            ("reward", "training reward, escort's as the difference from SPG's"),
            ("likelihood", "training loss, escort's as a multiple of SCE's"),
        ):
            said = ". ".join(against_softmax(results, "uniform", one, maximises) for one in self.optimisers)
            answers.append(f"{name} ({images} training images), after {self.epochs} epochs, {what}: {said}.")
        accuracies = ", ".join(
            f"{result.entry.objective.name} with {result.entry.optimiser} "
            f"{_contest.plus_minus(_contest.mean_interval(100 * result.test_accuracy))}"
            for result in results
        )
        edges = "; ".join(result.entry.name for result in results if result.tuned.at_edge)
        answers.append(
            f"Test accuracy in %, mean and half the 95 % t-interval of {self.report_seeds} seeds: {accuracies}. Rates "
            f"chosen with {self.selection_seeds} other seeds; at the grid's edge: {edges or 'none'}."
        )
        return answers
