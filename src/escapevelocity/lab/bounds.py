"""How long an escape must take, and how long it will: the laws, applied to starts.

The formulas live in `escapevelocity.health.gravity`, where the diagnosis of real runs uses them too.
"""

from typing import Any

import numpy as np
from jaxtyping import Float

from escapevelocity.errors import UserError, require
from escapevelocity.health import gravity
from escapevelocity.health.gravity import Integer, Number
from escapevelocity.lab._float64 import float64_array
from escapevelocity.lab.methods import require_positive
from escapevelocity.lab.problems import Bandit, require_action, require_simplex

PREDICTED_METHODS = ("SPG", "EPG", "NPG", "NeuRD", "mirror descent", "GNPG", "inverse-probability")
"""Methods with a closed-form escape time."""


def predicted_escape_time(
    method: str, best_prob: Any, gap: Number, rate: Number, p: Number | None = None
) -> Float[np.ndarray, "*shape"]:
    """The gradient flow's escape time from a corner where every other action shares the corner's reward.

    Args:
        method: one of `PREDICTED_METHODS`; "EPG" is the one with rate η‖θ‖_p²/p².
        best_prob: π₁ in (0, 1), any shape of at most two axes.
        gap: Δ > 0; GNPG does not use it.
        rate: η > 0.
        p: exponent of the escort transform; for "EPG" only.

    Returns:
        Updates until (π* − π)ᵀr < 0.9·Δ, in the shape of `best_prob`.

    Raises:
        UserError: on an unknown method or a value out of range.

    Example:
        >>> print(predicted_escape_time("SPG", [1e-2, 1e-3], gap=0.5, rate=0.4))
        [ 250. 2500.]
    """
    if method not in PREDICTED_METHODS:
        raise UserError(f"method = {method!r}: must be one of {', '.join(PREDICTED_METHODS)}")
    probs = checked_probs(best_prob)
    gap, rate = require_positive(gap, "gap"), require_positive(rate, "rate")
    if method != "EPG":
        require(p is None, "p", p, f"None for {method}, which has no exponent")
    if method == "EPG":
        if p is None:
            raise UserError("p = None: must be a finite number ≥ 1 for EPG")
        times = gravity.escort_escape_time(probs, gap, rate, p)
    elif method == "SPG":
        times = gravity.softmax_escape_time(probs, gap, rate)
    elif method == "GNPG":
        times = gravity.normalised_escape_time(probs, rate)
    elif method == "inverse-probability":
        times = gravity.inverse_probability_escape_time(probs, gap, rate)
    else:
        times = gravity.natural_escape_time(probs, gap, rate)
    return np.asarray(times)


def softmax_lower_bound(
    bandit: Bandit, starts: Any, corner: Integer, rate: Number
) -> Float[np.ndarray, " starts"]:
    """No softmax policy gradient can leave the corner faster, whatever the other actions pay.

    Let x_j = π_j/π_c, X = Σ_j x_j and Δ the largest reward minus the corner's. While the corner is the likeliest
    action, d ln x_j/dt ≤ η·Δ·(x_j + X), so dX/dt ≤ 2·η·Δ·X², and as X ≥ 1/9 at the escape,
    T ≥ (1/X₀ − 9)/(2·η·Δ). For time-varying rewards the same holds with an upper bound of the gap for Δ.

    Args:
        bandit: without contexts, rewards in [0, 1].
        starts: policies (K, B).
        corner: the wrong action that holds the mass.
        rate: η > 0.

    Returns:
        A lower bound on the updates until π(a*) ≥ 0.1, (B,); 0 for starts outside the well.

    Raises:
        UserError: on rewards outside [0, 1], starts off the simplex, or a corner that is a best action.
    """
    rewards = np.asarray(bandit.rewards)
    if rewards.ndim != 1:
        raise UserError(f"bandit has rewards of shape {rewards.shape}: must be (K,), without contexts")
    require_unit_interval(rewards, "rewards")
    rate = require_positive(rate, "rate")
    probs = float64_array(starts, "starts", 2)
    if len(probs) != len(rewards):
        raise UserError(f"starts has shape {probs.shape}: must be ({len(rewards)}, B)")
    require_simplex(probs, "starts")
    corner = require_action(corner, len(rewards), "corner")
    gap = rewards.max() - rewards[corner]
    require(bool(gap > 0), "corner", corner, "an action that is not the best")
    off_corner = np.delete(probs, corner, axis=0).sum(axis=0)  # 1 − π_c would keep no digit of a deep start
    with np.errstate(divide="ignore"):
        inverse_odds = probs[corner] / off_corner
    return np.maximum(inverse_odds - 1 / gravity.ESCAPE_ODDS, 0.0) / (2 * rate * gap)


def checked_probs(best_prob: Any) -> np.ndarray:
    """Return π₁ as float64 in (0, 1), or raise `UserError`."""
    probs = float64_array(best_prob, "best_prob", (0, 1, 2))
    outside = ~((probs > 0) & (probs < 1))
    if outside.any():
        raise UserError(f"best_prob = {probs[outside].flat[0]}: must be in (0, 1)")
    return probs


def require_unit_interval(rewards: np.ndarray, field: str) -> None:
    """Raise `UserError` unless all rewards are in [0, 1], as the bounds assume."""
    outside = (rewards < 0) | (rewards > 1)
    if outside.any():
        where = tuple(int(i) for i in np.argwhere(outside)[0])
        raise UserError(f"{field}{list(where)} = {rewards[where]}: must be in [0, 1]; rescale the rewards")
