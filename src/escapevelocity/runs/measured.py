"""RUN/measured/NAME.parquet: what was measured on a run's snapshots, apart from training.

One row per (seed, snapshot). The records stay as training wrote them; who reads a run whole (`branch.whole_records`)
sees these columns on the rows where they belong.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import UserError
from ._shards import to_table
from .atomic import write_table
from .turns import taking_turns

MEASURED = "measured"
_LOCK = ".lock"
KEYS = ("seed", "snapshot", "env_steps")
"""Every table has these; its other columns hold numbers, under names that the records do not have."""


def read_measured(run_dir: Path, name: str) -> list[dict[str, Any]]:
    """Read one table's rows, by snapshot and seed; none where nothing was measured.

    Raises:
        UserError: the file is damaged.
    """
    path = measured_path(run_dir, name)
    return _read(path).to_pylist() if path.exists() else []


def add_measured(run_dir: Path, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Add rows to a table, in place of those of the same seed and snapshot; the file lands by one rename.

    Several processes may add to one table: each adds to what the others have written.

    Raises:
        UserError: the file is damaged, or cannot be written.
    """
    path = measured_path(run_dir, name)
    with taking_turns(path.parent / _LOCK, f"{path} is being written"):
        merged = {(row["snapshot"], row["seed"]): row for row in [*read_measured(run_dir, name), *rows]}
        write_table(path, to_table([merged[key] for key in sorted(merged)]))


def with_measured(run_dir: Path, records: pa.Table) -> pa.Table:
    """Add the columns that were measured on snapshots to the rows of the records where they belong.

    A plain column is measured before its batch's update, so a snapshot taken after s environment steps belongs to the
    first row behind s; the one taken at the end of the last row has none behind it, and belongs to that row. What a
    later snapshot says replaces what an earlier one does. Of several tables with one column the first counts, in the
    order of their names.

    Raises:
        UserError: a file is damaged.
    """
    paths = sorted((Path(run_dir) / MEASURED).glob("*.parquet"), key=lambda path: path.stem)
    if not paths or not {"seed", "env_steps"} <= set(records.column_names):
        return records
    seeds, steps = records["seed"].to_numpy(), records["env_steps"].to_numpy()
    for path in paths:
        table = _read(path).sort_by([("env_steps", "ascending")])
        places = _places(seeds, steps, table["seed"].to_numpy(), table["env_steps"].to_numpy())
        found = np.flatnonzero(places >= 0)
        for column in table.column_names:
            if column not in (*KEYS, *records.column_names):
                values: list[float | None] = [None] * records.num_rows
                measured = table[column].to_pylist()
                for row in found:
                    values[places[row]] = measured[row]
                records = records.append_column(column, pa.array(values, pa.float64()))
    return records


def _places(seeds: np.ndarray, steps: np.ndarray, whose: np.ndarray, when: np.ndarray) -> np.ndarray:
    """For each snapshot the index of its row in the records, −1 for one taken behind their end."""
    places = np.full(len(whose), -1)
    for seed in np.unique(whose):
        rows = np.flatnonzero(seeds == seed)
        rows = rows[np.argsort(steps[rows], kind="stable")]
        snapshots = np.flatnonzero(whose == seed)
        if len(rows):
            snapshots = snapshots[when[snapshots] <= steps[rows[-1]]]
            position = np.searchsorted(steps[rows], when[snapshots], side="right")
            places[snapshots] = rows[np.minimum(position, len(rows) - 1)]
    return places


def measured_path(run_dir: Path, name: str) -> Path:
    """Give the path of a table."""
    return Path(run_dir) / MEASURED / f"{name}.parquet"


def _read(path: Path) -> pa.Table:
    try:
        with pq.ParquetFile(path) as file:
            table = file.read()
    except (pa.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path} cannot be read: {reason}; remove it and measure again") from error
    strange = [field.name for field in table.schema if not _is_number(field.type)]
    missing = [name for name in KEYS if name not in table.column_names]
    if strange or missing:
        raise UserError(
            f"{path} is no table of measurements ({(strange + missing)[0]}); remove it and measure again"
        )
    return table


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_floating(kind) or pa.types.is_integer(kind)
