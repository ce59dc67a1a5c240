"""The runs below a folder, looked at again and again: what has not changed since the last look is not read again."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from escapevelocity.errors import UserError
from escapevelocity.report._shown import shown
from escapevelocity.runs.checkpoint import CHECKPOINTS
from escapevelocity.runs.measured import MEASURED
from escapevelocity.runs.spec import SPEC_FILE
from escapevelocity.runs.status import LOCK_FILE, STATUS_FILE, is_locked
from escapevelocity.study._folders import run_folders
from escapevelocity.study.dashboard_records import fingerprint
from escapevelocity.study.index import Indexed, read_indexed, stamp_of
from escapevelocity.study.store import STUDY_FOLDER, Store
from escapevelocity.study.wanted import read_wanted, wanted_files
from escapevelocity.study.watch import Overview, look

_MOST = 2**53  # Steps, and seconds of running; JavaScript counts no further.


class Entry(NamedTuple):
    """One run below the folder."""

    name: str
    """Its folder, seen from the dashboard's; unique, and the only way to ask for it."""
    path: Path
    """Its folder."""
    store: str
    """The folder that holds it, seen from the dashboard's; empty for that itself."""
    indexed: Indexed
    """What is known of it at a glance; called by its name within the store."""
    fingerprint: str
    """Changes when its records or settings do."""


class Scan(NamedTuple):
    """All runs below the folder, at one moment."""

    entries: dict[str, Entry]
    """By name, sorted."""
    stores: dict[str, Overview]
    """How each store stands, by its folder: what `ev study watch` shows."""
    states: dict[str, str]
    """Each run's state by its name. One on another machine, whose lock is not seen from here, is running while it tells
    of itself."""
    number: int = 0
    """Counts the looks."""
    planned: Mapping[str, Sequence[Indexed]] = {}
    """By store, the runs that its studies want and that have not begun."""


class _Seen(NamedTuple):
    key: tuple[Any, ...]
    entry: Entry


class Scanner:
    """Looks at all runs below a folder, and writes nothing.

    Args:
        root: the folder, or a single run's.

    Raises:
        UserError: it is not a folder.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = Path(root)
        if not self.root.is_dir():
            raise UserError(
                f"dir = {str(root)!r}: must be a folder that holds runs; `ev train TASK` makes runs/ and one in it"
            )
        self._top = os.path.realpath(self.root)
        self._seen: dict[str, _Seen] = {}
        self._wanted: dict[str, tuple[Any, list[Indexed]]] = {}
        self._looks = 0
        self.runs_read = 0
        """Runs read from disk so far, for tests and benchmarks."""

    def scan(self) -> Scan:
        """Look now.

        Raises:
            UserError: the folder is gone.
        """
        if not self.root.is_dir():
            raise UserError(f"{self.root} is gone")
        entries, found = {}, set()
        for name, path in run_folders(self.root):
            seen_as = self.root.resolve().name if name == "." else name
            entry = self._entry(seen_as, path)
            entries[entry.name] = entry
            found.add(seen_as)
        self._seen = {name: seen for name, seen in self._seen.items() if name in found}
        runs: dict[str, list[Indexed]] = {}
        for entry in entries.values():
            runs.setdefault(entry.store, []).append(entry.indexed)
        planned = {store: self._planned(store, found) for store, found in runs.items()}
        stores = {
            store: self._overview(store, [*found, *planned[store]]) for store, found in sorted(runs.items())
        }
        running = {(store, run.name) for store, overview in stores.items() for run in overview.running}
        states = {
            name: "running" if (entry.store, entry.indexed.name) in running else entry.indexed.state
            for name, entry in entries.items()
        }
        self._looks += 1
        return Scan(entries, stores, states, self._looks, planned)

    def _entry(self, name: str, path: Path) -> Entry:
        seen = self._seen.get(name)
        locked = (seen is None or seen.entry.indexed.state != "finished") and _locked(path)
        key = (*_stamps(path), locked)  # Nobody resumes a run that has finished.
        if seen is None or seen.key != key:
            self.runs_read += 1
            store, _, short = name.rpartition("/")
            indexed = _read(path, short, stamp_of(path), self._top)
            entry = Entry(shown(name), path, shown(store), indexed, "")
        else:
            entry = seen.entry
        entry = entry._replace(fingerprint=fingerprint(path, str(key[1])))
        self._seen[name] = _Seen(key, entry)
        return entry

    def _planned(self, store: str, runs: Sequence[Indexed]) -> list[Indexed]:
        """What the studies of a store want and nobody has begun; read again when one was planned anew."""
        files = wanted_files(self.root / store / STUDY_FOLDER)
        key = tuple((path.name, _mtime(path)) for path in files)
        if self._wanted.get(store, ((), None))[0] != key:
            self._wanted[store] = key, [run for path in files for run in _read_wanted(path, self._top)]
        begun = {run.name for run in runs}
        wanted = {run.name: run for run in self._wanted.get(store, ((), []))[1]}
        return [run for name, run in wanted.items() if name not in begun]

    def _overview(self, store: str, runs: Sequence[Indexed]) -> Overview:
        folder = self.root / store
        title = store or self.root.resolve().name
        try:
            return look(folder, title=shown(title), runs=runs)
        except (
            Exception
        ):  # A stranger's progress files may hold anything: where there are none, nothing can be wrong.
            return look(folder / STUDY_FOLDER / "nowhere", title=shown(title), runs=runs)


def is_study(root: Path, store: str) -> bool:
    """Say whether a study has trained the runs of a store."""
    return (root / store / STUDY_FOLDER).is_dir()


def _stamps(path: Path) -> tuple[Any, ...]:
    """What changes with all that is shown of a run at a glance, but for its lock."""
    return stamp_of(path), _mtime(path / SPEC_FILE), _mtime(path / CHECKPOINTS) > 0, _mtime(path / MEASURED)


def _mtime(path: Path) -> int:
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return 0


def _locked(path: Path) -> bool:
    try:
        # Taking a lock opens its file for writing, and a link could lead anywhere.
        return not (path / LOCK_FILE).is_symlink() and is_locked(path, untold=True)
    except Exception:  # A stranger's folder may hold anything in place of a lock.
        return False


def _read(path: Path, name: str, stamp: str, top: str) -> Indexed:
    if strange := _strange(path, top):
        return Indexed(name, "damaged", shown(f"{strange} is no plain file below the dashboard's folder"))
    try:
        found = read_indexed(path, name, stamp)
        return _seen_to(found)
    except Exception as error:  # JSON of any shape: nested too deeply, a list in place of a mapping, …
        return Indexed(name, "damaged", f"{SPEC_FILE} or {STATUS_FILE} cannot be read: {_reason(error)}")


def _read_wanted(path: Path, top: str) -> list[Indexed]:
    """The runs that a study wants; none where the file is a stranger's."""
    try:
        if not os.path.realpath(path).startswith(top + os.sep):
            return []
        runs = [_seen_to(run) for run in read_wanted(path)]
        for run in runs:
            Store(path.parent).run_path(
                run.name
            )  # Others read files by this name: it must lead nowhere else.
        return [dataclasses.replace(run, name=shown(run.name)) for run in runs]
    except Exception:  # As above.
        return []


def _seen_to(found: Indexed) -> Indexed:
    """See to what others take for granted, once.

    Raises:
        ValueError: it holds no such thing.
    """
    if not all(type(seed) is int for seed in found.seeds):
        raise ValueError("its seeds are not whole numbers")
    if not all(
        0 <= n <= _MOST for n in (found.steps_done, found.steps_total, found.wall_time, found.steps_shared)
    ):
        raise ValueError("its steps or its time are out of all bounds")
    settings = {shown(key): value for key, value in found.settings.items() if _is_hashable(value)}
    return dataclasses.replace(found, why=shown(found.why), settings=settings, host=shown(found.host))


def _strange(path: Path, top: str) -> str:
    """Name a file that must not be read: one that links out of the dashboard's folder, or waits for a writer."""
    for folder in (path, path / CHECKPOINTS, path / MEASURED):
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError:
            continue
        for entry in entries:
            if entry.is_symlink() and not os.path.realpath(entry.path).startswith(top + os.sep):
                return entry.name
            if not entry.is_file() and not entry.is_dir() and os.path.exists(entry.path):
                return entry.name
    return ""


def _is_hashable(value: Any) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
