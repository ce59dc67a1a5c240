"""Run a method on a problem from many starts at once: escape times and trajectories.

Starts advance together in compiled loops, the batch on the last axis; see `_blocks`.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from escapevelocity.errors import UserError, require
from escapevelocity.health.gravity import Integer, python_number
from escapevelocity.lab._blocks import COMPILER_OPTIONS, over_blocks
from escapevelocity.lab._float64 import float64_array, in_float64
from escapevelocity.lab.evaluation import Evaluation
from escapevelocity.lab.methods import Method
from escapevelocity.lab.problems import checked_starts

MOST = 10**18
"""Steps are counted in int64, which ends at 9·10¹⁸."""


class EscapeTimes(NamedTuple):
    """When each start left its well.

    Attributes:
        steps: first t at which the sub-optimality was below the threshold, (B,), or (S, B) per state;
            `max_steps` where that never happened.
        censored: True where it never happened, so that the true time is more than `max_steps`.
        sign_flips: parameters that had changed sign by then, (B,); 0 where signs mean nothing.
    """

    steps: np.ndarray
    censored: np.ndarray
    sign_flips: np.ndarray


class Trajectory(NamedTuple):
    """Policies recorded on the way.

    Attributes:
        steps: when, (R,), increasing, starting with 0.
        probs: policies (R, A, ..., B).
        suboptimality: V* − V (R, B).
        sign_flips: parameters that have changed sign so far, (R, B).
    """

    steps: np.ndarray
    probs: np.ndarray
    suboptimality: np.ndarray
    sign_flips: np.ndarray


@in_float64
def escape_time(
    problem: Any,
    method: Method,
    starts: Any,
    threshold: Any,
    max_steps: Integer,
    per_state: bool = False,
    key: Any = None,
) -> EscapeTimes:
    """Count the updates until the sub-optimality falls below `threshold`, for every start.

    Args:
        problem: a bandit, MDP or any other `Problem`.
        method: an update rule of `methods`, `escort_gradient` or `sampled`.
        starts: initial policies (*problem.policy_shape, B).
        threshold: sub-optimality > 0 below which a start has escaped, in units of the value: a number, or
            (S,) with `per_state`. The law's criterion is 0.9·Δ.
        max_steps: starts still trapped after so many updates are censored.
        per_state: report the escape of each state, V*(s) − V(s) < threshold, instead of the whole.
        key: JAX PRNG key; needed by sampled methods only.

    Raises:
        UserError: on starts off the simplex, a threshold or max_steps that is not positive, or a missing key.

    Example:
        >>> from escapevelocity.lab import Bandit, corner_starts, npg
        >>> bandit = Bandit([0.7, 0.2, 0.2])
        >>> escape_time(bandit, npg(0.4), corner_starts(3, 2, [1e-3, 1e-6]), 0.45, 1000).steps
        array([24, 59])
    """
    probs = jnp.asarray(checked_starts(problem, starts))
    key = _checked_key(method, key)
    max_steps = require_count(max_steps, "max_steps")
    limit = float64_array(threshold, "threshold", (0, 1) if per_state else 0)
    require(bool((limit > 0).all()), "threshold", threshold, "> 0, in units of the value")
    if per_state:
        states = problem.policy_shape[1:]
        if limit.ndim and limit.shape != states:
            raise UserError(f"threshold has shape {limit.shape}: must be a number or {states}, one per state")
        limit = np.broadcast_to(limit, states)[..., None]
    times = _escape_time(problem, method, probs, jnp.asarray(limit), max_steps, per_state, key)
    return EscapeTimes(*map(np.asarray, times))


@in_float64
def trajectory(problem: Any, method: Method, starts: Any, record_at: Any, key: Any = None) -> Trajectory:
    """Follow every start and keep its policy at chosen steps.

    Args:
        problem: a bandit, MDP or any other `Problem`.
        method: an update rule.
        starts: initial policies (*problem.policy_shape, B).
        record_at: steps to record, increasing integers ≥ 0; `log_spaced` makes them.
        key: JAX PRNG key; needed by sampled methods only.

    Raises:
        UserError: on starts off the simplex, steps out of order, or a missing key.
    """
    probs = jnp.asarray(checked_starts(problem, starts))
    key = _checked_key(method, key)
    steps = float64_array(record_at, "record_at", 1)
    in_order = bool((np.diff(steps) > 0).all() and steps[0] >= 0 and (steps == np.round(steps)).all())
    require(in_order, "record_at", record_at, "increasing integers ≥ 0")
    require(bool(steps[-1] <= MOST), "record_at", record_at, f"at most {MOST:.0e}")
    steps = steps.astype(np.int64)
    records = _trajectory(problem, method, probs, jnp.asarray(steps), key)
    return Trajectory(steps, *records)


@in_float64
def evaluate(problem: Any, probs: Any) -> Evaluation:
    """Evaluate policies (*problem.policy_shape, B): values, Q, advantages, visitation and sub-optimality.

    Raises:
        UserError: on policies off the simplex.

    Example:
        >>> from escapevelocity.lab import Bandit
        >>> print(evaluate(Bandit([1.0, 0.0]), [[0.25], [0.75]]).state_values)
        [0.25]
    """
    return _evaluate(problem, jnp.asarray(checked_starts(problem, probs)))


def log_spaced(max_steps: int, count: int = 100) -> np.ndarray:
    """At most `count` steps from 1 to `max_steps`, evenly spaced in the logarithm, and step 0.

    Example:
        >>> log_spaced(100, 3)
        array([  0,   1,  10, 100])
    """
    require_count(max_steps, "max_steps")
    require_count(count, "count")
    return np.unique(np.concatenate([[0], np.round(np.geomspace(1, max_steps, count))])).astype(np.int64)


def evaluate_state(problem: Any, method: Method, state: Any, step: Any) -> tuple[Evaluation, Evaluation]:
    """Return (the true evaluation of the state's policies, the one that the update shall see)."""
    probs = method.policy(state)
    true = problem.evaluate(probs, step)
    if method.temperature == 0:
        return true, true
    bonus = -method.temperature * jnp.log(jnp.maximum(probs, 1e-300))
    return true, problem.evaluate(probs, step, bonus)


def advance(method: Method, state: Any, at: Evaluation, step: Any, key: Array) -> Any:
    """One update, from sampled actions if the method samples; every step has its own key."""
    if method.sample is not None:
        at = method.sample(jax.random.fold_in(key, step), at)
    return method.update(state, at)


@jax.jit
def _evaluate(problem: Any, probs: Array) -> Evaluation:
    return problem.evaluate(probs)


@partial(jax.jit, static_argnames=("method", "per_state"), compiler_options=COMPILER_OPTIONS)
def _escape_time(
    problem: Any, method: Method, probs: Array, threshold: Array, max_steps: Any, per_state: bool, key: Array
) -> tuple[Array, Array, Array]:
    def run(state: Any, key: Array) -> tuple[Array, Array, Array]:
        def trapped(carry: tuple) -> Array:
            _, step, _, escaped, _ = carry
            return (step <= max_steps) & ~jnp.all(escaped)

        def body(carry: tuple) -> tuple:
            state, step, steps, escaped, flips = carry
            true, at = evaluate_state(problem, method, state, step)
            distance = true.state_suboptimality if per_state else true.suboptimality
            steps = jnp.where(escaped, steps, step)
            free = jnp.all(escaped, axis=0) if per_state else escaped
            flips = jnp.where(free, flips, _sign_flips(method, state, flips.shape[-1]))
            escaped = escaped | (distance < threshold)
            return advance(method, state, at, step, key), step + 1, steps, escaped, flips

        starts = jax.tree.leaves(state)[0].shape[-1]
        shape = (*probs.shape[1:-1], starts) if per_state else (starts,)
        first = (jnp.zeros((), jnp.int64), jnp.zeros(shape, jnp.int64))
        begin = (state, *first, jnp.zeros(shape, bool), jnp.zeros(starts, jnp.int64))
        _, _, steps, escaped, flips = jax.lax.while_loop(trapped, body, begin)
        return steps, ~escaped, flips

    return over_blocks(run, method.init(probs), key)


@partial(jax.jit, static_argnames=("method",), compiler_options=COMPILER_OPTIONS)
def _trajectory(problem: Any, method: Method, probs: Array, record_at: Array, key: Array) -> tuple:
    def run(state: Any, key: Array) -> tuple:
        def one_step(step: Array, state: Any) -> Any:
            _, at = evaluate_state(problem, method, state, step)
            return advance(method, state, at, step, key)

        def until(carry: tuple, record: Array) -> tuple:
            state, step = carry
            state = jax.lax.fori_loop(step, record, one_step, state)
            true, _ = evaluate_state(problem, method, state, record)
            flips = _sign_flips(method, state, true.suboptimality.shape[-1])
            return (state, record), (true.probs, true.suboptimality, flips)

        return jax.lax.scan(until, (state, jnp.zeros((), jnp.int64)), record_at)[1]

    return over_blocks(run, method.init(probs), key)


def _sign_flips(method: Method, state: Any, starts: int) -> Array:
    return jnp.zeros(starts, jnp.int64) if method.sign_flips is None else method.sign_flips(state)


def _checked_key(method: Method, key: Any) -> Array:
    if method.sample is not None and key is None:
        raise UserError(f"key = None: must be a JAX PRNG key for the sampled method {method.name}")
    return jax.random.key(0) if key is None else key


def require_count(value: Any, field: str) -> int:
    """Return `value` as an integer of Python, or raise `UserError` unless it is one from 1 to `MOST`."""
    value = python_number(value)
    is_count = isinstance(value, int) and not isinstance(value, bool) and value >= 1
    require(is_count, field, value, "an integer ≥ 1")
    require(value <= MOST, field, value, f"at most {MOST:.0e}")
    return value
