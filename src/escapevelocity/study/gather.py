"""Gather the thinned records of every run of a store into one Parquet file; only what has changed is read again."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from escapevelocity.errors import UserError, require
from escapevelocity.runs import Run, open_run, read_status, whole_records
from escapevelocity.runs.atomic import make_folder
from escapevelocity.runs.measured import MEASURED
from escapevelocity.runs.records import RECORDS
from escapevelocity.runs.spec import SPEC_FILE
from escapevelocity.study._flat import flat_settings
from escapevelocity.study._folders import parent_of, run_folders, store_folder
from escapevelocity.study._history_file import (
    Entry,
    open_history_file,
    read_entries,
    union,
    writable,
    write_history_file,
)
from escapevelocity.study._thin import thin
from escapevelocity.study.store import STUDY_FOLDER, Store

HISTORY_FILE = "history.parquet"


class _Kept(NamedTuple):
    """A run's rows in a file that is there already."""

    entry: Entry
    file: pq.ParquetFile
    group: int

    def rows(self) -> pa.Table:
        """Read them."""
        return self.file.read_row_group(self.group, use_threads=False)


def collect(
    store: Any,
    out: str | os.PathLike[str] | None = None,
    names: Sequence[str] | None = None,
    tell: Callable[[str], None] = lambda text: None,
) -> Path:
    """Gather the thinned records of every run of a store into one Parquet file.

    A run that has not changed since is taken over from the old file, not read again. The file is replaced at the end,
    so an interruption leaves the old one. Runs that are damaged or have no records yet are left out and named in
    `History.left_out`. The records of a branch begin with the past that it shares with its parent.

    Args:
        store: the store or its folder.
        out: the file; by default STORE/_study/history.parquet.
        names: only these runs (folders in the store); by default all.
        tell: is told one line for each run that is read.

    Returns:
        The file's path.

    Raises:
        UserError: the store is not a folder, has no run of a name in `names`, or the file cannot be written.
    """
    store = store if isinstance(store, Store) else Store(store)
    store.refresh()
    folder = store_folder(store)
    standard = folder / STUDY_FOLDER / HISTORY_FILE
    path = standard if out is None else Path(out)
    make_folder(path.parent)
    entries: list[Entry] = []
    sources: list[Callable[[], pa.Table]] = []
    schemas: list[pa.Schema] = []
    left_out: dict[str, str] = {}
    with ExitStack() as stack:
        old, before = _kept_runs(dict.fromkeys((standard, path)), stack)
        parts = stack.enter_context(_temporary(path))
        for name, run_dir in _chosen(folder, names):
            kept = old.get(name)
            try:
                if kept is not None and kept.entry.fingerprint == _fingerprint(run_dir, kept.entry.parent):
                    entries.append(kept.entry)
                    sources.append(kept.rows)
                    schemas.append(kept.file.schema_arrow)
                    continue
                tell(f"reading {name}")
                entry, table = _read(name, run_dir)
            except (UserError, OSError) as error:
                left_out[name] = str(error)
                continue
            part = parts / f"{len(entries)}.parquet"
            with writable(path):
                pq.write_table(table, part)
            entries.append(entry)
            sources.append(partial(_read_part, part))
            schemas.append(table.schema)
        if (entries, left_out) != before:
            write_history_file(path, union(schemas), entries, (source() for source in sources), left_out)
    if path == standard:
        store.push_study()
    return path


@contextmanager
def _temporary(path: Path) -> Iterator[Path]:
    """Lend a folder on the disk of `path`, which has room for as much again."""
    with writable(path):
        folder = tempfile.TemporaryDirectory(prefix=".history-", dir=path.parent)
    with folder as name:
        yield Path(name)


def history_path(path: Any) -> Path:
    """Give the path of a history's file, given that or its store."""
    found = Path(getattr(path, "path", path))
    return found / STUDY_FOLDER / HISTORY_FILE if found.is_dir() else found


def _kept_runs(
    paths: Iterable[Path], stack: ExitStack
) -> tuple[dict[str, _Kept], tuple[list[Entry], dict[str, str]] | None]:
    """What files hold already, by run, and all that the last one holds; nothing of one that is missing or damaged."""
    found: dict[str, _Kept] = {}
    last: tuple[list[Entry], dict[str, str]] | None = None
    for path in paths:
        last = None
        try:
            file = stack.enter_context(open_history_file(path))
        except UserError:
            continue
        last = read_entries(file)
        found |= {entry.name: _Kept(entry, file, index) for index, entry in enumerate(last[0])}
    return found, last


def _chosen(folder: Path, names: Sequence[str] | None) -> Iterator[tuple[str, Path]]:
    """The runs' names and folders, in order."""
    found = dict(run_folders(folder))
    for name in names or ():
        require(name in found, "names", name, f"the name of a run in {folder}")
    return ((name, path) for name, path in found.items() if names is None or name in names)


def _read(name: str, path: Path) -> tuple[Entry, pa.Table]:
    """Read a run, once more if it was changing under our eyes (a run that ends replaces its shards by one file)."""
    try:
        return _read_once(name, open_run(path))
    except (UserError, OSError):
        return _read_once(name, open_run(path))


def _read_once(name: str, run: Run) -> tuple[Entry, pa.Table]:
    parent = parent_of(run.path)
    leaves = "" if parent is None else parent.path
    fingerprint = _fingerprint(run.path, leaves)  # Before reading: a later change is then noticed next time.
    records, lost = whole_records(run.path, parent)
    if lost:
        raise UserError(lost[0])
    if records.num_rows == 0 or "env_steps" not in records.column_names:
        raise UserError(f"{run.path} has no records with a column env_steps yet")
    total = run.status.steps_total
    table = thin(records, name, (run.path / SPEC_FILE).read_text(encoding="utf-8"), total)
    seeds = run.spec.get("seeds") or sorted(table["seed"].unique().to_pylist())
    settings = flat_settings({"job": run.job, "spec": run.spec})
    return Entry(name, settings, tuple(seeds), run.status.state, total, fingerprint, leaves), table


def _fingerprint(run_dir: Path, parent: str) -> str:
    """Digest what tells that a run has changed: its spec, its status, and its files' names and sizes."""
    status = read_status(run_dir)
    spec = (run_dir / SPEC_FILE).read_text(encoding="utf-8")
    known = [spec, status.state, status.segments_done, *_sizes(run_dir)]
    if parent:
        known += _sizes(Path(os.path.normpath(run_dir / parent)))
    return hashlib.sha256(json.dumps(known).encode()).hexdigest()[:16]


def _sizes(run_dir: Path) -> list[tuple[str, int]]:
    found = []
    for folder in (RECORDS, MEASURED):
        if (run_dir / folder).is_dir():
            with os.scandir(run_dir / folder) as files:
                found += [(f"{folder}/{file.name}", file.stat().st_size) for file in files]
    return sorted(found)


def _read_part(path: Path) -> pa.Table:
    with pq.ParquetFile(path) as file:
        return file.read()
