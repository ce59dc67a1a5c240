"""The f-softargmax of a Tsallis divergence: a policy with polynomial instead of exponential tails."""

import math
from collections.abc import Sequence
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from escapevelocity.errors import require
from escapevelocity.policy.categorical import Categorical
from escapevelocity.policy.distribution import require_last_axis

_NEWTON_STEPS = 12  # 9 reach float64 rounding for 300 actions at |θ| up to 1e6 and π_ref down to 1e-7
_SUM_TOLERANCE = 1e-6


class FSoftargmax(Categorical):
    """π = argmax over the simplex of ⟨π, θ⟩ − D_f(π ‖ π_ref), D_f a Tsallis divergence; `params` are θ.

    D_f(π ‖ q) = Σ q f(π/q) with f(u) = (u^α − 1 − α(u − 1)) / (α(α − 1)) and 0 < α < 1, so that

        π(a) = q(a) · [1 + (1 − α)(τ − θ(a))]^{−1/(1−α)},   τ such that Σπ = 1.

    α → 1 gives softmax (with q as prior). A smaller α has heavier tails: a logit that lies far below the
    best costs its action a power of the distance, not an exponential. The derivative comes from the implicit
    function theorem: ∂π/∂θ = diag(w) − w wᵀ/Σw with w(a) = π(a) · (π(a)/q(a))^{1−α}. θ(a) = −inf masks a.

    Source: Labbi et al. 2026, arXiv 2601.12604; Roulet et al. 2025, "Loss functions and operators generated
    by f-divergences", for the operator and its root-finding.

    Example:
        >>> import jax.numpy as jnp
        >>> policy = FSoftargmax(num_actions=2, alpha=0.5)
        >>> print(policy.probs(jnp.array([1.0, 1.0])))
        [0.5 0.5]
    """

    num_actions: int = eqx.field(static=True)
    alpha: float = eqx.field(static=True)
    reference: tuple[float, ...] = eqx.field(static=True)

    def __init__(
        self,
        num_actions: int | np.integer,
        alpha: float,
        reference: Sequence[float] | np.ndarray | None = None,
    ):
        """Make the family.

        Args:
            num_actions: how many actions there are, K ≥ 1.
            alpha: order of the divergence, in (0, 1).
            reference: π_ref, K positive probabilities that sum to 1; uniform when not given.

        Raises:
            UserError: if any is out of range.
        """
        is_count = isinstance(num_actions, int | np.integer) and int(num_actions) >= 1
        require(is_count, "num_actions", num_actions, "an integer of at least 1")
        require(0 < alpha < 1, "alpha", alpha, "a number strictly between 0 and 1")
        self.num_actions = int(num_actions)
        self.alpha = float(alpha)
        if reference is None:
            reference = [1 / self.num_actions] * self.num_actions
        one_each = np.shape(reference) == (self.num_actions,)
        require(one_each, "reference", reference, f"one probability for each of {num_actions} actions")
        self.reference = tuple(float(q) for q in reference)
        positive = all(q > 0 for q in self.reference)
        sums_to_one = abs(sum(self.reference) - 1) <= _SUM_TOLERANCE
        require(positive and sums_to_one, "reference", reference, "positive probabilities that sum to 1")

    def params(self, outputs: Float[Array, "*batch actions"]) -> Float[Array, "*batch actions"]:
        """The network's outputs are θ."""
        require_last_axis(outputs, self.num_outputs, "outputs")
        return outputs

    def log_probs(self, params: Float[Array, "*batch actions"]) -> Float[Array, "*batch actions"]:
        """log π, in the dtype of `params`."""
        require_last_axis(params, self.num_params, "params")
        return _log_f_softargmax(self.alpha, self.reference, params)


@partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _log_f_softargmax(alpha: float, reference: tuple[float, ...], theta: Array) -> Array:
    """log π, with the derivative below instead of one through the root-finding."""
    c = 1 - alpha
    log_reference = _log_reference(reference, theta)
    d = jnp.max(theta, axis=-1, keepdims=True) - theta
    x = _log_normaliser(c, log_reference, d)
    # What rounding has left of the root goes into log_softmax's normaliser.
    return jax.nn.log_softmax(log_reference - jnp.log1p(c * d * jnp.exp(-c * x)) / c, axis=-1)


@partial(jax.jit, static_argnums=0)  # or each call outside jit would compile the loop anew
def _log_normaliser(c: float, log_reference: Array, d: Array) -> Array:
    """x = log(z)/c of z = 1 + c(τ − max θ) by Newton's method, from d = max θ − θ and c = 1 − α.

    The power mean (Σ q (z + c·d)^{−1/c})^{−c} − 1 is increasing and concave in z. So Newton's method, started
    below the root (where the best action alone has mass 1), climbs to it without overshooting. In x nothing
    cancels, neither as c → 0, where the powers become exponentials, nor as c → 1, where z may be tiny.
    """
    start = jnp.max(jnp.where(d == 0, log_reference, -math.inf), axis=-1, keepdims=True)

    def newton(_: Array, x: Array) -> Array:
        distance = c * d * jnp.exp(-c * x)
        log_pi = log_reference - x - jnp.log1p(distance) / c
        log_sum = jax.nn.logsumexp(log_pi, axis=-1, keepdims=True)
        slope = jnp.sum(jnp.exp(log_pi - log_sum) / (1 + distance), axis=-1, keepdims=True)
        return x + jnp.log1p(jnp.expm1(c * log_sum) / slope) / c

    return jax.lax.fori_loop(0, _NEWTON_STEPS, newton, start)


@_log_f_softargmax.defjvp
def _implicit_derivative(alpha, reference, primals, tangents):
    """d log π = (π/q)^{1−α} (dθ − dτ), and dτ keeps Σπ = 1."""
    (theta,), (d_theta,) = primals, tangents
    log_pi = _log_f_softargmax(alpha, reference, theta)
    slope = jnp.exp((1 - alpha) * (log_pi - _log_reference(reference, theta)))
    weights = jnp.exp(log_pi) * slope
    d_tau = jnp.sum(weights * d_theta, axis=-1, keepdims=True) / jnp.sum(weights, axis=-1, keepdims=True)
    return log_pi, slope * (d_theta - d_tau)


def _log_reference(reference: tuple[float, ...], theta: Array) -> Array:
    """log π_ref in the shape and dtype of `theta`."""
    return jnp.broadcast_to(jnp.asarray(np.log(reference), theta.dtype), theta.shape)
