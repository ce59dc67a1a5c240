"""Proximal feature optimisation: keep the actor's pre-activations near those of the batch's start."""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import jax.numpy as jnp
from jaxtyping import Array, Float

from escapevelocity.errors import UserError, require
from escapevelocity.ppo.networks import Trace
from escapevelocity.ppo.remedies._trail import applied_mean
from escapevelocity.ppo.remedy import BatchEnd, Changed, MinibatchView, Remedy

Preactivations = tuple[Float[Array, "samples _"], ...]
_SMALLEST_NORM = 1e-8  # As in torch.nn.functional.cosine_similarity, which the published code calls.


@dataclass(frozen=True)
class PFO(Remedy):
    """Proximal feature optimisation (Moalla et al. 2024, arXiv 2405.00662, eq. 2 and its code).

    With z the pre-activations of the actor's penultimate layer, or of all its hidden layers side by side, the loss
    gains `coef` · mean_s d(z_new(s), z_old(s)), where d is the mean over units of (z_new − z_old)² (eq. 2 writes the
    sum), or 1 − cos(z_new, z_old). With `limit` there is no penalty: samples with d > limit give the objective no
    gradient, whatever their ratio.

    Published coefficients, all for the mean: Atari 1 (last) and 10 (all); MuJoCo 1 with tanh and 10 with ReLU, for
    both choices of layers. Recorded: `distance`, the mean of d over the batch's steps, and with a limit `blocked`,
    the mean share of samples beyond it.
    """

    name: ClassVar[str] = "pfo"

    coef: float = 1.0
    """Weight of the penalty; published: Atari 1 (last), 10 (all); MuJoCo 1 (tanh), 10 (relu) [M, code]."""
    layers: Literal["last", "all"] = "last"
    """Pre-activations of the penultimate layer, or of all hidden layers as one vector [M, Section 4]."""
    reduction: Literal["mean", "sum"] = "mean"
    """Over units: the mean, to which the published coefficients belong [M, code], or the sum [M, eq. 2]."""
    distance: Literal["l2", "cosine"] = "l2"
    """Squared distance, or 1 − the cosine of the angle between new and old [M, code]."""
    limit: float | None = None
    """Instead of a penalty, take the objective's gradient from samples farther than this, such as 0.1 [M, code]."""

    def __post_init__(self) -> None:
        require(0 <= self.coef < math.inf, "pfo.coef", self.coef, "a finite number of at least 0")
        require(
            self.limit is None or self.limit > 0, "pfo.limit", self.limit, "a number above 0, or left out"
        )
        if self.distance == "cosine" and self.reduction == "sum":
            raise UserError("pfo.reduction = 'sum': an angle has no sum over units; use mean with cosine")

    def is_idle(self) -> bool:
        """Whether the coefficient is 0, or the limit infinite."""
        return self.coef == 0 if self.limit is None else math.isinf(self.limit)

    def reference(
        self, params: Float[Array, "samples params"], actor: Trace, critic: Trace
    ) -> Preactivations:
        """The old pre-activations."""
        return self._chosen(actor)

    def weight(self, view: MinibatchView) -> Float[Array, " samples"] | None:
        """0 for samples beyond the limit and 1 for the others; None without a limit."""
        if self.limit is None:
            return None
        return jnp.where(self._distances(view) > self.limit, 0.0, 1.0)

    def penalty(self, view: MinibatchView) -> tuple[Float[Array, ""] | None, dict[str, Float[Array, ""]]]:
        """`coef` times the mean distance over the minibatch; with a limit nothing."""
        distances = self._distances(view)
        distance = jnp.mean(distances)
        if self.limit is None:
            return self.coef * distance, {"distance": distance}
        blocked = jnp.mean(jnp.where(distances > self.limit, 1.0, 0.0))
        return None, {"distance": distance, "blocked": blocked}

    def after_batch(self, end: BatchEnd) -> tuple[Changed, dict[str, Float[Array, ""]]]:
        """Record the means over the batch's steps."""
        means = {name: applied_mean(numbers) for name, numbers in end.trail.items()}
        return Changed(end.agent, end.moments, end.state), means

    def _chosen(self, actor: Trace) -> Preactivations:
        return actor.preactivations if self.layers == "all" else actor.preactivations[-1:]

    def _distances(self, view: MinibatchView) -> Float[Array, " samples"]:
        """d of each sample."""
        new, old = self._chosen(view.actor), view.reference
        if self.distance == "cosine":
            dot = _total(tuple(a * b for a, b in zip(new, old, strict=True)))
            return 1.0 - dot / (_norm(new) * _norm(old))
        squares = _total(tuple(jnp.square(a - b) for a, b in zip(new, old, strict=True)))
        return squares / sum(layer.shape[-1] for layer in new) if self.reduction == "mean" else squares


def _total(layers: Preactivations) -> Float[Array, " samples"]:
    """Sum over all units of all layers. Layer by layer, which saves a copy of them all side by side."""
    return jnp.sum(jnp.stack([jnp.sum(layer, axis=-1) for layer in layers]), axis=0)


def _norm(layers: Preactivations) -> Float[Array, " samples"]:
    squares = _total(tuple(jnp.square(layer) for layer in layers))
    return jnp.sqrt(jnp.maximum(squares, _SMALLEST_NORM**2))  # Its gradient is 0 below, not NaN.
