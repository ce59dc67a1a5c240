"""Verdicts on many runs, worked out one by one in a process of their own and kept until a run's records change."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from escapevelocity.study.dashboard_scan import Entry

AGAIN = 5.0
"""Least seconds between two verdicts on one run, as a multiple of what the last one took; so a run of many records,
which takes long, is not judged all the time."""
_SETTLED = ("finished", "interrupted", "failed", "running")

PATIENCE = 600.0
"""Seconds that one run may take to be judged; the longest of ours take some ten. A file that is never read to its end
must not keep all other runs from being judged."""

Ask = Callable[[Path], Mapping[str, Any]]


class _Known(NamedTuple):
    fingerprint: str
    found: Mapping[str, Any]
    version: int


class Verdicts:
    """Gives what is known of each run at once, and works out the rest in the background.

    Args:
        ask: judges one run; `WorkerProcess(root).ask` in a process, or a function for a test.
        again: see `AGAIN`.
    """

    def __init__(self, ask: Ask, again: float = AGAIN) -> None:
        self._ask = ask
        self._again = again
        self._known: dict[str, _Known] = {}
        self._waiting: OrderedDict[str, Entry] = OrderedDict()
        self._not_before: dict[str, float] = {}
        self._change = threading.Condition()
        self._stopped = False
        self._thread: threading.Thread | None = None
        self.version = 0
        """Counts verdicts, so that who has shown them knows whether there is a new one."""

    def start(self) -> None:
        """Begin to work."""
        self._thread = threading.Thread(target=self._work, name="verdicts", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Work no more; what is being judged is left."""
        with self._change:
            self._stopped = True
            self._change.notify_all()

    def want(self, entries: Iterable[Entry]) -> None:
        """Say which runs there are now. Those that train come first, then those that changed last."""
        now = time.monotonic()
        wanted = [entry for entry in entries if entry.indexed.state in _SETTLED]
        with self._change:
            names = {entry.name for entry in wanted}
            self._known = {name: kept for name, kept in self._known.items() if name in names}
            stale = [entry for entry in wanted if self._is_stale(entry, now)]
            stale.sort(key=lambda entry: (entry.indexed.state != "running", -entry.indexed.changed))
            self._waiting = OrderedDict((entry.name, entry) for entry in stale)
            if stale:
                self._change.notify_all()

    def first(self, name: str) -> None:
        """Judge this run next: somebody looks at it."""
        with self._change:
            if name in self._waiting:
                self._waiting.move_to_end(name, last=False)

    def of(self, entry: Entry) -> Mapping[str, Any] | None:
        """Give what is known of a run, perhaps from before its records changed; None before there is anything."""
        known = self._known.get(entry.name)
        return None if known is None else known.found

    def version_of(self, entry: Entry) -> int:
        """Give the version in which a run was judged last; 0 where it never was."""
        known = self._known.get(entry.name)
        return 0 if known is None else known.version

    @property
    def waiting(self) -> int:
        """Runs that are still to be judged."""
        return len(self._waiting)

    def _is_stale(self, entry: Entry, now: float) -> bool:
        known = self._known.get(entry.name)
        changed = known is None or known.fingerprint != entry.fingerprint
        return changed and self._not_before.get(entry.name, 0.0) <= now

    def _work(self) -> None:
        while True:
            with self._change:
                while not self._waiting and not self._stopped:
                    self._change.wait()
                if self._stopped:
                    return
                name, entry = next(iter(self._waiting.items()))
            began = time.monotonic()
            found = self._ask(entry.path)
            took = time.monotonic() - began
            with self._change:
                self.version += 1
                self._known[name] = _Known(entry.fingerprint, found, self.version)
                self._not_before[name] = time.monotonic() + self._again * took
                waiting = self._waiting.get(name)
                # Every look at the disk makes entries anew; the run waits on only if its records changed meanwhile.
                if waiting is not None and waiting.fingerprint == entry.fingerprint:
                    del self._waiting[name]


class WorkerProcess:
    """The process that judges (`dashboard_worker`); one that dies is started again.

    Args:
        root: the dashboard's folder.
        patience: see `PATIENCE`; then the process is ended.
    """

    def __init__(self, root: Path, patience: float = PATIENCE) -> None:
        self._root = root
        self.patience = patience
        self._process: subprocess.Popen[str] | None = None
        self._closed = False

    def ask(self, path: Path) -> Mapping[str, Any]:
        """Judge a run; waits for the answer, as long as its patience lasts."""
        late = threading.Event()
        timer = None
        try:
            process = self._running()

            def give_up() -> None:
                late.set()
                process.kill()

            timer = threading.Timer(self.patience, give_up)
            timer.daemon = True
            timer.start()
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(json.dumps(os.fspath(path)) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
            if not line:
                raise OSError("the process has ended")
            return json.loads(line)
        except (OSError, ValueError):
            self._end()
            what = (
                f"took more than {self.patience:g} s"
                if late.is_set()
                else "killed the process that judges runs"
            )
            return {"error": f"reading it {what}; `ev diagnose` may tell more"}
        finally:
            if timer is not None:
                timer.cancel()

    def close(self) -> None:
        """End it."""
        self._closed = True
        self._end()

    def _running(self) -> subprocess.Popen[str]:
        if self._closed:
            raise OSError("closed")
        if self._process is None or self._process.poll() is not None:
            self._end()
            command = [sys.executable, "-m", "escapevelocity.study.dashboard_worker", os.fspath(self._root)]
            pipe = subprocess.PIPE
            # One thread for what NumPy and Arrow do: the other cores are for training.
            environment = {**os.environ, "OMP_NUM_THREADS": "1"}
            self._process = subprocess.Popen(
                command,
                stdin=pipe,
                stdout=pipe,
                stderr=subprocess.DEVNULL,
                text=True,
                encoding="utf-8",
                env=environment,
            )
        return self._process

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            # What had not been sent is lost with the process.
            with contextlib.suppress(OSError):
                if stream is not None:
                    stream.close()
