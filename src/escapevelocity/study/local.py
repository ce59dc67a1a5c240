"""Train a study on this machine: worker processes on their own cores, as many runs at a time as memory allows."""

from __future__ import annotations

import dataclasses
import os
import queue
import time
from collections import Counter
from collections.abc import Callable, Sequence

from escapevelocity.errors import require
from escapevelocity.study.demand import Demand
from escapevelocity.study.executors import Event
from escapevelocity.study.memory import available_memory
from escapevelocity.study.plan import Order
from escapevelocity.study.progress import read_progress
from escapevelocity.study.store import Store
from escapevelocity.study.work import Outcome
from escapevelocity.study.worker import Answers, Worker

_PATIENCE = 1.0  # seconds between two looks at the memory while nothing is heard
_FAREWELL = (
    60.0  # seconds that runs get after Ctrl-C to end in order: XLA does not hear signals while it compiles
)


class LocalExecutor:
    """Trains with one worker process per core.

    A worker lives through the study and stays on its cores. A run starts when what it is expected to need (`Demand`)
    fits beside what the running ones will still take; one that fits nowhere is trained alone. A run whose worker died
    goes on, in a new one, from its last committed segment; one that failed by itself would only fail again.

    Args:
        workers: processes; by default one per core that this process may use. Fewer share the cores out evenly.
        memory: bytes that all runs together may need; by default what the system has left.
        retries: how often a run may lose its worker before it counts as failed.

    Raises:
        UserError: for a number below its least.
    """

    def __init__(self, workers: int | None = None, memory: int | None = None, retries: int = 2) -> None:
        require(workers is None or workers >= 1, "workers", workers, "at least 1")
        require(memory is None or memory > 0, "memory", memory, "above 0 bytes")
        require(retries >= 0, "retries", retries, "at least 0")
        self.workers, self.memory, self.retries = workers, memory, retries

    def run(
        self, orders: Sequence[Order], store: Store, tell: Callable[[Event], None] = lambda event: None
    ) -> list[Outcome]:
        """Train `orders`; see `executors.Executor`.

        Ctrl-C lets every running run end in order ("interrupted", to be resumed); a second one ends them at once.
        """
        shift = _Shift(self, orders, store, tell)
        try:
            shift.work()
        except KeyboardInterrupt:
            shift.stop()
        finally:
            shift.dismiss()
        return [shift.outcome(order) for order in orders]


@dataclasses.dataclass
class _Seat:
    """A worker's place: its cores, the process on it if there is one, and the order in hand."""

    cores: Sequence[int]
    worker: Worker | None = None
    order: Order | None = None


class _Shift:
    """One call of `LocalExecutor.run`."""

    def __init__(
        self, executor: LocalExecutor, orders: Sequence[Order], store: Store, tell: Callable[[Event], None]
    ) -> None:
        # The longest first, else one of them may begin last, and keep a single core busy.
        self._waiting = sorted(orders, key=lambda order: -order.steps * len(order.seeds))
        self._executor, self._store, self._tell = executor, store, tell
        self._demand = Demand.of(store)
        self._seats = [_Seat(cores) for cores in share_cores(own_cores(), executor.workers)]
        self._answers: Answers = queue.SimpleQueue()
        self._outcomes: dict[str, Outcome] = {}
        self._claimed: list[Order] = []
        self._deaths: Counter[str] = Counter()
        self._told: set[str] = set()
        self._begun: set[str] = set()

    def work(self) -> None:
        """Train what is waiting, then look once more at what others were training."""
        self._drain()
        # Who trained them may have died meanwhile.
        self._waiting, self._claimed = self._claimed, []
        self._drain()

    def stop(self) -> None:
        """Let what is running end in order."""
        self._waiting.clear()
        until = time.monotonic() + _FAREWELL
        try:
            for seat in self._busy():
                seat.worker.interrupt() if seat.worker else None
            while self._busy() and time.monotonic() < until:
                self._hear(stopping=True)
        except KeyboardInterrupt:
            pass  # Once more: the workers are dismissed at once.

    def dismiss(self) -> None:
        """End the workers: those that have nothing to do, kindly."""
        for seat in self._seats:
            if seat.worker is not None:
                seat.worker.kill() if seat.order else seat.worker.close()

    def outcome(self, order: Order) -> Outcome:
        """How an order ended; without an outcome it was stopped, or not begun."""
        if order.name not in self._begun:
            return Outcome(order.name, "waiting", "not begun")
        return self._outcomes.get(order.name) or Outcome(order.name, "interrupted", "stopped before its end")

    def _drain(self) -> None:
        while self._waiting or self._busy():
            self._hand_out()
            self._hear()

    def _busy(self) -> list[_Seat]:
        return [seat for seat in self._seats if seat.order is not None]

    def _hand_out(self) -> None:
        """Give orders to free workers, each the first that fits into the memory."""
        for seat in self._seats:
            if seat.order is not None or not self._waiting:
                continue
            room = self._room(seat)
            order = next((order for order in self._waiting if self._demand.expect(order) <= room), None)
            if order is None:
                if self._busy():
                    return self._say_short(self._waiting[0], "a core is free, but it waits for the memory")
                order = self._waiting[0]
                self._say_short(order, "more than there is: it is trained alone")
            self._waiting.remove(order)
            if seat.worker is None:
                seat.worker = self._hire(seat)
            seat.order = order
            seat.worker.submit(order, self._store)
            self._begun.add(order.name)
            self._tell(Event("started", order.name))

    def _hire(self, seat: _Seat) -> Worker:
        log = self._store.log_path / f"{os.getpid()}-{self._seats.index(seat)}.log"
        return Worker(log, seat.cores, answers=self._answers)

    def _room(self, seat: _Seat) -> int:
        """The memory in bytes that a run on this seat may need, beside what the running ones will still take."""
        busy = [
            (self._demand.expect(other.order), other.worker.resident())
            for other in self._seats
            if other.order is not None and other.worker is not None
        ]
        # What an idle worker holds already is part of what its next run needs.
        held = seat.worker.resident() if seat.worker is not None else 0
        left = available_memory() - sum(max(0, peak - now) for peak, now in busy) + held
        budget = self._executor.memory
        return left if budget is None else min(left, budget - sum(max(pair) for pair in busy))

    def _say_short(self, order: Order, text: str) -> None:
        if order.name not in self._told:
            self._told.add(order.name)
            need = self._demand.expect(order) / 2**30
            self._tell(Event("message", "", f"{order.name} needs about {need:.1f} GiB of memory; {text}"))

    def _hear(self, stopping: bool = False) -> None:
        """Wait a while for an answer, and take it in."""
        try:
            # With a time limit: without one, Ctrl-C would not be heard on Windows.
            worker, outcome = self._answers.get(timeout=_PATIENCE)
        except queue.Empty:
            return
        seat = next(seat for seat in self._seats if seat.worker is worker)
        order = seat.order
        if outcome is None:
            seat.worker = seat.order = None
            if order is not None:
                self._lose(order, worker, stopping)
            return
        seat.order = None
        if order is not None:
            self._settle(order, outcome)

    def _settle(self, order: Order, outcome: Outcome) -> None:
        if outcome.state == "claimed" and order.name not in self._outcomes:
            self._claimed.append(order)
        if outcome.state == "finished":
            self._demand.learn(order, outcome.memory)
        self._outcomes[order.name] = outcome
        self._tell(Event(outcome.state, order.name, outcome.why))

    def _lose(self, order: Order, worker: Worker, stopping: bool) -> None:
        """A worker died with an order in hand."""
        self._deaths[order.name] += 1
        deaths, why = self._deaths[order.name], worker.death()
        if stopping:
            return self._settle(order, Outcome(order.name, "interrupted", why))
        if deaths > self._executor.retries:
            return self._settle(order, Outcome(order.name, "failed", f"lost {deaths} times; at last {why}"))
        # If it was for want of memory, the run waits now until there is as much as it had.
        self._store.fetch_progress([order.name])
        for progress in read_progress(self._store, [order.name]).values():
            self._demand.learn(order, progress.memory)
        self._waiting.insert(0, order)
        self._tell(Event("retried", order.name, why))


def own_cores() -> list[int]:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def share_cores(cores: Sequence[int], workers: int | None) -> list[Sequence[int]]:
    """Give each worker its cores.

    How many orders there are does not matter: a run that goes on another day should find as many cores as before, since
    the last bits of its numbers may depend on them.

    Args:
        cores: those that there are.
        workers: how many workers; None: one per core.

    Example:
        >>> share_cores([0, 1, 2, 3], workers=2), share_cores([0, 1], workers=3)
        ([[0, 2], [1, 3]], [[0], [1], [0]])
    """
    count = workers or len(cores)
    if count >= len(cores):
        return [[cores[number % len(cores)]] for number in range(count)]
    return [list(cores[number::count]) for number in range(count)]
