"""What became of each cell of the map: when its seeds fell ill, and how they ended."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from escapevelocity.study.history import History
from studies.early_warning.truth import centred_mean, lasting_onset, return_onset
from studies.measures import Lives, at_end, at_start, by_seed, lives_of
from studies.sb3_replication.outcomes import DEAD, ILL_DEAD, ILL_RANK, NORM, RANK, RETURN

KL = "trust/kl"
SMOOTHED = 0.05
"""Share of a run that rank and dead units are averaged over before they are looked at: one batch decides nothing."""


@dataclass(frozen=True)
class Place:
    """A cell of the map; values by seed.

    A seed is *ill* from the step since which, to its end, the actor's features have a rank in single digits or half of
    its units are dead, or from where its numbers stopped being finite.

    Attributes:
        task: the environment.
        epochs: passes over each batch.
        rate: Adam's step size.
        steps: environment steps of the run.
        ill_since: step; NaN for a seed that did not fall ill.
        rank: of the actor's features after an update, over the last 5 % of the seed's life, like all below.
        dead: units of the actor's last hidden layer.
        growth: the actor's pre-activation norm, by that of the first batches.
        kl: of a batch, nats.
        final: mean return.
        lost_since: step since which less than half of the return gained is left (`early_warning.truth`); NaN if it is.
    """

    task: str
    epochs: int
    rate: float
    steps: int
    ill_since: Mapping[int, float]
    rank: Mapping[int, float]
    dead: Mapping[int, float]
    growth: Mapping[int, float]
    kl: Mapping[int, float]
    final: Mapping[int, float]
    lost_since: Mapping[int, float]


def places(history: History) -> list[Place]:
    """The cells that have runs, by task in the order of the history's names, epochs and rate.

    Args:
        history: runs that have come to their end (`running.finished`).
    """
    found = sorted(
        {
            (str(one.settings["task"]), int(one.settings["epochs"]), float(one.settings["learning_rate"]))
            for one in history.runs
        }
    )
    return [_place(history, *cell) for cell in found]


def ill_since(history: History) -> dict[int, float]:
    """Since when each seed of some runs is ill: environment steps, NaN where it is not (see `Place`)."""
    found: dict[int, float] = {}
    for run in history.runs:
        rank, dead = (lives_of(history, run, column) for column in (RANK, DEAD))
        least = ILL_DEAD * run.settings["hidden"][-1]
        for row, seed in enumerate(run.seeds):
            known = np.isfinite(rank.values[row]) & np.isfinite(dead.values[row])
            steps = rank.steps[known]
            width = max(1, round(SMOOTHED * known.sum()))
            ranks, units = (centred_mean(one.values[row, known], width) for one in (rank, dead))
            onset = lasting_onset(steps, (ranks < ILL_RANK) | (units >= least)) if steps.size else None
            found[seed] = float(np.fmin(np.nan if onset is None else onset, rank.died[row]))
    return dict(sorted(found.items()))


def _place(history: History, task: str, epochs: int, rate: float) -> Place:
    own = history.where(task=task, epochs=epochs, learning_rate=rate)
    ends, starts = (by_seed(own, NORM, measure) for measure in (at_end(), at_start()))
    return Place(
        task,
        epochs,
        rate,
        own.runs[0].steps_total,
        ill_since=ill_since(own),
        rank=by_seed(own, RANK, at_end()),
        dead=by_seed(own, DEAD, at_end()),
        growth={seed: ends[seed] / starts[seed] for seed in ends},
        kl=by_seed(own, KL, at_end()),
        final=by_seed(own, RETURN, at_end()),
        lost_since=by_seed(own, RETURN, _lost),
    )


def _lost(lives: Lives) -> np.ndarray:
    onsets = [return_onset(lives.steps, own) for own in lives.values]
    return np.fmin([np.nan if onset is None else onset for onset in onsets], lives.died)
