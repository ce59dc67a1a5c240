"""The Parquet file of a history: a row group per run, and in the file's metadata what is known of each run."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from escapevelocity.errors import UserError
from escapevelocity.runs.atomic import make_folder
from escapevelocity.study._thin import KEYS

METADATA_KEY = "escapevelocity.history"
FORMAT = 1
_ZSTD_LEVEL = 3  # Level 9 takes three times as long for 1 % less; float noise does not pack.


@dataclass(frozen=True)
class Entry:
    """What the file's metadata say of one run; its rows are the row group of the same number."""

    name: str
    """Its folder, seen from the store."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Its settings by name (`_flat.flat_settings`)."""
    seeds: tuple[int, ...] = ()
    """Its seeds, in the order of the spec."""
    state: str = ""
    """running, finished, interrupted or failed, when it was gathered."""
    steps_total: int = 0
    """Environment steps of the whole run, per seed."""
    fingerprint: str = ""
    """Changes when the run has changed."""
    parent: str = ""
    """The folder of the run that it leaves, seen from its own; empty for a run that is no branch."""


def open_history_file(
    path: Path, metadata: pq.FileMetaData | None = None, source: pa.NativeFile | None = None
) -> pq.ParquetFile:
    """Open a history's file.

    Args:
        path: the file.
        metadata: the file's own, where they were read before.
        source: the file, where it is open already; it stays so.

    Raises:
        UserError: it is missing, no Parquet file, or a Parquet file of something else.
    """
    with readable(path):
        found = path if source is None else source
        try:
            return pq.ParquetFile(found, metadata=metadata, read_dictionary=["run", "spec"], pre_buffer=True)
        except KeyError as error:  # pyarrow looks for the two columns.
            raise UserError(
                f"{path} is not a history: it lacks the columns run and spec; `ev study history STORE` gathers one"
            ) from error


@contextlib.contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn what goes wrong with reading a history's file into a `UserError` that names it."""
    try:
        yield
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing; `ev study history STORE` gathers it from the runs") from error
    except (pa.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path} cannot be read: {reason}; `ev study history` gathers it again") from error


def read_entries(file: pq.ParquetFile) -> tuple[list[Entry], dict[str, str]]:
    """Read the runs in the order of their row groups, and why others were left out; nothing of a foreign file."""
    found = (file.metadata.metadata or {}).get(METADATA_KEY.encode())
    with contextlib.suppress(ValueError, KeyError, TypeError):
        document = json.loads(found or b"{}")
        entries = [Entry(**{**entry, "seeds": tuple(entry["seeds"])}) for entry in document["runs"]]
        if document["format"] == FORMAT and len(entries) == file.num_row_groups:
            return entries, dict(document["left_out"])
    return [], {}


def write_history_file(
    path: Path,
    schema: pa.Schema,
    entries: Sequence[Entry],
    tables: Iterable[pa.Table],
    left_out: Mapping[str, str],
) -> None:
    """Write a history atomically, one run at a time.

    Numbers are stored by bytes of equal weight (BYTE_STREAM_SPLIT): 12 % smaller on two Hopper runs than without.

    Args:
        path: the file.
        schema: the union of the tables' columns (`union`).
        entries: what is known of each run.
        tables: each run's rows, in the order of `entries`.
        left_out: runs that are not in it, with the reason.

    Raises:
        UserError: the disk is full or the folder cannot be written; the old file stays.
    """
    numbers = [item.name for item in schema if item.type == pa.float32()]
    texts = [item.name for item in schema if pa.types.is_dictionary(item.type)]
    # Other columns' extremes would be a tenth of a short run's bytes; readers look for a run.
    columns: Any = {"use_dictionary": texts, "use_byte_stream_split": numbers, "write_statistics": ["run"]}
    document = {"format": FORMAT, "runs": [asdict(entry) for entry in entries], "left_out": dict(left_out)}
    with (
        replacing(path) as temp,
        pq.ParquetWriter(
            temp,
            schema,
            compression="zstd",
            compression_level=_ZSTD_LEVEL,
            **columns,
        ) as writer,
    ):
        for table in tables:
            writer.write_table(fitted(table, schema), row_group_size=max(1, table.num_rows))
        writer.add_key_value_metadata({METADATA_KEY: json.dumps(document, sort_keys=True)})


def union(schemas: Iterable[pa.Schema]) -> pa.Schema:
    """Unite columns: the keys first, then the others in alphabetical order; the first type of a column counts."""
    types: dict[str, pa.DataType] = {}
    for schema in schemas:
        for item in schema:
            types.setdefault(item.name, item.type)
    return pa.schema({**KEYS, **{name: types[name] for name in sorted(set(types) - set(KEYS))}})


def fitted(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Give a table the columns of a schema; null where it lacks one, or has it with another type."""
    columns = []
    for item in schema:
        has = item.name in table.column_names and table.schema.field(item.name).type == item.type
        columns.append(table[item.name] if has else pa.nulls(table.num_rows, item.type))
    return pa.table(columns, schema=schema)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Lend a temporary file beside `path` that takes its place at the end; the old one stays if anything is raised."""
    make_folder(path.parent)
    temp = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with writable(path):
            yield temp
            with open(temp, "rb+") as file:
                os.fsync(file.fileno())
            os.replace(temp, path)
    finally:
        with contextlib.suppress(OSError):
            temp.unlink()


@contextlib.contextmanager
def writable(path: Path) -> Iterator[None]:
    """Turn what goes wrong with writing a history's file into a `UserError` that names it."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(f"cannot write {path}: {reason}; free space or choose another --out") from error
