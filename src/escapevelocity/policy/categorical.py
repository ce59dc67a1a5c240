"""Distributions over finitely many actions."""

import math
from abc import abstractmethod
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Int32

from escapevelocity.errors import require
from escapevelocity.policy.distribution import ActionDistribution, require_last_axis


class Categorical(ActionDistribution):
    """Base of the families over actions 0, …, K − 1: a family says `log_probs`, the rest follows from it.

    A probability of exactly 0 (log-probability −inf) is allowed: it adds nothing to the entropy, and its
    gradient is finite.
    """

    num_actions: eqx.AbstractVar[int]

    @abstractmethod
    def log_probs(self, params: Float[Array, "*batch actions"]) -> Float[Array, "*batch actions"]:
        """Log-probabilities of all actions, in nats."""

    def probs(self, params: Float[Array, "*batch actions"]) -> Float[Array, "*batch actions"]:
        """Probabilities of all actions."""
        return jnp.exp(self.log_probs(params))

    @property
    def num_outputs(self) -> int:
        """One output per action."""
        return self.num_actions

    @property
    def num_params(self) -> int:
        """One parameter per action."""
        return self.num_actions

    def draw_noise(self, key: Array, shape: tuple[int, ...], dtype: Any = float) -> Float[Array, "..."]:
        """Draw Gumbel noise of shape (*shape, K).

        It is drawn in JAX's "high" mode: the default's float32 tail lies on a grid of 2^−23, too coarse for
        actions of probability below about 1e-7, and those are the way out of a softmax gravity well.
        """
        return jax.random.gumbel(key, (*shape, self.num_actions), dtype, mode="high")

    def sample(
        self, params: Float[Array, "*batch actions"], noise: Float[Array, "*batch actions"]
    ) -> Int32[Array, "*batch"]:
        """Draw an action by the Gumbel-max trick: argmax(log p + noise) (Maddison et al. 2014)."""
        return jax.lax.argmax(self.log_probs(params) + noise, noise.ndim - 1, jnp.int32)

    def mode(self, params: Float[Array, "*batch actions"]) -> Int32[Array, "*batch"]:
        """The most probable action; the first of them on a tie."""
        return jax.lax.argmax(self.log_probs(params), params.ndim - 1, jnp.int32)

    def to_environment(self, action: Int[Array, "*batch"]) -> Int[Array, "*batch"]:
        """The action itself."""
        return action

    def log_prob(
        self, params: Float[Array, "*batch actions"], action: Int[Array, "*batch"]
    ) -> Float[Array, "*batch"]:
        """log p(action); NaN for an action of K or more."""
        return jnp.take_along_axis(self.log_probs(params), action[..., None], axis=-1)[..., 0]

    def entropy(
        self, params: Float[Array, "*batch actions"], noise: Float[Array, "*batch actions"] | None = None
    ) -> Float[Array, "*batch"]:
        """Exact entropy; `noise` is ignored."""
        return self.base_entropy(params)

    def base_entropy(self, params: Float[Array, "*batch actions"]) -> Float[Array, "*batch"]:
        """−Σ p log p, with 0 · log 0 = 0."""
        probs, log_probs = self.probs(params), self.log_probs(params)
        return -jnp.sum(probs * jnp.where(probs > 0, log_probs, 0), axis=-1)

    def kl(
        self, params_old: Float[Array, "*batch actions"], params_new: Float[Array, "*batch actions"]
    ) -> Float[Array, "*batch"]:
        """Σ p_old (log p_old − log p_new); infinite when an action has lost all its probability."""
        probs, old = self.probs(params_old), self.log_probs(params_old)
        return jnp.sum(probs * jnp.where(probs > 0, old - self.log_probs(params_new), 0), axis=-1)


class Softmax(Categorical):
    """p(a) ∝ exp(logits_a / temperature); `params` are the logits.

    Example:
        >>> import jax.numpy as jnp
        >>> policy = Softmax(num_actions=2)
        >>> logits = jnp.log(jnp.array([0.75, 0.25]))
        >>> print(jnp.exp(policy.log_probs(logits)))
        [0.75 0.25]
        >>> int(policy.mode(logits))
        0
    """

    num_actions: int = eqx.field(static=True)
    temperature: float = eqx.field(static=True)

    def __init__(self, num_actions: int | np.integer, temperature: float = 1.0):
        """Make the family.

        Args:
            num_actions: how many actions there are, K ≥ 1.
            temperature: divides the logits; in [1e-30, 1e30] (what float32 holds), 1 for PPO.

        Raises:
            UserError: if either is out of range.
        """
        is_count = isinstance(num_actions, int | np.integer) and int(num_actions) >= 1
        require(is_count, "num_actions", num_actions, "an integer of at least 1")
        in_range = math.isfinite(temperature) and 1e-30 <= temperature <= 1e30
        require(in_range, "temperature", temperature, "a number in [1e-30, 1e30]")
        self.num_actions = int(num_actions)
        self.temperature = float(temperature)

    def params(self, outputs: Float[Array, "*batch actions"]) -> Float[Array, "*batch actions"]:
        """The network's outputs are the logits."""
        require_last_axis(outputs, self.num_outputs, "outputs")
        return outputs

    def log_probs(self, params: Float[Array, "*batch actions"]) -> Float[Array, "*batch actions"]:
        """log softmax(logits / temperature); a logit of −inf masks its action."""
        require_last_axis(params, self.num_params, "params")
        # Shifted before it is divided, so that large logits over a small temperature do not overflow.
        highest = jax.lax.stop_gradient(jnp.max(params, axis=-1, keepdims=True))
        return jax.nn.log_softmax((params - highest) / self.temperature, axis=-1)
