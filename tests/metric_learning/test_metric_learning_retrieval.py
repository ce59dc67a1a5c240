"""Retrieval metrics by hand, by loops over the definitions, and against pytorch-metric-learning and scikit-learn."""

import doctest
import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.metrics import normalized_mutual_info_score
from sklearn.metrics.pairwise import cosine_distances
from sklearn.neighbors import NearestNeighbors

from escapevelocity.errors import UserError
from escapevelocity.metric_learning import retrieval
from escapevelocity.metric_learning.clustering import cluster, pairwise_f1
from escapevelocity.metric_learning.retrieval import (
    RECALLS,
    RETRIEVAL_METRICS,
    class_distances,
    evaluate_retrieval,
    measure_retrieval,
)

RANKING = (*RECALLS, "r_precision", "map_at_r")
DISTANCES = ("intra_distance", "inter_distance")


def unit(points):
    return (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32)


def draw(seed, sizes, dim=6, spread=1.0, copies=0):
    """Classes of these sizes in any order; `copies` of the points, of their own class, are added."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    points = unit(
        rng.standard_normal((len(sizes), dim))[labels] + spread * rng.standard_normal((len(labels), dim))
    )
    again = rng.integers(0, len(labels), copies)
    return np.concatenate([points, points[again]]), np.concatenate([labels, labels[again]])


def by_definition(points, labels):
    """Every ranking metric and distance, one query and one pair at a time."""
    points = points.astype(np.float64)
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    n, sums, queries = len(labels), dict.fromkeys(RANKING, 0.0), 0
    same, different = [], []
    for q in range(n):
        others = [i for i in range(n) if i != q]
        for i in others:
            (same if labels[i] == labels[q] else different).append(1 - points[q] @ points[i])
        others.sort(key=lambda i: (np.linalg.norm(points[q] - points[i]), i))
        hits = [bool(labels[i] == labels[q]) for i in others]
        r = sum(hits)
        if r == 0:
            continue
        queries += 1
        for k in (1, 2, 4, 8):
            sums[f"recall_at_{k}"] += any(hits[:k])
        sums["r_precision"] += sum(hits[:r]) / r
        sums["map_at_r"] += sum(sum(hits[: i + 1]) / (i + 1) for i in range(r) if hits[i]) / r
    means = {name: total / queries if queries else math.nan for name, total in sums.items()}
    means["intra_distance"] = np.mean(same) if same else math.nan
    means["inter_distance"] = np.mean(different) if different else math.nan
    return means


def assert_same(found, expected, names, **tolerance):
    for name in names:
        assert found[name] == pytest.approx(expected[name], nan_ok=True, **tolerance), name


class_sizes = st.lists(st.integers(1, 9), min_size=1, max_size=6).filter(lambda sizes: sum(sizes) >= 2)
seeds = st.integers(0, 2**32 - 1)


def test_one_line_of_points_by_hand():
    """On an arc at 0°, 10°, 21°, 33° and 46° with classes a b a a b."""
    angles = np.deg2rad([0.0, 10.0, 21.0, 33.0, 46.0])
    points = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    found = evaluate_retrieval(points, np.array([7, 9, 7, 7, 9]), seed=0)
    # Others, nearest first, o where the class is the query's:
    #   0: 10 b, 21 o, 33 o, 46 b     R = 2   found 1 of 2   MAP@R (1/2)/2
    #  10:  0 a, 21 a, 33 a, 46 o     R = 1   found 0        0
    #  21: 10 b, 33 o,  0 o, 46 b     R = 2   found 1 of 2   (1/2)/2
    #  33: 21 o, 46 b, 10 b,  0 o     R = 2   found 1 of 2   1/2
    #  46: 33 a, 21 a, 10 o,  0 a     R = 1   found 0        0
    assert found["recall_at_1"] == pytest.approx(1 / 5)
    assert found["recall_at_2"] == pytest.approx(3 / 5)
    assert found["recall_at_4"] == found["recall_at_8"] == 1
    assert found["r_precision"] == pytest.approx(1.5 / 5)
    assert found["map_at_r"] == pytest.approx((1 / 4 + 1 / 4 + 1 / 2) / 5)
    cos = [1 - math.cos(math.radians(x)) for x in (21, 33, 12, 36)]
    assert found["intra_distance"] == pytest.approx(sum(cos) / 4, rel=1e-6)
    # k-means with k = 2 on an arc cuts it: {0, 10} and {21, 33, 46} or {0, 10, 21} and {33, 46}; the former costs
    # (5² + 5²) + (12.3² + 0.3² + 12.7²) = 363 degrees², the latter 222 + 84.5 = 307.
    assert found["f1"] == pytest.approx(2 * 1 / (4 + 4))


@settings(deadline=None, max_examples=60)
@given(seeds, class_sizes, st.integers(2, 6), st.integers(0, 4), st.sampled_from([0.2, 1.0, 5.0]))
def test_rankings_and_distances_follow_the_definitions(seed, sizes, dim, copies, spread):
    points, labels = draw(seed, sizes, dim, spread, copies)
    assume(no_near_ties(points))
    # 1 − cos by subtraction leaves 1e-16 of the expected values' precision.
    assert_same(
        evaluate_retrieval(points, labels, seed=0),
        by_definition(points, labels),
        (*RANKING, *DISTANCES),
        abs=1e-12,
    )


def no_near_ties(points):
    """No two points but copies are closer to being equally far from a third than any rounding on the way."""
    points = points.astype(np.float64)
    distances = np.sort(np.linalg.norm(points[:, None] - points[None], axis=2), axis=1)
    gaps = np.diff(distances, axis=1)
    return not np.any((gaps > 1e-9) & (gaps < 2e-6))


@settings(deadline=None, max_examples=40)
@given(seeds, st.lists(st.integers(1, 6), min_size=1, max_size=4).filter(lambda sizes: sum(sizes) >= 2))
def test_copies_of_other_classes_rank_by_index(seed, sizes):
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    points = unit(rng.standard_normal((3, 4)))[rng.integers(0, 3, len(labels))]
    found = evaluate_retrieval(points, labels, seed=0)
    assert_same(found, by_definition(points, labels), (*RANKING, *DISTANCES), abs=1e-12)


@pytest.mark.parametrize("sizes", [[40] * 10, [2, 150, 1, 37, 90, 3]])
@pytest.mark.parametrize("copies", [0, 60])
def test_metrics_are_pytorch_metric_learnings(sizes, copies):
    torch = pytest.importorskip("torch")
    pytest.importorskip("pytorch_metric_learning")
    from pytorch_metric_learning.distances import LpDistance
    from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
    from pytorch_metric_learning.utils.inference import CustomKNN

    # Copies have the class of their original: where those of two classes tie, torch.topk takes any.
    points, labels = draw(1, sizes, dim=16, copies=copies)
    found = evaluate_retrieval(points, labels, seed=4)
    peers = {
        "recall_at_1": "precision_at_1",
        "r_precision": "r_precision",
        "map_at_r": "mean_average_precision_at_r",
        "nmi": "NMI",
    }
    clusters = cluster(points, len(sizes), seed=4)
    calculator = AccuracyCalculator(
        include=tuple(peers.values()),
        k="max_bin_count",
        device=torch.device("cpu"),
        knn_func=CustomKNN(LpDistance()),
        kmeans_func=lambda query, num_clusters: torch.from_numpy(clusters),
    )
    theirs = calculator.get_accuracy(torch.from_numpy(points), torch.from_numpy(labels))
    assert 0.05 < found["map_at_r"] < 0.95
    for ours, name in peers.items():
        assert found[ours] == pytest.approx(theirs[name], rel=1e-12), ours


@pytest.mark.parametrize("copies", [0, 60])
def test_recall_and_nmi_are_what_scikit_learn_makes_of_them(copies):
    points, labels = draw(2, [80, 5, 40, 2, 100, 60], dim=12, copies=copies)
    found = evaluate_retrieval(points, labels, seed=9)
    nearest = NearestNeighbors(n_neighbors=8, algorithm="brute").fit(points).kneighbors()[1]
    for name, k in RECALLS.items():
        assert found[name] == np.mean(np.any(labels[nearest[:, :k]] == labels[:, None], axis=1)), name
    clusters = cluster(points, 6, seed=9)
    assert found["nmi"] == normalized_mutual_info_score(labels, clusters)
    assert found["f1"] == pairwise_f1(labels, clusters)
    distances = cosine_distances(points.astype(np.float64))
    same = (labels[:, None] == labels[None]) & ~np.eye(len(labels), dtype=bool)
    different = labels[:, None] != labels[None]
    assert found["intra_distance"] == pytest.approx(distances[same].mean(), rel=1e-6)
    assert found["inter_distance"] == pytest.approx(distances[different].mean(), rel=1e-6)


@settings(deadline=None, max_examples=30)
@given(seeds, class_sizes, st.integers(0, 3))
def test_neither_other_labels_nor_another_order_of_the_samples_change_a_metric(seed, sizes, copies):
    points, labels = draw(seed, sizes, copies=copies)
    before = evaluate_retrieval(points, labels, seed=0)
    rng = np.random.default_rng(seed)
    renamed = rng.permutation(1000)[labels] - 500
    assert_same(evaluate_retrieval(points, renamed, seed=0), before, RETRIEVAL_METRICS, rel=1e-12)
    order = rng.permutation(len(labels))
    moved = evaluate_retrieval(points[order], labels[order], seed=0)
    # The sums' order is another; a distance of 0 by rounding is 1e-17 then.
    assert_same(moved, before, RETRIEVAL_METRICS, rel=1e-12, abs=1e-15)


@settings(deadline=None, max_examples=30)
@given(seeds, class_sizes)
def test_rotating_the_embedding_changes_no_metric(seed, sizes):
    points, labels = draw(seed, sizes, spread=0.3)
    assume(no_near_ties(points))
    rotation = np.linalg.qr(np.random.default_rng(seed).standard_normal((6, 6)))[0]
    moved = evaluate_retrieval((points @ rotation).astype(np.float32), labels, seed=0)
    before = evaluate_retrieval(points, labels, seed=0)
    assert_same(moved, before, (*RANKING, "nmi", "f1"), rel=1e-12)
    # Coordinates rounded to float32 move a point by 1e-7.
    assert_same(moved, before, DISTANCES, abs=4e-7)


def test_norms_within_the_tolerance_are_made_up_for():
    points, labels = draw(3, [9, 9, 9])
    scale = np.random.default_rng(0).uniform(0.9991, 1.0009, (27, 1))
    scaled = evaluate_retrieval((points * scale).astype(np.float32), labels, seed=0)
    assert_same(scaled, evaluate_retrieval(points, labels, seed=0), RETRIEVAL_METRICS, abs=1e-6)


def test_a_class_with_one_sample_is_no_query_but_may_be_found():
    angles = np.deg2rad([0.0, 10.0, 15.0])
    points = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    found = measure_retrieval(points, np.array([0, 0, 1]), seed=0)
    # The second sample's nearest is the lone one, and R = 1.
    assert found.measured.values["recall_at_1"] == 0.5
    assert found.measured.values["recall_at_2"] == 1.0
    assert found.measured.values["map_at_r"] == found.measured.values["r_precision"] == 0.5
    assert (found.queries, found.left_out) == (2, 1)
    assert found.measured.reasons == {}


def test_classes_of_one_sample_each_leave_nothing_to_retrieve_and_say_so():
    points, labels = draw(0, [1] * 30)
    found = measure_retrieval(points, labels, seed=0)
    assert (found.queries, found.left_out) == (0, 30)
    for name in RANKING:
        assert math.isnan(found.measured.values[name])
        assert found.measured.reasons[name] == "every class has one sample: none can be retrieved"
    assert found.measured.reasons["f1"] == "no two samples share a class or a cluster"
    assert found.measured.reasons["intra_distance"] == "every class has one sample"
    assert found.measured.values["nmi"] == pytest.approx(1, rel=1e-12)
    assert found.measured.values["inter_distance"] > 0


def test_one_class_alone_is_found_throughout_and_has_no_distance_to_others():
    points, labels = draw(0, [12])
    found = measure_retrieval(points, labels, seed=0)
    for name in (*RANKING, "nmi", "f1"):
        assert found.measured.values[name] == 1.0, name
    assert normalized_mutual_info_score(labels, labels) == 1.0
    assert found.measured.reasons == {"inter_distance": "there is one class only"}
    assert math.isnan(found.measured.values["inter_distance"])


def test_a_k_beyond_the_others_counts_all_of_them():
    points, labels = draw(5, [2, 2, 1])
    found = evaluate_retrieval(points, labels, seed=0)
    assert found["recall_at_4"] == found["recall_at_8"] == 1.0


@pytest.mark.parametrize("sizes", [[6, 3, 3], [4, 4]])
def test_an_embedding_collapsed_to_one_point_ranks_by_index_and_is_one_cluster(sizes):
    labels = np.repeat(np.arange(len(sizes)), sizes)
    points = np.repeat(unit(np.array([[0.3, -0.4, 0.9]])), len(labels), axis=0)
    found = evaluate_retrieval(points, labels, seed=0)
    assert_same(found, by_definition(points, labels), RANKING, abs=1e-12)
    assert found["nmi"] == 0.0
    assert found["intra_distance"] == pytest.approx(0, abs=1e-30)
    pairs = sum(size * (size - 1) // 2 for size in sizes)
    n = len(labels)
    assert found["f1"] == pytest.approx(2 * pairs / (pairs + n * (n - 1) // 2))


def test_distances_of_a_nearly_collapsed_embedding_keep_their_digits():
    """Angles of 0, 2e-9, 5e-9: 1 − cos x = x²/2 lies below what can be told from 1."""
    angles = np.array([0.0, 2e-9, 5e-9])
    points = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    found = class_distances(points, np.array([0, 0, 1]))
    assert found["intra_distance"] == pytest.approx(2e-18, rel=1e-6, abs=0)
    assert found["inter_distance"] == pytest.approx((25e-18 + 9e-18) / 4, rel=1e-6, abs=0)


def test_chunks_change_nothing_and_r_may_be_half_of_all():
    points, labels = draw(6, [60, 50, 7, 1], dim=5)
    whole = measure_retrieval(points, labels, seed=0, names=RANKING)
    small = measure_retrieval(points, labels, seed=0, names=RANKING, chunk_bytes=10_000)
    assert_same(small.measured.values, whole.measured.values, RANKING, rel=1e-12)
    assert_same(whole.measured.values, by_definition(points, labels), RANKING, rel=1e-12)


def test_only_what_the_names_need_is_computed_and_neighbours_once(monkeypatch):
    points, labels = draw(7, [5, 30, 9])
    whole = evaluate_retrieval(points, labels, seed=0)
    depths = []
    search = retrieval.nearest_neighbours

    def counted(points, wanted, chunk_bytes):
        depths.append(int(np.max(wanted)))
        return search(points, wanted, chunk_bytes)

    monkeypatch.setattr(retrieval, "nearest_neighbours", counted)
    evaluate_retrieval(points, labels, seed=0)
    names = ["nmi", "recall_at_8", "recall_at_1", "inter_distance"]
    some = evaluate_retrieval(points, labels, seed=0, names=names)
    assert depths == [29, 8]
    assert list(some) == names
    assert some == {name: whole[name] for name in names}
    monkeypatch.setattr(retrieval, "cluster", None)
    evaluate_retrieval(points, labels, seed=0, names=["map_at_r", "intra_distance"])
    assert depths == [29, 8, 29]
    assert evaluate_retrieval(points, labels, seed=0, names=[]) == {}
    assert len(depths) == 3


def test_the_callers_arrays_are_not_changed():
    points, labels = draw(8, [5, 5])
    copies = points.copy(), labels.copy()
    points.setflags(write=False)
    labels.setflags(write=False)
    evaluate_retrieval(points, labels, seed=0)
    np.testing.assert_array_equal(points, copies[0])
    np.testing.assert_array_equal(labels, copies[1])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_rows_that_are_not_finite_are_counted_and_refused(bad):
    points, labels = draw(0, [5, 5])
    points[[3, 8], 1] = bad
    with pytest.raises(UserError, match=r"embeddings: 2 of 10 rows are not finite.*the first is row 3"):
        evaluate_retrieval(points, labels, seed=0)


def test_a_row_of_zeros_is_refused():
    points, labels = draw(0, [5, 5])
    points[4] = 0
    with pytest.raises(UserError, match=r"embeddings: 1 of 10 rows are zero, which has no direction.*row 4"):
        evaluate_retrieval(points, labels, seed=0)


@pytest.mark.parametrize("scale", [0.998, 1.002, 1e-30, 1e200])
def test_rows_that_are_not_normalised_are_refused(scale):
    points, labels = draw(0, [5, 5])
    points = points.astype(np.float64)
    points[6:] *= scale
    with pytest.raises(UserError, match=r"embeddings: 4 of 10 rows are not of norm 1 .*row 6, of norm "):
        evaluate_retrieval(points, labels, seed=0)


def test_fewer_than_two_samples_are_refused():
    for count in (0, 1):
        with pytest.raises(UserError, match=f"embeddings: rows = {count}: must be at least 2"):
            evaluate_retrieval(np.ones((count, 1), np.float32), np.zeros(count, np.int64), seed=0)


def test_labels_of_another_length_are_refused():
    points, labels = draw(0, [5, 5])
    with pytest.raises(UserError, match="labels: length = 9: must be 10, one label for every embedding"):
        evaluate_retrieval(points, labels[:-1], seed=0)


def test_unknown_names_are_refused_with_those_meant():
    points, labels = draw(0, [5, 5])
    with pytest.raises(
        UserError, match=r"names: 'recall_at_3' is no retrieval metric; did you mean recall_at_"
    ):
        evaluate_retrieval(points, labels, seed=0, names=["recall_at_3"])
    with pytest.raises(UserError, match=r"names: 'zzz' is no retrieval metric; known: recall_at_1, "):
        evaluate_retrieval(points, labels, seed=0, names=["nmi", "zzz"])


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_seeds_out_of_range_are_refused_by_whatever_is_measured(seed):
    points, labels = draw(0, [5, 5])
    with pytest.raises(UserError, match=f"seed = {seed}: must be between 0 and 4294967295"):
        evaluate_retrieval(points, labels, seed=seed, names=["recall_at_1"])


def test_examples_of_retrieval_print_what_they_say():
    assert doctest.testmod(retrieval).failed == 0
    assert doctest.testmod(retrieval).attempted >= 3
