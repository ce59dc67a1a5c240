"""How a study stands, gathered from its store: runs by state, those that train now, what failed, when it will end."""

from __future__ import annotations

import contextlib
import heapq
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from escapevelocity.runs.status import this_host
from escapevelocity.study.index import Indexed, list_indexed, varying_settings
from escapevelocity.study.progress import Progress, read_progress
from escapevelocity.study.standing import standing
from escapevelocity.study.store import Store

if TYPE_CHECKING:
    from escapevelocity.study.plan import Planned

STATES = ("finished", "running", "interrupted", "failed", "damaged", "missing")
REMOTE_PATIENCE = 60.0
"""Seconds after which a run on another machine whose lock cannot be seen from here, and that has not told how far it
is, no longer counts as running."""
_TOLD = (
    4  # Settings in a label, of a store without a plan; runs that differ in more are called by their names.
)


@dataclass(frozen=True)
class Running:
    """A run that trains now."""

    name: str
    """Its folder in the store."""
    label: str
    """What it is called in the study."""
    share: float
    """How much of it is done, 0 to 1."""
    steps_per_second: float
    """Environment steps per second of all members together; 0 where it is not known yet."""
    seconds_left: float | None
    """Seconds to its end; None where that is not known yet."""
    alarms: tuple[str, ...] | None
    """What the early warning said; None where nobody looks, as for a run of `ev train`."""
    host: str
    """The machine."""
    core: str
    """The core or cores that it may use, where it trains on this machine and not on all."""
    memory: int | None
    """Resident memory in bytes, the peak where that is known; None where nothing is."""


@dataclass(frozen=True)
class Ended:
    """A run that does not train now."""

    name: str
    """Its folder in the store."""
    label: str
    """What it is called in the study."""
    state: str
    """finished, interrupted, failed or damaged."""
    why: str
    """One line: the reason, but for finished."""
    changed: float
    """When it ended (unix time)."""
    wall_time: float
    """Seconds of running."""


@dataclass(frozen=True)
class Overview:
    """How a study stands."""

    title: str
    """Its name, or its store's folder."""
    counts: Mapping[str, int]
    """Number of runs by state, in the order of `STATES`."""
    running: tuple[Running, ...]
    """Those that train now, the most advanced first."""
    finished: tuple[Ended, ...]
    """Those that are finished, the latest first."""
    stopped: tuple[Ended, ...]
    """Those that were interrupted, failed or are damaged, the latest first."""
    now: float
    """When this was true (unix time)."""
    seconds_left: float | None = None
    """Seconds to the end of the study with as many runs at a time as now; None while nothing is running, or nothing is
    known."""
    unknown: int = 0
    """Unfinished runs that `seconds_left` does not count: nothing comparable was recorded yet."""
    out_of_reach: str = ""
    """One line: why the store cannot be read now, so that this is how it stood before."""
    kept: int = 0
    """Further runs that are done and kept in a history, which are not in `counts`."""

    @property
    def total(self) -> int:
        """Number of runs, without those that are kept."""
        return sum(self.counts.values())

    @property
    def steps_per_second(self) -> float:
        """Environment steps per second of all running runs and all their members together."""
        return sum((run.steps_per_second for run in self.running), 0.0)

    @property
    def is_over(self) -> bool:
        """Whether every run is finished, or kept."""
        return self.total == self.counts["finished"] and self.total + self.kept > 0


def look(
    store: Any,
    planned: Sequence[Planned] | None = None,
    title: str = "",
    now: float | None = None,
    runs: Sequence[Indexed] | None = None,
) -> Overview:
    """See how a study stands.

    Args:
        store: its store, or the folder.
        planned: its plan, which may be some minutes old: only the names, the labels and the expected times count.
            Without one, all runs of the store are shown, called by the settings in which they differ.
        title: the study's name; by default that of the store's folder.
        now: unix time; by default the clock's.
        runs: what `list_indexed` would give, where the caller keeps that himself.

    Raises:
        UserError: the store is not a folder.
    """
    now = time.time() if now is None else now
    store = store if isinstance(store, Store) else Store(store)
    there = {run.name: run for run in (list_indexed(store) if runs is None else runs)}
    if planned is None:
        labels = _labels_of(list(there.values()))
    else:
        labels = _planned_labels(planned)
        there = {name: there.get(name) or _absent(store, name) for name in labels}
    unfinished = [name for name, run in there.items() if run.state != "finished"]
    progress = read_progress(store, unfinished)
    states = {name: _state(run, progress.get(name), now) for name, run in there.items()}
    running = [
        _running(run, progress.get(name), labels[name], now)
        for name, run in there.items()
        if states[name] == "running"
    ]
    ended = [
        Ended(run.name, labels[name], states[name], run.why, run.changed, run.wall_time)
        for name, run in there.items()
        if states[name] not in ("running", "missing")
    ]
    ended.sort(key=lambda run: run.changed, reverse=True)
    found = Counter(states.values())
    left, unknown = _study_left(running, planned or (), states)
    return Overview(
        title or Path(store.url).name,
        {state: found[state] for state in STATES},
        tuple(sorted(running, key=lambda run: run.share, reverse=True)),
        tuple(run for run in ended if run.state == "finished"),
        tuple(run for run in ended if run.state != "finished"),
        now,
        left,
        unknown,
    )


def _absent(store: Store, name: str) -> Indexed:
    """A planned run without a spec.json or status.json: missing, or at its very beginning."""
    found = standing(store.run_path(name))
    return Indexed(name, found.state, found.why)


def _state(run: Indexed, told: Progress | None, now: float) -> str:
    """The state, where the lock of a run on another machine may not be seen from here."""
    is_elsewhere = told is not None and told.host != this_host() and now - told.updated < REMOTE_PATIENCE
    return "running" if run.state == "interrupted" and run.why == "killed" and is_elsewhere else run.state


def _running(run: Indexed, told: Progress | None, label: str, now: float) -> Running:
    members = max(1, len(run.seeds))
    if told is not None and run.pid and (told.host, told.pid) != (run.host, run.pid):
        told = None  # Another process has taken the run over since, one that does not tell.
    if told is not None:
        share = told.steps / told.steps_total if told.steps_total else 0.0
        speed, left, memory = told.steps_per_second * told.members, told.seconds_left, told.memory
        return Running(
            run.name, label, share, speed, left, told.alarms, told.host, _core(told.host, told.pid), memory
        )
    share = run.steps_done / run.steps_total if run.steps_total else 0.0
    speed, left = run.steps_per_second, None
    if speed > 0:
        # Its status is from when its last segment was committed.
        left = max(0.0, (run.steps_total - run.steps_done) * members / speed - (now - run.changed))
    memory = _memory(run.host, run.pid)
    return Running(run.name, label, share, speed, left, None, run.host, _core(run.host, run.pid), memory)


def _study_left(
    running: Sequence[Running], planned: Sequence[Planned], states: Mapping[str, str]
) -> tuple[float | None, int]:
    """Seconds until the last run ends if each that waits begins where one ends first; and how many are not counted."""
    expected = {one.order.name: one.seconds_left for one in planned}
    lefts = [expected.get(run.name) if run.seconds_left is None else run.seconds_left for run in running]
    waiting = [
        left for name, left in expected.items() if states[name] in ("missing", "interrupted", "failed")
    ]
    unknown = sum(left is None for left in [*lefts, *waiting])
    if not running or unknown == len(lefts) + len(waiting):
        return None, unknown
    ends = [left or 0.0 for left in lefts]
    heapq.heapify(ends)
    for left in waiting:
        heapq.heappush(ends, heapq.heappop(ends) + (left or 0.0))
    return max(ends), unknown


def _planned_labels(planned: Sequence[Planned]) -> dict[str, str]:
    """Each run's labels, with its seeds where several groups of seeds share them."""
    labels = {one.order.name: _write(one.order.labels) for one in planned}
    shared = Counter(labels.values())
    for one in planned:
        label = labels[one.order.name]
        if shared[label] > 1:
            seeds = ",".join(map(str, one.order.seeds))
            labels[one.order.name] = f"{label} seeds={seeds}".strip()
    return {name: label or name for name, label in labels.items()}


def _labels_of(runs: Sequence[Indexed]) -> dict[str, str]:
    varying = varying_settings(runs)
    labels = {name: _write(settings) for name, settings in varying.items()}
    tells = max(map(len, varying.values()), default=0) <= _TOLD and len(set(labels.values())) == len(labels)
    return {name: labels[name] if tells and labels[name] else name for name in labels}


def _write(labels: Mapping[str, Any]) -> str:
    return " ".join(f"{name}={value}" for name, value in labels.items())


def _core(host: str, pid: int) -> str:
    if host == this_host():
        with contextlib.suppress(psutil.Error, OSError, AttributeError):  # Not every system has affinities.
            cores = psutil.Process(pid).cpu_affinity() or []
            if len(cores) < (psutil.cpu_count() or 0):
                return ",".join(map(str, cores))
    return ""


def _memory(host: str, pid: int) -> int | None:
    if host == this_host():
        with contextlib.suppress(psutil.Error):
            return psutil.Process(pid).memory_info().rss
    return None
