"""What the engine and its users agree on: a job computes segments and emits rows, observers watch."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar, runtime_checkable

if TYPE_CHECKING:
    from .branch import Parent
    from .status import Status

Scalar: TypeAlias = Any
"""A record's value: bool, int, float, str or None, a NumPy or JAX scalar, or a short list of these."""

SpecT = TypeVar("SpecT", contravariant=True)
StateT = TypeVar("StateT")


@runtime_checkable
class Emit(Protocol):
    """What a segment hands its records to."""

    def __call__(self, row: Mapping[str, Scalar]) -> bool:
        """Record one row as it happens. True: go on. False: stop now; what the segment returns is thrown
        away.

        The engine adds the columns `segment` and `wall_time` (seconds of running, added up over resumes).
        """
        ...

    def snapshot(self, index: int, step: int, arrays: Any) -> None:
        """Save parameters only (any pytree), as snapshot `index` taken after `step` environment steps."""
        ...

    def fault(self, name: str, reason: str, arrays: Mapping[str, Any]) -> None:
        """Save what belongs to a fault that the run survives, such as a frozen member's state and batch.

        Args:
            name: names the fault's JSON file under `RUN/fault/`.
            reason: one line.
            arrays: pytrees by name.
        """
        ...


@runtime_checkable
class Job(Protocol[SpecT, StateT]):
    """A computation cut into segments. What it computes must follow from spec, state and segment number."""

    @property
    def name(self) -> str:
        """Short name, part of the spec's hash."""
        ...

    def segments(self, spec: SpecT) -> int:
        """Give the number of segments of the whole run; at least 1."""
        ...

    def initial_state(self, spec: SpecT) -> StateT:
        """Make the state before the first segment: a pytree of numbers that keeps its shapes and dtypes."""
        ...

    def segment(self, spec: SpecT, state: StateT, k: int, emit: Emit) -> StateT:
        """Compute segment `k` (counted from 0), deterministic in (spec, state, k)."""
        ...

    def step(self, spec: SpecT, k: int) -> int:
        """Give the environment steps done when `k` segments are done."""
        ...


class RunFailed(Exception):
    """Raised by a segment that cannot go on, e.g. because a loss is not finite.

    Args:
        reason: one line naming the quantity, batch and minibatch.
        arrays: pytrees by name, such as the last good state and the offending batch; saved under
            `RUN/fault/`.
    """

    def __init__(self, reason: str, arrays: Mapping[str, Any] | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.arrays = dict(arrays or {})


@dataclasses.dataclass(frozen=True)
class RunInfo:
    """What an observer is told at the start."""

    path: Path
    """The run's folder."""
    job: str
    """The job's name."""
    spec: Any
    """The resolved spec."""
    segments_done: int
    """Committed segments; more than 0 when the run is resumed or a branch."""
    segments_total: int
    """Segments of the whole run."""
    steps_done: int
    """Environment steps of the committed segments."""
    steps_total: int
    """Environment steps of the whole run."""
    wall_time: float
    """Seconds of running so far."""
    parent: Parent | None = None
    """Where it began, if it is a branch."""


@runtime_checkable
class Observer(Protocol):
    """Watches a run: a live table, a tracker, an early-stop rule. It cannot change what is computed.

    Subclass it and override what you need. An observer that raises is dropped, with a message; the run goes
    on.
    """

    def on_start(self, info: RunInfo) -> None:
        """Hear that the run begins or goes on. An exception here ends the run: the set-up is wrong."""

    def on_row(self, row: Mapping[str, Any]) -> bool | None:
        """Hear one record as it happens; False asks to stop, for the reason in an attribute `reason`."""

    def on_message(self, text: str) -> None:
        """Hear one line for the user."""

    def on_end(self, status: Status) -> None:
        """Hear how the run ended."""
