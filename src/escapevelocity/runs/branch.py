"""Branches: runs that begin at a checkpoint of another run, the same past with another future."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from ..errors import UserError
from . import checkpoint
from ._typed_json import decode
from .measured import with_measured
from .records import read_records

if TYPE_CHECKING:
    from .browse import Run


_LONGEST = 20  # Generations of branches: a chain that a damaged folder has made a ring must end.


@dataclasses.dataclass(frozen=True)
class Parent:
    """The checkpoint that a branch began at. Every checkpoint of the branch records it in its JSON."""

    path: str
    """The parent's folder, seen from the branch's."""
    spec_hash: str
    """Hash of the parent's spec."""
    checkpoint: int
    """Segments of the shared past."""
    step: int
    """Environment steps of the shared past."""
    sha256: str
    """Checksum of the checkpoint's arrays."""


@dataclasses.dataclass(frozen=True)
class Origin:
    """What the engine needs to begin a branch.

    The spec has to say where the branch begins: the spec's hash is the run's identity, and two branches of one parent
    would otherwise be taken for the same run.
    """

    parent: Parent
    """Its record."""
    state: Callable[[], Any]
    """Makes the state that the branch begins with, of the form of `Job.initial_state`; raises `UserError`."""


def parent_in(meta: Mapping[str, Any]) -> Parent | None:
    """Read the parent from the JSON of a branch's checkpoint; None for a run that is no branch.

    Raises:
        UserError: it is no record of a parent.
    """
    parent = meta.get("lineage", {}).get("parent")
    return None if parent is None else decode(parent, Parent, (), field="parent")


def parent_at(run: Run, number: int) -> Parent:
    """Describe a checkpoint of `run` as the parent of a branch, with an absolute path (see `seen_from`).

    Raises:
        Damaged: the checkpoint is missing or damaged.
    """
    meta = checkpoint.load_meta(run.path / checkpoint.CHECKPOINTS, number)
    digest = meta["lineage"]["spec_hash"]
    return Parent(run.path.resolve().as_posix(), digest, number, meta["step"], meta["sha256"])


def seen_from(run_dir: str | os.PathLike[str], path: str | os.PathLike[str]) -> str:
    """Write a path as seen from a run's folder, so that both can be moved together; whole, if on another drive."""
    try:
        return Path(os.path.relpath(Path(path).resolve(), Path(run_dir).resolve())).as_posix()
    except ValueError:  # Windows: no path leads from one drive to another.
        return Path(path).resolve().as_posix()


def open_parent(run_dir: str | os.PathLike[str], parent: Parent) -> Run:
    """Open the run that a branch began at.

    Args:
        run_dir: the branch's folder.
        parent: what the branch has recorded of it.

    Raises:
        UserError: it is gone, damaged, or another run is there now.
    """
    from .browse import open_run

    path = Path(os.path.normpath(Path(run_dir) / parent.path))
    if not path.is_dir():
        raise UserError(f"{path}, the run that {run_dir} branched from, is gone")
    found = open_run(path)
    if found.spec_hash != parent.spec_hash:
        raise UserError(f"{path} is not the run that {run_dir} branched from: its spec is another")
    return found


def whole_records(
    run_dir: str | os.PathLike[str], parent: Parent | None, segments: int | None = None
) -> tuple[pa.Table, list[str]]:
    """Read a run's records behind those of the past that it shares with its parent, and with the parent's parent.

    Columns that were measured on snapshots (`measured.with_measured`) are there too. The clock (`wall_time`) begins
    anew at every branch point.

    Args:
        run_dir: the run's folder.
        parent: where it began; None for a run that is no branch.
        segments: read only so many segments; see `records.read_records`.

    Returns:
        The records, sorted by segment, batch and seed; and a line for a past that cannot be read.

    Raises:
        UserError: the run's own records are damaged.
    """
    return _whole(run_dir, parent, segments, _LONGEST)


def _whole(
    run_dir: str | os.PathLike[str], parent: Parent | None, segments: int | None, generations: int
) -> tuple[pa.Table, list[str]]:
    own = with_measured(Path(run_dir), read_records(run_dir, segments))
    if parent is None:
        return own, []
    try:
        if not generations:
            raise UserError(f"more than {_LONGEST} branches lie between {run_dir} and the first run")
        found = open_parent(run_dir, parent)
        past, lines = _whole(found.path, found.parent, None, generations - 1)
    except UserError as error:
        return own, [f"the shared past is missing: {error}"]
    shared = past.filter(pa.array(past["segment"].to_numpy() < parent.checkpoint))
    return pa.concat_tables([shared, own], promote_options="permissive").combine_chunks(), lines
