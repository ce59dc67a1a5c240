"""Does k-means find the classes again? Clusters of an embedding, their NMI and F1 with the labels."""

import math
import warnings

import numpy as np
from jaxtyping import Float, Int
from threadpoolctl import threadpool_limits

from escapevelocity.errors import require
from escapevelocity.metric_learning.neighbours import on_grid

RESTARTS = 4
"""Starts of k-means, of which that with the least inertia counts. One leaves NMI to chance: of 300 points in five
classes that overlap a little, its standard deviation over seeds was 0.12 with one start, 0.02 with four."""
ITERATIONS = 100
"""Most steps of k-means from each start; seldom more than 40 are needed."""


def cluster(
    points: Float[np.ndarray, "samples dim"], num_clusters: int, seed: int
) -> Int[np.ndarray, " samples"]:
    """Assign points to clusters by k-means.

    scikit-learn's `KMeans`: starts by k-means++, Lloyd's algorithm, the best of 4 starts, at most 100 steps each,
    tolerance 1e-4, float64, one thread, so that points and seed alone decide. It is given the distinct points (after
    rounding to multiples of 2⁻²⁵), weighted by how many copies there are, in order of their product with the
    mean, then of their coordinates. The order of the samples therefore makes no difference. A rotation makes none
    either, but for its own rounding, which can tip a start or a tie.

    Time grows as samples × clusters × dimensions: 10,000 × 100 × 128 take a second, 60,000 × 11,000 × 128 hours.

    Args:
        points: N points of norm at most about 1.
        num_clusters: k ≥ 1. Where there are no more distinct points than that, each is a cluster.
        seed: of the starts, from 0 to 2³² − 1.

    Returns:
        The number of each point's cluster, below k.

    Raises:
        UserError: `num_clusters` or `seed` is out of range.

    Example:
        >>> found = cluster(np.array([[1.0, 0.0], [-1.0, 0.0], [0.8, 0.6], [-0.8, 0.6]]), 2, seed=0)
        >>> bool(found[0] == found[2] != found[1] == found[3])
        True
    """
    require(num_clusters >= 1, "num_clusters", num_clusters, "at least 1")
    require(0 <= seed < 2**32, "seed", seed, "between 0 and 4294967295")
    distinct, which, copies = np.unique(on_grid(points), axis=0, return_inverse=True, return_counts=True)
    which = which.reshape(-1)  # NumPy 2.0 alone gives it another axis.
    if len(distinct) <= num_clusters:
        return which
    # Not before they are needed: they take a second to import.
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    with threadpool_limits(1), warnings.catch_warnings():
        # Points so close that float64 cannot tell their distances: fewer clusters are right.
        warnings.simplefilter("ignore", ConvergenceWarning)
        order = np.argsort(distinct @ (copies @ distinct), kind="stable")
        means = KMeans(
            num_clusters,
            n_init=RESTARTS,  # pyright: ignore[reportArgumentType]  # It infers str from the default.
            max_iter=ITERATIONS,
            algorithm="lloyd",
            random_state=seed,
        )
        means.fit(distinct[order], sample_weight=copies[order].astype(np.float64))
    found = np.empty(len(distinct), np.int64)
    found[order] = np.asarray(means.labels_)
    return found[which]


def nmi(labels: Int[np.ndarray, " samples"], clusters: Int[np.ndarray, " samples"]) -> float:
    """Normalised mutual information, I(labels; clusters) / mean of both entropies, by scikit-learn.

    With the arithmetic mean, as pytorch-metric-learning has it. One class in one cluster is 1, and so are samples each
    in a class and a cluster of its own.

    Example:
        >>> nmi(np.array([0, 0, 1, 1]), np.array([5, 5, 3, 3]))
        1.0
    """
    from sklearn.metrics import normalized_mutual_info_score

    with warnings.catch_warnings():
        # With more classes than half the samples it asks whether this is a regression.
        warnings.filterwarnings("ignore", message="The number of unique classes", category=UserWarning)
        return float(normalized_mutual_info_score(labels, clusters, average_method="arithmetic"))


def pairwise_f1(labels: Int[np.ndarray, " samples"], clusters: Int[np.ndarray, " samples"]) -> float:
    """F1 over pairs of samples: a pair is positive in truth if it shares the class, and found if it shares the cluster.

    With TP pairs that share both, F1 = 2·P·R / (P + R) = 2·TP / (pairs in a class + pairs in a cluster), where P = TP /
    pairs in a cluster and R = TP / pairs in a class (Song et al. 2016, arXiv 1511.06452, Section 6, after Manning et
    al. 2008, Section 16.3). PADS computes the same number, P and R exchanged.

    Returns:
        Between 0 and 1, and 0 if no pair shares both; NaN if no two samples share a class or a cluster.

    Example:
        >>> round(pairwise_f1(np.array([0, 0, 0, 1]), np.array([0, 0, 1, 1])), 3)  # TP 1, in a class 3, in a cluster 2
        0.4
    """
    _, classes = np.unique(labels, return_inverse=True)
    _, groups = np.unique(clusters, return_inverse=True)
    both = classes.astype(np.int64) * len(groups) + groups
    pairs = _pairs(classes) + _pairs(groups)
    return 2 * _pairs(both) / pairs if pairs else math.nan


def _pairs(labels: np.ndarray) -> int:
    """Unordered pairs of samples with the same label."""
    counts = np.unique(labels, return_counts=True)[1].astype(np.int64)
    return int(np.sum(counts * (counts - 1)) // 2)
