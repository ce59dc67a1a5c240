"""Nearest neighbours by exact distances, some rows of the N×N matrix at a time, ties broken by index.

A matrix product rounds differently with the number of rows and of threads and with the machine, so two copies of one
point may come out at different distances from a third, and their order would be chance. Here coordinates are rounded to
multiples of 2⁻²⁵, float32's own spacing between 1/4 and 1/2, which in 128 dimensions moves no point by more than 2e-7.
Squared distances are then multiples of 2⁻⁵⁰, every partial sum on the way to one lies below 4.1, and float64 holds such
numbers exactly up to 8: nothing is rounded, in whatever order it is added.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

GRID = 2.0**25
"""Coordinates are whole multiples of 1 / GRID."""

CHUNK_BYTES = 64 * 2**20
"""What the rows that are searched at a time may take, 64 MiB."""

_PER_CANDIDATE = 8 + 8 + 1  # A distance, an index in the partition, a mark.
_PER_NEIGHBOUR = 48  # Indices, distances and their order; and what the caller makes of them.


class Neighbours(NamedTuple):
    """The nearest neighbours of some of the samples.

    Attributes:
        queries: which samples, (Q,).
        indices: their nearest others, the nearest first, (Q, K). Of equally near ones the lower index comes first.
    """

    queries: Int[np.ndarray, " queries"]
    indices: Int[np.ndarray, "queries depth"]


def on_grid(points: Float[np.ndarray, "samples dim"]) -> Float[np.ndarray, "samples dim"]:
    """Round coordinates to multiples of 2⁻²⁵; float64, without negative zeros.

    Example:
        >>> on_grid(np.array([[0.6, -1e-9]])) * GRID
        array([[20132659.,        0.]])
    """
    # Adding 0 makes 0 of −0, which is another point to np.unique.
    return np.round(points.astype(np.float64) * GRID) / GRID + 0.0


def nearest_neighbours(
    points: Float[np.ndarray, "samples dim"],
    depths: Int[np.ndarray, " samples"],
    chunk_bytes: int = CHUNK_BYTES,
) -> Iterator[Neighbours]:
    """Find the nearest others of samples, chunk by chunk.

    A sample is no neighbour of its own, whatever lies at distance 0 beside it. Distances are Euclidean, between the
    points rounded to multiples of 2⁻²⁵, and exact.

    Args:
        points: N points of norm at most about 1.
        depths: how many neighbours each is to have; 0 or less leaves it out of the queries, and at most N − 1 are
            given.
        chunk_bytes: bound on the memory of a chunk, which has at least one row. Beside it there are two copies of
            the points in float64.

    Yields:
        Chunks of queries, those with the greatest depth first; within a chunk all are searched to the depth of the
        first. No query comes twice.

    Example:
        >>> points = np.array([[1.0, 0.0], [0.0, 1.0], [0.8, 0.6]])
        >>> for chunk in nearest_neighbours(points, np.array([2, 0, 1])):
        ...     print(chunk.queries, chunk.indices.tolist())
        [0 2] [[2, 1], [0, 1]]
    """
    count = len(points)
    rounded = on_grid(points)
    squares = np.sum(rounded**2, axis=1)
    # ‖q − c‖² = (−2q, 1, ‖q‖²)·(c, ‖c‖², 1): one product.
    candidates = np.concatenate([rounded, squares[:, None], np.ones((count, 1))], axis=1)
    del rounded
    depths = np.minimum(depths, count - 1)
    queries = np.argsort(-depths, kind="stable")[: np.count_nonzero(depths > 0)]
    first = 0
    while first < len(queries):
        depth = int(depths[queries[first]])
        rows = max(1, chunk_bytes // (_PER_CANDIDATE * count + _PER_NEIGHBOUR * depth))
        chunk = queries[first : first + rows]
        yield Neighbours(chunk, _search(candidates, chunk, depth))
        first += rows


def _search(candidates: np.ndarray, queries: np.ndarray, depth: int) -> np.ndarray:
    """The `depth` nearest others of each query, (Q, depth)."""
    own = candidates[queries]
    sides = np.concatenate([-2 * own[:, :-2], own[:, -1:], own[:, -2:-1]], axis=1)
    distances = sides @ candidates.T
    distances[np.arange(len(queries)), queries] = np.inf
    # A copy, for the partition's other columns need not stay.
    found = np.argpartition(distances, depth - 1, axis=1)[:, :depth].copy()
    near = np.take_along_axis(distances, found, axis=1)
    order = np.argsort(near, axis=1)
    found, near = np.take_along_axis(found, order, axis=1), np.take_along_axis(near, order, axis=1)
    farthest = near[:, -1]
    tied = np.any(near[:, 1:] == near[:, :-1], axis=1)
    tied |= np.count_nonzero(distances <= farthest[:, None], axis=1) > depth
    for row in np.flatnonzero(tied):
        among = np.flatnonzero(distances[row] <= farthest[row])
        found[row] = among[np.argsort(distances[row, among], kind="stable")[:depth]]
    return found
