"""Which runs of a history have come to their end: those that finished, and those whose seeds have all died."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

if TYPE_CHECKING:
    from escapevelocity.study.history import History, HistoryRun


def deaths(history: History, run: HistoryRun) -> Float[np.ndarray, " seeds"]:
    """Where each seed has died: the steps of its last row, if that tells of a fault (numbers that are not finite).

    Args:
        history: with the run's records.
        run: one of its runs.

    Returns:
        NaN for a seed that has not died.
    """
    texts, _ = history.rows.column(run.name, "fault")  # None or NaN in a row, or a run, without the column.
    steps, seeds = (history.rows.column(run.name, key)[0] for key in ("env_steps", "seed"))
    died = np.full(len(run.seeds), np.nan)
    for index, seed in enumerate(run.seeds):
        own = np.flatnonzero(seeds == seed)
        last = own[np.argmax(steps[own])] if own.size else None
        if last is not None and isinstance(texts[last], str) and texts[last]:
            died[index] = steps[last]
    return died


def has_ended(history: History, run: HistoryRun) -> bool:
    """Whether there is nothing left to train: it finished, or failed because every seed has died (`deaths`)."""
    if run.state == "failed":
        return bool(np.isfinite(deaths(history, run)).all())
    return run.state == "finished"


def ended_runs(path: Path | None) -> dict[str, tuple[int, ...]]:
    """The runs that a kept history holds to their end, by name, with their seeds; none without a file.

    Raises:
        UserError: the file is missing or no history.
    """
    from escapevelocity.study.history import read_history

    if path is None:
        return {}
    history = read_history(path)
    return {run.name: run.seeds for run in history.runs if has_ended(history, run)}
