"""What every family of action distributions answers: the one face that trainers and the lab see."""

from abc import abstractmethod
from typing import Any

import equinox as eqx
from jaxtyping import Array, Float, Num

from escapevelocity.errors import require


class ActionDistribution(eqx.Module):
    """A family of distributions over actions, p(action | params).

    The object holds hyper-parameters only (all static, so it is hashable and has no array leaves); what a
    state decides is the parameter array `params` of shape (*batch, num_params), one row per state. That array
    is all there is to a policy's output: it can be recorded, compared, batched and sent to the host. Every
    method is pure, works under jit, vmap and grad, for any leading batch shape, and keeps the dtype of
    `params`.

    An *action* here is what the distribution draws and what `log_prob` takes. What the simulator is given is
    `to_environment(action)`; the two differ for bounded continuous actions.
    """

    @property
    @abstractmethod
    def num_outputs(self) -> int:
        """How many outputs per state the network has to supply."""

    @property
    @abstractmethod
    def num_params(self) -> int:
        """Length of the last axis of `params`."""

    @abstractmethod
    def params(self, outputs: Float[Array, "*batch outputs"]) -> Float[Array, "*batch params"]:
        """Turn network outputs (*batch, num_outputs) into distribution parameters (*batch, num_params)."""

    @abstractmethod
    def draw_noise(self, key: Array, shape: tuple[int, ...], dtype: Any = float) -> Float[Array, "..."]:
        """Draw the standard noise that `sample` turns into actions.

        Args:
            key: a JAX PRNG key.
            shape: batch shape of the samples.
            dtype: float dtype of the noise; the default is float32, or float64 inside `jax.enable_x64(True)`.

        Returns:
            Noise of shape (*shape, noise_dim).
        """

    @abstractmethod
    def sample(
        self, params: Float[Array, "*batch params"], noise: Float[Array, "*batch noise"]
    ) -> Num[Array, "..."]:
        """Turn noise into an action: deterministic, and differentiable where the action is continuous."""

    @abstractmethod
    def mode(self, params: Float[Array, "*batch params"]) -> Num[Array, "..."]:
        """The greedy action, as it is used for evaluation."""

    @abstractmethod
    def to_environment(self, action: Num[Array, "..."]) -> Num[Array, "..."]:
        """Turn an action into what the environment's `step` accepts."""

    @abstractmethod
    def log_prob(
        self, params: Float[Array, "*batch params"], action: Num[Array, "..."]
    ) -> Float[Array, "*batch"]:
        """Log-probability (density, for continuous actions) of an action, in nats."""

    @abstractmethod
    def entropy(
        self, params: Float[Array, "*batch params"], noise: Float[Array, "*batch noise"]
    ) -> Float[Array, "*batch"]:
        """Entropy in nats: exact in closed form (noise is then ignored), else a one-sample estimate."""

    @abstractmethod
    def base_entropy(self, params: Float[Array, "*batch params"]) -> Float[Array, "*batch"]:
        """Entropy in nats, in closed form, of the distribution before any squashing."""

    @abstractmethod
    def kl(
        self, params_old: Float[Array, "*batch params"], params_new: Float[Array, "*batch params"]
    ) -> Float[Array, "*batch"]:
        """Exact KL(old ‖ new) in nats, of the distributions before any squashing."""


def require_last_axis(array: Array, size: int, field: str) -> None:
    """Raise `UserError` unless the last axis of `array` has `size` entries (static, so also under jit)."""
    accepted = f"an array whose last axis has {size} entries"
    require(array.ndim > 0 and array.shape[-1] == size, f"{field}.shape", array.shape, accepted)
