"""What runs on a node of a Ray cluster: one order, in a worker process of its own.

We hand Ray strings of JSON and the name of this module's function, and get strings of JSON back; nothing of ours is
pickled but these. (Ray itself wraps every task and its arguments with cloudpickle: that is its protocol, between
machines that trust each other, and it never touches a run's files.)
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from escapevelocity.errors import UserError
from escapevelocity.runs.status import this_host
from escapevelocity.study.cores import claimed_cores
from escapevelocity.study.plan import Order
from escapevelocity.study.store import STUDY_FOLDER, open_store
from escapevelocity.study.work import Outcome
from escapevelocity.study.worker import Worker

_FAREWELL = (
    60.0  # seconds that a cancelled run gets to end in order: XLA does not hear signals while it compiles
)
_SIGHT = 30  # seconds until a file that was made on one machine must be seen on another


def train(order: str, store: str, token: str, cpus: int) -> Iterator[str]:
    """Train an order; a Ray task that hands out each line as it comes.

    The training itself is in a child process, the same program that a local study uses. It ends at once when this
    process does, also when Ray kills it, and the run's lock with it.

    Args:
        order: JSON of `Order.to_json`.
        store: the store's URL.
        token: name of a file in the study's folder, by which a store on disk shows that it is the same everywhere;
            empty where that does not matter.
        cpus: cores and threads that it may use.

    Yields:
        JSON: first {"started": host}; then {"outcome": …}, or {"lost": why} when the worker process died.
    """
    yield json.dumps({"started": this_host()})
    yield json.dumps(_train(Order.from_json(json.loads(order)), store, token, cpus))


def _train(order: Order, url: str, token: str, cpus: int) -> dict[str, object]:
    try:
        _require_shared(url, token)
        store = open_store(url)
    except UserError as error:
        return {"outcome": dataclasses.asdict(Outcome(order.name, "failed", f"on {this_host()}: {error}"))}
    with claimed_cores(cpus) as cores:
        with _sigint_let_through():
            worker = Worker(store.log_path / f"{order.name}.log", cores, threads=cpus)
        try:
            worker.submit(order, store)
            outcome = _wait(worker)
            if outcome is None:
                return {"lost": f"on {this_host()}: {worker.death()}"}
            return {"outcome": dataclasses.asdict(outcome)}
        except BaseException:  # Ray raises KeyboardInterrupt in a task that is cancelled.
            worker.interrupt()
            with contextlib.suppress(TimeoutError):  # `close` ends it then; Ray is to hear the cancellation.
                worker.wait(_FAREWELL)
            raise
        finally:
            worker.close()


@contextlib.contextmanager
def _sigint_let_through() -> Iterator[None]:
    """Ray's processes block SIGINT, and a child would inherit that: it could not be asked to end in order."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _wait(worker: Worker) -> Outcome | None:
    while True:
        try:
            return worker.wait(1.0)  # Not for ever at once: a thread that waits hears no cancellation.
        except TimeoutError:
            continue


def _require_shared(url: str, token: str) -> None:
    """Refuse a folder that only has the right name: its runs would be scattered over the disks of the nodes."""
    for _ in range(_SIGHT):
        if not token or (Path(url) / STUDY_FOLDER / token).exists():
            return
        time.sleep(1.0)
    raise UserError(
        f"store = {url!r}: must be on a disk that all nodes share, or a URL such as s3://bucket/study; "
        "this node has another folder of that name, or none"
    )
