"""RUN/fault/: what is kept of numbers that stopped being finite: the last good state and the offending batch."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ._arrays import to_arrays
from .atomic import remove, write_arrays, write_json

FAULT = "fault"


def save(run_dir: Path, name: str, reason: str, segment: int, arrays: Mapping[str, Any]) -> None:
    """Write each pytree of `arrays` to a file of its own, then NAME.json with the reason and their checksums."""
    folder = run_dir / FAULT
    files = {}
    for key, tree in arrays.items():
        file = _plain(key) + ".safetensors"
        files[file] = write_arrays(folder / file, to_arrays(tree))
    write_json(folder / f"{_plain(name)}.json", {"reason": reason, "segment": segment, "sha256": files})


def drop_from(run_dir: Path, segment: int) -> None:
    """Remove the faults of segment `segment` and later, which are computed again, and what no JSON speaks of."""
    folder = run_dir / FAULT
    kept: set[Path] = set()
    for path in folder.glob("*.json"):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            document = json.loads(path.read_text(encoding="utf-8"))
            if document["segment"] < segment:
                kept |= {path, *(folder / file for file in document["sha256"])}
    remove(*(path for path in folder.glob("*") if path not in kept))


def _plain(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]", "_", name)
