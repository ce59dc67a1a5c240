"""From a log's numbers by tag to our columns: one row per update."""

import math
from collections.abc import Mapping

import numpy as np

from escapevelocity.health import outside_healthy_range
from escapevelocity.health.watch import COLUMNS
from escapevelocity.interop._foreign_dates import dated
from escapevelocity.interop._foreign_log import Log, Vector
from escapevelocity.interop._foreign_tags import OURS, STEP_TAGS, Tag, find_tag

Columns = dict[str, np.ndarray]

_EPISODES_PER_ROW = 10
_FEWEST_ROWS = 40
"""Twice what the diagnosis needs to call a return flat."""
_MOST_ROWS = 1000
"""0.1 % of a run, the cadence of Moalla et al. 2024."""
_RANGES = {"trust/kl_k3": "trust/kl"}
"""An estimate without a healthy range of its own is held to that of what it estimates."""


def columns_of(log: Log, continuous: bool | None) -> Columns:
    """Give a log as columns of our records, and add to its notes what their definitions differ in.

    Where a step goes back (a restart, or a second run in the same file), everything that had been logged from that
    step on is superseded, as in TensorBoard. Of several values of one tag at one step the last counts, except that
    every episode counts. Episodes are put together into the batch in which they ended.

    Args:
        log: what was read.
        continuous: whether actions are continuous.

    Returns:
        `env_steps` and every column that the log allows, NaN where a row lacks it; `fault` names what was NaN or
        infinite and must not be.
    """
    series = _without_superseded(log)
    chosen = _chosen(series, log)
    if not chosen:
        return {}
    series = dated(_on_env_steps(series))
    grid = _grid(series)
    columns: Columns = {"env_steps": np.rint(grid).astype(np.int64)}
    for tag, line in chosen.items():
        if line.column:
            columns.update(_placed(line, *series[tag], grid))
    if continuous and "policy/entropy" in columns:
        # No trainer here squashes its normal: both entropies are one.
        columns.setdefault("policy/entropy_base", columns["policy/entropy"])
    if any(line.must_be_finite for line in chosen.values()):
        columns["fault"] = _faults(series, chosen, grid)
    _tell_differences(chosen, log)
    _tell_unjudged(columns, log)
    return columns


def _without_superseded(log: Log) -> dict[str, tuple[Vector, Vector]]:
    kept, restarts = {}, 0
    for tag, (steps, values) in log.series.items():
        back = np.concatenate([[False], np.diff(steps) < 0])
        lowest = np.minimum.accumulate(np.where(back, steps, np.inf)[::-1])[::-1]
        later = np.concatenate([lowest[1:], [np.inf]])  # The lowest restart after each value.
        keep = steps < later
        kept[tag] = steps[keep], values[keep]
        restarts = max(restarts, int(back.sum()))
    if restarts:
        times = "once" if restarts == 1 else f"{restarts} times"
        log.notes.append(f"the step goes back {times}: what a restart logged again is counted once")
    return kept


def _chosen(series: Mapping[str, tuple[Vector, Vector]], log: Log) -> dict[str, Tag]:
    """Take the best tag for every column, and all those that must be finite."""
    found = {tag: match for tag in series if (match := find_tag(tag)) is not None}
    best: dict[str, str] = {}
    for tag in sorted(found, key=lambda tag: (found[tag][0], tag)):
        best.setdefault(found[tag][1].column or tag, tag)
    others = sorted(found.keys() - set(best.values()))
    if others:
        log.notes.append(f"left out, since other tags tell the same better: {', '.join(others)}")
    return {tag: found[tag][1] for tag in best.values()}


def _on_env_steps(series: Mapping[str, tuple[Vector, Vector]]) -> dict[str, tuple[Vector, Vector]]:
    """Replace steps that count iterations by environment steps, where a tag holds them (RLlib in TensorBoard)."""
    held = next((tag for tag in STEP_TAGS if tag in series and np.isfinite(series[tag][1]).all()), None)
    if held is None:
        return dict(series)
    at, env_steps = series[held]
    return {tag: (np.interp(steps, at, env_steps), values) for tag, (steps, values) in series.items()}


def _grid(series: Mapping[str, tuple[Vector, Vector]]) -> Vector:
    """Steps of the updates, and of the end of the episodes after the last one; without updates, of every few."""
    known = {tag: match[1] for tag in series if (match := find_tag(tag)) is not None}
    episodes = np.unique(_joined([series[tag][0] for tag, line in known.items() if line.per_episode]))
    updates = np.unique(_joined([series[tag][0] for tag, line in known.items() if not line.per_episode]))
    if len(updates):
        last = episodes[-1:][episodes[-1:] > updates[-1]]
        return np.concatenate([updates, last])
    count = len(episodes)
    size = max(1, min(_EPISODES_PER_ROW, count // _FEWEST_ROWS), math.ceil(count / _MOST_ROWS))
    return episodes[np.unique(np.append(np.arange(size - 1, count, size), count - 1))]


def _joined(parts: list[Vector]) -> Vector:
    return np.concatenate(parts) if parts else np.zeros(0)


def _placed(line: Tag, steps: Vector, values: Vector, grid: Vector) -> Columns:
    values = values * line.factor
    if line.zero_is_missing:
        values = np.where(values == 0, np.nan, values)
    rows = np.searchsorted(grid, steps)
    if not line.per_episode:
        column = np.full(len(grid), np.nan)
        column[rows] = values  # Of several at one step NumPy keeps the last.
        return {line.column: column}
    counts = np.bincount(rows, minlength=len(grid))
    with np.errstate(invalid="ignore"):
        means = np.bincount(rows, weights=values, minlength=len(grid)) / np.where(counts, counts, np.nan)
    columns = {line.column: means}
    if line.column == "perf/return_mean":
        largest = np.full(len(grid), -np.inf)
        np.maximum.at(largest, rows, values)
        columns["perf/return_max"] = np.where(counts > 0, largest, np.nan)
        columns["perf/episodes"] = counts.astype(np.float64)
    return columns


def _faults(
    series: Mapping[str, tuple[Vector, Vector]], chosen: Mapping[str, Tag], grid: Vector
) -> np.ndarray:
    """Name per row what is NaN or infinite; "" where all is well, None where nothing tells."""
    told = np.full(len(grid), None, dtype=object)
    for tag, line in chosen.items():
        steps, values = series[tag]
        if line.must_be_finite:
            rows = np.searchsorted(grid, steps)
            for row in np.unique(rows):
                told[row] = told[row] or ""
            for row, value in zip(rows, values, strict=True):
                if not np.isfinite(value):
                    told[row] = f"{told[row]}, {tag} is {value}".removeprefix(", ")
    return told


def _tell_differences(chosen: Mapping[str, Tag], log: Log) -> None:
    for tag, line in chosen.items():
        if line.column and line.writer != OURS:
            note = f": {line.note}" if line.note else ""
            log.notes.append(f"{line.writer}'s {tag} is read as {line.column}{note}")


def _tell_unjudged(columns: Columns, log: Log) -> None:
    """Say where a number that no rule reads leaves its healthy range."""
    for column, values in columns.items():
        if column in COLUMNS or column in ("env_steps", "fault") or column.startswith(("health/", "perf/")):
            continue
        ranged = _RANGES.get(column, column)
        outside = [outside_healthy_range(ranged, float(value)) is True for value in values]
        if any(outside):
            first = int(np.argmax(outside))
            log.notes.append(
                f"{column} was outside its healthy range in {sum(outside)} rows, first with {values[first]:.3g} at "
                f"step {columns['env_steps'][first]:,}: no rule of the diagnosis reads it, a person should"
            )
