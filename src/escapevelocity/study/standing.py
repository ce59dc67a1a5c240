"""How the runs of a store stand. Reads only, and nothing of a run but spec.json, status.json and its lock."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

from escapevelocity.errors import UserError
from escapevelocity.runs import Status, read_spec, read_status
from escapevelocity.runs.spec import SPEC_FILE, recorded_hash, spec_hash
from escapevelocity.runs.status import is_locked
from escapevelocity.study.cost import Recorded, leaves_of

State: TypeAlias = Literal["missing", "running", "interrupted", "failed", "finished", "damaged"]
"""As in status.json; or no run is there, or its folder cannot be read."""


class Standing(NamedTuple):
    """How one run stands."""

    state: State
    steps_done: int = 0
    """Environment steps of its committed segments, per seed."""
    wall_time: float = 0.0
    """Seconds of running so far."""
    why: str = ""
    """One line, for interrupted, failed and damaged."""

    @property
    def seconds_per_step(self) -> float | None:
        """Wall time per environment step; None before there is a first."""
        return self.wall_time / self.steps_done if self.steps_done > 0 and self.wall_time > 0 else None


def standing(path: Path) -> Standing:
    """Look at the folder of a run; one that must not be read counts as damaged."""
    try:
        return _standing(path)
    except OSError as error:
        return Standing("damaged", why=f"cannot read {path}: {error.strerror}; check its permissions")


def _standing(path: Path) -> Standing:
    if path.exists() and not path.is_dir():
        return Standing("damaged", why=f"{path} is not a folder")
    if not (path / SPEC_FILE).exists():
        if is_locked(path):
            return Standing("running")  # Its spec.json lands when its first state is made.
        # Hidden files are what a process leaves that is killed before that; the engine clears them away.
        strange = path.exists() and any(not name.startswith(".") for name in os.listdir(path))
        return (
            Standing("damaged", why=f"{path} is not empty and not a run") if strange else Standing("missing")
        )
    try:
        read_spec(path)
    except UserError as error:
        return Standing("damaged", why=str(error))
    try:
        status = read_status(path)
    except UserError as error:
        # The engine goes by the checkpoints: such a run can be resumed.
        return Standing("running") if is_locked(path) else Standing("interrupted", why=str(error))
    return Standing(status.state, status.steps_done, status.wall_time, status.why)


def unedited(path: Path, spec: Any, text: str) -> Standing:
    """Look at the folder of a run; one whose spec.json says something else than its name counts as damaged.

    Args:
        path: the folder.
        spec: what the run with this name computes.
        text: the same as canonical JSON.
    """
    found = standing(path)
    if found.state in ("missing", "damaged") or not (path / SPEC_FILE).exists():
        return found
    try:
        if (path / SPEC_FILE).read_text(encoding="utf-8") == text:
            return found
        is_same = recorded_hash(path, spec) == spec_hash(spec, json.loads(text)["job"])
    except OSError:  # It was removed meanwhile; the next look will tell.
        return found
    except UserError:  # A setting that there is not, or a value of another type.
        is_same = False
    why = f"{path / SPEC_FILE} is not the spec that this run has its name from; it was edited"
    return found if is_same else Standing("damaged", why=why)


def finished_status(path: Path, spec: Any, text: str) -> Status | None:
    """The status of a run that has come to its end; None of one that is to be resumed.

    Args:
        path: its folder.
        spec: what the run with this name computes.
        text: the same as canonical JSON.

    Raises:
        UserError: it has come to its end, and its spec.json has been edited since.
    """
    try:
        status = read_status(path)
    except UserError:  # Killed before its first status landed, or damaged: the checkpoints say how far it is.
        return None
    if status.state != "finished":
        return None
    found = unedited(path, spec, text)
    if found.state == "damaged":
        raise UserError(found.why)
    return status


def groups_in(folder: Path) -> set[tuple[int, ...]]:
    """The seeds of every run of a store that can be read, each run's as one group."""
    groups = set()
    for path in folder.iterdir():
        if os.path.exists(path / SPEC_FILE):
            try:
                seeds = read_spec(path)["spec"].get("seeds")
            except UserError:
                continue
            if isinstance(seeds, list) and seeds and all(type(seed) is int for seed in seeds):
                groups.add(tuple(seeds))
    return groups


def recorded_runs(folder: Path) -> Iterator[Recorded]:
    """What the runs of a store have cost so far; those without a committed segment are passed over."""
    for path in sorted(folder.iterdir()):
        if not os.path.exists(path / SPEC_FILE):  # Or it must not be read.
            continue
        pace = standing(path).seconds_per_step
        if pace is None:
            continue
        document = read_spec(path)
        seeds = document["spec"].get("seeds")
        members = len(seeds) if isinstance(seeds, list) else 1
        yield Recorded(leaves_of(document["job"], document["spec"], members), pace)
