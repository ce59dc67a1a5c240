"""When runs leave their well for good, and how quiet they are at the end; and the bandits they run on."""

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from escapevelocity.lab.evaluation import Evaluation
from escapevelocity.lab.experiments._bandits import Observer, follow
from escapevelocity.lab.methods import Method

Limit = Callable[[Array], Array]
"""Rewards (K, B) -> the sub-optimality below which a run is out of its well, (B,)."""


class Settling(NamedTuple):
    """How each run came out of its well; every field (B,), `probs` (K, B).

    Attributes:
        first: first step with the sub-optimality below the limit; the last step where there is none.
        settled_at: first step from which it stayed below until the end; the last step where it did not.
        has_settled: whether it ended below.
        worst_late: largest sub-optimality in the last tenth of the run; inf where it was NaN.
        late_flips: parameters that changed sign in the last tenth.
        probs: the policies at the end.
    """

    first: np.ndarray
    settled_at: np.ndarray
    has_settled: np.ndarray
    worst_late: np.ndarray
    late_flips: np.ndarray
    probs: np.ndarray


class _Notes(NamedTuple):
    limit: Array
    first: Array
    last_inside: Array
    worst_late: Array
    early_flips: Array
    flips: Array
    probs: Array


def out_of_every_well(rewards: Array) -> Array:
    """0.9·Δ, Δ the best minus the second-best reward: the escape of the laws, from any wrong corner."""
    ordered = jnp.sort(rewards, axis=0)
    return 0.9 * (ordered[-1] - ordered[-2])


def within_one_percent(rewards: Array) -> Array:
    """0.01·r*: at least 99 % of the best reward is reached."""
    return 0.01 * jnp.max(rewards, axis=0)


def settle(
    method: Method,
    rewards: Float[np.ndarray, "actions runs"],
    starts: Float[np.ndarray, "actions runs"],
    limit: Limit,
    steps: int,
    key: Any = None,
) -> Settling:
    """Follow every run for `steps` updates, also after its escape: it may fall back.

    Args:
        method: an update rule; its rate may be one per run.
        rewards: r(a) of each run's bandit.
        starts: initial policies.
        limit: what counts as being out of the well.
        steps: updates.
        key: JAX PRNG key; needed by sampled methods only.
    """
    notes = follow(method, rewards, starts, _observer(limit, steps), steps, key)
    has_settled = notes.last_inside < steps
    settled_at = np.where(has_settled, notes.last_inside + 1, steps)
    late_flips = notes.flips - notes.early_flips
    return Settling(notes.first, settled_at, has_settled, notes.worst_late, late_flips, notes.probs)


@cache  # the same observer is the same compiled program
def _observer(limit: Limit, steps: int) -> Observer:
    late = steps - steps // 10

    def first(start: Evaluation) -> _Notes:
        zeros = jnp.zeros(start.probs.shape[-1], jnp.int64)
        regret = jnp.zeros_like(start.suboptimality)
        below = limit(start.action_values)
        return _Notes(below, zeros + steps, zeros - 1, regret, zeros, zeros, start.probs)

    def see(notes: _Notes, step: Array, true: Evaluation, flips: Array) -> _Notes:
        inside = ~(true.suboptimality < notes.limit)  # NaN is inside
        regret = jnp.where(jnp.isnan(true.suboptimality), jnp.inf, true.suboptimality)
        return notes._replace(
            first=jnp.where(~inside & (notes.first == steps), step, notes.first),
            last_inside=jnp.where(inside, step, notes.last_inside),
            worst_late=jnp.where(step >= late, jnp.maximum(notes.worst_late, regret), notes.worst_late),
            early_flips=jnp.where(step <= late, flips, notes.early_flips),
            flips=flips,
            probs=true.probs,
        )

    return Observer(first, see, lambda notes: jnp.zeros(notes.first.shape, bool))


def random_rewards(
    generator: np.random.Generator, num_actions: int, count: int
) -> Float[np.ndarray, "actions bandits"]:
    """Rewards U[0, 1], independent, (K, count)."""
    return generator.uniform(size=(num_actions, count))


def wrong_corners(
    generator: np.random.Generator, rewards: Float[np.ndarray, "actions bandits"], other_prob: float
) -> Float[np.ndarray, "actions bandits"]:
    """Policies with the mass on a wrong action, drawn uniformly, and `other_prob` on every other."""
    actions, count = rewards.shape
    # The best action plus 1..K − 1 steps around the circle is any other, each with the same probability.
    corner = (rewards.argmax(axis=0) + generator.integers(1, actions, count)) % actions
    starts = np.full((actions, count), other_prob)
    starts[corner, np.arange(count)] = 1 - (actions - 1) * other_prob
    return starts
