"""Leases: the right to work on a run that lies in an object store, where there are no file locks.

A claimant writes an object of its own into the run's lease folder and then lists the folder. It holds the lease when
it finds itself alone; where another object is alive it withdraws its own. Of two claimants the later writer sees both
objects, so they never both find themselves alone; it takes no more than a store whose listings show what was written
(S3, Google Cloud Storage and Azure promise that), and no conditional writes, which fsspec's file systems spell
differently. An object is alive while its content keeps changing as we look at it: the clocks of the machines need not
agree. A holder that could not renew for half the time gives up by itself, before another may take over, and for good.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from escapevelocity.runs.status import this_host
from escapevelocity.study._mirror import write_object

TERM = 60.0
"""Seconds without a change after which a holder counts as dead."""

# On Linux and macOS time.monotonic stands still while the machine sleeps, and a lease runs out then like at any time.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", getattr(time, "CLOCK_MONOTONIC", None))
_PATIENCE = 5  # Claims that may meet another claimant; with random pauses, five in a row are a rare thing.


class LeaseLost(Exception):
    """We are no longer the one who may change a run's files."""


def elapsed() -> float:
    """Seconds since some moment, those included in which the machine slept."""
    return time.monotonic() if _CLOCK is None else time.clock_gettime(_CLOCK)


class Lease:
    """The lease of one run. Several threads may ask for it and renew it.

    Args:
        fs: an fsspec file system.
        folder: where the lease's objects are, in the terms of `fs`.
        term: seconds without a change after which a holder counts as dead. Half of it without a successful renewal
            ends our own.
        clock: seconds that only go up, also while the machine sleeps.
        sleep: waits for a number of seconds.
    """

    def __init__(
        self,
        fs: Any,
        folder: str,
        term: float = TERM,
        clock: Callable[[], float] = elapsed,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._fs, self._folder, self._term = fs, folder, term
        self._clock, self._sleep = clock, sleep
        self._path = f"{folder}/{uuid.uuid4().hex}.json"
        self._beat = 0
        self._renewed = clock()
        self._lost = False
        self._renewing = threading.Lock()

    @property
    def interval(self) -> float:
        """Seconds between two renewals."""
        return self._term / 6

    def claim(self) -> bool:
        """Try to get the lease; False when another process holds it.

        It takes one write and one listing where nobody else is, and `term` seconds where a dead holder is.
        """
        seen: dict[str, tuple[str, float]] = {}
        for _ in range(_PATIENCE):
            answer = self._stand(seen)
            if answer is not None:
                return answer
            self._sleep(random.uniform(0.2, 1.0) * self.interval)
        return False

    def renew(self) -> bool:
        """Show that we are alive; False when the lease is lost. To be called every `interval` seconds.

        A store that cannot be reached for a moment is no loss yet.
        """
        with self._renewing:
            began = self._clock()
            if not self.alive():
                return False  # Nor may our object come back beside that of whoever has removed it.
            with contextlib.suppress(Exception):  # Each store has its own errors.
                if self._path not in self._objects():
                    self._lost = True
                    return False
                self._write(holding=True)
                if self.alive():
                    self._renewed = began
            return self.alive()

    def alive(self) -> bool:
        """Say whether the last renewal is recent enough that nobody can have taken over. Once lost, it stays so."""
        if self._clock() - self._renewed >= self._term / 2:
            self._lost = True
        return not self._lost

    def check(self) -> None:
        """Raise `LeaseLost` unless the lease is alive; to be called before each change of the run's files."""
        if not self.alive():
            raise LeaseLost

    def release(self) -> None:
        """Give it back."""
        self._lost = True
        self._remove(self._path)

    def _stand(self, seen: dict[str, tuple[str, float]]) -> bool | None:
        """Claim once: True or False, or None when another claimant stood in the way."""
        began = self._clock()
        self._write(holding=False)
        while True:
            others = {path: text for path, text in self._objects().items() if path != self._path}
            if not others:
                if self._clock() - began >= self._term / 2:
                    # So long after our last sign of life, somebody may have counted us as dead.
                    self._remove(self._path)
                    return None
                self._renewed, self._lost = began, False
                self._write(holding=True)
                return True
            for path, text in others.items():
                before, since = seen.get(path, (text, self._clock()))
                seen[path] = (text, since)
                if text != before:
                    self._remove(self._path)
                    seen[path] = (text, self._clock())
                    return False if _holding(text) else None
                if self._clock() - since >= self._term:
                    self._remove(path)
            self._sleep(self.interval / 2)
            began = self._clock()
            self._write(holding=False)

    def _objects(self) -> dict[str, str]:
        """The lease's objects and what they say."""
        self._fs.invalidate_cache()
        found = {}
        with contextlib.suppress(FileNotFoundError):
            for path in self._fs.ls(self._folder, detail=False):
                with contextlib.suppress(FileNotFoundError):
                    found[path] = self._fs.cat_file(path).decode()
        return found

    def _write(self, holding: bool) -> None:
        self._beat += 1
        document = {"holding": holding, "beat": self._beat, "host": this_host(), "pid": os.getpid()}
        write_object(self._fs, self._path, json.dumps({**document, "time": time.time()}).encode())

    def _remove(self, path: str) -> None:
        with contextlib.suppress(Exception):  # Somebody else removed it, or will take it for dead.
            self._fs.rm_file(path)


def held_now(fs: Any, folder: str, term: float = TERM) -> Mapping[str, Any] | None:
    """Who holds a lease, going by the clocks: for people to look at. None: nobody, as far as one can see.

    Args:
        fs: an fsspec file system.
        folder: where the lease's objects are.
        term: seconds after which a holder counts as dead.
    """
    with contextlib.suppress(FileNotFoundError):
        for path in fs.ls(folder, detail=False):
            with contextlib.suppress(FileNotFoundError, ValueError):
                document = json.loads(fs.cat_file(path))
                if document["holding"] and time.time() - document["time"] < term:
                    return document
    return None


def _holding(text: str) -> bool:
    try:
        return bool(json.loads(text)["holding"])
    except (ValueError, KeyError, TypeError):  # Half written, by a store whose writes are not atomic.
        return True
