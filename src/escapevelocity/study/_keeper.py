"""Two threads beside a run that trains for an object store: one renews its lease, the other copies its commits.

They are two because an upload may take longer than a lease lasts. Before every file that it writes or drops, the copier
asks whether the lease is still alive by the clock here; where it is not, the copier stops for good.

What can still go wrong is the one file that is on its way when the lease ends: it may land after another process has
taken the run over. Then it is an older state of that file, or the same one, and a resumed run trusts no file without
its checksum: an array or a shard of ours under a commit of theirs, or a commit of ours over arrays of theirs, reads as
damaged, and the run goes back one checkpoint and computes that segment again. A file that nothing vouches for is not
read. An old status.json stays until the next commit's; if there is none, the run reads as interrupted, and resuming it
finds everything done.
"""

from __future__ import annotations

import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from escapevelocity.runs import Observer, checkpoint
from escapevelocity.study._mirror import Mirror
from escapevelocity.study.lease import Lease, LeaseLost

_GLANCE = 1.0  # seconds between two looks for a new commit
_PUSHES = 3  # attempts to hand over the end of a run


class Keeper:
    """Keeps the claim on a run, and the run in step with the store, while it trains.

    Args:
        lease: held by us; it is renewed from now on, until `finish` or `abandon`.
        mirror: the run's two folders.
        path: the one here.
        also: copies what else there is, after each push; called while the lease is ours.
    """

    def __init__(self, lease: Lease, mirror: Mirror, path: Path, also: Callable[[], None]) -> None:
        self.watch = LeaseWatch(lease)
        self._lease, self._mirror, self._path, self._also = lease, mirror, path, also
        self._trained, self._over = threading.Event(), threading.Event()
        self._renewer = threading.Thread(target=self._renew, name=f"lease of {path.name}", daemon=True)
        self._copier = threading.Thread(target=self._copy, name=f"copier of {path.name}", daemon=True)
        self._renewer.start()

    def start(self) -> None:
        """Begin to copy: the folder here is what the store has, or newer."""
        self._copier.start()

    def finish(self) -> bool:
        """Hand over how it ended, and give the lease back; False when it was lost before the last file was written.

        Raises:
            Exception: whatever the store raises, when it cannot be reached in three attempts.
        """
        self._trained.set()
        try:
            self._copier.join()
            for _ in range(_PUSHES - 1):
                try:
                    return self._hand_over()
                except Exception:
                    time.sleep(self._lease.interval)
            return self._hand_over()
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Give the lease back, whatever has been copied."""
        self._over.set()
        self._renewer.join()  # Else it might write the lease once more.
        self._lease.release()

    def _hand_over(self) -> bool:
        try:
            self._push()
        except LeaseLost:
            return False
        return True

    def _push(self) -> None:
        # Asks the store too: in a virtual machine that was stopped for a while, all clocks stood still.
        if not self._lease.renew():
            raise LeaseLost
        self._mirror.push(check=self._lease.check)
        self._lease.check()
        self._also()

    def _renew(self) -> None:
        while not self._over.wait(self._lease.interval):
            if not self._lease.renew():
                return

    def _copy(self) -> None:
        commits: list[int] = []
        copied = time.monotonic()
        while not self._trained.wait(min(_GLANCE, self._lease.interval)):
            found = checkpoint.numbers(self._path / checkpoint.CHECKPOINTS)
            if found == commits and time.monotonic() - copied < self._lease.interval:
                continue
            try:
                copied = time.monotonic()
                self._push()
                commits = found
            except LeaseLost:
                return
            except Exception:  # The store is out of reach for a while; the next look tries again.
                traceback.print_exc(file=sys.stderr)


class LeaseWatch(Observer):
    """Ends a run whose lease is lost: another process may have taken it for dead, and train it."""

    def __init__(self, lease: Lease) -> None:
        self._lease = lease
        self.reason = "its claim on the store was lost"

    def on_row(self, row: Mapping[str, Any]) -> bool:
        """Go on while the lease is ours."""
        return self._lease.alive()
