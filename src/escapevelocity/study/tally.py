"""How a study stands while an executor trains it, from its plan, the events and the runs' progress files."""

from __future__ import annotations

import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from escapevelocity.study.executors import Event
from escapevelocity.study.plan import Order, Planned
from escapevelocity.study.progress import Progress, read_progress
from escapevelocity.study.store import Store

FETCH_SECONDS = 5.0
"""Least time between two looks into a store behind a URL: each asks it for one small file per run that trains."""

_WAIT = 1.0  # seconds that the screen waits for such a look; a slower one shows at the next standing
_NEXT = {"started": "training", "retried": "waiting"}


class Running(NamedTuple):
    """A run that trains now."""

    order: Order
    progress: Progress | None
    """What it has said of itself since it began here; None before that."""

    @property
    def share(self) -> float:
        """How much of it is done, 0 to 1."""
        return self.progress.steps / max(1, self.order.steps) if self.progress else 0.0


class StudyStanding(NamedTuple):
    """How a study stands. Steps are those of all members together."""

    states: Counter[str]
    """Runs by state: finished, training, waiting, failed, interrupted, claimed."""
    steps: int
    """Environment steps done."""
    steps_total: int
    """Environment steps of the whole study."""
    steps_per_second: float
    """Speed of all that trains now; 0 before it is known."""
    seconds_left: float
    """Time until all that waits and trains here is done, at this speed; NaN before it is known."""
    running: Sequence[Running]
    """What trains now, in the order in which it began."""

    @property
    def runs(self) -> int:
        """Number of runs of the study."""
        return sum(self.states.values())


class Tally:
    """Keeps count.

    Args:
        planned: every run of the study.
        store: where they are.
        clock: seconds since 1970.
    """

    def __init__(
        self, planned: Sequence[Planned], store: Store, clock: Callable[[], float] = time.time
    ) -> None:
        self._store, self._clock = store, clock
        self._planned = {one.order.name: one for one in planned}
        self._states = {name: "finished" if one.is_done else "waiting" for name, one in self._planned.items()}
        self._began: dict[str, float] = {}
        self._reached = {name: one.steps_done for name, one in self._planned.items()}
        self._fetched = -math.inf
        self._fetcher = threading.Thread()

    def hear(self, event: Event) -> None:
        """Take in what an executor tells."""
        if event.name not in self._planned:
            return
        self._states[event.name] = _NEXT.get(event.kind, event.kind)
        self._began.pop(event.name, None)
        if event.kind == "started":
            self._began[event.name] = self._clock()
        if event.kind == "finished":
            self._reached[event.name] = self.order(event.name).steps

    def order(self, name: str) -> Order:
        """The order of a run."""
        return self._planned[name].order

    def standing(self) -> StudyStanding:
        """Look at how far everything is; in a store behind a URL, at most every 5 s."""
        began = dict(self._began)  # Another thread may hear of events meanwhile.
        self._fetch(list(began))
        found = read_progress(self._store, began)
        running = [Running(self.order(name), _since(found, name, then)) for name, then in began.items()]
        for one in running:
            if one.progress is not None:
                self._reached[one.order.name] = one.progress.steps
        states, reached = dict(self._states), dict(self._reached)
        left = sum(
            (one.order.steps - reached[name]) * len(one.order.seeds)
            for name, one in self._planned.items()
            if states[name] in ("waiting", "training")
        )
        speed = sum(one.progress.steps_per_second * one.progress.members for one in running if one.progress)
        return StudyStanding(
            states=Counter(states.values()),
            steps=sum(reached[name] * len(one.order.seeds) for name, one in self._planned.items()),
            steps_total=sum(one.order.steps * len(one.order.seeds) for one in self._planned.values()),
            steps_per_second=speed,
            seconds_left=left / speed if speed > 0 else math.nan,
            running=running,
        )

    def _fetch(self, names: Sequence[str]) -> None:
        """Fetch what the runs said from a store behind a URL, in a thread: a slow network must not stop the screen."""
        if not names or not self._store.is_remote:
            return
        now = self._clock()
        recent = 0 <= now - self._fetched < FETCH_SECONDS
        if not recent and not self._fetcher.is_alive():
            self._fetched = now
            self._fetcher = threading.Thread(
                target=self._store.fetch_progress, args=(names,), name="progress", daemon=True
            )
            self._fetcher.start()
            self._fetcher.join(_WAIT)


def _since(found: Mapping[str, Progress], name: str, began: float) -> Progress | None:
    """What a run has said since it began here: an older file is that of an earlier attempt."""
    progress = found.get(name)
    return progress if progress is not None and progress.updated >= began else None
