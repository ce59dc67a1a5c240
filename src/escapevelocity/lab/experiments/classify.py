"""Image classification with features: SPG against EPG, SCE against ECE, each at its own best rate (figure 7)."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

from escapevelocity.lab.experiments._contest import (
    GOAL,
    Contest,
    Entry,
    Result,
    against_softmax,
    curve_rows,
    final_rows,
    grid_rows,
    objectives,
    summary_cells,
)
from escapevelocity.lab.experiments.experiment import (
    Experiment,
    Findings,
    Summary,
    Track,
    silently,
    stack_rows,
)
from escapevelocity.lab.images import load_images


@dataclasses.dataclass(frozen=True)
class Classify(Experiment):
    """Does the escort help a classifier? Image classes as actions, with features, minibatches and optimisers.

    SPG and EPG(p) climb the expected reward (1 for the right label), SCE and ECE(p) descend cross-entropy. Every
    method has its own best learning rate of the grid: the one with the best mean final training objective over
    the selection seeds; what is reported comes from other seeds. A run that overflows counts as reward 0, loss ∞.
    """

    question: ClassVar[str] = (
        "Does the escort transform help a classifier, from a uniform start and from a well?"
    )
    quick: ClassVar[Mapping[str, Any]] = {
        "starts": ("wrong",),
        "optimisers": ("SGD",),
        "escort_powers": (4.0,),
        "scaled_powers": (),
        "epochs": 15,
        "selection_seeds": 3,
        "report_seeds": 5,
    }

    data: str = "digits"
    """digits (bundled), mnist or omniglot (files needed)."""
    data_dir: str | None = None
    """Folder with the files of mnist or omniglot; by default what EV_DATA_DIR says."""
    starts: tuple[str, ...] = ("uniform", "wrong")
    """First policies on every image: uniform, or wrong, with nearly all mass on class 0."""
    corner_prob: float = 0.97
    """Probability of class 0 at the wrong start; the other classes share the rest."""
    optimisers: tuple[str, ...] = ("SGD", "momentum", "Adam")
    """SGD, momentum (0.9), Adam."""
    escort_powers: tuple[float, ...] = (2.0, 4.0)
    """Exponents p ≥ 1 of EPG and ECE."""
    scaled_powers: tuple[float, ...] = (2.0,)
    """Exponents of EPG with the paper's rate: each example's gradient times ‖θ‖_p²/p²."""
    learning_rates: tuple[float, ...] = tuple(10.0 ** (k / 2) for k in range(-4, 5))
    """The grid for SGD and momentum, increasing."""
    adam_rates: tuple[float, ...] = tuple(10.0 ** (k / 2) for k in range(-8, 1))
    """The grid for Adam, increasing."""
    epochs: int = 30
    """Passes over the training images."""
    batch_size: int = 128
    """Images per update."""
    hidden: int = 64
    """ReLU units of the hidden layer; 0 for a linear classifier."""
    selection_seeds: int = 6
    """How many seeds choose the learning rate."""
    report_seeds: int = 10
    """How many other seeds are reported."""
    seed: int = 0
    """The first seed."""

    def run(self, track: Track = silently) -> Findings:
        """Tune, train and compare every method from every start with every optimiser."""
        contest = self._contest()
        contest.check(self.starts, self.optimisers)
        methods = objectives(self.escort_powers, self.scaled_powers)
        images = load_images(self.data, self.data_dir)
        entries = [
            Entry(start, optimiser, objective)
            for start in self.starts
            for objective in methods
            for optimiser in self.optimisers
        ]
        results = contest.run(images, entries, track)
        tables = {
            "": stack_rows(curve_rows(results)),
            "best": stack_rows(final_rows(results)),
            "grid": stack_rows(grid_rows(results, contest.rates)),
        }
        answers = [f"{images.name}: {len(images.train_y)} training images, {images.num_classes} classes."]
        return Findings(tables, self._summary(results), [*answers, *self._answers(results)])

    def _contest(self) -> Contest:
        rates = dict.fromkeys(self.optimisers, self.learning_rates) | {"Adam": self.adam_rates}
        options = dict.fromkeys(self.optimisers, "learning_rates") | {"Adam": "adam_rates"}
        return Contest(
            self.epochs, self.batch_size, self.hidden, self.corner_prob,
            rates, options, self.selection_seeds, self.report_seeds, self.seed,
        )  # fmt: skip

    def _summary(self, results: list[Result]) -> Summary:
        headings = ["start, method"]
        for optimiser in self.optimisers:
            headings += [f"{optimiser}: rate", "final", "test %", "ep."]
        rows: dict[str, list[str | int | float]] = {}
        for result in results:
            name = f"{result.entry.start}, {result.entry.objective.name}"
            rows.setdefault(name, [name]).extend(summary_cells(result, self.epochs))
        return Summary(headings, list(rows.values()))

    def _answers(self, results: list[Result]) -> list[str]:
        answers = []
        for start in self.starts:
            for maximises, what in (
                (
                    "reward",
                    f"training reward after {self.epochs} epochs, escort's as the difference from SPG's",
                ),
                ("likelihood", f"training loss after {self.epochs} epochs, escort's as a multiple of SCE's"),
            ):
                said = (against_softmax(results, start, one, maximises) for one in self.optimisers)
                answers.append(f"{start.capitalize()} start, {what}: {'. '.join(said)}.")
        edges = [result.entry.name for result in results if result.tuned.at_edge]
        answers.append(
            f"Means over {self.report_seeds} seeds (of losses geometric), 95 % t-intervals; differences and ratios "
            f"are pairwise. Rates chosen with {self.selection_seeds} other seeds; at the grid's edge (*): "
            f"{'; '.join(edges) or 'none'}. ep.: median epochs until {GOAL:.0%} training reward."
        )
        return answers
