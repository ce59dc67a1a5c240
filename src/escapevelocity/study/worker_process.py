"""`python -m escapevelocity.study.worker_process`: a process that trains one order after the other.

It lives through a whole study, so JAX is imported once and runs that differ in seeds or learning rate share their
compiled programs. A line of JSON on standard input is an order, a line of JSON on standard output its outcome;
whatever the training itself prints goes to standard error. When standard input closes, because its parent is done or
dead, the process ends at once, also in the middle of a run: that resumes later, from its last committed segment.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import queue
import signal
import sys
import threading
from collections.abc import Sequence
from types import FrameType
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from escapevelocity.study.work import Outcome


class _Interruptible:
    """Lets SIGINT and SIGTERM raise KeyboardInterrupt while an order is being worked on, and no other time.

    Inside a run the engine's own handlers stand, which leave it in order.
    """

    def __init__(self) -> None:
        self.busy = False
        for signum in (signal.SIGINT, signal.SIGTERM):
            signal.signal(signum, self._handle)

    def _handle(self, signum: int, _: FrameType | None) -> None:
        if self.busy:
            raise KeyboardInterrupt
        if signum == signal.SIGTERM:
            raise SystemExit(128 + signum)


def main(argv: Sequence[str] | None = None) -> int:
    """Work on orders until standard input closes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cores", type=int, nargs="*", default=[], help="stay on these cores")
    cores = parser.parse_args(argv).cores
    if cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)  # Before any library counts the cores for its threads.
    orders, answers = take_standard_streams()
    signals = _Interruptible()
    while True:
        line = orders.get()
        try:
            signals.busy = True
            outcome = _work(line)
        except KeyboardInterrupt:  # In the instant before or after the work itself.
            outcome = _unfinished(line)
        finally:
            signals.busy = False
        answers.write(json.dumps(dataclasses.asdict(outcome)) + "\n")
        answers.flush()


def _work(line: str) -> Outcome:
    from escapevelocity.errors import UserError
    from escapevelocity.study.plan import Order
    from escapevelocity.study.store import open_store
    from escapevelocity.study.work import Outcome, do

    job = json.loads(line)
    name = job["order"]["name"]
    print(f"--- {name}", file=sys.stderr, flush=True)
    try:
        outcome = do(Order.from_json(job["order"]), open_store(job["store"], create=True))
    except (
        UserError
    ) as error:  # An order that JSON cannot hold, or a store that was there when the study began.
        outcome = Outcome(name, "failed", str(error))
    print(f"--- {outcome.state} {outcome.why}".rstrip(), file=sys.stderr, flush=True)
    return outcome


def _unfinished(line: str) -> Outcome:
    from escapevelocity.study.work import Outcome

    return Outcome(json.loads(line)["order"]["name"], "interrupted", "stopped by a signal")


def take_standard_streams() -> tuple[queue.SimpleQueue[str], TextIO]:
    """Keep the streams of orders and answers for ourselves, also from C code and from processes that a job starts."""
    incoming = os.fdopen(os.dup(0), "r", encoding="utf-8")
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    orders: queue.SimpleQueue[str] = queue.SimpleQueue()

    def listen() -> None:
        for line in incoming:
            orders.put(line)
        os._exit(0)  # Not sys.exit: the main thread may be in the middle of a run, and is not asked.

    threading.Thread(target=listen, name="orders", daemon=True).start()
    return orders, answers


if __name__ == "__main__":
    sys.exit(main())
