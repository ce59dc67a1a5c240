"""How well an embedding retrieves images of a sample's class: Recall@k, NMI, F1, R-precision, MAP@R, distances.

What leaves a metric as it is, but for rounding in sums: other labels for the classes; another order of the samples,
unless two others are equally far from a query (the lower index comes first). Rotating the embedding leaves alone the
distances; the rankings, unless two others are so nearly equally far that the rotation's rounding exchanges them; and
NMI and F1, unless it tips a start or a tie of k-means (see `cluster`).
"""

import difflib
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from escapevelocity.errors import UserError, require
from escapevelocity.health.measured import Measured, explain
from escapevelocity.metric_learning.clustering import cluster, nmi, pairwise_f1
from escapevelocity.metric_learning.neighbours import CHUNK_BYTES, Neighbours, nearest_neighbours

RECALLS: Mapping[str, int] = {f"recall_at_{k}": k for k in (1, 2, 4, 8)}
RETRIEVAL_METRICS = (
    *RECALLS,
    "nmi",
    "f1",
    "r_precision",
    "map_at_r",
    "intra_distance",
    "inter_distance",
)
"""Names of all metrics."""

NORM_TOLERANCE = 1e-3
"""How far from 1 the norm of an embedding may be."""

_TO_R = ("r_precision", "map_at_r")
_NO_QUERY = "every class has one sample: none can be retrieved"
_REASONS = {
    **dict.fromkeys((*RECALLS, *_TO_R), _NO_QUERY),
    "f1": "no two samples share a class or a cluster",
    "intra_distance": "every class has one sample",
    "inter_distance": "there is one class only",
}


class Retrieval(NamedTuple):
    """What an embedding retrieves.

    Attributes:
        measured: the metrics, and of each that is NaN the reason.
        queries: samples that Recall@k, R-precision and MAP@R are means over.
        left_out: samples that are no queries, for they are the only ones of their class.
    """

    measured: Measured
    queries: int
    left_out: int


def evaluate_retrieval(
    embeddings: Float[np.ndarray, "samples dim"],
    labels: Int[np.ndarray, " labels"],
    *,
    seed: int,
    names: Sequence[str] = RETRIEVAL_METRICS,
) -> dict[str, float]:
    """Measure how well an embedding retrieves samples of the same class; `measure_retrieval` has all about it.

    Example:
        >>> embeddings = np.array([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [0.6, 0.8]], np.float32)
        >>> evaluate_retrieval(embeddings, np.array([0, 0, 1, 1]), seed=0, names=["recall_at_1", "recall_at_2"])
        {'recall_at_1': 0.5, 'recall_at_2': 1.0}
    """
    return {
        name: float(value)
        for name, value in measure_retrieval(
            embeddings, labels, seed=seed, names=names
        ).measured.values.items()
    }


def measure_retrieval(
    embeddings: Float[np.ndarray, "samples dim"],
    labels: Int[np.ndarray, " labels"],
    *,
    seed: int,
    names: Sequence[str] = RETRIEVAL_METRICS,
    chunk_bytes: int = CHUNK_BYTES,
) -> Retrieval:
    """Measure how well an embedding retrieves samples of the same class.

    Every sample is a query for all others, ranked by Euclidean distance, ties by index. R is the number of others of
    its class. A sample that is alone in its class is no query, but the others may find it.

    - `recall_at_k`, k = 1, 2, 4, 8: share of queries with one of their class among the k nearest others, or among all
      others where there are fewer (Jégou et al. 2011).
    - `r_precision`: share of the query's class among its R nearest, averaged over queries (Musgrave et al. 2020, arXiv
      2003.08505, Section 3.1).
    - `map_at_r`: (1/R) Σ_{i ≤ R} P(i), where P(i) is the share of the query's class among its i nearest if the i-th is
      of its class, else 0; averaged over queries (same place).
    - `nmi`, `f1`: of k-means with as many clusters as classes, see `nmi`, `pairwise_f1` and `cluster`.
    - `intra_distance`, `inter_distance`: mean of 1 − cos over all pairs of the same class, and of different classes.
      (PADS's code gives every class the same weight instead, and takes the latter between the classes' centres.)

    Args:
        embeddings: N ≥ 2 points, all but on the unit sphere; what their norms lack is made up for.
        labels: N integers.
        seed: of k-means.
        names: metrics wanted. Only what they need is computed: neighbours once, to depth 8 for Recall@k.
        chunk_bytes: memory of the search for neighbours, which never holds an N×N matrix. Beside it there are a few
            copies of the embeddings in float64.

    Returns:
        A value for every name, in their order; NaN, with its reason, where there is nothing to average.

    Raises:
        UserError: an unknown name, fewer than two samples, labels of another length, rows that are not finite, are zero
            or have a norm more than 1e-3 from 1, a seed that is negative or too large.
    """
    for name in names:
        _require_known(name)
    require(0 <= seed < 2**32, "seed", seed, "between 0 and 4294967295")
    unit = _unit_rows(embeddings, labels)
    _, classes, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    others = sizes[classes] - 1
    found = _ranking_metrics(unit, classes, others, names, chunk_bytes)
    if {"nmi", "f1"} & set(names):
        clusters = cluster(unit, len(sizes), seed)
        found |= {"nmi": nmi(classes, clusters)} if "nmi" in names else {}
        found |= {"f1": pairwise_f1(classes, clusters)} if "f1" in names else {}
    if {"intra_distance", "inter_distance"} & set(names):
        found |= class_distances(unit, classes)
    queries = int(np.count_nonzero(others))
    return Retrieval(explain({name: found[name] for name in names}, _REASONS), queries, len(others) - queries)


def class_distances(
    unit: Float[np.ndarray, "samples dim"], labels: Int[np.ndarray, " samples"]
) -> dict[str, float]:
    """Mean cosine distance within and between classes, from the classes' means alone.

    Of unit vectors 1 − cos = ‖x − y‖²/2. With n_c samples, mean m_c and scatter S_c = Σ_c ‖x − m_c‖² of class c, and
    the mean m of all N, these sum over ordered pairs to Σ n_c·S_c within and Σ ((N − n_c)·S_c + N·n_c·‖m_c − m‖²)
    between classes: no sum of cosines near 1, from which a collapsed embedding's distances could not be told.

    Args:
        unit: points of norm 1.
        labels: N integers.

    Returns:
        `intra_distance`, NaN if every class has one sample; `inter_distance`, NaN if there is one class.

    Example:
        >>> class_distances(np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]), np.array([0, 0, 1]))
        {'intra_distance': 1.0, 'inter_distance': 1.5}
    """
    total = len(unit)
    _, classes, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    order = np.argsort(classes, kind="stable")
    starts = np.cumsum(sizes) - sizes
    means = np.add.reduceat(unit[order].astype(np.float64), starts, axis=0) / sizes[:, None]
    scatter = np.bincount(classes, np.sum((unit - means[classes]) ** 2, axis=1))
    apart = np.sum((means - np.average(means, axis=0, weights=sizes)[None]) ** 2, axis=1)
    intra = np.sum(sizes * scatter)
    inter = np.sum((total - sizes) * scatter + total * sizes * apart)
    same = int(np.sum(sizes * (sizes - 1)))
    different = total * (total - 1) - same
    return {
        "intra_distance": float(intra) / same if same else math.nan,
        "inter_distance": float(inter) / different if different else math.nan,
    }


def _ranking_metrics(
    unit: np.ndarray, classes: np.ndarray, others: np.ndarray, names: Sequence[str], chunk_bytes: int
) -> dict[str, float]:
    """Those of `names` that the nearest neighbours decide: means over the queries."""
    sums = {name: 0.0 for name in (*RECALLS, *_TO_R) if name in names}
    queries = int(np.count_nonzero(others))
    if not sums or queries == 0:
        return dict.fromkeys(sums, math.nan)
    depth = max((k for name, k in RECALLS.items() if name in names), default=1)
    depths = np.maximum(others, depth) if set(_TO_R) & set(names) else np.full_like(others, depth)
    for chunk in nearest_neighbours(unit, np.where(others > 0, depths, 0), chunk_bytes):
        for name, value in _sums(chunk, classes, others[chunk.queries], sums).items():
            sums[name] += value
    return {name: value / queries for name, value in sums.items()}


def _sums(
    chunk: Neighbours, classes: np.ndarray, others: np.ndarray, names: Mapping[str, float]
) -> dict[str, float]:
    """Sums over a chunk of queries, each with R = `others` of its class."""
    alike = classes[chunk.indices] == classes[chunk.queries][:, None]
    sums = {
        name: float(np.count_nonzero(np.any(alike[:, :k], axis=1)))
        for name, k in RECALLS.items()
        if name in names
    }
    if not set(_TO_R) & set(names):
        return sums
    ranks = np.arange(1, alike.shape[1] + 1)
    alike &= ranks[None] <= others[:, None]
    counts = np.cumsum(alike, axis=1, dtype=np.int32)
    if "r_precision" in names:
        sums["r_precision"] = float(np.sum(counts[:, -1] / others))
    if "map_at_r" in names:
        counts *= alike
        sums["map_at_r"] = float(np.sum(np.sum(counts / ranks[None], axis=1) / others))
    return sums


def _require_known(name: str) -> None:
    if name not in RETRIEVAL_METRICS:
        near = difflib.get_close_matches(name, RETRIEVAL_METRICS, n=3, cutoff=0.5)
        hint = f"did you mean {', '.join(near)}?" if near else f"known: {', '.join(RETRIEVAL_METRICS)}"
        raise UserError(f"names: {name!r} is no retrieval metric; {hint}")


def _unit_rows(embeddings: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The embeddings in float64 with norm 1, or a UserError that says what is wrong with them."""
    count = len(embeddings)
    require(count >= 2, "embeddings: rows", count, "at least 2; each needs another to be retrieved")
    require(len(labels) == count, "labels: length", len(labels), f"{count}, one label for every embedding")
    points = embeddings.astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        norms = np.linalg.norm(points, axis=1)
    finite = np.isfinite(points).all(axis=1)
    _refuse(~finite, "not finite; every number must be", norms)
    _refuse(norms == 0, "zero, which has no direction; each must have norm 1", norms)
    _refuse(np.abs(norms - 1) > NORM_TOLERANCE, "not of norm 1 (to 0.001); divide each by its norm", norms)
    return points / norms[:, None]


def _refuse(bad: Any, what: str, norms: np.ndarray) -> None:
    if bad.any():
        row = int(np.argmax(bad))
        raise UserError(
            f"embeddings: {np.count_nonzero(bad)} of {len(bad)} rows are {what}; the first is row {row}, of norm"
            f" {norms[row]:g}"
        )
