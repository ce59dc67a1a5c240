"""Distributions over continuous actions in a box: diagonal normals, squashed by tanh or clipped."""

import math
from collections.abc import Sequence
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from escapevelocity.errors import require
from escapevelocity.policy.distribution import ActionDistribution, require_last_axis

StdRule = Literal["softplus", "exp"]

_MIN_STD = 0.01
_SOFTPLUS_SHIFT = math.log(math.expm1(1.0 - _MIN_STD))  # so that std = 1 for an output of 0
_LOG_STD_LIMIT = math.log(1e30)  # keeps std positive and finite in float32
_HALF_LOG_TWO_PI = 0.5 * math.log(2.0 * math.pi)


class _Normal(ActionDistribution):
    """What the two families share: independent normals, params = [mean, std] on the last axis."""

    low: tuple[float, ...] = eqx.field(static=True)
    high: tuple[float, ...] = eqx.field(static=True)
    std: StdRule = eqx.field(static=True)

    def __init__(self, low: Sequence[float] | np.ndarray, high: Sequence[float] | np.ndarray, std: StdRule):
        require(np.ndim(low) == 1 and np.size(low) > 0, "low", low, "one lower bound per action dimension")
        require(
            np.shape(high) == np.shape(low), "high", high, f"one upper bound for each of low's {np.size(low)}"
        )
        require(std in ("softplus", "exp"), "std", std, "'softplus' or 'exp'")
        self.low = tuple(float(bound) for bound in low)
        self.high = tuple(float(bound) for bound in high)
        self.std = std
        for i, (lowest, highest) in enumerate(zip(self.low, self.high, strict=True)):
            require(lowest < highest, f"low[{i}]", lowest, f"below high[{i}] = {highest}")

    @property
    def action_dim(self) -> int:
        """Number of action dimensions, A."""
        return len(self.low)

    @property
    def num_outputs(self) -> int:
        """2A: the means, then what `std` turns into standard deviations."""
        return 2 * self.action_dim

    @property
    def num_params(self) -> int:
        """2A: the means, then the standard deviations."""
        return 2 * self.action_dim

    def params(self, outputs: Float[Array, "*batch outputs"]) -> Float[Array, "*batch params"]:
        """Network outputs (*batch, 2A) to [mean, std] (*batch, 2A).

        The rule "softplus" is std = softplus(x + ln(e^0.99 − 1)) + 0.01, which is 1 at x = 0 and at least
        0.01 (Moalla et al. 2024, their code). The rule "exp" is std = exp(x), x the log-std, as in CleanRL
        and SB3; the log-std is held within ±ln 1e30 so that std stays a positive finite float32.
        """
        require_last_axis(outputs, self.num_outputs, "outputs")
        mean, x = jnp.split(outputs, 2, axis=-1)
        if self.std == "softplus":
            std = jax.nn.softplus(x + _SOFTPLUS_SHIFT) + _MIN_STD
        else:
            std = jnp.exp(jnp.clip(x, -_LOG_STD_LIMIT, _LOG_STD_LIMIT))
        return jnp.concatenate([mean, std], axis=-1)

    def draw_noise(self, key: Array, shape: tuple[int, ...], dtype: Any = float) -> Float[Array, "..."]:
        """Draw standard normal noise of shape (*shape, A)."""
        return jax.random.normal(key, (*shape, self.action_dim), dtype)

    def sample(
        self, params: Float[Array, "*batch params"], noise: Float[Array, "*batch actions"]
    ) -> Float[Array, "*batch actions"]:
        """mean + std · noise: the normal's own sample, before it is squashed or clipped."""
        mean, std = self._mean_and_std(params)
        return mean + std * noise

    def mode(self, params: Float[Array, "*batch params"]) -> Float[Array, "*batch actions"]:
        """The normal's mean (squashed by tanh, it is the median of the environment action, not its mode)."""
        mean, _ = self._mean_and_std(params)
        return mean

    def base_entropy(self, params: Float[Array, "*batch params"]) -> Float[Array, "*batch"]:
        """Entropy of the normal, Σ (½ + ½ log 2π + log std)."""
        _, std = self._mean_and_std(params)
        return jnp.sum(jnp.log(std) + (0.5 + _HALF_LOG_TWO_PI), axis=-1)

    def kl(
        self, params_old: Float[Array, "*batch params"], params_new: Float[Array, "*batch params"]
    ) -> Float[Array, "*batch"]:
        """KL between the normals, Σ log(s_new/s_old) + (s_old² + (m_old − m_new)²)/(2 s_new²) − ½.

        A squashing that both share leaves it unchanged.
        """
        mean_old, std_old = self._mean_and_std(params_old)
        mean_new, std_new = self._mean_and_std(params_new)
        # In d = log(s_old/s_new) the std part is (e^{2d} − 1)/2 − d, which keeps its digits where d is small.
        d = jnp.log(std_old) - jnp.log(std_new)
        shift = (mean_old - mean_new) / std_new
        return jnp.sum(0.5 * jnp.expm1(2 * d) - d + 0.5 * jnp.square(shift), axis=-1)

    def _mean_and_std(self, params: Array) -> tuple[Array, Array]:
        require_last_axis(params, self.num_params, "params")
        mean, std = jnp.split(params, 2, axis=-1)
        return mean, std

    def _base_log_densities(self, params: Array, action: Array) -> Array:
        """Log-density of the normal, per action dimension."""
        mean, std = self._mean_and_std(params)
        return -0.5 * jnp.square((action - mean) / std) - jnp.log(std) - _HALF_LOG_TWO_PI


class TanhNormal(_Normal):
    """A diagonal normal u squashed into a box: environment action = low + (high − low)(tanh(u) + 1)/2.

    The action that is sampled and recorded is the latent u, so that `log_prob` needs no inverse tanh and
    stays exact where tanh saturates. Source: Haarnoja et al. 2018, appendix C; Moalla et al. 2024 for the std
    rule.

    Example:
        >>> import jax.numpy as jnp
        >>> policy = TanhNormal(low=[-2.0], high=[2.0])
        >>> params = policy.params(jnp.zeros(2))
        >>> print(jnp.round(params, 6))
        [0. 1.]
        >>> print(policy.to_environment(jnp.array([50.0])))
        [2.]
    """

    def __init__(
        self,
        low: Sequence[float] | np.ndarray,
        high: Sequence[float] | np.ndarray,
        std: StdRule = "softplus",
    ):
        """Make the family.

        Args:
            low: finite lower bounds, shape (A,), in the environment's units.
            high: finite upper bounds, shape (A,), each above its `low`.
            std: how outputs become standard deviations, "softplus" or "exp"; see `params`.

        Raises:
            UserError: on bounds that are not finite or not in order, or an unknown rule.
        """
        super().__init__(low, high, std)
        for field, bounds in (("low", self.low), ("high", self.high)):
            for i, bound in enumerate(bounds):
                accepted = "finite to squash into; use DiagonalNormal for unbounded actions"
                require(math.isfinite(bound), f"{field}[{i}]", bound, accepted)

    def to_environment(self, action: Float[Array, "*batch actions"]) -> Float[Array, "*batch actions"]:
        """Squash the latent action into [low, high]."""
        low, high = np.asarray(self.low), np.asarray(self.high)
        squashed = _like(low / 2 + high / 2, action) + _like(high / 2 - low / 2, action) * jnp.tanh(action)
        # Rounding may step past a bound that a float does not hold exactly, and simulators reject that.
        return jnp.clip(squashed, _like(low, action), _like(high, action))

    def log_prob(
        self, params: Float[Array, "*batch params"], action: Float[Array, "*batch actions"]
    ) -> Float[Array, "*batch"]:
        """Log-density of the *environment* action that the latent `action` is squashed to."""
        # log(1 − tanh² u), without the cancellation
        log_slope = 2.0 * (math.log(2.0) - action - jax.nn.softplus(-2.0 * action))
        log_half_range = sum(
            math.log(high / 2 - low / 2) for low, high in zip(self.low, self.high, strict=True)
        )
        return jnp.sum(self._base_log_densities(params, action) - log_slope, axis=-1) - log_half_range

    def entropy(
        self, params: Float[Array, "*batch params"], noise: Float[Array, "*batch actions"]
    ) -> Float[Array, "*batch"]:
        """One-sample estimate −log_prob(sample(params, noise)), unbiased, with its pathwise gradient."""
        return -self.log_prob(params, self.sample(params, noise))


class DiagonalNormal(_Normal):
    """A diagonal normal in the environment's units; what leaves the box is clipped before it is sent there.

    `log_prob` is that of the unclipped action, as in CleanRL and SB3. Bounds may be infinite.

    Example:
        >>> import jax.numpy as jnp
        >>> policy = DiagonalNormal(low=[-1.0], high=[1.0])
        >>> print(policy.to_environment(jnp.array([3.0])))
        [1.]
    """

    def __init__(
        self,
        low: Sequence[float] | np.ndarray,
        high: Sequence[float] | np.ndarray,
        std: StdRule = "softplus",
    ):
        """Make the family.

        Args:
            low: lower bounds, shape (A,), −inf where there is none.
            high: upper bounds, shape (A,), +inf where there is none.
            std: how outputs become standard deviations, "softplus" or "exp"; see `params`.

        Raises:
            UserError: on bounds that are not in order, or an unknown rule.
        """
        super().__init__(low, high, std)

    def to_environment(self, action: Float[Array, "*batch actions"]) -> Float[Array, "*batch actions"]:
        """Clip the action to [low, high]."""
        return jnp.clip(action, _like(self.low, action), _like(self.high, action))

    def log_prob(
        self, params: Float[Array, "*batch params"], action: Float[Array, "*batch actions"]
    ) -> Float[Array, "*batch"]:
        """Log-density of the unclipped action, summed over dimensions."""
        return jnp.sum(self._base_log_densities(params, action), axis=-1)

    def entropy(
        self, params: Float[Array, "*batch params"], noise: Float[Array, "*batch actions"] | None = None
    ) -> Float[Array, "*batch"]:
        """Exact entropy of the unclipped action; `noise` is ignored."""
        return self.base_entropy(params)


def _like(bounds: Sequence[float] | np.ndarray, action: Array) -> Array:
    """`bounds` (A,) in the shape and dtype of `action` (*batch, A)."""
    return jnp.broadcast_to(jnp.asarray(bounds, action.dtype), action.shape)
