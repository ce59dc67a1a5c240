"""RUN/snapshots/best.safetensors: each member's parameters at its best, in one file that lands by one rename."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UserError
from ._arrays import from_arrays, from_safetensors, to_arrays, to_safetensors
from .atomic import write_bytes
from .checkpoint import SNAPSHOTS, Damaged

BEST_FILE = "best.safetensors"
_CHECKSUM = "sha256"


def save_best(run_dir: Path, best: Any) -> None:
    """Write a pytree of arrays, with the checksum of all of them inside.

    Raises:
        UserError: when the disk is full or the folder cannot be written; the old file stays.
    """
    arrays = to_arrays(best)
    arrays[_CHECKSUM] = _checksum(arrays)
    write_bytes(_path(run_dir), to_safetensors(arrays))


def load_best(run_dir: Path, like: Any) -> Any:
    """Load what `save_best` wrote, into the structure, shapes and dtypes of `like`.

    Raises:
        UserError: when there is none, it is damaged (`Damaged`), or it does not fit `like`.
    """
    path = _path(run_dir)
    try:
        arrays = from_safetensors(path.read_bytes())
        stored = arrays.pop(_CHECKSUM)
    except FileNotFoundError:
        raise UserError(f"{run_dir} has no best checkpoint; train with --keep-best") from None
    except Exception as error:  # safetensors has errors of its own
        raise Damaged(f"{path} cannot be read: {' '.join(str(error).split())}") from error
    if not np.array_equal(stored, _checksum(arrays)):
        raise Damaged(f"{path} is damaged: it does not match its own checksum")
    return from_arrays(arrays, like, source=str(path))


def has_best(run_dir: Path) -> bool:
    """Say whether a best checkpoint was kept."""
    return _path(run_dir).exists()


def _path(run_dir: Path) -> Path:
    return Path(run_dir) / SNAPSHOTS / BEST_FILE


def _checksum(arrays: dict[str, np.ndarray]) -> np.ndarray:
    return np.frombuffer(hashlib.sha256(to_safetensors(arrays)).digest(), np.uint8)
