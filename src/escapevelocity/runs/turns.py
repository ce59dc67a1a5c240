"""One process at a time: a lock for files that are read, changed and written again."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from ..errors import UserError
from .atomic import make_folder


@contextlib.contextmanager
def taking_turns(lock: Path, doing: str, wait: float = 60.0) -> Iterator[None]:
    """Let no other process in that waits for the same file; the lock of one that died is free.

    Args:
        lock: a hidden file, which stays, in a folder that is made when missing.
        doing: what another process would be doing, such as "runs/study is being planned".
        wait: seconds to wait for it.

    Raises:
        UserError: another one does not end, or the folder cannot be written.
    """
    make_folder(lock.parent)
    held = FileLock(lock)
    try:
        held.acquire(timeout=wait)
    except Timeout:
        raise UserError(f"{doing} by another process; wait for it or stop it") from None
    except OSError as error:
        raise UserError(f"cannot lock {lock.parent}: {error.strerror}; check its permissions") from error
    try:
        yield
    finally:
        held.release()
