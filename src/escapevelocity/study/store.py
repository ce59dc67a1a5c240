"""A study's store: a folder that holds one run's folder beside the other, and `_study` with what the study adds.

STORE/NAME/              a run, as `ev train --out STORE` writes it
STORE/_study/plan.json   which seeds run together
STORE/_study/progress/   a small file for each run: how far it is, how fast, what it warned of
STORE/_study/logs/       what the worker processes printed
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from escapevelocity.errors import UserError
from escapevelocity.runs import Observer
from escapevelocity.runs.atomic import make_folder

STUDY_FOLDER = "_study"


class StoreMissing(UserError):
    """There is no store of that name yet."""


class StoreOutOfReach(UserError):
    """A store behind a URL cannot be read or written now; what had been fetched is still here."""


class Store:
    """A folder on this machine, or on a disk that several machines share.

    `remote.RemoteStore` has the same methods for an fsspec URL: its `path` is a folder on this machine, `pull` and
    `push` copy runs between the two, `refresh` and `push_study` what is to be looked at and what the study records, and
    `observers` push a run while it trains. Here these do nothing, so that nobody has to ask which store it is.

    Args:
        path: the folder.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).absolute()

    is_remote = False
    """Whether it is elsewhere, and `path` a folder of this process alone."""

    @property
    def url(self) -> str:
        """What `open_store` makes this store of in another process."""
        return os.fspath(self.path)

    @property
    def study_path(self) -> Path:
        """The folder of what the study adds to its runs."""
        return self.path / STUDY_FOLDER

    @property
    def log_path(self) -> Path:
        """The folder of what worker processes print."""
        return self.study_path / "logs"

    def run_path(self, name: str) -> Path:
        """The folder of the run `name`.

        Raises:
            UserError: when the name is not that of a single folder.
        """
        if not name or name != Path(name).name or name.startswith((".", "_")):
            raise UserError(f"run name = {name!r}: must be the name of one folder, not beginning with . or _")
        return self.path / name

    def pull(self, name: str) -> None:
        """Fetch the run `name`, or what there is of it, to `run_path(name)`."""

    def push(self, name: str) -> None:
        """Hand what is at `run_path(name)` to all who share the store."""

    def refresh(self) -> None:
        """Fetch what runs and study have recorded."""

    def push_study(self) -> None:
        """Hand over what the study has recorded: its plan, its index and its histories."""

    def fetch_progress(self, names: Iterable[str]) -> None:
        """Fetch how far some runs are, and nothing else of them."""

    def observers(self, name: str) -> Sequence[Observer]:
        """What must watch the run `name` while it trains in this process."""
        return ()


def open_store(url: str | os.PathLike[str], create: bool = False) -> Store:
    """Open a study's store.

    Args:
        url: a folder, or an fsspec URL such as s3://bucket/study.
        create: make the folder where it is missing, and require that it can be written.

    Raises:
        UserError: a folder that is missing, is a file, or must not be read (or written, with `create`).

    Example:
        >>> import tempfile
        >>> open_store(tempfile.mkdtemp()).run_path("Hopper-v4-0123456789").name
        'Hopper-v4-0123456789'
    """
    text = os.fspath(url)
    scheme, colon, rest = text.partition("://")
    if colon and scheme != "file":
        from escapevelocity.study.remote import RemoteStore

        return RemoteStore(text, create)
    try:
        path = Path(rest if colon else text).expanduser()
        is_there, is_folder = path.exists(), path.is_dir()
    except (OSError, RuntimeError) as error:  # RuntimeError: ~NAME of a user that is unknown.
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"store = {text!r}: must be a folder that can be reached: {reason}") from error
    if is_there and not is_folder:
        raise UserError(f"store = {text!r}: must be a folder, and this is a file")
    if not is_there:
        if not create:
            raise StoreMissing(f"store = {text!r}: must be a folder that exists; `ev study run` makes it")
        make_folder(path, "--store")
    needed = os.R_OK | os.X_OK | (os.W_OK if create else 0)
    if not os.access(path, needed):
        what = "read and written" if create else "read"
        raise UserError(f"store = {text!r}: must be a folder that can be {what}; check its permissions")
    return Store(path)


def open_for_planning(url: str | os.PathLike[str]) -> Store:
    """Open a store that is there as it is, for it may be one that we may only read; make one that is not there.

    Raises:
        UserError: as `open_store`.
    """
    try:
        return open_store(url)
    except StoreMissing:
        return open_store(url, create=True)
