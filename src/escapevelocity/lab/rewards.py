"""Rewards that move while the policy learns, and the clock of the well: the accumulated gap.

An adaptive sampler is paid by a model that is itself in training, so its reward varies with time. Near a corner
d ln(π_j/π_c)/dt = η(π_j·g_j + Σ_k π_k·g_k) with g_j(t) = r_j(t) − r_c(t) (Dou et al., made sharp): what counts
is the gap added up so far.
"""

from abc import abstractmethod
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from escapevelocity.errors import UserError, require
from escapevelocity.health.gravity import ESCAPE_PROB, Integer, Number, accumulated_gap_needed
from escapevelocity.lab._float64 import float64_array, in_float64
from escapevelocity.lab.bounds import checked_probs, require_unit_interval
from escapevelocity.lab.evaluation import Evaluation
from escapevelocity.lab.methods import require_positive
from escapevelocity.lab.problems import evaluate_rewards, require_action, require_simplex
from escapevelocity.lab.simulate import require_count


class RewardProcess(eqx.Module):
    """Bounded rewards r(t) in [0, 1], of shape (K,) or, with contexts, (K, S)."""

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """(K,) or (K, S)."""

    @abstractmethod
    def at(self, step: Any) -> Float[Array, "*shape"]:
        """r(t), for a step t ≥ 0 that may be traced."""


class Constant(RewardProcess):
    """r(t) = rewards."""

    rewards: np.ndarray

    def __init__(self, rewards: Any):
        """Make the process from rewards in [0, 1], (K,) or (K, S)."""
        self.rewards = _bounded(rewards, "rewards")

    @property
    def shape(self) -> tuple[int, ...]:
        """(K,) or (K, S)."""
        return tuple(self.rewards.shape)

    def at(self, step: Any) -> Array:
        """The rewards."""
        del step
        return jnp.asarray(self.rewards)


class Growing(RewardProcess):
    """r(t) = first + (last − first)·t/(t + half_time): half of the way is done at `half_time`."""

    first: np.ndarray
    last: np.ndarray
    half_time: float

    def __init__(self, first: Any, last: Any, half_time: Number):
        """Make the process from rewards in [0, 1] and a half time > 0 in steps."""
        self.first, self.last = _bounded(first, "first"), _bounded(last, "last")
        _require_same_shape(self.last, self.first, "last", "first")
        self.half_time = float(require_positive(half_time, "half_time"))

    @property
    def shape(self) -> tuple[int, ...]:
        """(K,) or (K, S)."""
        return tuple(self.first.shape)

    def at(self, step: Any) -> Array:
        """r(t)."""
        done = jnp.asarray(step, float) / (jnp.asarray(step, float) + self.half_time)
        return jnp.asarray(self.first) + done * (self.last - self.first)


class Oscillating(RewardProcess):
    """r(t) = mean + amplitude·sin(2π·t/period)."""

    mean: np.ndarray
    amplitude: np.ndarray
    period: float

    def __init__(self, mean: Any, amplitude: Any, period: Number):
        """Make the process; mean ± amplitude must stay in [0, 1], the period is in steps."""
        self.mean = _bounded(mean, "mean")
        self.amplitude = float64_array(amplitude, "amplitude", (1, 2))
        _require_same_shape(self.amplitude, self.mean, "amplitude", "mean")
        require_unit_interval(self.mean + np.abs(self.amplitude), "mean + |amplitude|")
        require_unit_interval(self.mean - np.abs(self.amplitude), "mean - |amplitude|")
        self.period = float(require_positive(period, "period"))

    @property
    def shape(self) -> tuple[int, ...]:
        """(K,) or (K, S)."""
        return tuple(self.mean.shape)

    def at(self, step: Any) -> Array:
        """r(t)."""
        phase = 2 * jnp.pi * jnp.asarray(step, float) / self.period
        return jnp.asarray(self.mean) + jnp.sin(phase) * jnp.asarray(self.amplitude)


class Piecewise(RewardProcess):
    """r(t) = table[i] from times[i] on, until times[i + 1]; the last row stays.

    A recorded reward is `Piecewise(np.arange(len(table)), table)`.
    """

    times: np.ndarray
    table: np.ndarray

    def __init__(self, times: Any, table: Any):
        """Make the process from increasing times (N,), the first 0, and rewards (N, K) or (N, K, S)."""
        self.times = float64_array(times, "times", 1)
        self.table = float64_array(table, "table", (2, 3))
        require_unit_interval(self.table, "table")
        in_order = bool((np.diff(self.times) > 0).all() and self.times[0] == 0)
        require(in_order, "times", times, "increasing, starting with 0")
        if len(self.times) != len(self.table):
            raise UserError(f"table has {len(self.table)} rows: must be {len(self.times)}, one per time")

    @property
    def shape(self) -> tuple[int, ...]:
        """(K,) or (K, S)."""
        return tuple(self.table.shape[1:])

    def at(self, step: Any) -> Array:
        """r(t)."""
        row = jnp.searchsorted(jnp.asarray(self.times), jnp.asarray(step, float), side="right") - 1
        return jnp.asarray(self.table)[row]


class VaryingBandit(eqx.Module):
    """A bandit, or one per context, whose rewards follow a process.

    The gap may be zero or negative for a while, so sub-optimality in reward cannot tell who has escaped. Here
    `suboptimality` is 1 − π(a*): with constant rewards and all other actions alike that is sub-optimality in
    units of the gap, and the criterion of the laws, below 0.9, is the same.

    Attributes:
        process: the rewards.
        best: 1 at the action a* that counts as best, else 0, in the process's shape.
    """

    process: RewardProcess
    best: np.ndarray

    def __init__(self, process: RewardProcess, best_action: Integer):
        """Make the problem; `best_action` is the same in all contexts."""
        num_actions = process.shape[0]
        self.process = process
        self.best = np.zeros(process.shape)
        self.best[require_action(best_action, num_actions, "best_action")] = 1.0

    @property
    def policy_shape(self) -> tuple[int, ...]:
        """(K,) or (K, S)."""
        return self.process.shape

    def evaluate(self, probs: Array, step: Any = 0, bonus: Array | None = None) -> Evaluation:
        """Evaluate policies (K, B) or (K, S, B) under the rewards of this step."""
        rewards = self.process.at(step)[..., None]
        best = jnp.asarray(self.best)[..., None]
        weights = None if probs.ndim == 2 else jnp.full(probs.shape[1], 1 / probs.shape[1], probs.dtype)
        at = evaluate_rewards(probs, rewards, weights, bonus, best)
        missing = 1 - at.best_prob[0]
        overall = missing if probs.ndim == 2 else jnp.mean(missing, axis=0)
        return at._replace(suboptimality=overall, state_suboptimality=missing)


@in_float64
def reward_table(process: RewardProcess, num_steps: Integer) -> Any:
    """The rewards of steps 0, …, num_steps − 1 as a table (num_steps, K) or (num_steps, K, S)."""
    num_steps = require_count(num_steps, "num_steps")
    return jax.jit(jax.vmap(process.at))(jnp.arange(num_steps))


def accumulated_gap_escape_time(gaps: Any, best_prob: Any, rate: Number) -> Float[np.ndarray, " starts"]:
    """First t at which η·Σ_{s<t} g(s) reaches 1/(2π₁): softmax's escape when all others share the corner's reward.

    Args:
        gaps: g(t) = r_{a*}(t) − r_corner(t) for t = 0, 1, …, shape (T,), of any sign, within [−1, 1].
        best_prob: π₁ of each start, (B,), in (0, 1).
        rate: η > 0.

    Returns:
        Steps (B,); inf where the record ends before.

    Raises:
        UserError: on gaps outside [−1, 1], NaN, or a probability or rate out of range.

    Example:
        >>> print(accumulated_gap_escape_time([0.0] * 100 + [0.5] * 5000, [1e-3], rate=0.4))
        [2600.]
    """
    gap = float64_array(gaps, "gaps", 1)
    require_unit_interval(np.abs(gap), "|gaps|")
    rate = require_positive(rate, "rate")
    needed = accumulated_gap_needed(np.atleast_1d(checked_probs(best_prob)), rate)
    # The largest sum so far, because a negative gap may undo a clock that has already rung. The tolerance is
    # that of the sum's own rounding.
    clock = np.maximum.accumulate(np.concatenate([[0.0], np.cumsum(gap)]))
    steps = np.searchsorted(clock, needed * (1 - 1e-12)).astype(np.float64)
    return np.where(steps < len(clock), steps, np.inf)


@in_float64
def integrated_escape_time(rewards: Any, starts: Any, best_action: Integer, rate: Number) -> Any:
    """Integrate softmax's gradient flow for recorded rewards, unequal ones too, until π(a*) ≥ 0.1.

    dθ_j/dt = η·π_j·(r_j − Σ_k π_k·r_k), by Runge–Kutta of order 4, one step per row.

    Args:
        rewards: r(t), one row per update, (T, K), in [0, 1].
        starts: policies (K, B), positive everywhere.
        best_action: a*.
        rate: η > 0.

    Returns:
        Steps (B,), float64; inf where the record ends before.

    Raises:
        UserError: on rewards outside [0, 1], starts off the simplex, or actions out of range.
    """
    table = float64_array(rewards, "rewards", 2)
    require_unit_interval(table, "rewards")
    probs = float64_array(starts, "starts", 2)
    require_simplex(probs, "starts")
    if len(probs) != table.shape[1]:
        raise UserError(f"starts has shape {probs.shape}: must be ({table.shape[1]}, B)")
    require(bool((probs > 0).all()), "starts", float(probs.min()), "positive everywhere")
    best_action = require_action(best_action, len(probs), "best_action")
    rate = require_positive(rate, "rate")
    return _integrate(jnp.log(jnp.asarray(probs)), jnp.asarray(table), jnp.asarray(rate), best_action)


@jax.jit
def _integrate(theta: Array, rewards: Array, rate: Array, best_action: Any) -> Array:
    def velocity(theta: Array, reward: Array) -> Array:
        probs = jax.nn.softmax(theta, axis=0)
        return rate * probs * (reward[:, None] - (reward @ probs)[None])

    def advance(carry: tuple, reward: Array) -> tuple:
        theta, steps, step = carry
        escaped = jax.nn.softmax(theta, axis=0)[best_action] >= ESCAPE_PROB
        steps = jnp.where(escaped & jnp.isinf(steps), step, steps)
        k1 = velocity(theta, reward)
        k2 = velocity(theta + k1 / 2, reward)
        k3 = velocity(theta + k2 / 2, reward)
        k4 = velocity(theta + k3, reward)
        return (theta + (k1 + 2 * k2 + 2 * k3 + k4) / 6, steps, step + 1), None

    never = jnp.full(theta.shape[1], jnp.inf)
    (theta, steps, step), _ = jax.lax.scan(advance, (theta, never, jnp.zeros(())), rewards)
    escaped = jax.nn.softmax(theta, axis=0)[best_action] >= ESCAPE_PROB
    return jnp.where(escaped & jnp.isinf(steps), step, steps)


def _bounded(rewards: Any, field: str) -> np.ndarray:
    array = float64_array(rewards, field, (1, 2))
    require_unit_interval(array, field)
    return array


def _require_same_shape(array: np.ndarray, other: np.ndarray, field: str, other_field: str) -> None:
    if array.shape != other.shape:
        raise UserError(f"{field} has shape {array.shape}: must be that of {other_field}, {other.shape}")
