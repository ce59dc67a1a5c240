"""Start and resume runs. A run is a chain of deterministic segments, each committed by its checkpoint's JSON.

Whatever lies behind the last committed segment is dropped on resume and computed again, so a run that was
killed at any moment ends with the same records (but their wall time) and the same arrays as one that never
was.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from shlex import quote
from typing import Any

from ..errors import UserError, require
from . import checkpoint, provenance
from ._session import Audience, Session, drop_uncommitted
from ._signals import Interrupted, Signals
from .atomic import is_leftover, make_folder, remove, remove_leftovers, write_bytes, write_json
from .branch import Origin, parent_in
from .inputs import inputs_of, require_inputs
from .job import Job, Observer
from .spec import COMMANDS, SPEC_FILE, canonical_json, read_spec, recorded_hash, spec_hash
from .status import LOCK_FILE, Status, acquire, read_status

_MOST_NAME_BYTES = 200
"""File systems take 255; what is written beside or below a name adds to it."""
_TRACKER = "wandb"
"""The folder that `report.WandbTracker` makes when it starts, before there is a spec.json."""


def start(
    job: Job[Any, Any],
    spec: Any,
    run_dir: str | os.PathLike[str],
    observers: Sequence[Observer] = (),
    origin: Origin | None = None,
) -> Status:
    """Run `spec` in a new folder, from the beginning or from another run's checkpoint.

    Args:
        job: what to compute.
        spec: its frozen dataclass.
        run_dir: the run's folder; it must not exist, or be empty.
        observers: told about every row and every message.
        origin: where a branch begins; its segments are numbered on from there.

    Returns:
        How it ended: finished, failed (the job raised `RunFailed`; exit code 1) or interrupted (an observer
        asked for it: exit code 0; SIGINT: 130; SIGTERM: 143).

    Raises:
        UserError: when the folder holds a run already or cannot be written, or the job finds a mistake in
            the spec; nothing is left behind.
        Exception: whatever the job raised; the status is then failed, and the rows so far are kept.
    """
    run_dir = Path(run_dir)
    text = canonical_json(spec, job.name)
    digest = spec_hash(spec, job.name)
    with _occupied(run_dir) as signals:
        _refuse_used(job, spec, run_dir, digest)
        session = Session(job, spec, digest, run_dir, Audience(observers), signals)
        _begin_at(session, origin)

        def prepare() -> Any:
            write_bytes(run_dir / SPEC_FILE, text.encode())
            here = {"segments_done": session.done, **provenance.collect(), **inputs_of(job, spec)}
            write_json(run_dir / provenance.PROVENANCE_FILE, {"sessions": [here]})
            return session.commit(state, session.done)

        try:
            state = _begin(session, origin)
        except Interrupted:
            return Status("interrupted", signals.why, exit_code=signals.exit_code)
        return session.run(prepare)


def resume(
    job: Job[Any, Any],
    spec: Any,
    run_dir: str | os.PathLike[str],
    observers: Sequence[Observer] = (),
    origin: Origin | None = None,
) -> Status:
    """Go on with a run that was interrupted, killed or failed, from its last committed segment.

    A damaged checkpoint or shard is passed over, with a message to the observers, and computed again.

    Args:
        job: what to compute.
        spec: the same spec; observer fields may differ.
        run_dir: the run's folder.
        observers: told about every row and every message.
        origin: where a branch begins; asked for a state only if none of the branch's own checkpoints is whole.

    Returns:
        How it ended; see `start`.

    Raises:
        UserError: when the folder holds no run, one of another spec, or a finished one.
        Exception: whatever the job raised; see `start`.
    """
    run_dir = Path(run_dir)
    digest = spec_hash(spec, job.name)
    read_spec(run_dir)
    with _occupied(run_dir) as signals:
        _require_same(job, spec, run_dir, digest)
        old = _old_status(run_dir)
        folder = run_dir / checkpoint.CHECKPOINTS
        number, messages = checkpoint.latest_good(folder)
        if old is not None and old.state == "finished" and number == old.segments_total and not messages:
            raise UserError(f"{run_dir} is finished{_longer(job, run_dir)}")
        require_inputs(run_dir, job, spec)
        meta = None if number is None else checkpoint.load_meta(folder, number)
        session = Session(job, spec, digest, run_dir, Audience(observers), signals)
        session.wall_time_before = old.wall_time if old else 0.0
        _begin_at(session, origin)
        if meta is not None:
            _require_lineage(run_dir, meta, digest)
            session.done, session.checksums = meta["number"], dict(meta["records"])
            session.parent = parent_in(meta)

        def prepare() -> Any:
            drop_uncommitted(run_dir, session.done)
            remove_leftovers(run_dir)
            for text in messages + _note_session(session):
                session.audience.message(text)
            if number is None:
                return session.commit(initial, session.done)
            return checkpoint.load(folder, number, like=initial)

        try:
            initial = _begin(session, origin if number is None else None)
        except Interrupted:
            return Status("interrupted", signals.why, exit_code=signals.exit_code)
        return session.run(prepare)


def run_directory(out: str | os.PathLike[str], name: str | None, default_name: str) -> Path:
    """Give the folder OUT/NAME of a run.

    Args:
        out: the folder that holds runs.
        name: the user's name for it, or None.
        default_name: used without a name, e.g. `"Hopper-v4-" + spec_hash(spec, job.name)`; slashes become
            dashes.

    Raises:
        UserError: when the name is not a single folder's name.
    """
    if name is None:
        return Path(out) / default_name.replace("/", "-").replace("\\", "-")
    require_plain(name, "folder")
    return Path(out) / name


def require_plain(name: str, what: str) -> None:
    """Raise `UserError` unless `name` can be the name of one file or folder (`what`) that commands show and take."""
    # What is printable has no surrogates, which stand for bytes that are no UTF-8.
    plain = bool(name.strip()) and name.isprintable() and len(name.encode()) <= _MOST_NAME_BYTES
    require(
        plain and not name.startswith(".") and not any(c in name for c in "/\\"),
        "name",
        name,
        f"the name of one {what}, without slashes (see --out): printable characters in valid UTF-8, at most "
        f"{_MOST_NAME_BYTES} bytes, no dot in front",
    )


@contextlib.contextmanager
def _occupied(run_dir: Path) -> Iterator[Signals]:
    """Hold the run's lock and catch signals. A new folder in which nothing came to be is removed again."""
    new = not run_dir.exists()
    make_folder(run_dir)
    with Signals() as signals:
        lock = acquire(run_dir)
        try:
            yield signals
        finally:
            if not (run_dir / SPEC_FILE).exists():
                # No run came to be. The lock is still held, so that no other process starts here meanwhile;
                # Windows refuses, and keeps it.
                with contextlib.suppress(OSError):
                    (run_dir / LOCK_FILE).unlink()
                    if new:
                        run_dir.rmdir()
            lock.release()


def _begin_at(session: Session, origin: Origin | None) -> None:
    """Let a branch count on from its parent's checkpoint."""
    if origin is not None:
        session.done, session.parent = origin.parent.checkpoint, origin.parent


def _begin(session: Session, origin: Origin | None) -> Any:
    """Make the state to begin with and start the observers, while nothing on disk has changed.

    Raises:
        Interrupted: when a signal comes meanwhile.
    """
    try:
        with session.signals.armed():
            session.total = session.job.segments(session.spec)
            least = 1 if session.parent is None else session.parent.checkpoint + 1
            require(
                session.total >= least, "segments", session.total, f"at least {least}; the run is too short"
            )
            state = session.job.initial_state(session.spec) if origin is None else origin.state()
            session.require_signature(state)
            session.audience.start(session.info())
            return state
    except BaseException as error:
        session.signals.note(error)
        if session.signals.received is None:
            raise
        raise Interrupted from error


def _refuse_used(job: Job[Any, Any], spec: Any, run_dir: Path, digest: str) -> None:
    """Refuse a folder that holds a run, or anything else."""
    if not (run_dir / SPEC_FILE).exists():
        # A process killed before its spec.json landed leaves only hidden files, and what a tracker began.
        others = [path for path in run_dir.iterdir() if path.name not in (LOCK_FILE, _TRACKER)]
        # Looked at before anything is removed: it may be anybody's folder.
        if not all(map(is_leftover, others)):
            raise UserError(f"{run_dir} is not empty and not a run; give another --name or --out")
        remove(*others)
        return
    _require_same(job, spec, run_dir, digest)
    old = _old_status(run_dir)
    if old is not None and old.state == "finished":
        raise UserError(f"{run_dir} is finished; to run it again give another --name")
    raise UserError(
        f"{run_dir} holds this run, unfinished; `ev resume {quote(str(run_dir))}` goes on with it"
    )


def _longer(job: Job[Any, Any], run_dir: Path) -> str:
    """How a finished run is made longer, which is what whoever resumes it wants."""
    command = COMMANDS.get(job.name)
    return f"; `{command} branch {quote(str(run_dir))} --at 1 --steps N` makes it longer" if command else ""


def _require_same(job: Job[Any, Any], spec: Any, run_dir: Path, digest: str) -> None:
    """Refuse a folder that holds another spec."""
    read_spec(run_dir)
    try:
        there = recorded_hash(run_dir, spec)
    except UserError as error:
        there = f"unreadable: {error}"
    if there != digest:
        raise UserError(f"{run_dir} holds another spec ({there}, not {digest}); give another --name")


def _require_lineage(run_dir: Path, meta: dict[str, Any], digest: str) -> None:
    there = meta.get("lineage", {}).get("spec_hash")
    if there != digest:
        raise UserError(
            f"{run_dir}: its checkpoints belong to spec {there}, spec.json says {digest}; it was edited"
        )


def _old_status(run_dir: Path) -> Status | None:
    try:
        return read_status(run_dir)
    except UserError:
        return None  # the checkpoints say how far the run is; status.json is for people


def _note_session(session: Session) -> list[str]:
    """Add this session to provenance.json; a line for the user when it differs from the one before."""
    now = provenance.collect() | inputs_of(session.job, session.spec)
    sessions = provenance.sessions_of(session.run_dir)
    before = {key: value for key, value in (sessions or [now])[-1].items() if key != "segments_done"}
    write_json(
        session.run_dir / provenance.PROVENANCE_FILE,
        {"sessions": [*sessions, {"segments_done": session.done, **now}]},
    )
    found = provenance.differences(before, now)
    return [f"resumed elsewhere, numbers may differ in the last bits: {'; '.join(found)}"] if found else []
