"""Checkpoints: a pytree as safetensors, committed by a JSON file that carries the checksums.

Checkpoint N holds the state after N segments, so 00000 is the initial state. Its JSON lands last and is the
commit: it vouches for the arrays and for the record shards of all N segments before it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UserError
from . import _shards
from ._arrays import from_arrays, from_safetensors, to_arrays
from .atomic import remove, write_arrays, write_json

CHECKPOINTS = "checkpoints"
SNAPSHOTS = "snapshots"


class Damaged(UserError):
    """A file that does not hold what its checksum says; the message names the file and what is wrong."""


def save(folder: Path, number: int, state: Any, step: int, extra: Mapping[str, Any] | None = None) -> None:
    """Save a pytree as checkpoint `number`: the arrays first, the JSON that commits them last.

    Args:
        folder: e.g. `RUN/checkpoints`; made when missing.
        number: segments done (or a snapshot's index).
        state: a pytree of NumPy or JAX arrays and numbers: nested dicts, Equinox modules, Optax states.
        step: environment steps done.
        extra: JSON values to keep beside it, such as `{"records": {"0": sha256}, "lineage": {...}}`.

    Raises:
        UserError: when the disk is full or the folder cannot be written.
        TypeError: for a leaf that is not a number.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> save(folder, 3, {"weights": np.ones(2)}, step=96)
        >>> load(folder, 3, like={"weights": np.zeros(2)})["weights"].tolist()
        [1.0, 1.0]
    """
    save_arrays(folder, number, to_arrays(state), step, extra)


def save_arrays(
    folder: Path,
    number: int,
    arrays: Mapping[str, np.ndarray],
    step: int,
    extra: Mapping[str, Any] | None = None,
) -> None:
    """Save arrays that already have names; see `save`."""
    # An old commit must not vouch for new arrays, not even for a moment.
    remove(_json_path(folder, number))
    checksum = write_arrays(_arrays_path(folder, number), arrays)
    document = {**(extra or {}), "number": number, "step": step, "sha256": checksum}
    write_json(_json_path(folder, number), {**document, "seal": _seal(document)})


def load(folder: Path, number: int, like: Any) -> Any:
    """Load checkpoint `number` into the structure, shapes, dtypes and leaf kinds of `like`.

    Args:
        folder: e.g. `RUN/checkpoints`.
        number: which one.
        like: a pytree of the same structure, e.g. a freshly made initial state.

    Raises:
        UserError: when a file is missing or its checksum says it is damaged (`Damaged`), or when a leaf is
            missing, superfluous, or of another shape or dtype; the message names it.
    """
    return from_arrays(load_arrays(folder, number), like, source=str(_arrays_path(folder, number)))


def load_arrays(folder: Path, number: int) -> dict[str, np.ndarray]:
    """Load the arrays of checkpoint `number` by name, after checking the checksum; raises `Damaged`."""
    document = load_meta(folder, number)
    path = _arrays_path(folder, number)
    data = _read(path)
    if hashlib.sha256(data).hexdigest() != document["sha256"]:
        raise Damaged(f"{path} is damaged: its checksum differs from the one in {number:05d}.json")
    return from_safetensors(data)


def load_meta(folder: Path, number: int) -> dict[str, Any]:
    """Load the JSON of checkpoint `number`: number, step, sha256, what `extra` held; raises `Damaged`."""
    path = _json_path(folder, number)
    data = _read(path)
    with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError):
        document = json.loads(data)
        seal = document.pop("seal")
        if seal == _seal(document) and document["number"] == number:
            return document
    raise Damaged(f"{path} is damaged: it does not match its own checksum")


def numbers(folder: Path) -> list[int]:
    """List the committed checkpoints of `folder` (those with a JSON file), in order; none are opened.

    Raises:
        UserError: when the folder must not be read.
    """
    paths = _shards.files_in(folder, "[0-9]*.json")
    return sorted(int(path.stem) for path in paths if path.stem.isdigit())


def latest_good(folder: Path, with_records: bool = True) -> tuple[int | None, list[str]]:
    """Find the newest checkpoint that is whole, together with the records of all segments before it.

    Args:
        folder: `RUN/checkpoints`; the shards are looked for in `RUN/records`.
        with_records: False when only the state is wanted, as for using an agent; damaged records do not matter then.

    Returns:
        Its number (None when there is none) and one line for each newer one that had to be passed over.
    """
    warnings = []
    for number in reversed(numbers(folder)):
        try:
            document = load_meta(folder, number)
            load_arrays(folder, number)
            if with_records:
                _require_records(folder.parent, number, document.get("records", {}))
        except Damaged as error:
            warnings.append(f"{error}; falling back from checkpoint {number:05d} to an earlier one")
            continue
        return number, warnings
    return None, warnings


def drop_after(folder: Path, number: int) -> None:
    """Remove all checkpoints after `number`, commit before arrays, and arrays that were never committed."""
    for stale in reversed(numbers(folder)):
        if stale > number:
            remove(_json_path(folder, stale), _arrays_path(folder, stale))
    drop_uncommitted(folder)


def drop_uncommitted(folder: Path) -> None:
    """Remove arrays whose JSON never landed."""
    for path in sorted(folder.glob("[0-9]*.safetensors")):  # Not best.safetensors, which needs no JSON.
        if not path.with_suffix(".json").exists():
            remove(path)


def drop_snapshots(folder: Path, segment: int) -> None:
    """Remove the snapshots taken in `segment` or later, and those that were never committed.

    A snapshot whose JSON is damaged stays: it may belong to a committed segment, and is written anew
    otherwise.
    """
    for number in numbers(folder):
        try:
            stale = load_meta(folder, number).get("segment", 0) >= segment
        except Damaged:
            stale = False
        if stale:
            remove(_json_path(folder, number), _arrays_path(folder, number))
    drop_uncommitted(folder)


def _require_records(run_dir: Path, segments: int, checksums: Mapping[str, str]) -> None:
    fault = _shards.first_fault(run_dir / _shards.RECORDS, segments, checksums)
    if fault is not None:
        raise Damaged(fault)


def _seal(document: Mapping[str, Any]) -> str:
    # Through JSON and back, so that what is sealed is what will be read (tuples become lists, keys strings).
    read_back = json.loads(json.dumps(document))
    return hashlib.sha256(json.dumps(read_back, sort_keys=True).encode()).hexdigest()


def _read(path: Path) -> bytes:
    try:
        return _shards.read_bytes(path)
    except OSError as error:
        raise Damaged(f"{path} cannot be read: {error.strerror}") from error


def _arrays_path(folder: Path, number: int) -> Path:
    return folder / f"{number:05d}.safetensors"


def _json_path(folder: Path, number: int) -> Path:
    return folder / f"{number:05d}.json"
