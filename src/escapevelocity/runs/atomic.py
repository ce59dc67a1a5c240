"""Atomic writes: a file is the old one or the new one, never half of either, whatever happens."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import UserError, require
from ._arrays import to_safetensors

_TEMP_SUFFIX = ".tmp"
_TEMP_NAME = re.compile(r"\..+\.\d+\.tmp")


def write_bytes(path: str | os.PathLike[str], data: bytes) -> str:
    """Write `data` to `path` atomically, making missing parent folders.

    A reader, or a process killed at any moment, finds the old file or the new one.

    Args:
        path: the file to write.
        data: its whole content.

    Returns:
        The sha256 of the content, as hex digits.

    Raises:
        UserError: when the disk is full or the folder cannot be written; nothing is left behind.

    Example:
        >>> import tempfile
        >>> write_bytes(tempfile.mkdtemp() + "/a", b"abc")[:10]
        'ba7816bf8f'
    """
    path = Path(path)
    # The process id keeps two writers (there should be none) out of each other's temp file.
    temp = path.with_name(f".{path.name}.{os.getpid()}{_TEMP_SUFFIX}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temp, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temp, path)
        _fsync_folder(path.parent)
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {_reason(error)}; free space or choose another --out"
        ) from error
    finally:
        # After a success the temp file is gone; after a failure or a signal it must go.
        with contextlib.suppress(OSError):
            temp.unlink()
    return hashlib.sha256(data).hexdigest()


def write_json(path: str | os.PathLike[str], document: Mapping[str, Any]) -> str:
    """Write a JSON document (sorted keys, indented) atomically; see `write_bytes`."""
    return write_bytes(
        path, (json.dumps(document, sort_keys=True, indent=2, allow_nan=False) + "\n").encode()
    )


def write_arrays(path: str | os.PathLike[str], arrays: Mapping[str, np.ndarray]) -> str:
    """Write named arrays as safetensors atomically; see `write_bytes`."""
    return write_bytes(path, to_safetensors(arrays))


def write_table(path: str | os.PathLike[str], table: pa.Table) -> str:
    """Write a table as Parquet (zstd) atomically; see `write_bytes`."""
    return write_bytes(path, table_bytes(table))


def table_bytes(table: pa.Table) -> bytes:
    """Encode `table` as the bytes of a Parquet file (zstd)."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue().to_pybytes()


def make_folder(path: str | os.PathLike[str], option: str = "--out") -> None:
    """Make a folder and its parents; a `UserError` names it, and the option that chose it, when that is impossible."""
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"cannot make the folder {path}: {_reason(error)}; choose another {option}"
        ) from error


def require_writable(folder: str | os.PathLike[str], field: str = "out") -> None:
    """Raise `UserError` unless files can be written to `folder`, or the folder can be made; nothing is made.

    Args:
        folder: where files will go, after work that would be lost.
        field: what the message calls it.
    """
    whole = Path(folder).absolute()
    # Not Path.exists, which raises below a folder that must not be searched.
    nearest = next(path for path in (whole, *whole.parents) if os.path.exists(path))
    writable = os.path.isdir(nearest) and os.access(nearest, os.W_OK | os.X_OK)
    require(writable, field, str(folder), f"a folder that can be written; {nearest} is not")


def remove(*paths: Path) -> None:
    """Remove files that may be there; a `UserError` names one that cannot be removed."""
    for path in paths:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise UserError(f"cannot remove {path}: {_reason(error)}; check its permissions") from error


def remove_leftovers(run_dir: Path) -> None:
    """Remove the temp files that a killed process left anywhere below `run_dir`."""
    remove(*(path for path in run_dir.rglob(f".*{_TEMP_SUFFIX}") if is_leftover(path)))


def is_leftover(path: Path) -> bool:
    """Whether a file is named as this module names its temp files, so that somebody else's are left alone."""
    return _TEMP_NAME.fullmatch(path.name) is not None and path.is_file()


def _fsync_folder(folder: Path) -> None:
    """Make a rename durable. Windows cannot open folders, some network file systems cannot sync them, and a folder may
    be open to writers only; there the rename is still atomic.
    """
    if os.name == "nt":
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EBADF, errno.ENOTSUP, errno.EACCES):
            raise


def _reason(error: OSError) -> str:
    return error.strerror or str(error) or type(error).__name__
