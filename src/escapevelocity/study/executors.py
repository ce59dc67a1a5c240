"""What an executor is: something that trains the runs of a study, each once, wherever it likes."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, runtime_checkable

if TYPE_CHECKING:
    from escapevelocity.study.plan import Order
    from escapevelocity.study.store import Store
    from escapevelocity.study.work import Outcome


class Event(NamedTuple):
    """Something that happened while a study runs."""

    kind: Literal["started", "finished", "failed", "interrupted", "claimed", "waiting", "retried", "message"]
    """started; finished, failed, interrupted, claimed and waiting (not begun) end a run for this executor; retried: it
    was lost and goes on; message: a line about no single run."""
    name: str
    """The run's folder in the store; empty for a message."""
    text: str = ""
    """One line: why, where there is a reason."""


@runtime_checkable
class Executor(Protocol):
    """Trains orders. It returns when each has an outcome; Ctrl-C makes it "interrupted" or "waiting" (not begun)."""

    def run(self, orders: Sequence[Order], store: Store, tell: Callable[[Event], None]) -> list[Outcome]:
        """Train `orders` into `store`.

        Args:
            orders: what to train; a finished run among them is returned as it is.
            store: where the runs are and will be.
            tell: hears what happens, from the thread that called `run`.

        Returns:
            The outcomes, in the order of `orders`.

        Raises:
            UserError: when nothing can be trained at all, such as for want of a cluster.
        """
        ...


@contextlib.contextmanager
def sigterm_as_ctrl_c() -> Iterator[None]:
    """Let SIGTERM, by which batch systems end a job, stop an executor as Ctrl-C does: its runs are left in order.

    Signals come to the main thread; in another this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(signum: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)
