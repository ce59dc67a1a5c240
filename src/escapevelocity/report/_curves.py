"""From records to curves: thinned to 0.1 % of the run, mean and min–max over seeds, smoothed."""

from __future__ import annotations

import difflib
import warnings
from dataclasses import dataclass
from shlex import quote
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float

from escapevelocity.errors import UserError
from escapevelocity.runs import Run, whole_records

ALPHA = 0.05
"""Weight of the newest of 1,000 points in the moving average (Moalla et al. 2024)."""
BINS = 1000
"""One point for each 0.1 % of the run."""
FROZEN = "× marks a seed that was frozen; the mean goes on over the others."
"""For the captions of figures in which a curve has `ends`."""


@dataclass(frozen=True)
class Curve:
    """A column over the run: smoothed mean, minimum and maximum over seeds; NaN where it is undefined."""

    steps: Float[np.ndarray, " points"]
    """Environment steps."""
    mean: Float[np.ndarray, " points"]
    low: Float[np.ndarray, " points"]
    high: Float[np.ndarray, " points"]
    ends: tuple[tuple[float, float], ...] = ()
    """Where a member was frozen before the others ended: (steps, its last smoothed value)."""

    def after(self, step: float) -> Curve:
        """What follows a step, with the last point up to it, so that it joins what it branches from."""
        first = max(int(np.searchsorted(self.steps, step, side="right")) - 1, 0)
        cut = (x[first:] for x in (self.steps, self.mean, self.low, self.high))
        return Curve(*cut, ends=tuple(end for end in self.ends if end[0] > step))

    @property
    def is_measured(self) -> bool:
        """Whether there is a single point, defined or not."""
        return self.steps.size > 0


class BySeed(NamedTuple):
    """A column as recorded, a row per seed."""

    steps: Float[np.ndarray, " points"]
    """Environment steps at which any seed recorded the column, increasing."""
    seeds: np.ndarray
    """Increasing."""
    values: Float[np.ndarray, "seeds points"]
    """NaN where a seed recorded none, or where it is undefined."""
    present: Bool[np.ndarray, "seeds points"]
    """Whether a seed has a row there."""


def moving_average(
    values: Float[np.ndarray, " points"], alpha: float = ALPHA
) -> Float[np.ndarray, " points"]:
    """Take the exponential moving average y₀ = x₀, y_t = α·x_t + (1 − α)·y_{t−1}, not bias-adjusted.

    A point that is NaN or infinite becomes a gap (NaN) and leaves the average where it was.

    Args:
        values: x.
        alpha: α, weight of the newest point.

    Example:
        >>> moving_average(np.array([0.0, 1.0, np.nan, 1.0]), alpha=0.5)
        array([0.  , 0.5 ,  nan, 0.75])
    """
    smoothed = np.full(values.shape, np.nan)
    last = np.nan
    for index, value in enumerate(values):
        if np.isfinite(value):
            last = value if np.isnan(last) else last + alpha * (value - last)
            smoothed[index] = last
    return smoothed


def newest_weight(steps: Float[np.ndarray, " points"], total: float) -> float:
    """Choose α so that the average forgets over the same share of the run, however many points it has.

    α = 0.05 at the paper's 1,000 points. A run with n points has 1 − 0.95^(1000/n): with α = 0.05 a run of
    fifty batches would hardly move from its first value.

    Args:
        steps: environment steps of the points, increasing.
        total: environment steps of the whole run.
    """
    if steps.size < 2:
        return 1.0
    # The mean distance: of 1,500 batches thinned to 1,000 points every second one is twice as far as the others.
    points = min(float(BINS), total * (steps.size - 1) / float(steps[-1] - steps[0]))
    return 1.0 - (1.0 - ALPHA) ** (BINS / points)


def thinned(steps: Float[np.ndarray, " points"], total: float) -> np.ndarray:
    """Choose the last point of every 0.1 % of the run.

    Args:
        steps: environment steps, increasing.
        total: environment steps of the whole run.

    Returns:
        Indices into `steps`.
    """
    # Rounded: a point exactly at a bin's end must not fall into the next by the last bit of a division.
    bins = np.ceil(np.round(steps * (BINS / total), 9))
    return np.flatnonzero(np.append(bins[1:] != bins[:-1], True)) if steps.size else np.zeros(0, int)


def curve(run: Run, records: pa.Table, column: str) -> Curve:
    """Turn a column of a run's records into its curve.

    Args:
        run: the run.
        records: its records.
        column: a numeric column; one that the records lack, or never measured, gives an empty curve.
    """
    steps, seeds, values, present = by_seed(records, column)
    if not steps.size:
        return Curve(steps, steps, steps, steps)
    total = float(run.status.steps_total or max(steps, default=1.0))
    chosen = thinned(steps, total)
    steps, values, present = steps[chosen], values[:, chosen], present[:, chosen]
    alpha = newest_weight(steps, total)
    with warnings.catch_warnings():  # a point at which no member has a value is NaN, which is what is wanted
        warnings.simplefilter("ignore", RuntimeWarning)
        mean, low, high = (reduce(values, axis=0) for reduce in (np.nanmean, np.nanmin, np.nanmax))
    # Members that merely lack the last row, of a run that was interrupted within a batch, are not frozen.
    frozen = np.isin(seeds, _faulty(records))
    ends = early_ends(steps, values[frozen], present[frozen], alpha)
    return Curve(steps, *(moving_average(x, alpha) for x in (mean, low, high)), ends=ends)


def by_seed(records: pa.Table, column: str) -> BySeed:
    """Put the seeds of a column side by side, as recorded.

    Args:
        records: a run's records.
        column: a column; one that the records lack or never measured, or that holds no numbers, gives no points.
    """
    if column not in records.column_names or not _is_number(records.schema.field(column).type):
        return BySeed(np.zeros(0), np.zeros(0, int), np.zeros((0, 0)), np.zeros((0, 0), bool))
    kept = records.filter(records[column].is_valid())
    steps, position = np.unique(_floats(kept, "env_steps"), return_inverse=True)
    seeds, member = np.unique(_seeds(kept), return_inverse=True)
    values = np.full((seeds.size, steps.size), np.nan)
    values[member, position] = _floats(kept, column)
    present = np.zeros(values.shape, bool)
    present[member, position] = True
    return BySeed(steps, seeds, values, present)


def require_records(run: Run) -> pa.Table:
    """Read a run's records; those of a branch begin with the past that it shares with its parent.

    Raises:
        UserError: when there are none.
    """
    records, _ = whole_records(run.path, run.parent)
    if records.num_rows == 0 or "env_steps" not in records.column_names:
        raise UserError(
            f"{run.path} has no records to draw; `ev resume {quote(str(run.path))}` computes them"
        )
    return records


def require_numeric(records: pa.Table, column: str) -> None:
    """Refuse a column that the records do not have or that holds no numbers.

    Raises:
        UserError: naming the nearest columns.
    """
    numeric = [field.name for field in records.schema if _is_number(field.type)]
    if column not in numeric:
        near = difflib.get_close_matches(column, numeric, n=3, cutoff=0.3) or numeric[:3]
        raise UserError(
            f"columns = {column!r}: must be a numeric column of the records, such as {', '.join(near)}"
        )


def early_ends(
    steps: Float[np.ndarray, " points"],
    values: Float[np.ndarray, "seeds points"],
    present: Bool[np.ndarray, "seeds points"],
    alpha: float,
) -> tuple[tuple[float, float], ...]:
    """Where a curve's frozen members ended before its others, with the last value of each, smoothed like the curve.

    Args:
        steps: environment steps of the curve's points.
        values: of the members that were frozen.
        present: whether a member has a row there.
        alpha: the curve's weight of the newest point.
    """
    ends = []
    for own, there in zip(values, present, strict=True):
        last = int(np.flatnonzero(there)[-1]) if there.any() else steps.size - 1
        own = moving_average(own[: last + 1], alpha)
        defined = own[~np.isnan(own)]
        if last < steps.size - 1 and defined.size:
            ends.append((float(steps[last]), float(defined[-1])))
    return tuple(ends)


def _faulty(records: pa.Table) -> list[int]:
    """Give the seeds whose newest row tells of a fault."""
    if "fault" not in records.column_names:
        return []
    faults = records["fault"].to_pylist()
    newest = dict(zip(_seeds(records).tolist(), faults, strict=True))  # records are sorted by batch
    return [seed for seed, fault in newest.items() if fault]


def frozen_at(records: pa.Table) -> dict[int, float]:
    """Give the seeds whose newest row tells of a fault while others went on, each with the step of that row.

    Args:
        records: a run's records.
    """
    if "env_steps" not in records.column_names or not records.num_rows:
        return {}
    seeds, steps = _seeds(records), _floats(records, "env_steps")
    ends = {seed: float(steps[seeds == seed].max()) for seed in _faulty(records)}
    return {seed: end for seed, end in ends.items() if end < steps.max()}


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_floating(kind) or pa.types.is_integer(kind)


def _floats(table: pa.Table, column: str) -> Float[np.ndarray, " rows"]:
    return np.asarray(table[column].to_numpy(), np.float64)


def _seeds(table: pa.Table) -> np.ndarray:
    return table["seed"].to_numpy() if "seed" in table.column_names else np.zeros(table.num_rows, int)
