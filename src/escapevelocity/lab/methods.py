"""The update rules, each an init/update pair that reads like its equation.

A = Q − πᵀQ is the advantage, d the discounted visitation (1 in a bandit), all with actions on the first axis
and starts on the last. `step_size` is the rate η of plain ascent (a number, or one per start), or any Optax
optimiser, which then sees the negative direction as its gradient, one start at a time.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from escapevelocity.errors import UserError, require
from escapevelocity.health.gravity import Number, python_number
from escapevelocity.lab import _transforms as transforms
from escapevelocity.lab._transforms import Transform
from escapevelocity.lab.evaluation import Evaluation

StepSize = float | Any | optax.GradientTransformation
"""η > 0, an array of them (B,), or an Optax optimiser."""

Sampler = Callable[[Array, Evaluation], Evaluation]


class Method(NamedTuple):
    """One way to move a policy.

    Attributes:
        name: as in figures, for example "EPG(2)".
        init: policies (A, ..., B) -> state.
        policy: state -> policies.
        update: (state, evaluation of the state's policies) -> state.
        sign_flips: state -> how many parameters have crossed zero so far (B,), or None where signs mean nothing.
        temperature: τ of the entropy bonus −τ log π that the evaluation must contain; 0 for none.
        sample: replaces the exact evaluation by an estimate from one sampled action per state, or None.
    """

    name: str
    init: Callable[[Array], Any]
    policy: Callable[[Any], Array]
    update: Callable[[Any, Evaluation], Any]
    sign_flips: Callable[[Any], Array] | None = None
    temperature: float | int = 0.0
    sample: Sampler | None = None


class AscentState(NamedTuple):
    """Parameters θ (A, ..., B), and either η of each start (1, ..., B) or an optimiser's state; else None."""

    theta: Float[Array, "actions *rest"]
    rate: Any
    optimiser: Any


def spg(step_size: StepSize, temperature: Number = 1.0) -> Method:
    """Softmax policy gradient: θ += η·d·π·A/τ (Sutton et al. 2000; Mei et al. 2020, eq. 2).

    Args:
        step_size: η, η per start (B,), or an Optax optimiser.
        temperature: τ > 0 of the softmax.
    """
    temperature = require_positive(temperature, "temperature")

    def direction(at: Evaluation) -> Array:
        return at.visitation * at.probs * at.advantage / temperature

    return ascent("SPG", transforms.softmax(temperature), direction, step_size)


def npg(step_size: StepSize) -> Method:
    """Natural policy gradient: θ += η·A (Kakade 2001; Agarwal et al. 2021, lemma 15, where η is η/(1 − γ))."""
    return ascent("NPG", transforms.softmax(), lambda at: at.advantage, step_size)


def neurd(step_size: StepSize, threshold: Number | None = None) -> Method:
    """Neural replicator dynamics: θ += η·A; what is beyond ±β is not pushed further (Hennes et al. 2020, eq. 10).

    The last step may go beyond, and centring moves the best logit up while others rest at −β.

    Args:
        step_size: η, η per start (B,), or an Optax optimiser.
        threshold: β > 0 on mean-centred logits, or None for no limit.
    """
    if threshold is None:
        return npg(step_size)._replace(name="NeuRD")
    beta = require_positive(threshold, "threshold")
    softmax = transforms.softmax()

    def direction(at: Evaluation) -> Array:
        theta = jnp.log(jnp.maximum(at.probs, 1e-300))
        theta = theta - jnp.mean(theta, axis=0, keepdims=True)
        grows_beyond = ((theta >= beta) & (at.advantage > 0)) | ((theta <= -beta) & (at.advantage < 0))
        return jnp.where(grows_beyond, 0, at.advantage)

    return ascent(f"NeuRD({beta:g})", softmax, direction, step_size)


def gnpg(step_size: StepSize) -> Method:
    """Geometry-aware normalised gradient: θ += η·∇/‖∇‖₂ (Mei et al. 2021, arXiv 2105.06072, η = 1/6)."""

    def direction(at: Evaluation) -> Array:
        gradient = at.visitation * at.probs * at.advantage
        norm = per_start_norm(gradient)
        return gradient / jnp.where(norm > 0, norm, 1)

    return ascent("GNPG", transforms.softmax(), direction, step_size)


def inverse_probability(step_size: StepSize) -> Method:
    """The oracle rate: θ += (η/π(a*))·∇, with the best action of each state known."""

    def direction(at: Evaluation) -> Array:
        return at.visitation * at.probs * at.advantage / jnp.maximum(at.best_prob, 1e-300)

    return ascent("inverse-probability", transforms.softmax(), direction, step_size)


def entropy_regularised(step_size: StepSize, temperature: Number) -> Method:
    """Gradient of value + τ·entropy: θ += η·d·π·Ã, Ã from rewards r − τ log π (Mei et al. 2020b, eq. 17)."""
    temperature = require_positive(temperature, "temperature")
    return spg(step_size)._replace(name=f"entropy PG({temperature:g})", temperature=temperature)


def mirror_descent(step_size: StepSize) -> Method:
    """Mirror descent, π ∝ π·exp(η·Q): the proximal step with KL(π‖π_old)/η."""
    return ascent("mirror descent", transforms.softmax(), lambda at: at.action_values, step_size)


def kl_penalised(rate: Any) -> Method:
    """PPO's penalty solved exactly: π' = argmax ⟨π', A⟩ − KL(π‖π')/η (Schulman et al. 2017, eq. 8).

    Stationarity gives π'(a) = π(a)/(λ − η·(A(a) − max A)), with λ the root of Σ π' = 1. The state is the policy and η.
    """
    rate = checked_rate(rate, "rate")

    def init(probs: Array) -> tuple[Array, Array]:
        return probs, rate_of_starts(rate, probs)

    def update(state: tuple[Array, Array], at: Evaluation) -> tuple[Array, Array]:
        probs, each_rate = state
        # The maximiser may move on to an action that π gave up: π'(a*) stays above 0 as π(a*) → 0 where ηΔ > 1.
        probs = jnp.maximum(probs, 1e-300)
        scaled = each_rate * at.advantage
        # Zero at the best: the root may be as small as π(a*), next to ηA it would be lost to rounding.
        scaled = scaled - jnp.max(scaled, axis=0, keepdims=True)

        def total(root: Array) -> Array:
            return jnp.sum(probs / (root - scaled), axis=0, keepdims=True)

        # At λ = max(ηA + π) one term of the sum is already 1; at λ = 1 no denominator is below 1.
        low = jnp.max(scaled + probs, axis=0, keepdims=True)

        def halve(_: Any, ends: tuple[Array, Array]) -> tuple[Array, Array]:
            low, high = ends
            middle = jnp.sqrt(low) * jnp.sqrt(high)  # halves the logarithm; low * high could be 0
            above = total(middle) > 1
            return jnp.where(above, middle, low), jnp.where(above, high, middle)

        # from ln 1e300 to float64's last digit
        low, high = jax.lax.fori_loop(0, 60, halve, (low, jnp.ones_like(low)))
        new = probs / ((low + high) / 2 - scaled)
        return new / jnp.sum(new, axis=0, keepdims=True), each_rate

    return Method("KL-penalised", init, lambda state: state[0], update)


def delightful(step_size: StepSize, temperature: Number = 1.0) -> Method:
    """Delightful PG: each term gated by σ(A·(−log π)/temperature), no gradient through it (arXiv 2605.11908).

    θ += η·d·π·(wA − Σ_b π(b)w(b)A(b)); temperature 0 is the limit w = 1{A > 0}.
    """
    temperature = python_number(temperature)
    at_least_zero = isinstance(temperature, int | float) and 0 <= temperature < float("inf")
    require(at_least_zero, "temperature", temperature, "a finite number ≥ 0")

    def direction(at: Evaluation) -> Array:
        if temperature == 0:
            gate = jnp.where(at.outcome > 0, 1.0, 0.0)
        else:
            surprise = -jnp.log(jnp.maximum(at.probs, 1e-300))
            gate = jax.nn.sigmoid(at.outcome * surprise / temperature)
        gated = at.importance * gate * at.outcome
        return at.visitation * at.probs * (gated - jnp.sum(at.probs * gated, axis=0, keepdims=True))

    return ascent(f"delightful PG({temperature:g})", transforms.softmax(), direction, step_size)


def alternate(step_size: StepSize) -> Method:
    """Alternate estimator: θ(a_t) += η·(R_t − baseline), no other logit (Garg et al. 2022, eq. 9).

    Meant to be sampled (`sampled.sampled`). With the true baseline its mean, and its exact form, is SPG's.
    """

    def direction(at: Evaluation) -> Array:
        return at.visitation * at.probs * at.importance * at.outcome

    return ascent("alternate", transforms.softmax(), direction, step_size)


def tsallis(step_size: StepSize, alpha: Number) -> Method:
    """Policy gradient through the f-softargmax of a Tsallis divergence, uniform π_ref (arXiv 2601.12604).

    ∂(πᵀQ)/∂θ = h·(Q − hᵀQ/Σh) with h(a) = π(a)^{2−α} up to π_ref's constant: see `policy.FSoftargmax`.

    Args:
        step_size: η, η per start (B,), or an Optax optimiser.
        alpha: in (0, 1); α → 1 is softmax.
    """
    order = python_number(alpha)
    in_range = isinstance(order, int | float) and 0 < order < 1
    require(in_range, "alpha", alpha, "in (0, 1)")

    def direction(at: Evaluation) -> Array:
        h = at.probs ** (2 - order) * len(at.probs) ** (1 - order)
        weights = h / jnp.sum(h, axis=0, keepdims=True)
        return at.visitation * h * (at.advantage - jnp.sum(weights * at.advantage, axis=0, keepdims=True))

    return ascent(f"Tsallis({order:g})", transforms.tsallis(order), direction, step_size)


def ascent(
    name: str, transform: Transform, direction: Callable[[Evaluation], Array], step_size: StepSize
) -> Method:
    """A method that moves θ along `direction`: θ += η·direction, or through an Optax optimiser.

    Args:
        name: shown in tables and figures.
        transform: the pair policy -> θ and θ -> policy.
        direction: evaluation -> ascent direction, in the shape of θ.
        step_size: η, η per start (B,), or an Optax optimiser (run for each start on its own).
    """
    if isinstance(step_size, optax.GradientTransformation):
        init_each, update_each = optimiser_per_start(step_size)

        def init(probs: Array) -> AscentState:
            theta = transform.parameters(probs)
            return AscentState(theta, None, init_each(theta))

        def update(state: AscentState, at: Evaluation) -> AscentState:
            gradient = -jnp.broadcast_to(direction(at), state.theta.shape)
            updates, optimiser_state = update_each(gradient, state.optimiser, state.theta)
            return AscentState(state.theta + updates, None, optimiser_state)

    else:
        rate = checked_rate(step_size, "step_size")

        def init(probs: Array) -> AscentState:
            return AscentState(transform.parameters(probs), rate_of_starts(rate, probs), None)

        def update(state: AscentState, at: Evaluation) -> AscentState:
            return state._replace(theta=state.theta + state.rate * direction(at))

    return Method(name, init, lambda state: transform.probs(state.theta), update)


def optimiser_per_start(optimiser: optax.GradientTransformation) -> tuple[Callable, Callable]:
    """Return Optax's init and update for parameters (A, ..., B), each start with a state of its own."""

    def init(theta: Array) -> Any:
        return jax.vmap(optimiser.init, in_axes=-1, out_axes=-1)(theta)

    def update(gradient: Array, state: Any, theta: Array) -> tuple[Any, Any]:
        # Optax's own arithmetic mixes dtypes, where the caller may have strict promotion on.
        with jax.numpy_dtype_promotion("standard"):
            return jax.vmap(optimiser.update, in_axes=-1, out_axes=-1)(gradient, state, theta)

    return init, update


def per_start_norm(gradient: Array) -> Array:
    """‖∇‖₂ over everything but the starts, (1, ..., 1, B)."""
    axes = tuple(range(gradient.ndim - 1))
    # Scaled first: squares of gradients below 1e-154 would vanish, and deep in a well they are that small.
    scale = jnp.max(jnp.abs(gradient), axis=axes, keepdims=True)
    shares = gradient / jnp.where(scale > 0, scale, 1)
    return scale * jnp.sqrt(jnp.sum(shares**2, axis=axes, keepdims=True))


def checked_rate(rate: Any, field: str) -> np.ndarray:
    """Return η as an array () or (B,) of positive finite numbers, or raise `UserError`."""
    try:
        rates = np.asarray(rate, dtype=np.float64)
    except (TypeError, ValueError):
        raise UserError(f"{field} = {rate!r}: must be a rate > 0 or an Optax optimiser") from None
    valid = rates.ndim <= 1 and rates.size > 0 and bool(np.isfinite(rates).all() and (rates > 0).all())
    require(valid, field, rate, "a finite rate > 0, one such rate per start, or an Optax optimiser")
    return rates


def rate_of_starts(rate: np.ndarray, probs: Array) -> Array:
    """η () or (B,) as the part (1, ..., B) of a state, so that each start takes its own along."""
    starts = probs.shape[-1]
    if rate.shape not in ((), (starts,)):
        raise UserError(f"step_size holds {rate.size} rates: must be one rate, or {starts}, one per start")
    return jnp.broadcast_to(jnp.asarray(rate, probs.dtype), (*(1,) * (probs.ndim - 1), starts))


def require_positive(value: Any, field: str) -> float | int:
    """Return `value` as a number of Python, or raise `UserError` unless it is finite and > 0."""
    value = python_number(value)
    is_positive = isinstance(value, int | float) and 0 < value < float("inf")
    require(is_positive, field, value, "a finite number > 0")
    return value
