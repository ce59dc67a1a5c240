"""Lengths and Euclidean distances of embeddings, with gradients that stay finite where a length or distance is 0."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

LENGTH_EPSILON = 1e-12
"""Added to a squared length before its root. Outputs of length 0 become the zero vector, and their gradient is finite;
from a length of 1e-3 up, an embedding's own length falls short of 1 by less than float32 can tell."""

DISTANCE_EPSILON = 1e-8
"""Added to a squared distance before its root, as in PADS's margin loss. The distance of an embedding to itself counts
as 1e-4 and has a gradient of 0; from 0.1 up, a distance is too large by less than 1e-7."""


def unit_vectors(outputs: Float[Array, "*batch dim"]) -> Float[Array, "*batch dim"]:
    """x / √(‖x‖² + 1e-12): outputs of a network, brought onto the unit sphere.

    Example:
        >>> import jax.numpy as jnp
        >>> print(unit_vectors(jnp.array([[3.0, 4.0], [0.0, 0.0]])))
        [[0.6 0.8]
         [0.  0. ]]
    """
    squared = jnp.sum(outputs * outputs, axis=-1, keepdims=True)
    return outputs * jax.lax.rsqrt(squared + LENGTH_EPSILON)


def paired_distances(
    first: Float[Array, "*batch dim"], second: Float[Array, "*batch dim"]
) -> Float[Array, "*batch"]:
    """√(‖a − b‖² + 1e-8) of each pair, to be differentiated.

    Example:
        >>> import jax.numpy as jnp
        >>> print(paired_distances(jnp.array([[0.6, 0.8]]), jnp.array([[0.6, 0.0]])))
        [0.8]
    """
    difference = first - second
    return jnp.sqrt(jnp.sum(difference * difference, axis=-1) + DISTANCE_EPSILON)


def pairwise_distances(embeddings: Float[Array, "batch dim"]) -> Float[Array, "batch batch"]:
    """‖a − b‖ between all embeddings, for choosing triplets: exactly 0 on the diagonal, and without a gradient.

    From ‖a‖² + ‖b‖² − 2a·b, so that one matrix product does it. On the unit sphere that is off by up to 1e-7 / d in
    float32: distances below 5e-4 are noise, those that bins tell apart are not.

    Example:
        >>> import jax.numpy as jnp
        >>> print(pairwise_distances(jnp.array([[1.0, 0.0], [-1.0, 0.0]])))
        [[0. 2.]
         [2. 0.]]
    """
    embeddings = jax.lax.stop_gradient(embeddings)
    squared = jnp.sum(embeddings * embeddings, axis=-1)
    between = squared[:, None] + squared[None, :] - 2 * embeddings @ embeddings.T
    itself = jnp.eye(len(embeddings), dtype=bool)
    return jnp.where(itself, 0, jnp.sqrt(jnp.maximum(between, 0)))
