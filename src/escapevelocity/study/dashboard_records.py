"""A run's records as they grow: each Parquet file is read once, and again only when its time or size has changed.

A running run adds a shard per segment; one that ends puts all into one file and removes the shards. Whoever looks on
holds no lock and must not mind either: a file that has gone between listing and reading is listed again, one that
cannot be read is left out and named. Checksums are not verified here, since that would read everything each time;
`ev diagnose` does.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from escapevelocity.runs import Parent
from escapevelocity.runs.measured import MEASURED, with_measured
from escapevelocity.runs.records import RECORDS
from escapevelocity.study._folders import parent_of

MOST_BYTES = 192 * 2**20
"""Columns that are kept in memory, all runs together."""
KEYS = ("segment", "seed", "batch", "env_steps")
_ENDING = ".parquet"
_COMPACT = "compact-"
_TRIES = 3  # A run that ends while we look swaps its files once.
_MOST_PARENTS = 20  # A chain of branches that a hostile folder has made a ring must end.


class RecordFile(NamedTuple):
    """One Parquet file of a run."""

    path: str
    mtime_ns: int
    size: int

    @property
    def name(self) -> str:
        """Its name without the folder."""
        return os.path.basename(self.path)


class Found(NamedTuple):
    """What could be read of a run's records."""

    table: pa.Table
    """The columns asked for, as far as they are there, and `KEYS`; sorted by segment, batch and seed."""
    faults: tuple[str, ...]
    """One line for each file that could not be read."""


class _Kept(NamedTuple):
    """Columns of a file in memory."""

    table: pa.Table
    asked: frozenset[str]
    """What was looked for; what of it is not in the table is not in the file."""


_NOTHING = _Kept(pa.table({}), frozenset())


class Records:
    """Reads columns of runs' records and keeps them, the most recently used, up to `MOST_BYTES`. Safe in threads.

    Args:
        root: runs that a branch began at are read only where they lie below this folder.
    """

    def __init__(self, root: Path, most_bytes: int = MOST_BYTES) -> None:
        self._root = root.resolve()
        self._most = most_bytes
        self._kept: OrderedDict[RecordFile, _Kept] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()
        self.files_read = 0
        """Files opened so far, for tests and benchmarks."""

    def read(self, run: Path, columns: Sequence[str], keep: bool = True) -> Found:
        """Read columns of a run; those of a branch begin with the past that it shares with its parent.

        Args:
            run: its folder.
            columns: what is wanted; those that no file has are left out.
            keep: whether the files' columns stay in memory, for a run that grows or is looked at.
        """
        tables, faults, cut = [], [], None
        path: Path | None = run
        for _ in range(_MOST_PARENTS):
            assert path is not None
            own = self._own(path, columns, keep)
            faults += own.faults
            tables.append(own.table if cut is None else _before(own.table, cut))
            parent = _parent_of(path)
            if parent is None:
                break
            path, cut = self._parent(path, parent), _earlier(cut, parent.checkpoint)
            if path is None:
                faults.append("the past that it shares with its parent is not here: only its own is shown")
                break
        return Found(_together(list(reversed(tables))), tuple(faults))

    def names(self, run: Path) -> list[str]:
        """List the columns of a run's newest file that hold numbers; empty where there is none to read."""
        for file in reversed(record_files(run)):
            try:
                with pq.ParquetFile(file.path) as opened:
                    return [field.name for field in opened.schema_arrow if _is_number(field.type)]
            except (pa.ArrowException, OSError):
                continue
        return []

    def _own(self, run: Path, columns: Sequence[str], keep: bool) -> Found:
        wanted = tuple(dict.fromkeys((*KEYS, *columns)))
        for left in reversed(range(_TRIES)):
            try:
                return self._all(run, wanted, keep)
            except FileNotFoundError as error:
                if not left:
                    return Found(_together([]), (f"{error.filename} goes away whenever it is read",))
        raise AssertionError

    def _all(self, run: Path, wanted: Sequence[str], keep: bool) -> Found:
        shards, whole, faults = [], [], []
        covered: set[int] = set()
        for file in record_files(run):
            try:
                table = self._file(file, wanted, keep)
            except (pa.ArrowException, OSError, ValueError) as error:
                if isinstance(error, FileNotFoundError):
                    raise
                faults.append(f"{RECORDS}/{file.name} cannot be read: {' '.join(str(error).split())}")
                continue
            if file.name.startswith(_COMPACT):
                whole.append(table)
            else:
                covered |= {int(file.name.split(".")[0])}
                shards.append(table)
        # A segment that is computed again after a fallback is in its shard and in the compact file.
        tables = [_without(table, covered) for table in whole] + shards
        found = _together(tables)
        strange = _strange_measured(run)
        if strange:
            faults.append(f"{strange} is no plain file: it is not read")
        elif (run / MEASURED).is_dir():
            try:
                found = with_measured(run, found)
                found = found.select([name for name in found.column_names if name in wanted])
            except ValueError as error:  # UserError among them: a table that cannot be read.
                faults.append(" ".join(str(error).split()))
        return Found(found, tuple(faults))

    def _file(self, file: RecordFile, wanted: Sequence[str], keep: bool) -> pa.Table:
        """Read a file's columns, or those that are not kept yet."""
        with self._lock:
            kept = self._kept.get(file, _NOTHING)
        missing = [name for name in wanted if name not in kept.asked]
        table = kept.table
        if missing or kept is _NOTHING:
            with pq.ParquetFile(file.path) as opened:
                there = [name for name in missing if name in opened.schema_arrow.names]
                new = opened.read(columns=there, use_threads=False).replace_schema_metadata(None)
                self.files_read += 1
            for name in table.column_names:
                new = new.append_column(name, table[name])
            table = new
        if keep:
            self._keep(file, _Kept(table, kept.asked.union(wanted)))
        return table.select([name for name in wanted if name in table.column_names])

    def _keep(self, file: RecordFile, kept: _Kept) -> None:
        with self._lock:
            for old in [one for one in self._kept if one.path == file.path]:
                self._bytes -= self._kept.pop(old).table.nbytes
            self._kept[file] = kept
            self._bytes += kept.table.nbytes
            while self._bytes > self._most and len(self._kept) > 1:
                self._bytes -= self._kept.popitem(last=False)[1].table.nbytes

    def _parent(self, run: Path, parent: Parent) -> Path | None:
        """The parent's folder; None where it is gone or lies outside."""
        path = Path(os.path.normpath(run / parent.path)).resolve()
        return path if path.is_relative_to(self._root) and path.is_dir() else None


def record_files(run: Path) -> list[RecordFile]:
    """List the Parquet files of a run's records: the compact one, then shards by segment, a partial one last.

    A partial shard whose segment has been committed since is left out, and so is what links elsewhere.
    """
    found = []
    try:
        with os.scandir(run / RECORDS) as entries:
            for entry in entries:
                if _is_records(entry.name) and entry.is_file(follow_symlinks=False):
                    status = entry.stat(follow_symlinks=False)
                    found.append(RecordFile(entry.path, status.st_mtime_ns, status.st_size))
    except OSError:
        return []
    names = {file.name for file in found}
    found = [f for f in found if ".partial" not in f.name or f.name.replace(".partial", "") not in names]
    return sorted(found, key=lambda file: (not file.name.startswith(_COMPACT), file.name))


def _is_records(name: str) -> bool:
    return name.endswith(_ENDING) and (name.startswith(_COMPACT) or name.split(".")[0].isdecimal())


def _strange_measured(run: Path) -> str:
    """Name what a reader of measurements must not open: it links elsewhere, or waits for a writer; empty for none."""
    if (run / MEASURED).is_symlink():
        return MEASURED
    with contextlib.suppress(OSError):  # On most runs nothing was measured.
        for entry in sorted(os.scandir(run / MEASURED), key=lambda entry: entry.name):
            if entry.name.endswith(_ENDING) and not entry.is_file(follow_symlinks=False):
                return f"{MEASURED}/{entry.name}"
    return ""


def fingerprint(run: Path, *more: str) -> str:
    """Give what changes when a run's records do: from the files' names, times and sizes, and from `more`."""
    told = [f"{file.name} {file.mtime_ns} {file.size}" for file in record_files(run)]
    with contextlib.suppress(OSError):  # On most runs nothing was measured.
        told += [f"{e.name} {e.stat().st_mtime_ns}" for e in sorted(os.scandir(run / MEASURED), key=str)]
    return hashlib.sha256("\n".join([*told, *more]).encode()).hexdigest()[:16]


def _parent_of(run: Path) -> Parent | None:
    try:
        return parent_of(run)
    except Exception:  # The JSON of a stranger's checkpoint may be of any shape.
        return None


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_floating(kind) or pa.types.is_integer(kind)


def _earlier(cut: int | None, checkpoint: int) -> int:
    return checkpoint if cut is None else min(cut, checkpoint)


def _before(table: pa.Table, segment: int) -> pa.Table:
    if "segment" not in table.column_names:
        return table.slice(0, 0)
    return table.filter(pa.array(table["segment"].to_numpy() < segment))


def _without(table: pa.Table, segments: Iterable[int]) -> pa.Table:
    segments = sorted(segments)
    if not segments or "segment" not in table.column_names:
        return table
    return table.filter(pa.array(~np.isin(table["segment"].to_numpy(), segments)))


def _together(tables: Sequence[pa.Table]) -> pa.Table:
    """Put tables one behind the other; a column whose types do not go together is left out."""
    tables = [table for table in tables if table.num_rows]
    if not tables:
        return pa.table({"segment": pa.array([], pa.int64()), "env_steps": pa.array([], pa.int64())})
    try:
        whole = pa.concat_tables(tables, promote_options="permissive")
    except pa.ArrowException:
        common = set.intersection(*({(f.name, f.type) for f in table.schema} for table in tables))
        names = [name for name in tables[0].column_names if name in {name for name, _ in common}]
        whole = pa.concat_tables([table.select(names) for table in tables])
    order = [(name, "ascending") for name in ("segment", "batch", "seed") if name in whole.column_names]
    return whole.sort_by(order) if order else whole
