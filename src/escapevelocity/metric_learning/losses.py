"""Losses of triplets: margin loss with a learned boundary for every class, and triplet loss.

Both take distances of each anchor to its positive and to its negative, and average over the terms that are not 0 (as
Wu et al.'s code, PADS's margin loss and pytorch-metric-learning do), so that the few hard terms left late in training
still move the network. A loss without such a term is 0, with a gradient of 0.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


class Loss(NamedTuple):
    """A loss and how much of the batch takes part in it."""

    value: Float[Array, ""]
    """Mean of the terms above 0."""
    active_fraction: Float[Array, ""]
    """Share of the terms that are above 0: of two per anchor in the margin loss, of one in the triplet loss."""


def margin_loss(
    positive: Float[Array, " anchors"],
    negative: Float[Array, " anchors"],
    beta: Float[Array, " anchors"],
    margin: float,
) -> Loss:
    """max(0, D_ap − β + α) and max(0, β − D_an + α), with α the margin; the mean over pairs above 0.

    An anchor that was drawn as its own negative (self-regularisation) is a pair like any other, as in PADS's code: its
    distance is 1e-4 and has no gradient, so that it pulls its class's β down and leaves the network alone.

    Source: Wu et al. 2017 (arXiv 1706.07567), eq. 5 without the regularisation of β (ν = 0).

    Args:
        positive: D_ap, Euclidean.
        negative: D_an.
        beta: the boundary of each anchor's class.
        margin: α ≥ 0.

    Example:
        >>> import jax.numpy as jnp
        >>> loss = margin_loss(jnp.array([1.25]), jnp.array([1.0]), jnp.array([1.0]), 0.25)
        >>> print(loss.value, loss.active_fraction)
        0.375 1.0
    """
    pulled = jax.nn.relu(positive - beta + margin)
    pushed = jax.nn.relu(beta - negative + margin)
    return _mean_above_zero(jnp.concatenate([pulled, pushed]))


def triplet_loss(
    positive: Float[Array, " anchors"], negative: Float[Array, " anchors"], margin: float
) -> Loss:
    """max(0, D_ap² − D_an² + α), with α the margin; the mean over triplets above 0.

    Distances are squared, as in Schroff et al. 2015 (arXiv 1503.03832), eq. 2, and in PADS's code, which sums over the
    batch where this takes the mean. It is pytorch-metric-learning's `TripletMarginLoss` with `LpDistance(power=2)`.

    Args:
        positive: D_ap, Euclidean, not squared.
        negative: D_an, alike.
        margin: α ≥ 0, in squared distance: at most 4 on the unit sphere.

    Example:
        >>> import jax.numpy as jnp
        >>> loss = triplet_loss(jnp.array([1.0, 0.5]), jnp.array([0.5, 1.0]), 0.25)
        >>> print(loss.value, loss.active_fraction)
        1.0 0.5
    """
    return _mean_above_zero(jax.nn.relu(positive * positive - negative * negative + margin))


def _mean_above_zero(terms: Float[Array, " terms"]) -> Loss:
    active = jnp.sum(terms > 0).astype(terms.dtype)
    return Loss(jnp.sum(terms) / jnp.maximum(active, 1), active / len(terms))
