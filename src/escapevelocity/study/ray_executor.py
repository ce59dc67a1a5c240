"""Train a study on a Ray cluster: a task for each run, on whatever nodes there are, again where one was lost."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import queue
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from escapevelocity.errors import UserError, require
from escapevelocity.runs import spec_from_json
from escapevelocity.runs.atomic import make_folder, remove, write_bytes
from escapevelocity.study.executors import Event
from escapevelocity.study.local import own_cores
from escapevelocity.study.plan import Order
from escapevelocity.study.store import Store
from escapevelocity.study.work import Outcome

CONNECT = 90.0
"""Seconds that a cluster gets to answer; starting Ray on a busy laptop took 20."""

_KNOCK = 5.0  # seconds that an address gets to take a connection
_FAREWELL = 90.0  # seconds that everything gets to end in order after Ctrl-C
_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # Tasks without GPUs see none in newer versions of Ray, which warn about the change until told that it is known.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}


class RayExecutor:
    """Trains with Ray tasks, one per run, each in a process of its own on cores of its own.

    Ray starts as many at a time as the CPUs and GPUs of its nodes allow. A run whose process or node died goes on, on
    another one, from its last committed segment; one that failed by itself would only fail again. Runs go into the
    store: a folder that all nodes share, or an fsspec URL.

    Args:
        address: HOST:PORT of a cluster's head node, "auto" for the cluster that this machine belongs to, or "local" to
            start Ray on this machine for the time being. None: $RAY_ADDRESS where it is set, as inside of a Ray job,
            else "local".
        cpus: CPUs of each run.
        gpus: GPUs of each run; below 1, runs share one.
        retries: how often a run may be lost before it counts as failed.

    Raises:
        UserError: for a number out of its range, and where Ray is not installed.
    """

    def __init__(self, address: str | None = None, cpus: int = 1, gpus: float = 0, retries: int = 3) -> None:
        # NaN and infinity are no whole numbers either.
        require(cpus >= 1 and float(cpus).is_integer(), "cpus", cpus, "a whole number, at least 1")
        whole_or_part = 0 <= gpus < 1 or (gpus >= 1 and float(gpus).is_integer())
        require(whole_or_part, "gpus", gpus, "a whole number, or a part of one")
        require(retries >= 0, "retries", retries, "at least 0")
        if importlib.util.find_spec("ray") is None:
            raise UserError("executor = 'ray': Ray is not installed; pip install 'escapevelocity[ray]'")
        self.address = address or os.environ.get("RAY_ADDRESS") or "local"
        self.cpus, self.gpus, self.retries = cpus, gpus, retries

    def run(
        self, orders: Sequence[Order], store: Store, tell: Callable[[Event], None] = lambda event: None
    ) -> list[Outcome]:
        """Train `orders`; see `executors.Executor`.

        Ctrl-C lets every running run end in order ("interrupted", to be resumed); a second one ends them at once.

        Raises:
            UserError: a cluster that cannot be reached, or has no node for even one run.
        """
        _knock(self.address)
        outcomes: dict[str, Outcome] = {}
        with _token(store) as token, _Driver(store) as driver:
            self._connect(driver, orders, store, token, tell)
            try:
                self._hear(driver, outcomes, tell)
            except KeyboardInterrupt:
                with contextlib.suppress(KeyboardInterrupt):
                    driver.send("stop")
                    self._hear(driver, outcomes, tell, time.monotonic() + _FAREWELL)
        why = f"stopped before its end; see {driver.log}"
        return [outcomes.get(order.name) or Outcome(order.name, "interrupted", why) for order in orders]

    def _connect(
        self,
        driver: _Driver,
        orders: Sequence[Order],
        store: Store,
        token: str,
        tell: Callable[[Event], None],
    ) -> None:
        """Let the driver connect, and make sure that a run fits somewhere."""
        # The longest first, else one of them may begin last, and keep a single node busy.
        longest_first = sorted(orders, key=lambda order: -order.steps * len(order.seeds))
        job = {
            "address": self.address,
            "cores": len(own_cores()),
            "cpus": self.cpus,
            "gpus": self.gpus,
            "retries": self.retries,
            "store": store.url,
            "token": token,
            "orders": [order.to_json() for order in longest_first],
        }
        driver.send(json.dumps(job))
        answer = driver.receive(time.monotonic() + CONNECT)
        if answer is None or "connected" not in answer:
            why = (answer or {}).get(
                "error", f"no answer after {CONNECT:.0f} s; is it the port of Ray's head node?"
            )
            raise UserError(
                f"address = {self.address!r}: cannot be reached: {why}; Ray's own words: {driver.log}"
            )
        if not any(cpus >= self.cpus and gpus >= self.gpus for cpus, gpus in answer["connected"]):
            what = f"{self.cpus} CPUs and {self.gpus:g} GPUs"
            if self.address == "local":
                raise UserError(
                    f"cpus = {self.cpus}, gpus = {self.gpus:g}: this machine has less; ask for less"
                )
            tell(Event("message", "", f"no node of the cluster has {what}; waiting for one that has"))

    def _hear(
        self,
        driver: _Driver,
        outcomes: dict[str, Outcome],
        tell: Callable[[Event], None],
        until: float | None = None,
    ) -> None:
        """Take in what happens until the driver has ended."""
        while (message := driver.receive(until)) is not None:
            if "outcome" in message:
                outcome = spec_from_json(Outcome, message["outcome"])
                outcomes[outcome.name] = outcome
                tell(Event(outcome.state, outcome.name, outcome.why))
            else:
                tell(Event(message["kind"], message["name"], message["text"]))


class _Driver:
    """The process that talks to Ray (`ray_driver`)."""

    def __init__(self, store: Store) -> None:
        self.log = store.log_path / f"ray-{os.getpid()}.log"
        make_folder(self.log.parent)
        self._messages: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()

    def __enter__(self) -> _Driver:
        with open(self.log, "ab") as file:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "escapevelocity.study.ray_driver"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
                env={**_ENVIRONMENT, **os.environ},
                start_new_session=True,  # Ctrl-C on the terminal is for us, and we pass it on.
            )
        threading.Thread(target=self._listen, name="ray driver", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        """End it, if it has not ended: Ray ends what belongs to it."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(10.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def send(self, line: str) -> None:
        """Give it a line; that it has died meanwhile is heard as an answer."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.write(line.encode() + b"\n")
            self._process.stdin.flush()

    def receive(self, until: float | None = None) -> Mapping[str, Any] | None:
        """Wait for its next message; None when it has ended, or the clock (monotonic, seconds) says `until`."""
        while until is None or time.monotonic() < until:
            with contextlib.suppress(queue.Empty):
                # With a time limit: without one, Ctrl-C would not be heard on Windows.
                return self._messages.get(timeout=1.0)
        return None

    def _listen(self) -> None:
        assert self._process.stdout is not None
        try:
            with self._process.stdout as lines:
                for line in lines:
                    self._messages.put(json.loads(line))
        except ValueError:  # It died while it wrote.
            pass
        finally:
            self._messages.put(None)


def _knock(address: str) -> None:
    """Refuse an address where nobody is, at once: Ray itself tries for minutes, and then ends the process."""
    if address in ("auto", "local"):
        return
    accepted = "HOST:PORT of a cluster's head node, auto or local"
    if address.startswith("ray://"):
        accepted += (
            "; from outside of the cluster: ray job submit --address http://HEAD:8265 -- ev study run …"
        )
    host, _, port = address.rpartition(":")
    require(bool(host) and "/" not in host and port.isdecimal(), "address", address, accepted)
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_KNOCK).close()
    except (OSError, OverflowError) as error:
        raise UserError(
            f"address = {address!r}: cannot be reached: {error}; `ray start --head` starts a cluster "
            "there, and without --address one is started here for the study"
        ) from error


@contextlib.contextmanager
def _token(store: Store) -> Iterator[str]:
    """A file by which the nodes see that their folder is this one; nothing for a URL."""
    if store.is_remote:
        yield ""
        return
    name = f".ray-{uuid.uuid4().hex}"
    path = Path(store.study_path) / name
    write_bytes(path, b"")
    try:
        yield name
    finally:
        with contextlib.suppress(UserError):
            remove(path)
