"""How far each run of a study is: a small file per run, written by the process that trains it, read by all."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from escapevelocity.runs import Observer, RunInfo, Status, spec_from_json
from escapevelocity.runs.atomic import make_folder
from escapevelocity.runs.status import this_host
from escapevelocity.study.memory import peak_memory
from escapevelocity.study.store import Store

PROGRESS_FOLDER = "progress"
INTERVAL = 2.0
"""Least seconds between two writes of a run's file."""
_SPEED_WINDOW = 30.0  # seconds, as in the table of `ev train`


@dataclasses.dataclass(frozen=True)
class Progress:
    """How far a run is. Steps are those of one member, as in its spec; all members do as many at the same time."""

    name: str
    """The run's folder in the store."""
    steps: int
    """Environment steps done, per member."""
    steps_total: int
    """Environment steps of the whole run, per member."""
    steps_per_second: float
    """Environment steps per second and member over the last 30 s; 0 before two batches have been seen."""
    alarms: tuple[str, ...]
    """What the early warning said, one line each."""
    updated: float
    """When this was written, in seconds since 1970."""
    host: str
    """The machine it trains on."""
    pid: int
    """The process it trains in."""
    memory: int
    """Peak resident memory of that process during this run, in bytes."""
    members: int = 1
    """Seeds that train as one program."""

    @property
    def seconds_left(self) -> float | None:
        """Seconds to the end at the speed of late; None before there is one."""
        left = max(0, self.steps_total - self.steps)
        return left / self.steps_per_second if self.steps_per_second > 0 else None


class ProgressWriter(Observer):
    """Writes STORE/_study/progress/NAME.json while a run trains, at most every 2 s and at its end.

    Args:
        store: the study's store.
        name: the run's folder in it.
        members: seeds that train as one program.
        clock: seconds, monotonic.
    """

    def __init__(
        self, store: Store, name: str, members: int = 1, clock: Callable[[], float] = time.monotonic
    ) -> None:
        from escapevelocity.report.warning import EarlyWarning  # Readers of progress need not wait for it.

        self._path = progress_path(store, name)
        self._name, self._members, self._clock = name, members, clock
        self._alarms: list[str] = []
        self._warning = EarlyWarning(self._alarms.append)
        self._marks: deque[tuple[float, int]] = deque()
        self._steps = self._total = 0
        self._written = -float("inf")

    def on_start(self, info: RunInfo) -> None:
        """Begin with what is done already."""
        make_folder(self._path.parent)
        self._warning.on_start(info)
        self._steps, self._total = info.steps_done, info.steps_total
        self._write()

    def on_row(self, row: Mapping[str, Any]) -> None:
        """Take in one record, and write if the last time is long enough ago."""
        self._warning.on_row(row)
        now = self._clock()
        if (steps := int(row.get("env_steps", self._steps))) > self._steps:
            self._steps = steps
            self._marks.append((now, steps))
            while len(self._marks) > 2 and now - self._marks[1][0] > _SPEED_WINDOW:
                self._marks.popleft()
        if now - self._written >= INTERVAL:
            self._write()

    def on_end(self, status: Status) -> None:
        """Write the last state: what is committed, since a run that ended within a segment goes back to that."""
        self._steps = status.steps_done
        self._write()

    def _write(self) -> None:
        self._written = self._clock()
        now = Progress(
            name=self._name,
            steps=self._steps,
            steps_total=self._total,
            steps_per_second=self._speed(),
            alarms=tuple(self._alarms),
            updated=time.time(),
            host=this_host(),
            pid=os.getpid(),
            memory=peak_memory(),
            members=self._members,
        )
        # Not runs.atomic: its fsync would keep the training waiting for a file that may be lost in a power cut.
        temp = self._path.with_name(f".{self._path.name}.{os.getpid()}.tmp")
        temp.write_text(json.dumps(dataclasses.asdict(now)) + "\n", encoding="utf-8")
        os.replace(temp, self._path)

    def _speed(self) -> float:
        if len(self._marks) < 2:
            return 0.0
        (began, first), (ended, last) = self._marks[0], self._marks[-1]
        return (last - first) / (ended - began) if ended > began else 0.0


def progress_path(store: Store, name: str) -> Path:
    """The file that says how far the run `name` is."""
    return store.study_path / PROGRESS_FOLDER / f"{name}.json"


def read_progress(store: Store, names: Iterable[str] | None = None) -> dict[str, Progress]:
    """Read how far the runs of a store are.

    Args:
        store: the study's store.
        names: the runs to read; by default all.

    Returns:
        By name. A file that is missing or damaged is left out: nothing is lost with it.
    """
    if names is None:
        names = sorted(path.stem for path in (store.study_path / PROGRESS_FOLDER).glob("[!.]*.json"))
    found = {}
    for name in names:
        # UserError, of a file of another form, is a ValueError.
        with contextlib.suppress(OSError, ValueError):
            document = json.loads(progress_path(store, name).read_text(encoding="utf-8"))
            if isinstance(document, dict):
                found[name] = spec_from_json(Progress, document)
    return found
