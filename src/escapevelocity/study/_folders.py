"""A store's folders on disk: where its runs are, and what can be known of one without opening all its files."""

from __future__ import annotations

import contextlib
import getpass
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from escapevelocity.errors import UserError
from escapevelocity.runs import Parent, checkpoint
from escapevelocity.runs.branch import parent_in
from escapevelocity.runs.spec import SPEC_FILE
from escapevelocity.runs.status import STATUS_FILE
from escapevelocity.study.store import STUDY_FOLDER


def store_folder(store: Any) -> Path:
    """Give the folder of a store, given as a `Store` or by its path.

    Raises:
        UserError: it is not a folder.
    """
    folder = Path(getattr(store, "path", store))
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder; give a study's file, or the folder that holds its runs")
    return folder


def users_folder(what: str) -> Path:
    """Give where temporary files of this user lie on this machine.

    Args:
        what: of which kind they are.
    """
    try:
        user = getpass.getuser()
    except (KeyError, OSError, ImportError):  # Containers run under numbers that have no name.
        user = str(os.getuid()) if hasattr(os, "getuid") else "unnamed"
    return Path(tempfile.gettempdir()) / f"escapevelocity-{what}-{user}"


def run_folders(folder: Path) -> Iterator[tuple[str, Path]]:
    """List the runs' names and folders, sorted."""
    found = []
    for root, folders, files in os.walk(folder):
        if SPEC_FILE in files or STATUS_FILE in files:
            folders.clear()  # What lies inside a run is its own.
            found.append((Path(root).relative_to(folder).as_posix(), Path(root)))
        elif STUDY_FOLDER in folders:
            folders.remove(STUDY_FOLDER)
    return iter(sorted(found))


def first_meta(run_dir: Path) -> Mapping[str, Any]:
    """Read the JSON of a run's first whole checkpoint; empty where there is none."""
    folder = run_dir / checkpoint.CHECKPOINTS
    for number in checkpoint.numbers(folder):
        with contextlib.suppress(checkpoint.Damaged):
            return checkpoint.load_meta(folder, number)
    return {}


def parent_of(run_dir: Path) -> Parent | None:
    """Give where a run began, if it is a branch: `Run.parent` without opening every checkpoint."""
    return parent_in(first_meta(run_dir))
