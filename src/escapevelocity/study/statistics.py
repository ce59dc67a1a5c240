"""Aggregates of scores over tasks and runs, as Agarwal et al. define them.

Agarwal et al. 2021, "Deep Reinforcement Learning at the Edge of the Statistical Precipice" (arXiv 2108.13264), and
their library rliable, with which these agree. Every function takes `Scores`; leading axes carry through, so that
one call serves all resamples of a bootstrap.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import stats

from escapevelocity.errors import require
from escapevelocity.study.scores import Scores, by_task, pooled

TRIMMED = 0.25
"""Share cut from either end by the interquartile mean."""


def iqm(scores: Scores) -> Any:
    """Interquartile mean: the mean of the middle half of all scores, runs of all tasks pooled.

    Of N scores, ⌊N/4⌋ are cut from either end (`scipy.stats.trim_mean`, as rliable): of five runs of one task
    the middle three remain. A task with more runs than another weighs more.

    Source:
        Agarwal et al. 2021, §4.

    Returns:
        A float; (...) where the scores have leading axes.

    Raises:
        UserError: for scores that `by_task` refuses.

    Example:
        >>> iqm({"Hopper-v4": [1.0, 2.0, 3.0, 4.0, 1000.0]})
        3.0
    """
    return _plain(stats.trim_mean(pooled(scores), TRIMMED, axis=-1))


def mean(scores: Scores) -> Any:
    """Mean over tasks of each task's mean over its runs.

    Source:
        Agarwal et al. 2021, §4 (rliable: `aggregate_mean`).

    Returns:
        A float; (...) where the scores have leading axes.

    Raises:
        UserError: for scores that `by_task` refuses.
    """
    return _plain(_task_means(scores).mean(axis=-1))


def median(scores: Scores) -> Any:
    """Median over tasks of each task's *mean* over its runs; with one task, therefore, its mean.

    Source:
        Agarwal et al. 2021, §4 (rliable: `aggregate_median`).

    Returns:
        A float; (...) where the scores have leading axes.

    Raises:
        UserError: for scores that `by_task` refuses.
    """
    return _plain(np.median(_task_means(scores), axis=-1))


def optimality_gap(scores: Scores, gamma: float = 1.0) -> Any:
    """How far runs fall short of a goal on average, what lies beyond the goal not counted: γ − mean(min(score, γ)).

    Lower is better. The mean is over all runs of all tasks, pooled.

    Source:
        Agarwal et al. 2021, §4.

    Args:
        scores: normalised so that γ means the same in every task.
        gamma: γ, the goal.

    Returns:
        A float; (...) where the scores have leading axes.

    Raises:
        UserError: for scores that `by_task` refuses, or a γ that is not finite.
    """
    require(bool(np.isfinite(gamma)), "gamma", gamma, "finite")
    return _plain(gamma - np.minimum(pooled(scores), gamma).mean(axis=-1))


def probability_of_improvement(x: Scores, y: Scores) -> Any:
    """Chance that a run of X beats a run of Y on the same task, averaged over tasks.

    Per task P(X > Y) + ½·P(X = Y) over all pairs of runs: the Mann–Whitney U of X over the number of pairs.

    Source:
        Agarwal et al. 2021, §4.

    Args:
        x: scores of X.
        y: scores of Y: the same tasks; the number of runs may differ.

    Returns:
        A float; (...) where the scores have leading axes.

    Raises:
        UserError: for scores that `by_task` refuses, or different tasks.

    Example:
        >>> probability_of_improvement({"a": [1.0, 2.0]}, {"a": [0.0, 2.0]})
        0.625
    """
    first, second = by_task(x), by_task(y)
    require(first.keys() == second.keys(), "tasks of y", sorted(second), f"those of x, {sorted(first)}")
    chances = []
    for task, own in first.items():
        a, b = own[..., :, None], second[task][..., None, :]
        chances.append(((a > b) + 0.5 * (a == b)).mean(axis=(-2, -1)))
    return _plain(np.mean(chances, axis=0))


def _task_means(scores: Scores) -> np.ndarray:
    return np.stack([values.mean(axis=-1) for values in by_task(scores).values()], axis=-1)


def _plain(value: Any) -> Any:
    return float(value) if np.ndim(value) == 0 else value
