"""Scores of a study: for every task, one number for each of its runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

from escapevelocity.errors import UserError, require

Scores = Mapping[str, Any] | np.ndarray
"""Task → its runs' scores (..., runs), or one array (runs, tasks), or (runs,) for a single task.

Tasks of a mapping may have different numbers of runs. Leading axes (a batch of studies of one shape) carry through
every statistic: the bootstrap hands its resamples over in that form.
"""


def by_task(scores: Scores) -> dict[str, Float[np.ndarray, "... runs"]]:
    """Bring scores into one form: task → float64 array (..., runs).

    Args:
        scores: see `Scores`; the columns of an array are named "0", "1", ….

    Raises:
        UserError: when there is no task or no run, the leading axes differ, or a score is not finite. A run
            without a score has to be left out, or given the score it deserves, by whoever compares.
    """
    if isinstance(scores, Mapping):
        tasks = {name: _numbers(values, f"scores of {name}") for name, values in scores.items()}
    else:
        table = _numbers(scores, "scores")
        require(
            table.ndim <= 2, "scores.ndim", table.ndim, "1 (runs) or 2 (runs, tasks); name tasks by a mapping"
        )
        require(table.size > 0, "scores: shape", table.shape, "at least one run and one task")
        columns = table[:, None] if table.ndim == 1 else table
        tasks = {str(index): column for index, column in enumerate(columns.T)}
    require(len(tasks) > 0, "scores", scores, "those of at least one task")
    shapes = {values.shape[:-1] for values in tasks.values()}
    require(len(shapes) == 1, "leading axes of the tasks' scores", sorted(shapes), "the same for all tasks")
    return tasks


def pooled(scores: Scores) -> Float[np.ndarray, "... all_runs"]:
    """Put the runs of all tasks side by side: (..., runs of the first task + those of the second + …)."""
    return np.concatenate(list(by_task(scores).values()), axis=-1)


def _numbers(values: Any, field: str) -> np.ndarray:
    try:
        numbers = np.asarray(values, np.float64)
    except (TypeError, ValueError):
        raise UserError(f"{field}: must be real numbers, got {type(values).__name__}") from None
    require(numbers.ndim > 0 and numbers.shape[-1] > 0, f"{field}: shape", numbers.shape, "at least one run")
    bad = np.flatnonzero(~np.isfinite(numbers))
    if bad.size:
        raise UserError(
            f"{field}: {bad.size} of {numbers.size} are not finite: leave those runs out, or score them"
        )
    return numbers
