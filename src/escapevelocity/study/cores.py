"""Cores for processes that nobody assigns any to: Ray counts the CPUs that its tasks use, and does not say which."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from filelock import FileLock, Timeout

from escapevelocity.errors import UserError
from escapevelocity.runs.atomic import make_folder
from escapevelocity.study._folders import users_folder


@contextlib.contextmanager
def claimed_cores(count: int) -> Iterator[tuple[int, ...]]:
    """Claim cores of this machine that no other claimant holds, as long as the `with` block lasts.

    A run on cores of its own is faster than one that is moved about, and finds as many of them as it would have found
    in a local study: XLA's thread pool is as large as the set of cores, and the last bits may depend on it.

    Args:
        count: how many.

    Yields:
        The cores, lowest first. None at all where so many are not free, or the system cannot keep a process on cores:
        the process then goes where it likes.
    """
    with contextlib.ExitStack() as held:
        yield _claim(count, held) if hasattr(os, "sched_getaffinity") else ()


def _claim(count: int, held: contextlib.ExitStack) -> tuple[int, ...]:
    """Take the first free cores; their locks go with `held`, or with the process that dies."""
    cores: list[int] = []
    folder = users_folder("cores")
    with contextlib.suppress(OSError, UserError):
        make_folder(folder)
        for core in sorted(os.sched_getaffinity(0)):
            if len(cores) == count:
                break
            lock = FileLock(folder / f"{core}.lock")
            with contextlib.suppress(Timeout):
                lock.acquire(blocking=False)
                held.callback(lock.release)
                cores.append(core)
    return tuple(cores) if len(cores) == count else ()
