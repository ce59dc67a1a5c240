"""Clusters, NMI and F1 against a textbook's example, loops over pairs, and scikit-learn."""

import doctest
import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans
from sklearn.metrics import normalized_mutual_info_score
from threadpoolctl import threadpool_limits

from escapevelocity.errors import UserError
from escapevelocity.metric_learning import clustering
from escapevelocity.metric_learning.clustering import cluster, nmi, pairwise_f1

# Manning, Raghavan, Schütze 2008, figure 16.4: clusters of x x x x x o, x o o o o d, x x d d d.
TEXTBOOK_LABELS = np.array([0] * 5 + [1] + [0] + [1] * 4 + [2] + [0] * 2 + [2] * 3)
TEXTBOOK_CLUSTERS = np.repeat([0, 1, 2], [6, 6, 5])

labellings = st.lists(st.tuples(st.integers(-3, 3), st.integers(0, 4)), min_size=2, max_size=20)


def unit(points):
    return (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32)


def groups(rng, sizes, spread, dim=8):
    """Points around as many random directions as there are sizes, and which direction is whose."""
    labels = np.repeat(np.arange(len(sizes)), sizes)
    centres = rng.standard_normal((len(sizes), dim))
    return unit(centres[labels] + spread * rng.standard_normal((len(labels), dim))), labels


def same_partition(one, two):
    return len(set(zip(one, two, strict=True))) == len(set(one)) == len(set(two))


def inertia(points, clusters):
    return sum(
        np.sum((points[clusters == c] - points[clusters == c].mean(0)) ** 2) for c in np.unique(clusters)
    )


def test_f1_and_nmi_of_the_textbooks_example():
    # TP 20, FP 20, FN 24 there, precision 0.5 and recall 0.455, and NMI 0.36.
    assert pairwise_f1(TEXTBOOK_LABELS, TEXTBOOK_CLUSTERS) == pytest.approx(40 / 84, rel=1e-15)
    assert nmi(TEXTBOOK_LABELS, TEXTBOOK_CLUSTERS) == pytest.approx(0.36, abs=0.005)


@settings(deadline=None, max_examples=100)
@given(labellings)
def test_f1_follows_from_precision_and_recall_over_pairs(pairs):
    labels, clusters = map(np.array, zip(*pairs, strict=True))
    both = only_class = only_cluster = 0
    for i, j in itertools.combinations(range(len(labels)), 2):
        alike, together = labels[i] == labels[j], clusters[i] == clusters[j]
        both += alike and together
        only_class += alike and not together
        only_cluster += together and not alike
    found = pairwise_f1(labels, clusters)
    if both == 0:
        assert found == 0 or (math.isnan(found) and only_class == only_cluster == 0)
        return
    precision, recall = both / (both + only_cluster), both / (both + only_class)
    assert found == pytest.approx(2 * precision * recall / (precision + recall), rel=1e-12)
    assert pairwise_f1(clusters, labels) == found  # PADS's code has them exchanged.


@settings(deadline=None, max_examples=100)
@given(labellings)
def test_nmi_is_information_over_the_mean_entropy(pairs):
    labels, clusters = map(np.array, zip(*pairs, strict=True))
    n = len(labels)
    p, q = ({v: np.mean(x == v) for v in set(x.tolist())} for x in (labels, clusters))
    joint = {pair: pairs.count(pair) / n for pair in pairs}
    information = sum(r * math.log(r / (p[i] * q[j])) for (i, j), r in joint.items())
    entropies = -sum(r * math.log(r) for r in (*p.values(), *q.values()))
    expected = 2 * information / entropies if entropies > 0 else 1.0
    assert nmi(labels, clusters) == pytest.approx(expected, abs=1e-12)


def test_nmi_is_scikit_learns_also_with_more_classes_than_half_the_samples(rng):
    labels, clusters = rng.integers(0, 9, 200), rng.integers(0, 7, 200)
    assert nmi(labels, clusters) == normalized_mutual_info_score(labels, clusters)
    # scikit-learn warns here that this may be a regression, and the warning would be an error.
    assert nmi(np.arange(40), np.arange(40) // 2) == pytest.approx(
        2 * math.log(20) / math.log(800), rel=1e-12
    )


def test_groups_that_lie_apart_are_found(rng):
    points, labels = groups(rng, [5, 20, 1, 40, 9], spread=0.05)
    assert same_partition(cluster(points, 5, seed=3), labels)


def test_clusters_are_as_tight_as_scikit_learns(rng):
    points, _ = groups(rng, [30] * 6, spread=0.8)
    ours = np.mean([inertia(points, cluster(points, 6, seed)) for seed in range(10)])
    peer = [
        KMeans(6, n_init=4, max_iter=100, random_state=seed).fit(points).inertia_ for seed in range(10, 20)
    ]
    # Both are means of ten draws of the same kind; their standard errors together are the scale.
    assert abs(ours - np.mean(peer)) < 4 * math.sqrt(2 / 10) * np.std(peer, ddof=1)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**32 - 1), st.integers(2, 60), st.integers(1, 6), st.integers(0, 3))
def test_the_order_of_the_samples_and_copies_among_them_change_no_cluster(seed, count, clusters, copies):
    rng = np.random.default_rng(seed)
    points = unit(rng.standard_normal((count, 5)))
    points = np.concatenate([points, np.repeat(points[:1], copies, axis=0)])
    order = rng.permutation(len(points))
    found = cluster(points, clusters, seed=1)
    np.testing.assert_array_equal(cluster(points[order], clusters, seed=1), found[order])
    assert np.all(found[count:] == found[0])


@pytest.mark.parametrize(("copies", "expected"), [(1, [0, 0, 1]), (9, [0, 1, 1])])
def test_copies_weigh_as_much_as_they_are_many(copies, expected):
    """A at 0°, C at 40°, B at 90°; the inertia of a pair is m/(m + 1) of its distance squared, m copies of the one."""
    # C with A costs 0.234 for one A and 0.421 for nine, C with B 0.357.
    angles = np.deg2rad([0.0, 40.0, 90.0])
    points = unit(np.stack([np.cos(angles), np.sin(angles)], axis=1))
    found = cluster(np.repeat(points, [copies, 1, 1], axis=0), 2, seed=0)
    assert same_partition(found, np.repeat(expected, [copies, 1, 1]).tolist())


def test_a_seed_repeats_itself_whatever_the_number_of_threads(rng):
    points, _ = groups(rng, [50] * 6, spread=1.0)
    found = cluster(points, 6, seed=5)
    for threads in (1, 2):
        with threadpool_limits(threads):
            np.testing.assert_array_equal(cluster(points, 6, seed=5), found)
    assert any(not same_partition(cluster(points, 6, seed=s), found) for s in range(6, 12))


def test_fewer_distinct_points_than_clusters_are_a_cluster_each():
    points = unit(np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]))
    assert same_partition(cluster(points, 5, seed=0), [0, 1, 0, 1, 2])
    assert same_partition(cluster(points, 3, seed=0), [0, 1, 0, 1, 2])
    np.testing.assert_array_equal(cluster(np.repeat(points[:1], 4, axis=0), 3, seed=0), [0, 0, 0, 0])


@pytest.mark.parametrize("spread", [1e-6, 1e-7, 4e-8])
def test_points_that_k_means_cannot_tell_apart_cause_no_warning(rng, spread):
    points = np.array([[1.0, 0.0, 0.0]]) + spread * rng.standard_normal((50, 3))
    points = np.concatenate([points, -points])
    found = cluster(points, 60, seed=0)
    assert 2 <= len(np.unique(found)) <= 60
    assert not set(found[:50]) & set(found[50:])


def test_one_cluster_takes_all(rng):
    np.testing.assert_array_equal(cluster(unit(rng.standard_normal((9, 4))), 1, seed=0), np.zeros(9))


def test_a_number_of_clusters_below_one_and_seeds_out_of_range_are_refused():
    points = np.eye(3)
    with pytest.raises(UserError, match="num_clusters = 0: must be at least 1"):
        cluster(points, 0, seed=0)
    for seed in (-1, 2**32):
        with pytest.raises(UserError, match=f"seed = {seed}: must be between 0 and 4294967295"):
            cluster(points, 2, seed=seed)


def test_examples_of_clustering_print_what_they_say():
    assert doctest.testmod(clustering).failed == 0
    assert doctest.testmod(clustering).attempted >= 4
