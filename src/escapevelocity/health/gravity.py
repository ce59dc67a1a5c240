"""How long a policy needs to leave the corner of a wrong action: the escape laws as formulas.

Setting: almost all mass on one wrong action, probability π₁ on the best, gap Δ between their rewards, every
other action paid like the corner. Escaped means π(a*) ≥ 0.1, a sub-optimality below 0.9·Δ. The laws are those of
the gradient flow; sources: Mei et al. 2020 (Escaping the Gravitational Pull of Softmax), with constants derived
from the flow. Times count updates of rate η.

Array API functions: NumPy, JAX (also under `jax.jit`) and torch arrays in, the same kind out; a plain number is
taken as NumPy float64. Results are NaN outside 0 < π₁ < 1, Δ > 0, η > 0.
"""

import math
from typing import Any

import numpy as np

from escapevelocity.errors import require
from escapevelocity.health._arrays import floating, quiet

Integer = int | np.integer
Number = float | int | np.integer | np.floating
"""Numbers as users have them; `python_number` makes them one kind."""

ESCAPE_PROB = 0.1
"""Probability of the best action at which a policy counts as escaped."""

ESCAPE_ODDS = ESCAPE_PROB / (1 - ESCAPE_PROB)
"""The same as odds against the corner, 0.11…"""


@quiet
def softmax_escape_time(best_prob: Any, gap: Any, rate: Any) -> Any:
    """Return 1/(2·η·Δ·π₁): softmax policy gradient near a corner.

    Args:
        best_prob: π₁, any shape.
        gap: Δ, broadcastable.
        rate: η, broadcastable.

    Returns:
        Updates until the escape; 0 for a start outside the well.

    Example:
        >>> float(softmax_escape_time(1e-3, gap=0.5, rate=0.4))
        2500.0
    """
    best_prob, xp = _checked(best_prob, gap, rate)
    time = 1 / (2 * rate * gap * best_prob)
    return xp.where(best_prob > ESCAPE_ODDS, xp.zeros_like(time), time)


@quiet
def escort_escape_time(best_prob: Any, gap: Any, rate: Any, p: Number) -> Any:
    """Return the escape time of escort policy gradient with rate η‖θ‖_p²/p².

    Near the corner x = θ(a*)/θ(corner) grows as dx/dt = (η·Δ/p)·x^{p−1}, so with x₁ = π₁^{1/p} and
    x_e = odds^{1/p} at the escape

        T = p·(x₁^{2−p} − x_e^{2−p})/((p − 2)·η·Δ),   and (2/(η·Δ))·ln(x_e/x₁) for p = 2.

    As π₁ → 0 that is p·π₁^{−(1−2/p)}/((p − 2)·η·Δ) for p > 2, and bounded for 1 ≤ p < 2.

    Args:
        best_prob: π₁, any shape.
        gap: Δ, broadcastable.
        rate: η, broadcastable.
        p: exponent of the escort transform, ≥ 1.

    Returns:
        Updates until the escape; 0 for a start outside the well.

    Raises:
        UserError: if p is below 1 or not finite.

    Example:
        >>> round(float(escort_escape_time(1e-6, gap=0.5, rate=0.4, p=3)))
        1469
    """
    p = require_exponent(p)
    best_prob, xp = _checked(best_prob, gap, rate)
    if p == 2:
        return _log_odds(best_prob, xp) / (rate * gap)
    power = 2 / p - 1
    way = (best_prob**power - ESCAPE_ODDS**power) * p / (p - 2)
    return xp.where(way < 0, xp.zeros_like(way), way) / (rate * gap)


@quiet
def natural_escape_time(best_prob: Any, gap: Any, rate: Any) -> Any:
    """Return ln(odds/π₁)/(η·Δ) for natural policy gradient, NeuRD and mirror descent; odds = 1/9.

    Example:
        >>> round(float(natural_escape_time(1e-6, gap=0.5, rate=0.4)), 1)
        58.1
    """
    best_prob, xp = _checked(best_prob, gap, rate)
    return _log_odds(best_prob, xp) / (rate * gap)


@quiet
def normalised_escape_time(best_prob: Any, rate: Any) -> Any:
    """Return ln(odds/π₁)/(√2·η) for the normalised gradient (GNPG); no gap in it.

    Example:
        >>> round(float(normalised_escape_time(1e-6, rate=1 / 6)), 1)
        49.3
    """
    best_prob, xp = _checked(best_prob, 1.0, rate)
    return _log_odds(best_prob, xp) / (math.sqrt(2) * rate)


@quiet
def inverse_probability_escape_time(best_prob: Any, gap: Any, rate: Any) -> Any:
    """Return ln(odds/π₁)/(2·η·Δ) for the oracle rate η/π(a*).

    Example:
        >>> round(float(inverse_probability_escape_time(1e-6, gap=0.5, rate=0.4)), 1)
        29.0
    """
    return natural_escape_time(best_prob, gap, rate) / 2


@quiet
def accumulated_gap_needed(best_prob: Any, rate: Any) -> Any:
    """Return 1/(2·η·π₁): the ∫ gap dt after which softmax escapes, however the gap varies; 0 outside the well.

    The clock of the well (Dou et al.): a gap that is zero for a while adds exactly that while to the plateau.

    Example:
        >>> float(accumulated_gap_needed(1e-3, rate=0.4))
        1250.0
    """
    return softmax_escape_time(best_prob, 1.0, rate)


def escape_time_slope(p: Number | None = None) -> float:
    """Return d log T / d log π₁ as π₁ → 0: −1 for softmax (p None), −(1 − 2/p) for escort p > 2, else 0.

    Raises:
        UserError: if p is below 1 or not finite.

    Example:
        >>> escape_time_slope(), escape_time_slope(4), escape_time_slope(1.5)
        (-1.0, -0.5, 0.0)
    """
    if p is None:
        return -1.0
    p = require_exponent(p)
    return -(1 - 2 / p) if p > 2 else 0.0


def require_exponent(p: Any) -> float | int:
    """Return p as a number of Python, or raise `UserError` unless it is finite and at least 1."""
    p = python_number(p)
    in_range = isinstance(p, int | float) and math.isfinite(p) and p >= 1
    require(in_range, "p", p, "a finite number ≥ 1")
    return p


def python_number(value: Any) -> Any:
    """Return a NumPy scalar as the number of Python that it is, anything else unchanged."""
    return value.item() if isinstance(value, np.integer | np.floating) else value


def _checked(best_prob: Any, gap: Any, rate: Any) -> tuple[Any, Any]:
    """π₁ as an array, NaN wherever one of the three is out of range, and its namespace."""
    best_prob = python_number(best_prob)
    if isinstance(best_prob, int | float):
        best_prob = np.asarray(best_prob, dtype=np.float64)
    best_prob, xp = floating(best_prob, "best_prob", min_ndim=0)
    valid = (best_prob > 0) & (best_prob < 1) & (gap > 0) & (rate > 0)
    return xp.where(valid, best_prob, xp.full_like(best_prob, xp.nan)), xp


def _log_odds(best_prob: Any, xp: Any) -> Any:
    """ln(odds at escape / odds at the start), the latter ≈ π₁ near a corner; 0 for a start outside the well."""
    logarithm = xp.log(ESCAPE_ODDS / best_prob)
    return xp.where(logarithm < 0, xp.zeros_like(logarithm), logarithm)
