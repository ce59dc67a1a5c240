"""Records: one row per (seed, logged batch); one Parquet shard per segment, one file in the end."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from shlex import quote
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import UserError
from . import _shards, checkpoint
from .atomic import remove, write_table

RECORDS = _shards.RECORDS
_ORDER = ("segment", "batch", "seed")
_ENGINE_COLUMNS = {"segment": pa.int64(), "wall_time": pa.float64()}
_TRIES = 3  # A run that ends while it is read swaps its files once.


def clean_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """Turn a row's values into what Parquet stores: bool, int, float, str, None, or lists of them.

    Args:
        row: column name to value; NumPy and JAX scalars and vectors are converted.

    Raises:
        TypeError: naming the column that holds anything else.

    Example:
        >>> clean_row({"perf/return_mean": np.float32(0.5), "seed": 1})
        {'perf/return_mean': 0.5, 'seed': 1}
    """
    return {str(name): _clean(name, value) for name, value in row.items()}


def write_shard(run_dir: Path, segment: int, rows: Sequence[Mapping[str, Any]], partial: bool = False) -> str:
    """Write the rows of one segment as its shard (or partial shard) and return the file's sha256."""
    folder = run_dir / RECORDS
    path = _shards.partial_path(folder, segment) if partial else _shards.shard_path(folder, segment)
    return write_table(path, _with_engine_columns(_shards.to_table(rows)))


def read_records(run_dir: str | os.PathLike[str], segments: int | None = None) -> pa.Table:
    """Read all records of a run, sorted by segment, batch and seed.

    The partial shard of a failed or interrupted segment is included; it is dropped when the run is resumed. The run
    may go on, or end, meanwhile.

    Args:
        run_dir: the run's folder.
        segments: read only so many segments from the first on, and no partial shard: what a resumed run goes on from,
            whatever has become of the rest.

    Returns:
        One row per (seed, logged batch). A column that a row does not have is null there; NaN means
        undefined.

    Raises:
        UserError: when a checksum says that a file is damaged, the newest checkpoint's JSON among them, one is
            missing, or one must not be read.
    """
    for left in reversed(range(_TRIES)):
        try:
            return _read_once(Path(run_dir), segments)
        except FileNotFoundError as error:
            if not left:
                raise UserError(f"{error.filename} goes away whenever it is read; try again") from error
    raise AssertionError


def _read_once(run_dir: Path, segments: int | None) -> pa.Table:
    """Read the records as they lie there now.

    Raises:
        FileNotFoundError: a file went away meanwhile.
    """
    folder = run_dir / RECORDS
    done, checksums, damage = _committed(run_dir)
    if damage and (
        segments is None or done < segments
    ):  # Fewer rows than the run has would look like a shorter run.
        raise UserError(f"{damage}; `ev resume {quote(str(run_dir))}` computes it again")
    done = done if segments is None else min(done, segments)
    fault = _shards.first_fault(folder, done, checksums)
    if fault is not None:
        raise UserError(f"{fault}; `ev resume {quote(str(run_dir))}` computes it again")
    compact_table, covered, _ = _shards.read_compact(folder)
    shards = [segment for segment in range(done) if _shards.shard_path(folder, segment).exists()]
    for segment in map(int, checksums):
        # The shard was there a moment ago: its rows are in a compact file that has landed since.
        if covered <= segment < done and segment not in shards:
            raise FileNotFoundError(errno.ENOENT, "gone", str(_shards.shard_path(folder, segment)))
    # After a fallback the compact file may also hold segments that are being computed again.
    whole = [segment for segment in range(done) if segment not in shards]
    tables = [] if compact_table is None else [_only(compact_table, whole)]
    tables += [_read(_shards.shard_path(folder, segment)) for segment in shards]
    if segments is None:
        tables += [_read(path) for path in _shards.files_in(folder, "*.partial.parquet")]
    return _sorted(_concat([_with_engine_columns(table) for table in tables]))


def compact(run_dir: str | os.PathLike[str]) -> Path:
    """Put the records of a run that has ended into one file, and remove the shards.

    The new file is named by its checksum and lands by one rename; until then the shards stay, so a crash at
    any moment loses nothing. Calling it again is harmless.

    Returns:
        The path of the compact file.
    """
    run_dir = Path(run_dir)
    done, _, _ = _committed(run_dir)
    path = _shards.write_compact(run_dir / RECORDS, read_records(run_dir), done)
    remove(*(_shards.shard_path(run_dir / RECORDS, segment) for segment in range(done)))
    return path


def _committed(run_dir: Path) -> tuple[int, Mapping[str, str], str]:
    """Find how many segments are committed, and their checksums, from the newest readable checkpoint.

    Returns:
        Both, and what is wrong with the newest checkpoint of all where that is damaged.

    Raises:
        FileNotFoundError: a checkpoint went away meanwhile.
    """
    folder, damage = run_dir / checkpoint.CHECKPOINTS, ""
    for number in reversed(checkpoint.numbers(folder)):
        try:
            return number, checkpoint.load_meta(folder, number).get("records", {}), damage
        except checkpoint.Damaged as error:
            if number not in checkpoint.numbers(folder):
                raise FileNotFoundError(errno.ENOENT, "gone", str(folder)) from error
            damage = damage or str(error)
    return 0, {}, damage


def _clean(name: str, value: Any) -> Any:
    if isinstance(value, np.generic) or (getattr(value, "ndim", None) == 0 and hasattr(value, "item")):
        value = value.item()
    elif hasattr(value, "tolist"):
        value = value.tolist()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return [_clean(name, item) for item in value]
    raise TypeError(
        f"record column {name!r}: a {type(value).__name__} cannot be stored, only numbers, strings and lists"
    )


def _with_engine_columns(table: pa.Table) -> pa.Table:
    """Add the columns that every record has, so that a segment without rows is a table like the others."""
    for name, kind in _ENGINE_COLUMNS.items():
        if name not in table.column_names:
            table = table.append_column(pa.field(name, kind), pa.nulls(table.num_rows, kind))
    return table


def _only(table: pa.Table, segments: Sequence[int]) -> pa.Table:
    return table.filter(pa.array(np.isin(table["segment"].to_numpy(), segments)))


def _concat(tables: Sequence[pa.Table]) -> pa.Table:
    if not tables:
        return _with_engine_columns(pa.table({}))
    try:
        # A column may be whole numbers in one shard and fractions, or absent, in the next.
        return pa.concat_tables(tables, promote_options="permissive").combine_chunks()
    except pa.ArrowException as error:
        raise TypeError(f"the records of several segments do not go together: {error}") from error


def _sorted(table: pa.Table) -> pa.Table:
    return table.sort_by([(name, "ascending") for name in _ORDER if name in table.column_names])


def _read(path: Path) -> pa.Table:
    try:
        # Not read_table: it would take a folder named "lr=0.1" for a partition and add its column.
        with pq.ParquetFile(path) as file:
            return file.read()
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path} cannot be read: {error}".splitlines()[0]) from error


def drop_from(run_dir: Path, segment: int) -> None:
    """Remove the shards of `segment` and later ones, and every partial shard."""
    _shards.drop_from(run_dir / RECORDS, segment)
