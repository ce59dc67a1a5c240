"""The escort transform: probabilities as powers of the parameters, so that rare actions keep a gradient."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from escapevelocity.errors import require
from escapevelocity.policy.categorical import Categorical
from escapevelocity.policy.distribution import require_last_axis

FLOOR = 1e-12
"""Inside logarithms |θ| counts as at least this share of the state's largest |θ|."""


class Escort(Categorical):
    """π(a) = |θ(a)|^p / ‖θ‖_p^p; `params` are θ, of any sign and scale.

    Neither the scale of θ nor its signs change the policy. Where softmax scales the gradient of an action by
    π(a), the escort scales it by π(a)^{1−1/p}: p = 1 is the most aggressive, p → ∞ tends to softmax.

    Probabilities are exact, 0 at θ(a) = 0. Inside logarithms |θ| is floored at 1e-12 of the state's largest
    |θ|, without a gradient below the floor, so that log-probabilities and ratios are always finite. θ = 0
    throughout, where the transform is undefined, counts as the uniform policy without a gradient. Entries
    should be 0 or within 1e±30 (what float32 can divide by).

    Source: Mei et al. 2020, "Escaping the Gravitational Pull of Softmax", NeurIPS, definition 2.

    Example:
        >>> import jax.numpy as jnp
        >>> policy = Escort(num_actions=3, p=2.0)
        >>> print(policy.probs(jnp.array([2.0, -1.0, 0.0])))
        [0.8 0.2 0. ]
    """

    num_actions: int = eqx.field(static=True)
    p: float = eqx.field(static=True)

    def __init__(self, num_actions: int | np.integer, p: float | int):
        """Make the family.

        Args:
            num_actions: how many actions there are, K ≥ 1.
            p: the power; finite and at least 1.

        Raises:
            UserError: if either is out of range.
        """
        is_count = isinstance(num_actions, int | np.integer) and int(num_actions) >= 1
        require(is_count, "num_actions", num_actions, "an integer of at least 1")
        require_power(p)
        self.num_actions = int(num_actions)
        self.p = float(p)

    def params(self, outputs: Float[Array, "*batch actions"]) -> Float[Array, "*batch actions"]:
        """θ = 1 + outputs, so that a head with small weights starts from the uniform policy."""
        require_last_axis(outputs, self.num_outputs, "outputs")
        return 1 + outputs

    def probs(self, params: Float[Array, "*batch actions"]) -> Float[Array, "*batch actions"]:
        """|θ|^p / Σ|θ|^p, exactly 0 where θ is."""
        require_last_axis(params, self.num_params, "params")
        magnitudes, largest = scaled_magnitudes(params)
        powers = jnp.where(largest > 0, magnitudes**self.p, 1)
        return powers / jnp.sum(powers, axis=-1, keepdims=True)

    def log_probs(self, params: Float[Array, "*batch actions"]) -> Float[Array, "*batch actions"]:
        """p · log|θ| − log Σ|θ|^p with the floor inside the logarithms: finite at θ = 0."""
        require_last_axis(params, self.num_params, "params")
        magnitudes, _ = scaled_magnitudes(params)
        floored = jnp.where(magnitudes > FLOOR, magnitudes, FLOOR)
        return jax.nn.log_softmax(self.p * jnp.log(floored), axis=-1)


def scaled_magnitudes(theta: Float[Array, "*batch actions"]) -> tuple[Array, Array]:
    """(|θ| / max|θ|, max|θ|), the maximum without a gradient; 0 and 0 where θ = 0 throughout.

    The escort does not see the scale of θ, so its gradients come out right when the scale counts as constant.
    Divided by it, no power of |θ| overflows.
    """
    largest = jax.lax.stop_gradient(jnp.max(jnp.abs(theta), axis=-1, keepdims=True))
    # |θ| with sgn 0 = 0 as its derivative at 0, where JAX's abs has 1: for p = 1 nothing else makes it 0.
    magnitudes = theta * jax.lax.stop_gradient(jnp.sign(theta))
    return magnitudes / jnp.where(largest > 0, largest, 1), largest


def require_power(p: float | int) -> None:
    """Raise `UserError` unless p is a finite number of at least 1."""
    require(math.isfinite(p) and p >= 1, "p", p, "a finite number of at least 1")
