"""Cross-entropy for classifiers whose output layer is a softmax or an escort transform."""

from abc import abstractmethod
from typing import cast

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from escapevelocity.errors import require
from escapevelocity.policy.escort import FLOOR, require_power, scaled_magnitudes


class CrossEntropy(eqx.Module):
    """−Σ y log π for outputs of a family; hyper-parameters only, and the derivative is the closed form.

    For one-hot targets it equals KL(y ‖ π). Both the loss and the gradient keep their relative precision as
    π approaches a one-hot target, down to the smallest float, where −log π and π − y would round to 0.
    """

    def __call__(
        self, outputs: Float[Array, "*batch classes"], targets: Float[Array, "*batch classes"]
    ) -> Float[Array, "*batch"]:
        """The loss per sample, in nats.

        Args:
            outputs: logits, or θ of an escort transform, shape (*batch, K).
            targets: one-hot or soft labels of the same shape, each row a distribution.

        Returns:
            Losses of shape (*batch).

        Raises:
            UserError: if the shapes differ.
        """
        accepted = f"that of the outputs, {outputs.shape}"
        require(targets.shape == outputs.shape, "targets.shape", targets.shape, accepted)
        return _cross_entropy(self, outputs, targets)

    @abstractmethod
    def gradient(
        self, outputs: Float[Array, "*batch classes"], targets: Float[Array, "*batch classes"]
    ) -> Float[Array, "*batch classes"]:
        """The loss's derivative with respect to `outputs`, in closed form, shape (*batch, K)."""

    @abstractmethod
    def _log_weights(self, outputs: Array) -> Array:
        """log π up to a constant per row."""


class SoftmaxCrossEntropy(CrossEntropy):
    """The usual cross-entropy, of π = softmax(logits).

    Example:
        >>> import jax.numpy as jnp
        >>> loss = SoftmaxCrossEntropy()
        >>> print(loss.gradient(jnp.zeros(2), jnp.array([1.0, 0.0])))
        [-0.5  0.5]
    """

    def gradient(
        self, outputs: Float[Array, "*batch classes"], targets: Float[Array, "*batch classes"]
    ) -> Float[Array, "*batch classes"]:
        """π − y."""
        return _residual(outputs, targets)

    def _log_weights(self, outputs: Array) -> Array:
        return outputs


class EscortCrossEntropy(CrossEntropy):
    """Cross-entropy of the escort transform π(a) = |θ(a)|^p / Σ|θ|^p.

    Where the loss of a softmax falls as 1/t under gradient flow, this one falls as t^{−p/(p−2)} for p > 2,
    exponentially for p = 2, and to zero in finite time for p < 2 ("softmax damping"; Mei et al. 2020, section
    4). A classifier should start near θ = 1 in every class, not near 0.

    |θ| is floored at 1e-12 of the row's largest, without a gradient below the floor (see `Escort`): loss and
    gradient are finite at θ = 0, and the loss does not see the scale of θ.

    Example:
        >>> import jax.numpy as jnp
        >>> loss = EscortCrossEntropy(p=2)
        >>> print(loss.gradient(jnp.array([1.0, -1.0, 0.0]), jnp.array([1.0, 0.0, 0.0])))
        [-1. -1.  0.]
    """

    p: float = eqx.field(static=True)

    def __init__(self, p: float | int):
        """Make the loss.

        Args:
            p: the power; finite and at least 1.

        Raises:
            UserError: if it is out of range.
        """
        require_power(p)
        self.p = float(p)

    def gradient(
        self, outputs: Float[Array, "*batch classes"], targets: Float[Array, "*batch classes"]
    ) -> Float[Array, "*batch classes"]:
        """(p/θ)(π − y), and 0 below the floor."""
        magnitudes, _ = scaled_magnitudes(outputs)
        above = magnitudes > FLOOR
        residual = _residual(self._log_weights(outputs), targets)
        return jnp.where(above, self.p * (residual / jnp.where(above, outputs, 1)), 0)

    def _log_weights(self, outputs: Array) -> Array:
        magnitudes, _ = scaled_magnitudes(outputs)
        return self.p * jnp.log(jnp.where(magnitudes > FLOOR, magnitudes, FLOOR))


def _split(log_weights: Array) -> tuple[Array, Array, Array]:
    """(log-weights relative to the largest, which row entry that is, the sum of the other weights)."""
    first = jnp.argmax(log_weights, axis=-1, keepdims=True)
    is_largest = first == jax.lax.broadcasted_iota(first.dtype, log_weights.shape, log_weights.ndim - 1)
    shifted = log_weights - jnp.max(log_weights, axis=-1, keepdims=True)
    rest = jnp.sum(jnp.where(is_largest, 0, jnp.exp(shifted)), axis=-1, keepdims=True)
    return shifted, is_largest, rest


def _log_probs(log_weights: Array) -> Array:
    """Log-probabilities; of the likeliest class with its relative precision, −log(1 + rest)."""
    shifted, _, rest = _split(log_weights)
    return shifted - jnp.log1p(rest)


def _residual(log_weights: Array, targets: Array) -> Array:
    """π − y (π Σy − y, should a row not sum to one), from 1 − π and 1 − y where those are the small ones."""
    shifted, is_largest, rest = _split(log_weights)
    probs = jnp.exp(shifted - jnp.log1p(rest))
    complement = jnp.where(is_largest, rest / (1 + rest), 1 - probs)
    residual = jnp.where(targets > 0.5, (1 - targets) - complement, probs - targets)
    return residual + probs * (jnp.sum(targets, axis=-1, keepdims=True) - 1)


@jax.custom_jvp
def _cross_entropy(loss: CrossEntropy, outputs: Array, targets: Array) -> Array:
    log_probs = _log_probs(loss._log_weights(outputs))
    # A class that is not the target's adds nothing, even at log-probability −inf.
    return -jnp.sum(jnp.where(targets != 0, targets * log_probs, 0), axis=-1)


@_cross_entropy.defjvp
def _cross_entropy_derivative(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    loss, outputs, targets = cast(tuple[CrossEntropy, Array, Array], primals)
    _, d_outputs, d_targets = tangents
    # Never −inf: in forward mode a masked class meets a tangent of 0, and the product would be NaN.
    log_probs = jnp.maximum(_log_probs(loss._log_weights(outputs)), jnp.finfo(outputs.dtype).min)
    change = loss.gradient(outputs, targets) * d_outputs - log_probs * d_targets
    return _cross_entropy(loss, outputs, targets), jnp.sum(change, axis=-1)
