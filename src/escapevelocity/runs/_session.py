"""One process working on one run: segments, commits, and how it ends."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ..errors import UserError
from . import checkpoint, faults, records
from ._arrays import from_arrays, signature, to_arrays
from ._signals import Signals
from .branch import Parent
from .job import Job, Observer, RunFailed, RunInfo
from .status import State, Status, this_host, write_status


class Audience:
    """The observers. One that raises is dropped: a broken tracker must not end a long run."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._observers = list(observers)

    def start(self, info: RunInfo) -> None:
        """Tell all; an exception (a wrong set-up) goes on up, after those that had started are ended."""
        started = []
        try:
            for observer in self._observers:
                observer.on_start(info)
                started.append(observer)
        except BaseException as error:
            self._observers = started
            self.end(Status("failed" if isinstance(error, Exception) else "interrupted", _one_line(error)))
            raise

    def row(self, row: Mapping[str, Any]) -> str | None:
        """Tell all; the reason of the first that asks to stop, or None."""
        reasons = []

        def tell(observer: Observer) -> None:
            if observer.on_row(MappingProxyType(row)) is False:
                reasons.append(getattr(observer, "reason", "") or f"stopped by {type(observer).__name__}")

        self._each(tell)
        return reasons[0] if reasons else None

    def message(self, text: str) -> None:
        """Tell all one line."""
        self._each(lambda observer: observer.on_message(text))

    def end(self, status: Status) -> None:
        """Tell all how it ended."""
        self._each(lambda observer: observer.on_end(status))

    def _each(self, tell: Callable[[Observer], None]) -> None:
        for observer in list(self._observers):
            if observer not in self._observers:  # Dropped meanwhile, by the message about another.
                continue
            try:
                tell(observer)
            except Exception as error:
                self._observers.remove(observer)
                text = f"{type(observer).__name__} is dropped: {_one_line(error)}"
                self.message(text)
                if not self._observers:
                    warnings.warn(text, RuntimeWarning, stacklevel=2)


class Emission:
    """The `Emit` of one segment: keeps its rows until they are committed, and the reason to stop."""

    def __init__(self, session: Session, segment: int) -> None:
        self._session = session
        self.segment = segment
        self.rows: list[dict[str, Any]] = []
        self.stop: str | None = None

    def __call__(self, row: Mapping[str, Any]) -> bool:
        cleaned = records.clean_row(row)
        added = {"segment": self.segment, "wall_time": self._session.wall_time()}
        if clash := added.keys() & cleaned.keys():
            raise ValueError(f"record column {min(clash)!r}: the engine adds it, a job must not")
        cleaned = added | cleaned
        self.rows.append(cleaned)
        reason = self._session.audience.row(cleaned)
        # A signal's exception can be lost, e.g. in a callback from C; the next row then ends the segment.
        self.stop = self.stop or reason or self._session.signals.why or None
        return self.stop is None

    def snapshot(self, index: int, step: int, arrays: Any) -> None:
        """Save parameters; see `job.Emit`."""
        folder = self._session.run_dir / checkpoint.SNAPSHOTS
        checkpoint.save(folder, index, arrays, step, {"segment": self.segment})

    def fault(self, name: str, reason: str, arrays: Mapping[str, Any]) -> None:
        """Save a fault that the run survives; see `job.Emit`."""
        faults.save(self._session.run_dir, name, reason, self.segment, arrays)


@dataclasses.dataclass
class Session:
    """The working of one process on one run. `checksums` are those of the committed shards, by segment; `parent` is
    where a branch began.
    """

    job: Job[Any, Any]
    spec: Any
    spec_hash: str
    run_dir: Path
    audience: Audience
    signals: Signals
    wall_time_before: float = 0.0
    checksums: dict[str, str] = dataclasses.field(default_factory=dict)
    done: int = 0
    total: int = 0
    parent: Parent | None = None

    def __post_init__(self) -> None:
        self._began = time.monotonic()
        self._signature: dict[str, str] = {}

    def wall_time(self) -> float:
        """Give the seconds of running, added up over resumes."""
        return self.wall_time_before + time.monotonic() - self._began

    def commit(self, state: Any, done: int, rows: Sequence[Mapping[str, Any]] | None = None) -> Any:
        """Save the state after `done` segments and the rows of the last: shard, arrays, then the JSON commits.

        The state that a run begins with has no rows.

        Returns the state as a resumed run would load it (no weak types, nothing hidden in it), so that both
        go on alike.
        """
        arrays = to_arrays(state)
        self.require_signature(state)
        if rows is not None:
            self.checksums[str(done - 1)] = records.write_shard(self.run_dir, done - 1, rows)
        parent = None if self.parent is None else dataclasses.asdict(self.parent)
        lineage = {"spec_hash": self.spec_hash, "parent": parent}
        extra = {"records": dict(self.checksums), "lineage": lineage}
        checkpoint.save_arrays(
            self.run_dir / checkpoint.CHECKPOINTS, done, arrays, self.job.step(self.spec, done), extra
        )
        self.done = done
        return from_arrays(arrays, like=state, source="the state")

    def require_signature(self, state: Any) -> None:
        """Hold a job to its promise that its state keeps its form; else no checkpoint could be loaded."""
        now = signature(state)
        self._signature = self._signature or now
        for name in sorted({*now, *self._signature}):
            before, after = self._signature.get(name), now.get(name)
            if before != after:
                raise TypeError(f"job {self.job.name}: state leaf {name} was {before}, is now {after}")

    def run(self, prepare: Callable[[], Any]) -> Status:
        """Compute what is left, from the state that `prepare` gives after it has put the folder in order."""
        emission: Emission | None = None
        try:
            state = prepare()
            self.write_status("running")
            while self.done < self.total:
                emission = Emission(self, self.done)
                with self.signals.armed():
                    state = self.job.segment(self.spec, state, self.done, emission)
                if emission.stop is not None:
                    return self._interrupt(emission)
                state = self.commit(state, self.done + 1, emission.rows)
                emission = None
                self.write_status("running")
            records.compact(self.run_dir)
            return self._end("finished", exit_code=self.signals.exit_code)
        except BaseException as error:
            self.signals.note(error)
            if self.signals.received is not None:
                return self._interrupt(emission)
            if isinstance(error, RunFailed):
                return self._fail(error, emission)
            with self._best_effort():
                self._keep(emission)
            code = 2 if isinstance(error, UserError) else 1
            why = (
                _one_line(error)
                if isinstance(error, UserError)
                else f"{type(error).__name__}: {_one_line(error)}"
            )
            self._end("failed", why, code)
            raise

    def info(self) -> RunInfo:
        """Describe the run for the observers."""
        return RunInfo(
            path=self.run_dir,
            job=self.job.name,
            spec=self.spec,
            segments_done=self.done,
            segments_total=self.total,
            steps_done=self.job.step(self.spec, self.done),
            steps_total=self.job.step(self.spec, self.total),
            wall_time=self.wall_time(),
            parent=self.parent,
        )

    def write_status(self, state: State, why: str = "", exit_code: int = 0) -> Status:
        """Write status.json and give what it says."""
        status = Status(
            state=state,
            why=why,
            segments_done=self.done,
            segments_total=self.total,
            steps_done=self.job.step(self.spec, self.done),
            steps_total=self.job.step(self.spec, self.total),
            wall_time=self.wall_time(),
            exit_code=exit_code,
            host=this_host(),
            pid=os.getpid(),
        )
        with self._best_effort() if state in ("failed", "interrupted") else contextlib.nullcontext():
            write_status(self.run_dir, status)
        return status

    def _interrupt(self, emission: Emission | None) -> Status:
        with self._best_effort():
            self._keep(emission)
        why = self.signals.why or (emission.stop if emission and emission.stop else "")
        return self._end("interrupted", why, self.signals.exit_code)

    def _fail(self, failure: RunFailed, emission: Emission | None) -> Status:
        with self._best_effort():
            self._keep(emission)
            faults.save(self.run_dir, "fault", failure.reason, self.done, failure.arrays)
        return self._end("failed", _one_line(failure), 1)

    def _keep(self, emission: Emission | None) -> None:
        """Keep the rows of an unfinished segment as a partial shard, unless its commit has landed."""
        if emission is None or not emission.rows:
            return
        # The commit can have landed though its writing failed: the rename was done, the fsync after it was not.
        if emission.segment + 1 not in checkpoint.numbers(self.run_dir / checkpoint.CHECKPOINTS):
            records.write_shard(self.run_dir, emission.segment, emission.rows, partial=True)

    def _end(self, state: State, why: str = "", exit_code: int = 0) -> Status:
        status = self.write_status(state, why, exit_code)
        self.audience.end(status)
        return status

    @contextlib.contextmanager
    def _best_effort(self) -> Iterator[None]:
        """Go on when the disk is full: how the run ended matters more than the last rows."""
        try:
            yield
        except (UserError, TypeError) as error:
            self.audience.message(f"not everything could be saved: {_one_line(error)}")


def drop_uncommitted(run_dir: Path, done: int) -> None:
    """Remove everything behind the first `done` segments: checkpoints, shards, snapshots, faults."""
    checkpoint.drop_after(run_dir / checkpoint.CHECKPOINTS, done)
    records.drop_from(run_dir, done)
    checkpoint.drop_snapshots(run_dir / checkpoint.SNAPSHOTS, done)
    faults.drop_from(run_dir, done)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
