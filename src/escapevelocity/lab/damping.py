"""Softmax damping: how fast cross-entropy falls on a one-hot target, under softmax and under escort.

Gradient descent on KL(y ‖ π) from any start that is not at the target, with t the number of steps:

    softmax            KL ~ 1/t
    escort, p > 2      KL ~ t^{−p/(p−2)}
    escort, p = 2      KL ~ e^{−ct}, c = 4 · learning rate / ‖θ‖₂² once the target's action dominates
    escort, 1 ≤ p < 2  zero in finite time, then jitter of the size of a step

Source: Mei et al. 2020, section 4, for the effect; the exponents follow from the gradient flow near the corner,
dθ(b)/dt ∝ −|θ(b)|^{p−1} for every b that is not the target.
"""

import math
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from escapevelocity.errors import require
from escapevelocity.health.gravity import Integer, Number
from escapevelocity.lab._float64 import float64_array, in_float64
from escapevelocity.lab.methods import require_positive
from escapevelocity.lab.problems import require_action
from escapevelocity.lab.simulate import log_spaced, require_count
from escapevelocity.policy import CrossEntropy, EscortCrossEntropy


class DampingCurve(NamedTuple):
    """What gradient descent on one one-hot target went through, at R recorded steps.

    Attributes:
        steps: when, (R,), increasing, starting with 0.
        kl: KL(y ‖ π) in nats, (R,).
        gradient_norm: Euclidean norm of the loss's gradient, (R,).
        sign_flips: how often a parameter has changed sign so far, (R,): the jitter of an escort transform.
    """

    steps: np.ndarray
    kl: np.ndarray
    gradient_norm: np.ndarray
    sign_flips: np.ndarray


@in_float64
def damping_curve(
    loss: CrossEntropy,
    start: Any,
    target: Integer,
    learning_rate: Number,
    num_steps: Integer,
    num_points: Integer = 200,
) -> DampingCurve:
    """Descend `loss` on one sample of class `target` and record along the way, evenly in log(step).

    Args:
        loss: `SoftmaxCrossEntropy()` or `EscortCrossEntropy(p)`.
        start: first logits or θ, shape (K,), K ≥ 2; not all 0 for an escort transform.
        target: the class, in 0, …, K − 1.
        learning_rate: size of a step, above 0.
        num_steps: how many steps of plain gradient descent, at least 1.
        num_points: how many of them to record, at least 1.

    Returns:
        The curve, in float64.

    Raises:
        UserError: if an argument is out of range.

    Example:
        >>> from escapevelocity.policy import EscortCrossEntropy, SoftmaxCrossEntropy
        >>> import numpy as np
        >>> softmax = damping_curve(SoftmaxCrossEntropy(), np.zeros(3), 0, learning_rate=1.0, num_steps=2000)
        >>> escort = damping_curve(EscortCrossEntropy(4), np.ones(3), 0, learning_rate=0.1, num_steps=2000)
        >>> print(f"{softmax.kl[-1]:.1e} {escort.kl[-1]:.1e}")
        3.3e-04 7.1e-06
    """
    theta = float64_array(start, "start", ndim=1)
    require(len(theta) >= 2, "start.shape", theta.shape, "(K,) with K of at least 2")
    is_zero = isinstance(loss, EscortCrossEntropy) and not theta.any()
    require(not is_zero, "start", theta.tolist(), "different from 0 somewhere; the escort transform needs it")
    target = require_action(target, len(theta), "target", "a class")
    rate = require_positive(learning_rate, "learning_rate")
    num_steps = require_count(num_steps, "num_steps")
    num_points = require_count(num_points, "num_points")
    steps = log_spaced(num_steps, num_points)
    one_hot = np.eye(len(theta))[target]
    recorded = _descend(loss, jnp.asarray(theta), jnp.asarray(one_hot), rate, np.diff(steps))
    return DampingCurve(steps, *recorded)


@partial(jax.jit, static_argnums=0)
def _descend(
    loss: CrossEntropy, theta: jax.Array, one_hot: jax.Array, learning_rate: Any, gaps: Any
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """(KL, gradient norm, sign flips) at the start and after each gap."""

    def step(_: jax.Array, state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        theta, flips = state
        stepped = theta - learning_rate * loss.gradient(theta, one_hot)
        return stepped, flips + jnp.sum(stepped * theta < 0)

    def measure(state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array, jax.Array]:
        theta, flips = state
        return loss(theta, one_hot), jnp.linalg.norm(loss.gradient(theta, one_hot)), flips

    def advance(state: tuple, gap: jax.Array) -> tuple:
        state = jax.lax.fori_loop(0, gap, step, state)
        return state, measure(state)

    start = (theta, jnp.zeros((), int))
    _, later = jax.lax.scan(advance, start, gaps)
    return jax.tree.map(lambda first, rest: jnp.concatenate([first[None], rest]), measure(start), later)


def damping_exponent(loss: CrossEntropy) -> float:
    """The law's exponent e in KL ~ t^e: −1 for softmax, −p/(p−2) for escort, −inf for p ≤ 2.

    Example:
        >>> from escapevelocity.policy import EscortCrossEntropy
        >>> damping_exponent(EscortCrossEntropy(3))
        -3.0
    """
    if not isinstance(loss, EscortCrossEntropy):
        return -1.0
    return -loss.p / (loss.p - 2) if loss.p > 2 else -math.inf


def log_log_slope(steps: Any, values: Any, first: float | int, last: float | int) -> float:
    """Least-squares slope of log(values) against log(steps) over steps in [first, last].

    Args:
        steps: positive where they lie in the window, shape (R,).
        values: positive there too, shape (R,).
        first: start of the window.
        last: end of the window.

    Raises:
        UserError: if the window holds fewer than two points, or a value that is not positive.

    Example:
        >>> round(log_log_slope([1, 10, 100], [5.0, 0.05, 0.0005], 1, 100), 6)
        -2.0
    """
    x, y = float64_array(steps, "steps", ndim=1), float64_array(values, "values", ndim=1)
    require(len(x) == len(y), "values.shape", y.shape, f"that of steps, {x.shape}")
    inside = (x >= first) & (x <= last)
    enough = int(inside.sum()) >= 2
    require(enough, "[first, last]", [first, last], "a window that holds at least two of the steps")
    require(bool((x[inside] > 0).all()), "first", first, "above 0, for the logarithm of the steps")
    positive = bool((y[inside] > 0).all())
    require(positive, "values", float(y[inside].min()), "positive within the window; end it earlier")
    return float(np.polynomial.Polynomial.fit(np.log(x[inside]), np.log(y[inside]), 1).convert().coef[1])
