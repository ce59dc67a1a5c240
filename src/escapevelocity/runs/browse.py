"""Look at runs: list those below a folder, open one. Reads only, and executes nothing."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import os
from collections.abc import Mapping
from pathlib import Path
from shlex import quote
from typing import Any

import numpy as np
import pyarrow as pa

from ..errors import UserError, cannot_read
from . import checkpoint
from .branch import Parent, parent_in
from .records import read_records
from .spec import SPEC_FILE, read_spec
from .status import STATUS_FILE, Status, read_status


@dataclasses.dataclass(frozen=True)
class Saved:
    """One checkpoint or snapshot of a run."""

    number: int
    """Segments done (checkpoint), or index (snapshot)."""
    step: int
    """Environment steps done."""
    meta: Mapping[str, Any]
    """All that its JSON says."""


@dataclasses.dataclass(frozen=True)
class Run:
    """A run on disk."""

    path: Path
    """Its folder."""
    job: str
    """The job's name."""
    spec: Mapping[str, Any]
    """The resolved spec, as JSON values; `spec_from_json` makes the dataclass."""
    status: Status
    """How far it has come; "running" only while a process holds its lock."""

    def records(self) -> pa.Table:
        """Read all records; see `records.read_records`."""
        return read_records(self.path)

    @property
    def parent(self) -> Parent | None:
        """The checkpoint of another run that this one began at; None where it is no branch, or has no checkpoint."""
        return next((parent_in(saved.meta) for saved in self.checkpoints()), None)

    @property
    def spec_hash(self) -> str | None:
        """Hash of the spec, as the checkpoints record it; None where there is none."""
        return next((saved.meta["lineage"]["spec_hash"] for saved in self.checkpoints()), None)

    def checkpoints(self) -> list[Saved]:
        """List the checkpoints whose JSON is whole, in order. Arrays are checked when they are loaded."""
        return _saved(self.path / checkpoint.CHECKPOINTS)

    def snapshots(self) -> list[Saved]:
        """List the snapshots whose JSON is whole, in order."""
        return _saved(self.path / checkpoint.SNAPSHOTS)

    def latest_checkpoint(self) -> tuple[int, list[str]]:
        """Find the newest whole checkpoint, and a line for each damaged one that was passed over.

        Damaged records do not matter here.

        Raises:
            UserError: when there is none.
        """
        number, warnings = checkpoint.latest_good(self.path / checkpoint.CHECKPOINTS, with_records=False)
        if number is None:
            raise UserError(
                f"{self.path} has no whole checkpoint; `ev resume {quote(str(self.path))}` makes them"
            )
        return number, warnings

    def load_checkpoint(self, number: int, like: Any) -> Any:
        """Load a checkpoint's state into the structure of `like`; see `checkpoint.load`."""
        return checkpoint.load(self.path / checkpoint.CHECKPOINTS, number, like)

    def load_snapshot(self, number: int, like: Any) -> Any:
        """Load a snapshot into the structure of `like`; see `checkpoint.load`."""
        return checkpoint.load(self.path / checkpoint.SNAPSHOTS, number, like)

    def arrays(self, number: int) -> dict[str, np.ndarray]:
        """Load a checkpoint's arrays by name, without knowing their structure."""
        return checkpoint.load_arrays(self.path / checkpoint.CHECKPOINTS, number)


@dataclasses.dataclass(frozen=True)
class Listed:
    """One line of a list of runs."""

    path: Path
    """Its folder."""
    run: Run | None
    """The run, or None when it is damaged."""
    damage: str = ""
    """One line: what is wrong with it."""

    @property
    def state(self) -> str:
        """running, finished, interrupted, failed or damaged."""
        return "damaged" if self.run is None else self.run.status.state


def open_run(path: str | os.PathLike[str]) -> Run:
    """Open a run's folder.

    Raises:
        UserError: when it is not a run, or its spec.json or status.json is damaged.
    """
    path = Path(path)
    require_folder(path)
    document = read_spec(path)
    return Run(path, document["job"], document["spec"], read_status(path))


def require_folder(path: Path) -> None:
    """Refuse what is no folder; a `UserError` names the run that may be meant."""
    if not _is_folder(path):
        raise UserError(f"{path} is not a folder; give a run's folder, such as runs/NAME{_meant(path)}")


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError as error:  # A folder above it must not be searched, or the name is too long.
        raise cannot_read(path, error) from error


def _meant(path: Path) -> str:
    """The run whose spec.json it is, or whose name is nearest to it: beside it, or below `runs`."""
    if path.name == SPEC_FILE and path.is_file():
        return f"; did you mean {path.parent}?"
    there: dict[str, Path] = {}
    for parent in (Path("runs"), path.parent):
        with contextlib.suppress(OSError):  # A folder that is not there, or may not be read.
            there |= {spec.parent.name: spec.parent for spec in parent.glob(f"*/{SPEC_FILE}")}
    near = difflib.get_close_matches(path.name, there, n=1)
    return f"; did you mean {there[near[0]]}?" if near else ""


def list_runs(out_dir: str | os.PathLike[str]) -> list[Listed]:
    """List every run below a folder, sorted by path; damaged ones with what is wrong, never an exception
    for one. A folder below that must not be read counts as a damaged run.

    Raises:
        UserError: when `out_dir` is not a folder, or must not be read.
    """
    out_dir = Path(out_dir)
    if not _is_folder(out_dir):
        raise UserError(f"{out_dir} is not a folder; OUT is the folder that holds runs")
    found: list[Listed] = []

    def unreadable(error: OSError) -> None:
        problem = cannot_read(error.filename, error)
        if Path(error.filename) == out_dir:
            raise problem
        found.append(Listed(Path(error.filename), None, str(problem)))

    for root, folders, files in os.walk(out_dir, onerror=unreadable):
        if SPEC_FILE in files or STATUS_FILE in files:
            folders.clear()  # what lies inside a run is its own
            found.append(_list_one(Path(root)))
        folders.sort()
    return sorted(found, key=lambda listed: listed.path)


def _list_one(path: Path) -> Listed:
    try:
        return Listed(path, open_run(path))
    except UserError as error:
        return Listed(path, None, str(error))
    except Exception as error:  # JSON of any shape: nested too deeply, a list in place of a mapping, …
        return Listed(path, None, f"it cannot be read: {type(error).__name__}: {error}")


def _saved(folder: Path) -> list[Saved]:
    found = []
    for number in checkpoint.numbers(folder):
        try:
            meta = checkpoint.load_meta(folder, number)
        except checkpoint.Damaged:
            continue
        found.append(Saved(number, meta["step"], meta))
    return found
