"""The Parquet files under RUN/records: one shard per segment, a partial one, or all in one compact file.

`00007.parquet` holds the rows of segment 7 (counted from 0); its checksum is in the checkpoint that
committed the segment. `00007.partial.parquet` holds what a segment had emitted when it was interrupted.
`compact-<sha256>.parquet` holds whole segments from 0 on; as its name is its checksum, one rename commits it.
"""

from __future__ import annotations

import fnmatch
import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import cannot_read
from .atomic import remove, table_bytes, write_bytes

RECORDS = "records"
_SEGMENTS_KEY = b"escapevelocity.segments"
_DIGITS = 16


def to_table(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Make a table of rows. A column absent from a row is null there; a NaN stays a NaN.

    Raises:
        TypeError: naming a column whose values do not go together, such as numbers and strings.
    """
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {}
    for name in names:
        try:
            columns[name] = pa.array([row.get(name) for row in rows], from_pandas=False)
        except (pa.ArrowException, OverflowError) as error:
            raise TypeError(f"record column {name!r}: values of several types ({error})") from error
    return pa.table(columns)


def shard_path(folder: Path, segment: int) -> Path:
    """Give the path of a segment's shard."""
    return folder / f"{segment:05d}.parquet"


def partial_path(folder: Path, segment: int) -> Path:
    """Give the path of the partial shard of an unfinished segment."""
    return folder / f"{segment:05d}.partial.parquet"


def write_compact(folder: Path, table: pa.Table, segments: int) -> Path:
    """Write one file that holds `segments` whole segments; older compact files go once it has landed."""
    data = table_bytes(table.replace_schema_metadata({_SEGMENTS_KEY: str(segments).encode()}))
    path = folder / f"compact-{hashlib.sha256(data).hexdigest()[:_DIGITS]}.parquet"
    write_bytes(path, data)
    remove(*(old for old in folder.glob("compact-*.parquet") if old != path))
    return path


def read_compact(folder: Path) -> tuple[pa.Table | None, int, list[str]]:
    """Read the compact file that covers most.

    Returns:
        The table (None without a sound one), the number of segments it covers, and a line for each damaged
        one.

    Raises:
        FileNotFoundError: one went away meanwhile.
        UserError: the system does not let us read the folder or a file.
    """
    best, covered, faults = None, 0, []
    for path in files_in(folder, "compact-*.parquet"):
        try:
            data = read_bytes(path)
        except FileNotFoundError:
            raise
        except OSError as error:
            faults.append(f"{path} cannot be read: {error.strerror}")
            continue
        if hashlib.sha256(data).hexdigest()[:_DIGITS] != path.stem.removeprefix("compact-"):
            faults.append(f"{path} is damaged: its checksum differs from the one in its name")
            continue
        table = pq.ParquetFile(pa.BufferReader(data)).read()
        segments = int((table.schema.metadata or {})[_SEGMENTS_KEY])
        if segments >= covered:
            best, covered = table.replace_schema_metadata(None), segments
    return best, covered, faults


def first_fault(folder: Path, segments: int, checksums: Mapping[str, str]) -> str | None:
    """Say which of the shards up to `segments` - 1 is the first that is missing or damaged, if any is.

    They begin at 0, or in a branch with its first own segment.

    Raises:
        UserError: the system does not let us read them.
    """
    missing = []
    for segment in range(min(map(int, checksums), default=segments), segments):
        path = shard_path(folder, segment)
        try:
            found = hashlib.sha256(read_bytes(path)).hexdigest()
        except OSError:
            missing.append(segment)
            continue
        if found != checksums.get(str(segment)):
            return f"{path} is damaged: its checksum differs from the one in its checkpoint"
    if not missing:
        return None
    _, covered, faults = read_compact(folder)
    if missing[-1] < covered:
        return None
    return faults[0] if faults else f"{shard_path(folder, max(missing[0], covered))} is missing"


def files_in(folder: Path, pattern: str) -> list[Path]:
    """List a folder's files by a pattern, sorted; none where there is no folder.

    `Path.glob` would find nothing in a folder that must not be read.

    Raises:
        UserError: the system does not let us read the folder.
    """
    try:
        return sorted(folder / name for name in fnmatch.filter(os.listdir(folder), pattern))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise cannot_read(folder, error) from error


def read_bytes(path: Path) -> bytes:
    """Read a file.

    Raises:
        UserError: the system does not let us read it. That is no damage: computing it again would not mend it.
        OSError: anything else that went wrong.
    """
    try:
        return path.read_bytes()
    except PermissionError as error:
        raise cannot_read(path, error) from error


def drop_from(folder: Path, segment: int) -> None:
    """Remove the shards of `segment` and later ones, and every partial shard."""
    for path in sorted(folder.glob("[0-9]*.parquet")):
        if path.name.endswith(".partial.parquet") or int(path.stem) >= segment:
            remove(path)
