"""One order in this process: claim the run, start or resume it, and say how it ended."""

from __future__ import annotations

import dataclasses
import os
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from escapevelocity.errors import UserError
from escapevelocity.runs import Observer, Status, read_status
from escapevelocity.runs.spec import SPEC_FILE
from escapevelocity.runs.status import is_locked, this_host
from escapevelocity.study.memory import peak_memory, reset_peak
from escapevelocity.study.progress import ProgressWriter
from escapevelocity.study.standing import standing
from escapevelocity.study.store import Store

if TYPE_CHECKING:
    from escapevelocity.study.plan import Order


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How an order ended."""

    name: str
    """The run's folder in the store."""
    state: Literal["finished", "failed", "interrupted", "claimed", "waiting"]
    """claimed: another process is training it; waiting: it was not begun before the executor was stopped."""
    why: str = ""
    """One line: the reason, for all but finished."""
    seconds: float = 0.0
    """Wall time spent on it here."""
    memory: int = 0
    """Peak resident memory of the process that trained it, in bytes; 0 where it is not known."""


def do(order: Order, store: Store, observers: Sequence[Observer] = ()) -> Outcome:
    """Train one order in this process, from where it stands.

    The run's own lock is the claim: whoever holds it trains, and a process that died holds none. So two processes may
    work on one study, with no more than a file system between them.

    Args:
        order: what to train.
        store: where its run is or will be.
        observers: told about every record, beside the study's own.

    Returns:
        How it ended. A mistake in the order, a run damaged beyond repair and a bug in a job are outcomes too
        ("failed"; the traceback of a bug goes to standard error), so that the other runs of a study go on. So is a
        signal ("interrupted"): a caller with more orders looks at the state before it begins the next.
    """
    began = time.monotonic()
    reset_peak()
    state, why = _train(order, store, observers)
    return Outcome(order.name, state, why, time.monotonic() - began, peak_memory())


def _train(order: Order, store: Store, observers: Sequence[Observer]) -> tuple[Any, str]:
    claimed = "claimed", "another process is training it"
    try:
        from escapevelocity.imports import import_modules

        import_modules(order.imports)
        path = store.run_path(order.name)
        store.pull(order.name)
        if is_locked(path):
            return claimed
        writer = ProgressWriter(store, order.name, len(order.seeds))
        watching = [writer, *store.observers(order.name), *observers]
        try:
            status = _run(order, path, watching)
        finally:
            store.push(order.name)
        return status.state, status.why
    except (KeyboardInterrupt, SystemExit):
        return "interrupted", "stopped by a signal"
    except UserError as error:
        # Between the look at the lock and the engine's own, another process may have been quicker.
        return claimed if is_locked(store.run_path(order.name)) else ("failed", _one_line(error))
    except Exception as error:
        traceback.print_exc()
        return "failed", f"{type(error).__name__}: {_one_line(error)}"


def _run(order: Order, path: Path, observers: Sequence[Observer]) -> Status:
    """Start or resume it; look once more where another process was quicker, and has let go of the run again."""
    from escapevelocity.study.kinds import kind

    the_kind = kind(order.job)
    was_there = (path / SPEC_FILE).exists()
    try:
        return the_kind.run(order.spec, path, observers)
    except UserError:
        appeared = not was_there and (path / SPEC_FILE).exists() and not _was_ours(path)
        if is_locked(path) or not (appeared or standing(path).state == "finished"):
            raise
    return the_kind.run(order.spec, path, observers)  # A finished run is returned as it is.


def _was_ours(path: Path) -> bool:
    """Whether this process was the last to train the run: then its mistake is its own, and no other was quicker."""
    try:
        status = read_status(path)
    except UserError:
        return False
    return (status.host, status.pid) == (this_host(), os.getpid())


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
