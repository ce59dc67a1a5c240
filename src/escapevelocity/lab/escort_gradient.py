"""Escort policy gradient, with parameters that are renormalised after every step.

π(a) = |θ(a)|^p / ‖θ‖_p^p does not see the length of θ, but the gradient does: it is proportional to 1/‖θ‖_p.
The state therefore holds u = θ/‖θ‖_p and log ‖θ‖_p apart: for p near 1 the raw norm outgrows float64.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from escapevelocity.errors import require
from escapevelocity.health.gravity import Number, require_exponent
from escapevelocity.lab.evaluation import Evaluation
from escapevelocity.lab.methods import Method, StepSize, checked_rate, optimiser_per_start, rate_of_starts


class EscortState(NamedTuple):
    """Escort parameters, per state and start.

    Attributes:
        direction: u = θ/‖θ‖_p of shape (A, ..., B).
        log_scale: log ‖θ‖_p of shape (1, ..., B).
        flips: how many parameters have changed sign so far, (B,).
        rate: η of each start (1, ..., B), or None with an optimiser.
        optimiser: the Optax state, or None.
    """

    direction: Float[Array, "actions *rest"]
    log_scale: Float[Array, "1 *rest"]
    flips: Array
    rate: Any
    optimiser: Any


_LARGEST_EXPONENT = 1e6
"""|u|^p multiplies the rounding of u, 1e-16, by p: beyond, probabilities no longer sum to 1 within 1e-9."""


def epg(step_size: StepSize, p: Number, scaled: bool = True) -> Method:
    """Escort policy gradient: θ += η_t·d·(p/‖θ‖_p)·sgn θ·π^{1−1/p}·A (Mei et al. 2020, eq. 6).

    Args:
        step_size: η, η per start (B,), or an Optax optimiser (which sees the raw θ and its raw gradient).
        p: the exponent, ≥ 1.
        scaled: η_t = η·‖θ_t‖_p²/p², the paper's rate, under which only the policy matters; False for η_t = η.
            An Optax optimiser sets its own rate, so `scaled` is ignored with one.

    Raises:
        UserError: on p < 1 or above 1e6, or a rate that is not positive.

    Example:
        >>> epg(0.4, p=2).name
        'EPG(2)'
    """
    p = require_exponent(p)
    require(
        p <= _LARGEST_EXPONENT,
        "p",
        p,
        f"at most {_LARGEST_EXPONENT:g}: there the escort is as good as softmax",
    )
    power = int(p) if float(p).is_integer() else float(p)
    optimiser = step_size if isinstance(step_size, optax.GradientTransformation) else None
    rate = None if optimiser else checked_rate(step_size, "step_size")

    def init(probs: Array) -> EscortState:
        direction = probs ** (1 / power)
        each_rate = None if rate is None else rate_of_starts(rate, probs)
        each_optimiser = optimiser_per_start(optimiser)[0](direction) if optimiser else None
        flips = jnp.zeros(probs.shape[-1], jnp.int64)
        return EscortState(direction, jnp.zeros_like(probs[:1]), flips, each_rate, each_optimiser)

    def update(state: EscortState, at: Evaluation) -> EscortState:
        u = state.direction
        # With ‖u‖_p = 1, π^{1−1/p} is |u|^{p−1}; at u = 0 the sign, and with it the gradient, is 0.
        gradient = power * at.visitation * jnp.sign(u) * jnp.abs(u) ** (power - 1) * at.advantage
        if optimiser is not None:
            return _through_optimiser(optimiser, state, gradient, power)
        # A step of θ is a step of u divided by ‖θ‖, and the gradient divides by ‖θ‖ once more.
        shrink = 1 / power**2 if scaled else jnp.exp(-2 * state.log_scale)
        moved = u + state.rate * (shrink * gradient)
        return _renormalised(state, moved, power)

    name = f"EPG({p:g})" if scaled or optimiser else f"EPG({p:g}), plain rate"
    return Method(name, init, lambda state: jnp.abs(state.direction) ** power, update, _flips)


def _through_optimiser(
    optimiser: Any, state: EscortState, gradient: Array, power: float | int
) -> EscortState:
    scale = jnp.exp(state.log_scale)
    theta = scale * state.direction
    _, update_each = optimiser_per_start(optimiser)
    updates, optimiser_state = update_each(-gradient / scale, state.optimiser, theta)
    moved = (theta + updates) / scale
    return _renormalised(state, moved, power)._replace(optimiser=optimiser_state)


def _renormalised(state: EscortState, moved: Array, power: float | int) -> EscortState:
    """Bring u back to ‖u‖_p = 1 and book its length and the signs that changed on the way."""
    # A huge step is divided by its largest entry first, or its p-th power would overflow and leave no policy at all.
    longest = jnp.max(jnp.abs(moved), axis=0, keepdims=True)
    unit = jnp.where(longest > 2.0 ** (500 / power), longest, 1.0)
    norm = unit * jnp.sum(jnp.abs(moved / unit) ** power, axis=0, keepdims=True) ** (1 / power)
    crossed = jnp.sum(moved * state.direction < 0, axis=tuple(range(moved.ndim - 1)), dtype=jnp.int64)
    return state._replace(
        direction=moved / norm, log_scale=state.log_scale + jnp.log(norm), flips=state.flips + crossed
    )


def _flips(state: EscortState) -> Array:
    return state.flips
