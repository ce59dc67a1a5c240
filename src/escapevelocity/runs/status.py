"""RUN/status.json: how far a run has come, and how it ended. And the lock that says whether it is running."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import platform
from pathlib import Path
from typing import Literal

from filelock import FileLock, Timeout

from ..errors import UserError
from ._typed_json import decode
from .atomic import write_json

STATUS_FILE = "status.json"
LOCK_FILE = ".lock"

State = Literal["running", "finished", "interrupted", "failed"]


@dataclasses.dataclass(frozen=True)
class Status:
    """How far a run has come, and how it ended."""

    state: State
    """running, finished, interrupted or failed."""
    why: str = ""
    """One line: the reason, for interrupted and failed."""
    segments_done: int = 0
    """Committed segments."""
    segments_total: int = 0
    """Segments of the whole run."""
    steps_done: int = 0
    """Environment steps of the committed segments."""
    steps_total: int = 0
    """Environment steps of the whole run."""
    wall_time: float = 0.0
    """Seconds of running, added up over resumes."""
    exit_code: int = 0
    """What a command should exit with: 0, 1 (failed), 130 (Ctrl-C) or 143 (SIGTERM)."""
    host: str = ""
    """The machine it ran on last."""
    pid: int = 0
    """The process it ran in last."""


def write_status(run_dir: Path, status: Status) -> None:
    """Write status.json atomically."""
    write_json(run_dir / STATUS_FILE, dataclasses.asdict(status))


def read_status(run_dir: str | os.PathLike[str]) -> Status:
    """Read status.json. A run that says "running" but holds no lock any more is "interrupted (killed)".

    Raises:
        UserError: when the file is missing or damaged.
    """
    path = Path(run_dir) / STATUS_FILE
    try:
        status = decode(json.loads(path.read_text(encoding="utf-8")), Status, ())
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; is {run_dir} a run?") from error
    except ValueError as error:
        raise UserError(f"{path} is damaged: {error}") from error
    if status.state == "running" and not is_locked(Path(run_dir), untold=True):
        return dataclasses.replace(status, state="interrupted", why="killed")
    return status


def acquire(run_dir: Path, wait: float = 1.0) -> FileLock:
    """Take the run's lock; a lock whose owner died is free.

    Args:
        run_dir: the run's folder, which must exist.
        wait: seconds to wait, since `is_locked` holds the lock for an instant too.

    Raises:
        UserError: when another process runs it.
    """
    lock = FileLock(run_dir / LOCK_FILE)
    try:
        lock.acquire(timeout=wait)
    except Timeout:
        raise UserError(
            f"{run_dir} is being run by another process{_owner(run_dir)}; wait for it or stop it"
        ) from None
    except OSError as error:
        raise UserError(f"cannot lock {run_dir}: {error.strerror}; choose another --out") from error
    return lock


def is_locked(run_dir: Path, untold: bool = False) -> bool:
    """Say whether a process is running the run. Changes nothing on disk.

    Args:
        run_dir: the run's folder.
        untold: what to say where we may not write, and so cannot ask for the lock.
    """
    path = run_dir / LOCK_FILE
    if not path.exists():
        return False
    probe = FileLock(path)
    try:
        probe.acquire(blocking=False)
    except Timeout:
        return True
    except PermissionError:
        return untold
    except OSError as error:  # Such as a file system without locks, on which nothing of ours runs.
        return untold and error.errno == errno.EROFS
    probe.release()
    return False


def this_host() -> str:
    """Name this machine."""
    return platform.node()


def _owner(run_dir: Path) -> str:
    try:
        owner = json.loads((run_dir / STATUS_FILE).read_text(encoding="utf-8"))
        return f" (pid {int(owner['pid'])} on {owner['host']})"
    except (OSError, ValueError, KeyError, TypeError):
        return ""
