"""Ctrl-C and SIGTERM leave a segment at once, but never the middle of a commit."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

_CAUGHT = (signal.SIGINT, signal.SIGTERM)


class Interrupted(BaseException):
    """Raised in the main thread by a signal. Not an Exception: a job's `except Exception` lets it through."""


class Signals:
    """Catches SIGINT and SIGTERM in its `with` block, in the main thread only, and restores what was there."""

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._armed = False
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():
            self._previous = {signum: signal.signal(signum, self._handle) for signum in _CAUGHT}
        return self

    def __exit__(self, *_: object) -> None:
        for signum, handler in self._previous.items():
            # None: the handler was not set from Python and cannot be put back from here.
            signal.signal(signum, signal.SIG_DFL if handler is None else handler)

    @contextlib.contextmanager
    def armed(self) -> Iterator[None]:
        """Let a signal raise `Interrupted` inside this block; outside it is only noted."""
        if self.received is not None:
            raise Interrupted
        self._armed = True
        try:
            yield
        finally:
            self._armed = False

    def note(self, error: BaseException) -> None:
        """Count a KeyboardInterrupt that came another way, such as from a library, as SIGINT."""
        if isinstance(error, KeyboardInterrupt) and self.received is None:
            self.received = signal.SIGINT

    @property
    def exit_code(self) -> int:
        """128 + the signal's number, as shells have it; 0 when none came."""
        return 0 if self.received is None else 128 + self.received

    @property
    def why(self) -> str:
        """Name the signal for a person."""
        return "" if self.received is None else f"stopped by {self.received.name}"

    def _handle(self, signum: int, _: FrameType | None) -> None:
        self.received = signal.Signals(signum)
        if self._armed:
            # Once: a second Ctrl-C must not hit the saving of what there is.
            self._armed = False
            raise Interrupted
