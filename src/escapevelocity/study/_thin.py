"""A run's records as a history's rows: the last point of every 0.1 % of the run, in single precision."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Int

from escapevelocity.report._curves import thinned

TEXT = pa.dictionary(pa.int32(), pa.string())
KEYS = {"run": TEXT, "spec": TEXT, "seed": pa.int64(), "env_steps": pa.int64(), "batch": pa.int64()}
"""The first columns of every history."""
_LARGEST = float(np.finfo(np.float32).max)


def thin(records: pa.Table, name: str, spec_text: str, total: int) -> pa.Table:
    """Thin a run's records to a history's rows.

    Every seed keeps the last row of each 0.1 % of the run (`report._curves.thinned`), and the steps at which a member
    was frozen by a fault. A column that is recorded more rarely than once per 0.1 %, such as `capacity/actor`, keeps
    its last value within them.

    Args:
        records: the run's records, with a column env_steps.
        name: the run's name.
        spec_text: its spec.json.
        total: environment steps of the whole run.

    Returns:
        Rows sorted by seed and env_steps: the `KEYS`, then every other column in alphabetical order. Numbers as
        float32, where a finite number that is too large for it becomes the largest there is; strings as dictionaries;
        time/* and lists are left out. Null means not recorded, NaN undefined.
    """
    rows = records.num_rows
    steps = records["env_steps"].to_numpy().astype(np.int64)
    seeds = records["seed"].to_numpy() if "seed" in records.column_names else np.zeros(rows, np.int64)
    kept = _kept_steps(records, steps, total)
    point = np.searchsorted(kept, steps)
    order = np.lexsort((steps, point, seeds))
    point, by_seed = point[order], seeds[order]
    changes = (point[1:] != point[:-1]) | (by_seed[1:] != by_seed[:-1])
    last = np.flatnonzero(np.append(changes, True)) if rows else np.zeros(0, np.int64)
    first = np.append(0, last[:-1] + 1)[: len(last)]
    columns: dict[str, Any] = {
        "run": _repeated(name, len(last)),
        "spec": _repeated(spec_text, len(last)),
        "seed": pa.array(by_seed[last].astype(np.int64)),
        "env_steps": pa.array(steps[order][last]),
        "batch": pa.nulls(len(last), pa.int64()),
    }
    if "batch" in records.column_names:
        columns["batch"] = records["batch"].combine_chunks().take(pa.array(order[last])).cast(pa.int64())
    for column in sorted(set(records.column_names) - set(KEYS)):
        if not column.startswith("time/") and _is_kept(records.schema.field(column).type):
            columns[column] = _latest(_converted(records[column]), order, first, last)
    return pa.table(columns)


def _kept_steps(records: pa.Table, steps: Int[np.ndarray, " rows"], total: int) -> Int[np.ndarray, " points"]:
    distinct = np.unique(steps)
    kept = distinct[thinned(distinct.astype(np.float64), float(total or max(distinct, default=1) or 1))]
    if "fault" in records.column_names:
        ill = np.array([bool(text) for text in records["fault"].to_pylist()], bool)
        kept = np.union1d(kept, steps[ill])
    return kept


def _is_kept(kind: pa.DataType) -> bool:
    number = pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind)
    return number or pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _converted(column: pa.ChunkedArray) -> pa.Array:
    array = column.combine_chunks()
    if pa.types.is_string(array.type) or pa.types.is_large_string(array.type):
        return array.cast(pa.string())
    # Unsafe: large integers are rounded, as all numbers are below.
    numbers = np.asarray(array.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False))
    is_finite = np.isfinite(numbers)
    numbers = np.where(is_finite, np.clip(numbers, -_LARGEST, _LARGEST), numbers)
    with np.errstate(under="ignore"):
        singles = numbers.astype(np.float32)
    return pa.array(singles, mask=np.asarray(array.is_null()))


def _latest(
    array: pa.Array,
    order: Int[np.ndarray, " rows"],
    first: Int[np.ndarray, " points"],
    last: Int[np.ndarray, " points"],
) -> pa.Array:
    """Take the last value that is not null among the sorted rows `first` to `last` of every point."""
    if array.null_count == 0:
        found = array.take(pa.array(order[last]))
    else:
        valid = np.asarray(array.is_valid())[order]
        newest = np.maximum.accumulate(np.where(valid, np.arange(len(order)), -1))[last]
        found = array.take(pa.array(order[np.maximum(newest, 0)], mask=newest < first))
    return found.dictionary_encode() if pa.types.is_string(found.type) else found


def _repeated(text: str, rows: int) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), pa.array([text]))
