"""What single units do over a batch: dead ones, and the size of their pre-activations.

Array API functions: NumPy, JAX (also under `jax.jit`) and torch arrays in, the same kind out.
"""

from collections.abc import Sequence
from typing import Any

from escapevelocity.errors import UserError
from escapevelocity.health._arrays import all_nan, floating, quiet, scaled_to_one, squared_row_norms

ACTIVATIONS = ("relu", "gelu", "tanh", "leaky_relu", "crelu")
"""Activations for which "dead" has a definition."""

TANH_DEAD_STD = 0.001
"""A tanh unit that varies less than this over the batch is dead (Moalla et al. 2024)."""


@quiet
def dead_neurons(activations: Any, activation: str) -> Any:
    """Count the units that are dead on the whole batch.

    Moalla et al. 2024 (arXiv 2405.00662). ReLU, GELU and CReLU: the output is 0 for every state.
    LeakyReLU: it is negative for every state. Tanh: its standard deviation (ddof 1) over the states is below 0.001,
    which is a statistical notion where ReLU's is structural. Sparsity, the share of zeros, is another thing.

    Args:
        activations: outputs of one layer (..., N, D), floating.
        activation: one of `ACTIVATIONS`.

    Returns:
        Number of dead units (...) in 0..D, as floating numbers: NaN where the activations contain NaN, when
        N = 0, and for tanh when N = 1 (one state has no spread).

    Raises:
        UserError: if `activation` is unknown or `activations` has the wrong shape or type.

    Example:
        >>> import numpy as np
        >>> float(dead_neurons(np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 2.0]]), "relu"))
        1.0
    """
    if activation not in ACTIVATIONS:
        raise UserError(f"activation = {activation!r}: must be one of {', '.join(ACTIVATIONS)}")
    activations, xp = floating(activations, "activations", min_ndim=2)
    n_samples = activations.shape[-2]
    if n_samples == 0 or (n_samples == 1 and activation == "tanh"):
        return all_nan(activations, (-2, -1), xp)
    if activation == "tanh":
        dead = xp.std(activations, axis=-2, correction=1) < TANH_DEAD_STD
    elif activation == "leaky_relu":
        dead = xp.all(activations < 0, axis=-2)
    else:
        dead = xp.all(activations == 0, axis=-2)
    count = xp.sum(xp.astype(dead, activations.dtype), axis=-1)
    undefined = xp.any(xp.isnan(activations), axis=(-2, -1))
    return xp.where(undefined, xp.full_like(count, xp.nan), count)


@quiet
def preactivation_norm(preactivations: Any | Sequence[Any]) -> Any:
    """Return the L2 norm of a state's pre-activations, averaged over the batch.

    Moalla et al. 2024 (arXiv 2405.00662), Figure 1: it rises in every task, healthy or not, and much further
    before a collapse. Computed relative to the largest entry, so that a norm overflows only if it must.

    Args:
        preactivations: inputs of one layer's activation (..., N, D), or a list or tuple of such arrays, one
            per layer (each with its own D): the norm is then that of all layers' entries concatenated.

    Returns:
        Mean norm (...); NaN where an entry is NaN or N = 0, Inf where one is Inf.

    Raises:
        UserError: if an array has the wrong shape or type, the layers do not fit together, or there is none.

    Example:
        >>> import numpy as np
        >>> float(preactivation_norm(np.array([[3.0, 4.0], [0.0, 1.0]])))
        3.0
    """
    layers = preactivations if isinstance(preactivations, list | tuple) else [preactivations]
    if len(layers) == 0:
        raise UserError("preactivations = []: must hold at least one layer's array (..., N, D)")
    arrays = [floating(layer, "preactivations", min_ndim=2) for layer in layers]
    first, xp = arrays[0]
    for layer, _ in arrays:
        if layer.shape[:-1] != first.shape[:-1]:
            raise UserError(
                f"preactivations has layers of shape {tuple(first.shape)} and {tuple(layer.shape)}:"
                " must agree in all but the last axis"
            )
    if first.shape[-2] == 0:
        return all_nan(first, (-2, -1), xp)
    norms = [_row_norms(layer, xp) for layer, _ in arrays]
    if len(norms) == 1:
        return xp.mean(norms[0], axis=-1)
    # The norm of a concatenation is the norm of the norms; nothing is copied together.
    return xp.mean(_row_norms(xp.stack(norms, axis=-1), xp), axis=-1)


@quiet
def state_norms(preactivations: Any) -> Any:
    """Return the L2 norm of each state's pre-activations (..., N), from those of one layer (..., N, D).

    `preactivation_norm` of several layers' norms, stacked as (..., N, layers), is that of the layers themselves: so
    large layers need not be kept.

    Example:
        >>> import numpy as np
        >>> state_norms(np.array([[3.0, 4.0], [0.0, 1.0]])).tolist()
        [5.0, 1.0]
    """
    array, xp = floating(preactivations, "preactivations", min_ndim=2)
    return _row_norms(array, xp)


def _row_norms(x: Any, xp: Any) -> Any:
    """Return the L2 norm of each row of (..., N, D) as (..., N), free of avoidable overflow."""
    scaled, scale = scaled_to_one(x, xp)
    return scale[..., 0] * xp.sqrt(squared_row_norms(scaled, xp))
