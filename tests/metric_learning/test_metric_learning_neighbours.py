"""Nearest neighbours against loops, scikit-learn and exact integers; ties, chunks and memory."""

import doctest
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors
from threadpoolctl import threadpool_limits

from escapevelocity.metric_learning import neighbours
from escapevelocity.metric_learning.neighbours import CHUNK_BYTES, GRID, nearest_neighbours, on_grid


def sphere(rng, count, dim):
    points = rng.standard_normal((count, dim))
    return (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32)


def search(points, depth, chunk_bytes=CHUNK_BYTES):
    """All samples' neighbours in one array, by sample."""
    found = np.full((len(points), min(depth, len(points) - 1)), -1)
    for chunk in nearest_neighbours(points, np.full(len(points), depth), chunk_bytes):
        found[chunk.queries] = chunk.indices
    return found


def ranked_by_integers(points):
    """All others of each sample by squared distance in Python's integers, which do not round, then by index."""
    steps = [[int(x) for x in row] for row in np.round(points.astype(np.float64) * 2**25)]
    ranking = []
    for i, one in enumerate(steps):
        squares = [sum((a - b) ** 2 for a, b in zip(one, other, strict=True)) for other in steps]
        ranking.append(sorted((j for j in range(len(steps)) if j != i), key=lambda j: (squares[j], j)))
    return np.array(ranking)


@settings(deadline=None, max_examples=40)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(2, 25),
    st.integers(2, 9),
    st.sampled_from([1.0, 1e-6, 1e-7]),
    st.integers(1, 30),
)
def test_the_order_is_that_of_exact_arithmetic_also_where_all_points_have_nearly_collapsed(
    seed, count, dim, spread, depth
):
    rng = np.random.default_rng(seed)
    points = sphere(rng, 1, dim) + spread * sphere(rng, count, dim)
    points = (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32)
    points = points[rng.integers(0, count, count)]  # Some twice.
    np.testing.assert_array_equal(search(points, depth), ranked_by_integers(points)[:, :depth])


@pytest.mark.parametrize("depth", [1, 8, 299])
def test_neighbours_are_scikit_learns(rng, depth):
    points = sphere(rng, 300, 16)
    peer = NearestNeighbors(n_neighbors=299, algorithm="brute").fit(points.astype(np.float64))
    distances, indices = peer.kneighbors()
    # The grid moves either point by up to 2⁻²⁶·√16, so a distance by up to 1.2e-7; nearer ones may change places.
    apart = np.diff(distances, axis=1, prepend=-1, append=9) > 2.4e-7
    clear = (apart[:, :-1] & apart[:, 1:])[:, :depth]
    assert np.mean(clear) > 0.99
    found = search(points, depth)
    np.testing.assert_array_equal(found[clear], indices[:, :depth][clear])
    ours = np.linalg.norm(points[:, None].astype(np.float64) - points[found], axis=2)
    np.testing.assert_allclose(ours, distances[:, :depth], rtol=0, atol=2.4e-7)


def test_equally_near_ones_come_in_order_of_their_index():
    # Sample 0 has two at each of three distances, and the cut at depth 3 goes through the second pair.
    points = np.array([[1, 0, 0], [0, 0, -1], [0.6, 0.8, 0], [-1, 0, 0], [0.6, 0, 0.8], [0, 1, 0]])
    np.testing.assert_array_equal(search(points, 5)[0], [2, 4, 1, 5, 3])
    np.testing.assert_array_equal(search(points, 3)[0], [2, 4, 1])


def test_a_sample_is_left_out_by_its_index_and_its_copies_are_not(rng):
    points = np.repeat(sphere(rng, 1, 7), 4, axis=0)
    np.testing.assert_array_equal(search(points, 9), [[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]])


def test_copies_of_a_point_tie_wherever_they_stand(rng):
    # A rounded product gives some of 40 copies another distance than the rest.
    point = sphere(rng, 1, 128)
    points = np.concatenate([sphere(rng, 50, 128), np.repeat(point, 40, axis=0), sphere(rng, 47, 128)])
    for row in search(points, 136):
        places = np.flatnonzero((row >= 50) & (row < 90))
        assert np.ptp(places) == len(places) - 1
        assert np.all(np.diff(row[places]) == 1) or len(places) == 39  # One of them is the query itself.
        assert np.all(np.diff(row[places]) > 0)


def test_chunks_and_threads_change_nothing(rng):
    points = sphere(rng, 120, 32)[rng.integers(0, 120, 200)]
    whole = search(points, 60)
    with threadpool_limits(2):
        np.testing.assert_array_equal(search(points, 60), whole)
    for chunk_bytes in (0, 50_000, 999_999):
        np.testing.assert_array_equal(search(points, 60, chunk_bytes), whole)


def test_each_sample_is_searched_as_deep_as_it_asks_and_not_at_all_at_depth_zero(rng):
    points = sphere(rng, 30, 5)
    depths = np.arange(30) % 10
    whole = search(points, 29)
    chunks = list(nearest_neighbours(points, depths, chunk_bytes=5_000))
    assert len(chunks) > 3
    queries = np.concatenate([chunk.queries for chunk in chunks])
    np.testing.assert_array_equal(np.sort(queries), np.flatnonzero(depths > 0))
    for chunk in chunks:
        assert np.all(chunk.indices.shape[1] >= depths[chunk.queries])
        np.testing.assert_array_equal(chunk.indices, whole[chunk.queries, : chunk.indices.shape[1]])
    assert list(nearest_neighbours(points, np.zeros(30, np.int64))) == []


@pytest.mark.parametrize("depth", [8, 1500])
def test_memory_keeps_to_its_bound_and_below_that_of_a_matrix(rng, depth):
    points, chunk_bytes = sphere(rng, 3000, 16), 4 * 2**20
    copies = 2 * 3000 * (16 + 2) * 8
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for chunk in nearest_neighbours(points, np.full(3000, depth), chunk_bytes):
            del chunk
        peak = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    # Depths, queries and squares, (N,), and what Python itself needs.
    assert peak < chunk_bytes + copies + 3 * 3000 * 8 + 2**16
    assert peak < 3000**2 * 8 / 10
    # The bound is used, and not met by needless small chunks.
    assert peak > chunk_bytes / 2


def test_coordinates_on_the_grid_are_whole_steps_and_no_zero_is_negative(rng):
    points = np.concatenate([sphere(rng, 20, 6), np.full((1, 6), -1e-10, np.float32)])
    rounded = on_grid(points)
    assert np.all(rounded * GRID == np.trunc(rounded * GRID))
    np.testing.assert_allclose(rounded, points, rtol=0, atol=2.0**-26)
    assert not np.signbit(rounded[-1]).any()


def test_examples_of_neighbours_print_what_they_say():
    assert doctest.testmod(neighbours).failed == 0
    assert doctest.testmod(neighbours).attempted >= 3
