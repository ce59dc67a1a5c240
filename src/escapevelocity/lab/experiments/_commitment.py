"""Whether runs commit to a wrong action, for ever or for a while."""

import math
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from escapevelocity.health.gravity import ESCAPE_PROB
from escapevelocity.lab.evaluation import Evaluation
from escapevelocity.lab.experiments._bandits import Observer

COMMITTED = 0.99
"""A run is committed to a wrong action when one holds more than this."""


class Notes(NamedTuple):
    """What is noted about each run.

    Attributes:
        committed: whether it was committed at each horizon, (H, B).
        escaped: updates until π(a*) was 0.1, (B,); −1 for never.
        solved: updates until π(a*) was 0.9, (B,); −1 for never.
    """

    committed: Array | np.ndarray
    escaped: Array | np.ndarray
    solved: Array | np.ndarray


def observer(horizons: tuple[int, ...]) -> Observer:
    """Notes failures at the horizons, and when a run escaped and was solved."""
    at_horizon = np.array(horizons)[:, None]

    def first(at: Evaluation) -> Notes:
        never = jnp.full(at.suboptimality.shape, -1, jnp.int64)
        return Notes(jnp.zeros((len(horizons), *never.shape), bool), never, never)

    def see(notes: Notes, step: Array, at: Evaluation, flips: Array) -> Notes:
        del flips
        # Not ">" and "<": a policy that is not finite has failed, too.
        now = ~(jnp.max(at.probs, axis=0) <= COMMITTED) & ~(at.best_prob[0] >= 1 - COMMITTED)
        committed = jnp.where(at_horizon == step, now[None], notes.committed)
        escaped = jnp.where((notes.escaped < 0) & (at.best_prob[0] >= ESCAPE_PROB), step, notes.escaped)
        solved = jnp.where((notes.solved < 0) & (at.best_prob[0] >= 1 - ESCAPE_PROB), step, notes.solved)
        return Notes(committed, escaped, solved)

    return Observer(first, see, lambda notes: jnp.zeros(notes.escaped.shape, bool))


def failure_slope(
    horizons: tuple[int, ...], committed: np.ndarray, resamples: int, rng: np.random.Generator
) -> tuple[float, float, float]:
    """Least-squares slope of log(share of failed runs) against log(horizon), from the second horizon on.

    0: failed for ever. Clearly negative: slow, on its way out. The first horizon is left out, since failures are
    still arising then.

    Args:
        horizons: updates, increasing.
        committed: (H, B), whether each run had failed at each horizon.
        resamples: of the runs.
        rng: for the resamples.

    Returns:
        The slope with its 95 % bootstrap interval (percentiles); NaN where a share is 0.
    """
    if len(horizons) > 2:
        horizons, committed = horizons[1:], committed[1:]
    x = np.log(horizons) - np.mean(np.log(horizons))
    weights = x / np.sum(x**2)
    runs = committed.shape[1]
    if not committed.any(axis=1).all():
        return math.nan, math.nan, math.nan
    shares = np.stack([committed[:, rng.integers(runs, size=runs)].mean(axis=1) for _ in range(resamples)])
    # Half a run: resamples without a failure count as almost none.
    slopes = np.log(np.maximum(shares, 0.5 / runs)) @ weights
    low, high = np.quantile(slopes, [0.025, 0.975])
    return float(np.log(committed.mean(axis=1)) @ weights), float(low), float(high)
