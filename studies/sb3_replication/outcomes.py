"""What became of each run: return and representation at the end, held against the same run before."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from escapevelocity.health.rank import SINGLE_DIGITS
from escapevelocity.study.history import History
from studies.early_warning.truth import return_onset
from studies.measures import DEAD_RETURN, Lives, at_end, at_start, by_seed, finite_mean
from studies.sb3_replication.plan import JOBS

RETURN = "perf/return_mean"
RANK = "health/actor/feature_rank_pca_after"
DEAD = "health/actor/dead_neurons_after"
NORM = "health/actor/preactivation_norm"
LOW_RATIO = "trust/ratio_below_mean"
BEST_WINDOW = 0.05
"""Share of a run that its best return is averaged over."""
ILL_RANK = SINGLE_DIGITS
"""A rank below it is ill: the paper finds ratios far below 1 − ε there."""
ILL_DEAD = 0.5
"""Share of the units."""


@dataclass(frozen=True, order=True)
class Setting:
    """What the runs of one cell share, whoever trains them."""

    steps: int
    learning_rate: float
    epochs: int
    activation: str

    @property
    def title(self) -> str:
        """Such as `relu, rate 0.01, 20 epochs, 400k steps`."""
        length = f"{self.steps / 1e6:g}M" if self.steps >= 1e6 else f"{self.steps / 1e3:.0f}k"
        return f"{self.activation}, rate {self.learning_rate:g}, {self.epochs} epochs, {length} steps"


@dataclass(frozen=True)
class Outcome:
    """The seeds of one setting, trained by one trainer; values by seed.

    A seed is dead where its numbers stopped being finite. The return of a dead seed counts as `DEAD_RETURN` from its
    death on, and is lost since then at the latest; all else is read over the last 5 % of its own life.

    Attributes:
        setting: of the runs.
        job: the trainer.
        final: mean return over the last 5 %.
        best: highest mean return over any twentieth of the run.
        rank: of the actor's features after an update, over the last 5 %.
        dead: units of the actor's last hidden layer that are dead after an update, over the last 5 %.
        growth: the actor's pre-activation norm over the last 5 %, by that of the first batches.
        low_ratio: mean ratio below 1 − ε over the last 5 %.
        lost: the step since which less than half of the return gained is left, NaN if it is.
        died: steps done when numbers stopped being finite, NaN where they did not.
        width: units of the layer.
    """

    setting: Setting
    job: str
    final: Mapping[int, float]
    best: Mapping[int, float]
    rank: Mapping[int, float]
    dead: Mapping[int, float]
    growth: Mapping[int, float]
    low_ratio: Mapping[int, float]
    lost: Mapping[int, float]
    died: Mapping[int, float]
    width: int

    @property
    def seeds(self) -> tuple[int, ...]:
        """Its seeds."""
        return tuple(self.final)

    @property
    def ill(self) -> list[int]:
        """Seeds whose actor ends with a rank in single digits, half of its units dead, or numbers not finite."""
        return [
            seed
            for seed in self.seeds
            if self.rank[seed] < ILL_RANK or self.dead[seed] >= ILL_DEAD * self.width or seed in self.broken
        ]

    @property
    def broken(self) -> list[int]:
        """Seeds whose numbers stopped being finite."""
        return [seed for seed in self.seeds if np.isfinite(self.died[seed])]

    @property
    def collapsed(self) -> list[int]:
        """Seeds that have lost their return."""
        return [seed for seed in self.seeds if np.isfinite(self.lost[seed])]


def outcomes(history: History) -> list[Outcome]:
    """One for each setting and trainer that has runs: by setting, Stable-Baselines3 first.

    Args:
        history: runs that have come to their end, also by the death of all seeds (`running.finished`).
    """
    settings = sorted({setting_of(run.settings) for run in history.runs})
    found = [_outcome(history, setting, job) for setting in settings for job in JOBS]
    return [one for one in found if one.seeds]


def setting_of(settings: Mapping[str, object]) -> Setting:
    """The part of a run's settings that this study varies."""
    return Setting(**{name: settings[name] for name in Setting.__dataclass_fields__})  # pyright: ignore[reportArgumentType]


def select(history: History, setting: Setting, job: str) -> History:
    """The runs of one setting by one trainer."""
    return history.where(job=job, **{name: getattr(setting, name) for name in Setting.__dataclass_fields__})


def _outcome(history: History, setting: Setting, job: str) -> Outcome:
    own = select(history, setting, job)
    norms = [by_seed(own, NORM, measure) for measure in (at_end(), at_start())]
    return Outcome(
        setting,
        job,
        final=by_seed(own, RETURN, at_end(dead=DEAD_RETURN)),
        best=by_seed(own, RETURN, _best),
        rank=by_seed(own, RANK, at_end()),
        dead=by_seed(own, DEAD, at_end()),
        growth={seed: norms[0][seed] / norms[1][seed] for seed in norms[0]},
        low_ratio=by_seed(own, LOW_RATIO, at_end()),
        lost=by_seed(own, RETURN, _lost),
        died=by_seed(own, RETURN, lambda lives: lives.died),
        width=own.runs[0].settings["hidden"][-1] if own.runs else 0,
    )


def _best(lives: Lives) -> np.ndarray:
    count = round(1 / BEST_WINDOW)
    part = np.minimum((lives.steps / lives.total * count).astype(int), count - 1)
    means = [finite_mean(lives.values[:, part == number]) for number in np.unique(part)]
    return np.fmax.reduce([np.full(len(lives.values), np.nan), *means])


def _lost(lives: Lives) -> np.ndarray:
    onsets = [return_onset(lives.steps, own) for own in lives.values]
    return np.fmin([np.nan if onset is None else onset for onset in onsets], lives.died)
