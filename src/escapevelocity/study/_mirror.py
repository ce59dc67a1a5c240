"""One folder here and in an fsspec file system, copied in an order that leaves every reader something whole.

A run is committed by small JSON files that vouch for the arrays and the shards written before them. So the arrays and
shards go first, then the JSON files, oldest first, and status.json last; what the run has dropped goes before what
replaces it, if it vouched for something, and else at the very end. Reading goes the other way round. A process that is
killed in the middle of a copy leaves a run that resumes from its last commit.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from escapevelocity.errors import UserError
from escapevelocity.runs.atomic import remove, write_bytes
from escapevelocity.runs.checkpoint import CHECKPOINTS, SNAPSHOTS
from escapevelocity.runs.faults import FAULT
from escapevelocity.runs.spec import SPEC_FILE
from escapevelocity.runs.status import STATUS_FILE

Stamp = tuple[int, int, int]
"""Changes whenever a file is replaced: inode, time and size."""

_ATTEMPTS = 5  # Files vanish while they are copied when shards are put together, which happens once a run.


def write_object(fs: Any, path: str, content: bytes) -> None:
    """Write an object of an fsspec file system; one that has folders makes those above it."""
    try:
        fs.pipe_file(path, content)
    except FileNotFoundError:
        fs.makedirs(path.rpartition("/")[0], exist_ok=True)
        fs.pipe_file(path, content)


class Mirror:
    """A run's folder (or another one without commits) on this machine, and its place in a file system.

    Args:
        fs: an fsspec file system.
        remote: the folder in the terms of `fs`.
        local: the folder here.
    """

    def __init__(self, fs: Any, remote: str, local: Path) -> None:
        self._fs, self._remote, self._local = fs, remote, local
        self._pulled: dict[str, str] = {}
        self._pushed: dict[str, Stamp] = {}

    def pull(self, wanted: Callable[[str], bool] = lambda name: True) -> None:
        """Make the folder here what it is there; files that have not changed since the last time are not read.

        Args:
            wanted: which files, by their name relative to the folder; others stay as they are on both sides.

        Raises:
            UserError: when it keeps changing while it is read, or cannot be written here.
        """
        for _ in range(_ATTEMPTS):
            with contextlib.suppress(FileNotFoundError):
                return self._pull(wanted)
        raise UserError(f"{self._remote} keeps changing while it is read; try again later")

    def push(
        self, wanted: Callable[[str], bool] = lambda name: True, check: Callable[[], None] = lambda: None
    ) -> None:
        """Make the folder there what it is here. What lies there must have been pulled before, or be ours.

        Args:
            wanted: which files, by their name relative to the folder; others stay as they are on both sides.
            check: called before each file that is written or dropped there; what it raises ends the copy at once.

        Raises:
            UserError: when it keeps changing while it is read.
        """
        for _ in range(_ATTEMPTS):
            with contextlib.suppress(FileNotFoundError):
                return self._push(wanted, check)
        raise UserError(f"{self._local} keeps changing while it is copied; try again later")

    def _pull(self, wanted: Callable[[str], bool]) -> None:
        there = {name: mark for name, mark in self._marks().items() if wanted(name)}
        for name in sorted(there, key=_rank, reverse=True):
            path = self._local / name
            if self._pulled.get(name) != there[name] or not path.exists():
                write_bytes(path, self._fs.cat_file(f"{self._remote}/{name}"))
                self._pulled[name] = there[name]
                self._pushed[name] = _stamp(path)
        for name in self._here():
            if wanted(name) and name not in there:
                remove(self._local / name)
                self._pulled.pop(name, None)
                self._pushed.pop(name, None)

    def _push(self, wanted: Callable[[str], bool], check: Callable[[], None]) -> None:
        # What vouches is read before what it vouches for is listed: all of that is there then.
        data = self._read(name for name in self._here() if name == STATUS_FILE and wanted(name))
        data |= self._read(name for name in self._here() if _vouches(name) and wanted(name))
        stamps = {name: stamp for name, (stamp, _) in data.items()}
        for name in self._here():
            if wanted(name) and _rank(name)[0] < _COMMIT:
                stamps[name] = _stamp(self._local / name)
        changed = {name for name, stamp in stamps.items() if self._pushed.get(name) != stamp}
        gone = {name for name in self._pushed if wanted(name) and name not in stamps}
        for name in sorted((gone | changed) & self._pushed.keys(), key=_rank, reverse=True):
            if _vouches(name):
                check()
                self._drop(name)
        for name in sorted(changed, key=_rank):
            content = data[name][1] if name in data else (self._local / name).read_bytes()
            check()
            self._write(name, content)
            self._pushed[name] = stamps[name]
        for name in gone & self._pushed.keys():
            check()
            self._drop(name)

    def _read(self, names: Iterable[str]) -> dict[str, tuple[Stamp, bytes]]:
        """The files' stamps and contents; one that has changed since it was pushed is the only kind that is read."""
        found = {}
        for name in names:
            path = self._local / name
            stamp = _stamp(path)
            found[name] = stamp, b"" if self._pushed.get(name) == stamp else path.read_bytes()
        return found

    def _write(self, name: str, content: bytes) -> None:
        write_object(self._fs, f"{self._remote}/{name}", content)

    def _drop(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._fs.rm_file(f"{self._remote}/{name}")
        del self._pushed[name]

    def _marks(self) -> Mapping[str, str]:
        """What lies there: names, and something that changes with the content."""
        self._fs.invalidate_cache()
        try:
            found = self._fs.find(self._remote, detail=True)
        except FileNotFoundError:
            return {}
        names = {path: path.removeprefix(self._remote).lstrip("/") for path in found}
        return {
            names[path]: str(info)
            for path, info in found.items()
            if info["type"] == "file" and not _hidden(names[path])
        }

    def _here(self) -> list[str]:
        found = []
        for root, _, files in os.walk(self._local):
            folder = Path(root).relative_to(self._local)
            found += [(folder / file).as_posix() for file in files]
        return [name for name in found if not _hidden(name)]


_SPEC, _DATA, _COMMIT, _STATUS = range(4)


def _rank(name: str) -> tuple[int, str]:
    """Where a file stands in the order of writing."""
    if name == SPEC_FILE:
        return _SPEC, name
    if name == STATUS_FILE:
        return _STATUS, name
    return _COMMIT if _vouches(name) else _DATA, name


def _vouches(name: str) -> bool:
    """Whether a file commits others: the JSON of checkpoints, snapshots and faults."""
    folder, _, file = name.rpartition("/")
    return folder in (CHECKPOINTS, SNAPSHOTS, FAULT) and file.endswith(".json")


def _hidden(name: str) -> bool:
    """Locks and files that are being written."""
    return any(part.startswith(".") for part in name.split("/"))


def _stamp(path: Path) -> Stamp:
    status = path.stat()
    return status.st_ino, status.st_mtime_ns, status.st_size
