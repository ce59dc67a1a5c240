"""What is known of every run in a store, fast: finished runs are remembered in STORE/_study/index.json.

The index is a cache. A run's folder is the truth: whatever is missing from the index, or has a status.json of another
time or size than it had, is read again; runs that are not finished always are.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from escapevelocity.errors import UserError
from escapevelocity.runs import open_run
from escapevelocity.runs.atomic import write_bytes
from escapevelocity.runs.branch import parent_in
from escapevelocity.runs.status import STATUS_FILE
from escapevelocity.study._flat import flat_settings, frozen
from escapevelocity.study._folders import first_meta, run_folders, store_folder
from escapevelocity.study.standing import standing
from escapevelocity.study.store import STUDY_FOLDER

INDEX_FILE = "index.json"
_FORMAT = 1


@dataclasses.dataclass(frozen=True)
class Indexed:
    """One run of a store, at a glance."""

    name: str
    """Its folder, seen from the store."""
    state: str
    """running, finished, interrupted, failed or damaged."""
    why: str = ""
    """One line: the reason, for interrupted, failed and damaged."""
    steps_done: int = 0
    """Environment steps of the committed segments, per seed."""
    steps_total: int = 0
    """Environment steps of the whole run, per seed."""
    steps_shared: int = 0
    """Environment steps of the past that a branch shares with its parent, which it did not run itself."""
    wall_time: float = 0.0
    """Seconds of running, added up over resumes."""
    changed: float = 0.0
    """When its status was written last (unix time): for a finished run, when it ended."""
    host: str = ""
    """The machine it ran on last."""
    pid: int = 0
    """The process it ran in last."""
    spec_hash: str = ""
    """Hash of its spec, as its first checkpoint records it; empty where there is none."""
    seeds: tuple[int, ...] = ()
    """Its population."""
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict, repr=False)
    """All settings by name; see `HistoryRun.settings`."""
    stamp: str = dataclasses.field(default="", repr=False)
    """Time and size of its status.json."""

    @property
    def steps_per_second(self) -> float:
        """Environment steps of all members per second of running; 0 where nothing is known."""
        own = (self.steps_done - self.steps_shared) * max(1, len(self.seeds))
        return own / self.wall_time if self.wall_time > 0 else 0.0


def list_indexed(store: Any) -> list[Indexed]:
    """List every run of a store, sorted by name, and bring the index up to date where it can be written.

    Args:
        store: the store or its folder.

    Raises:
        UserError: it is not a folder.
    """
    folder = store_folder(store)
    known = _read_index(folder)
    found = []
    for name, path in run_folders(folder):
        stamp = stamp_of(path)
        entry = known.get(name)
        found.append(entry if entry is not None and entry.stamp == stamp else read_indexed(path, name, stamp))
    finished = {run.name: run for run in found if run.state == "finished"}
    if finished != known:
        _write_index(folder, finished)
    return found


def varying_settings(runs: Sequence[Indexed]) -> dict[str, dict[str, Any]]:
    """Give of each run the settings in which the runs differ, by the run's name: what a study without a plan varies.

    Example:
        >>> given = {"a": {"epochs": 10, "task": "T"}, "b": {"epochs": 20, "task": "T"}}
        >>> runs = [Indexed(name, "finished", settings=settings) for name, settings in given.items()]
        >>> varying_settings(runs)
        {'a': {'epochs': 10}, 'b': {'epochs': 20}}
    """
    whole = [run for run in runs if run.settings]
    names = sorted({name for run in whole for name in run.settings})
    values = {name: {run.settings.get(name) for run in whole} for name in names}
    differing = [name for name in names if len(values[name]) > 1]
    return {
        run.name: {name: run.settings[name] for name in differing if name in run.settings} for run in runs
    }


def stamp_of(path: Path) -> str:
    """Give time and size of a run's status.json; empty where there is none."""
    with contextlib.suppress(OSError):
        status = os.stat(path / STATUS_FILE)
        return f"{status.st_mtime_ns} {status.st_size}"
    return ""


def read_indexed(path: Path, name: str, stamp: str) -> Indexed:
    """Read what is known of one run at a glance; one that cannot be read is damaged.

    Args:
        path: its folder.
        name: what it is called.
        stamp: `stamp_of(path)`, from before.
    """
    changed = int(stamp.split()[0]) / 1e9 if stamp else 0.0
    try:
        run, meta = open_run(path), first_meta(path)
    except (UserError, OSError) as error:
        found = standing(path)  # Without a status.json that can be read it may yet be running, or resumed.
        state = "damaged" if found.state == "missing" else found.state
        return Indexed(name, state, found.why or str(error), changed=changed)
    status = run.status
    parent = parent_in(meta)
    return Indexed(
        name,
        status.state,
        status.why,
        status.steps_done,
        status.steps_total,
        0 if parent is None else parent.step,
        status.wall_time,
        changed,
        status.host,
        status.pid,
        meta.get("lineage", {}).get("spec_hash", ""),
        tuple(run.spec.get("seeds") or ()),
        flat_settings({"job": run.job, "spec": run.spec}),
        stamp,
    )


def _read_index(folder: Path) -> dict[str, Indexed]:
    """What the index holds; nothing if it is missing, damaged or of another version."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        document = json.loads((folder / STUDY_FOLDER / INDEX_FILE).read_text(encoding="utf-8"))
        if document["format"] == _FORMAT:
            return {
                name: Indexed(
                    name,
                    **{
                        **entry,
                        "seeds": tuple(entry["seeds"]),
                        "settings": {key: frozen(value) for key, value in entry["settings"].items()},
                    },
                )
                for name, entry in document["runs"].items()
            }
    return {}


def _write_index(folder: Path, finished: Mapping[str, Indexed]) -> None:
    runs = {}
    for name, run in finished.items():
        runs[name] = {field.name: getattr(run, field.name) for field in dataclasses.fields(run)[1:]}
    text = json.dumps({"format": _FORMAT, "runs": runs}, sort_keys=True)
    with contextlib.suppress(UserError):  # A store that we may only read is read without an index.
        write_bytes(folder / STUDY_FOLDER / INDEX_FILE, (text + "\n").encode())
