"""The table of metrics: every column of the records, what it means and when it should worry someone."""

import difflib
import math

from escapevelocity.errors import UserError
from escapevelocity.health._metric import Metric
from escapevelocity.health._metrics_asr import ASR_METRICS
from escapevelocity.health._metrics_embedding import EMBEDDING_METRICS
from escapevelocity.health._metrics_network import NETWORK_METRICS
from escapevelocity.health._metrics_policy import POLICY_METRICS
from escapevelocity.health._metrics_run import RUN_METRICS


def _by_group(metrics: tuple[Metric, ...]) -> tuple[Metric, ...]:
    """Put what has the same first part of its name together, where the first of them stands."""
    groups: dict[str, list[Metric]] = {}
    for one in metrics:
        groups.setdefault(one.name.split("/")[0] if "/" in one.name else "", []).append(one)
    return tuple(one for group in groups.values() for one in group)


METRICS: tuple[Metric, ...] = _by_group(
    RUN_METRICS + NETWORK_METRICS + POLICY_METRICS + EMBEDDING_METRICS + ASR_METRICS
)
"""Every metric, in the order of the documentation."""

_BY_COLUMN = {column: metric for metric in METRICS for column in metric.columns()}


def metric(name: str) -> Metric:
    """Return the line of the table that defines a column.

    Args:
        name: column name, such as "trust/clip_fraction" or "health/actor/srank_after".

    Raises:
        UserError: if no such column is defined; the nearest names are suggested.

    Example:
        >>> metric("health/critic/srank_after").source
        'Kumar et al. 2021 (arXiv 2010.14498), §3'
    """
    if name not in _BY_COLUMN:
        near = difflib.get_close_matches(name, _BY_COLUMN, n=3) or list(_BY_COLUMN)[:3]
        raise UserError(f"metric = {name!r}: must be a column of docs/metrics.md, such as {', '.join(near)}")
    return _BY_COLUMN[name]


def outside_healthy_range(
    name: str, value: float | int, width: int | None = None, start: float | None = None
) -> bool | None:
    """Say whether a value lies outside its metric's healthy range.

    Args:
        name: column name.
        value: the measured value, in the metric's unit.
        width: D, units of the layer; needed for ranks and dead neurons only.
        start: the run's first value of this metric, where it is known; ranks are judged by it too.

    Returns:
        True outside, False inside (both ends count as inside), None where nothing can be said: the metric has
        no range, or the value is NaN. None is not "healthy".

    Raises:
        UserError: if the name is unknown, or the range is relative to the width and none is given.

    Example:
        >>> outside_healthy_range("health/actor/feature_rank_pca", 4.0, width=64)
        True
    """
    healthy = metric(name).healthy
    if healthy is None or math.isnan(value):
        return None
    low, high = healthy.bounds(width, start)
    return not low <= value <= high
