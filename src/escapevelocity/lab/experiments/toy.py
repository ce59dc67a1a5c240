"""The two-state clipping example: overshoot and interference, and how common they are (PPO paper, figure 5)."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from escapevelocity.errors import require
from escapevelocity.lab.experiments.experiment import (
    Experiment,
    Findings,
    Summary,
    Track,
    require_all,
    silently,
    stack_rows,
)
from escapevelocity.lab.sampled import wilson_interval
from escapevelocity.lab.toy import PUBLISHED_FEATURE, PUBLISHED_THETA, clipping_toy, random_toys

PUBLISHED_RATIOS = {3.0: (1.103, 1.253), -1.0: (0.989, 1.012), -2.0: (0.941, 1.141)}
"""Final ratios of x and y for each α, of Moalla et al. 2024 (figure 5, table 1 and the drawing)."""
OUTCOMES = ("both", "one", "none")
"""How many of the two states end above 1 + ε."""


@dataclasses.dataclass(frozen=True)
class Toy(Experiment):
    """When does PPO's clipping fail to hold the policy, because two states share features?

    Two states with features φ(x) and φ(y) = α·φ(x) share the weights of a softmax; samples of x and y take
    turns, both with advantage 1. See `escapevelocity.lab.toy`. The defaults are the published run.
    """

    question: ClassVar[str] = "When do shared features carry the policy past PPO's clip range?"
    quick: ClassVar[Mapping[str, Any]] = {"num_draws": 500}

    alphas: tuple[float, ...] = (3.0, -1.0, -2.0)
    """α = φ(y)/φ(x) of the runs that are drawn step by step."""
    feature: float = PUBLISHED_FEATURE
    """φ(x) of those runs."""
    theta: tuple[float, float] = PUBLISHED_THETA
    """Initial weights of the two actions in those runs."""
    clip_epsilon: float = 0.1
    """ε of the clip range 1 ± ε, in (0, 1)."""
    learning_rate: float = 1.5
    """Of plain gradient ascent, > 0."""
    num_steps: int = 20
    """Minibatches of one sample, x and y counted apart; an integer ≥ 1."""
    sweep_alphas: tuple[float, ...] = tuple(i / 4 for i in range(-16, 17))
    """α at which random starts are counted, beside `alphas`."""
    features: tuple[float, ...] = tuple(float(f"{10 ** (i / 10):.3g}") for i in range(-20, 6))
    """|φ(x)| at which random weights are followed, each > 0."""
    num_draws: int = 4000
    """Random starts per α, and random weights per |φ(x)|; an integer ≥ 20."""
    seed: int = 0
    """Of the random starts: φ(x) ~ N(0, 1) and weights ~ U(−1, 1), as in the published code."""

    def run(self, track: Track = silently) -> Findings:
        """Follow the runs that are drawn, then sweep α and the size of the features."""
        del track  # seconds in all
        self._check()
        sweep = sorted({*self.sweep_alphas, *self.alphas})
        shares = [self._shares(alpha) for alpha in sweep]
        by_feature = [row for alpha in self.alphas for row in self._by_feature(alpha)]
        tables = {"": self._steps(), "alphas": stack_rows(shares), "features": stack_rows(by_feature)}
        return Findings(tables, self._summary(tables), self._answers(tables))

    def _check(self) -> None:
        for field in ("alphas", "sweep_alphas"):
            require_all(getattr(self, field), field, math.isfinite, "finite", distinct=False)
        require_all(self.features, "features", lambda f: 0 < f < math.inf, "finite and > 0", distinct=False)
        require(math.isfinite(self.feature), "feature", self.feature, "finite")
        # Weights in ±1 then give first probabilities of e^−600 and more, so that no ratio leaves float64.
        steepest = max(1.0, *map(abs, self.alphas))
        require(steepest <= 100, "alphas", self.alphas, "at most 100 in size")
        accepted = f"at most {300 / steepest:g} in size, 300 over the largest α"
        require(max(self.features) * steepest <= 300, "features", self.features, accepted)
        require(abs(self.feature) * steepest <= 300, "feature", self.feature, accepted)
        require_all(self.theta, "theta", math.isfinite, "finite", distinct=False)
        require(0 < self.clip_epsilon < 1, "clip_epsilon", self.clip_epsilon, "in (0, 1)")
        positive = 0 < self.learning_rate < math.inf
        require(positive, "learning_rate", self.learning_rate, "a finite number > 0")
        require(self.num_steps >= 1, "num_steps", self.num_steps, "an integer ≥ 1")
        require(self.num_draws >= 20, "num_draws", self.num_draws, "an integer ≥ 20")
        require(self.seed >= 0, "seed", self.seed, "an integer ≥ 0")

    def _settings(self) -> dict[str, Any]:
        return {
            "clip_epsilon": self.clip_epsilon,
            "learning_rate": self.learning_rate,
            "num_steps": self.num_steps,
        }

    def _steps(self) -> dict[str, np.ndarray]:
        """Ratios before every step and after the last, α after α."""
        run = clipping_toy(np.array(self.alphas), self.feature, self.theta, **self._settings())
        count, length = run.ratios.shape[:2]
        return {
            "alpha": np.repeat(np.array(self.alphas, float), length),
            "step": np.tile(np.arange(length), count),
            "ratio_x": run.ratios[..., 0].ravel(),
            "ratio_y": run.ratios[..., 1].ravel(),
            "prob_x": run.probs[..., 0].ravel(),
            "prob_y": run.probs[..., 1].ravel(),
        }

    def _shares(self, alpha: float) -> dict[str, Any]:
        """How often random starts end above 1 + ε, or with a state below 1 − ε; 95 % Wilson intervals.

        Every α sees the same starts, so that its effect is not hidden by the draws'.
        """
        run = random_toys(alpha, self.num_draws, np.random.default_rng(self.seed), **self._settings())
        final = run.ratios[:, -1]
        above = (final > 1 + self.clip_epsilon).sum(axis=1)
        counts = {name: int((above == n).sum()) for name, n in zip(OUTCOMES, (2, 1, 0), strict=True)}
        counts["sunk"] = int((final.min(axis=1) < 1 - self.clip_epsilon).sum())
        row: dict[str, Any] = {"alpha": float(alpha), "draws": self.num_draws}
        for name, count in counts.items():
            low, high = wilson_interval(count, self.num_draws)
            row |= {name: count / self.num_draws, f"{name}_low": low, f"{name}_high": high}
        return row

    def _by_feature(self, alpha: float) -> list[dict[str, Any]]:
        """Where the higher and the lower of the two ratios end over random weights, against |φ(x)|."""
        weights = np.random.default_rng(self.seed).uniform(-1, 1, (self.num_draws, 2))
        rows = []
        for size in self.features:
            final = clipping_toy(float(alpha), float(size), weights, **self._settings()).ratios[:, -1]
            row: dict[str, Any] = {"alpha": float(alpha), "feature": float(size)}
            for name, values in (("highest", final.max(axis=1)), ("lowest", final.min(axis=1))):
                low, median, high = np.percentile(values, (5, 50, 95))
                row |= {f"{name}_median": median, f"{name}_5": low, f"{name}_95": high}
            rows.append(row)
        return rows

    def _is_published(self) -> bool:
        """Whether the runs that are drawn have the published settings, but for α."""
        default = type(self)()
        fields = ("feature", "theta", "clip_epsilon", "learning_rate", "num_steps")
        return all(getattr(self, field) == getattr(default, field) for field in fields)

    def _finals(self, tables: Mapping[str, Any]) -> list[tuple[float, float, float, tuple[float, float]]]:
        """(α, x, y, the published pair or NaN) after the last step."""
        steps, known = tables[""], PUBLISHED_RATIOS if self._is_published() else {}
        last = steps["step"] == self.num_steps
        finals = zip(steps["alpha"][last], steps["ratio_x"][last], steps["ratio_y"][last], strict=True)
        return [(alpha, x, y, known.get(float(alpha), (math.nan, math.nan))) for alpha, x, y in finals]

    def _summary(self, tables: Mapping[str, Any]) -> Summary:
        shares, rows = tables["alphas"], []
        for alpha, x, y, published in self._finals(tables):
            at = int(np.flatnonzero(shares["alpha"] == alpha)[0])
            rows.append(
                [float(alpha), float(x), float(y), *published, *(_interval(shares, n, at) for n in OUTCOMES)]
            )
        limit = f"{1 + self.clip_epsilon:g}"
        headings = ["α", "x ends at", "y ends at", "published x", "y"]
        return Summary([*headings, f"random: both > {limit}", "one", "none"], rows)

    def _answers(self, tables: Mapping[str, Any]) -> list[str]:
        shares, limit = tables["alphas"], 1 + self.clip_epsilon
        said = []
        for alpha, x, y, _ in self._finals(tables):
            at = int(np.flatnonzero(shares["alpha"] == alpha)[0])
            over = [name for name, ratio in (("x", x), ("y", y)) if ratio > limit]
            under = [name for name, ratio in (("x", x), ("y", y)) if ratio < 1]
            notes = [f"{' and '.join(over)} above {limit:g}"] if over else [f"neither above {limit:g}"]
            notes += [f"{' and '.join(under)} below its start"] if under else []
            said.append(
                f"α = {alpha:g}: the ratios end at {x:.3f} (x) and {y:.3f} (y), {', '.join(notes)}; of "
                f"{self.num_draws} random starts {_interval(shares, 'both', at)} end with both above {limit:g} "
                f"and {_interval(shares, 'sunk', at)} with a state below {1 - self.clip_epsilon:g} (95 % intervals)."
            )
        errors = [abs(x - a) for _, x, _, (a, _) in self._finals(tables)]
        errors += [abs(y - b) for _, _, y, (_, b) in self._finals(tables)]
        known = [error for error in errors if not math.isnan(error)]
        if known:
            said.append(f"The published ratios are met within {max(known):.1g} (they have three decimals).")
        return said


def _interval(shares: Mapping[str, np.ndarray], name: str, at: int) -> str:
    value, low, high = (100 * shares[column][at] for column in (name, f"{name}_low", f"{name}_high"))
    return f"{value:.1f} % [{low:.1f}, {high:.1f}]"
