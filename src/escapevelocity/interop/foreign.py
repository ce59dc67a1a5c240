"""Logs of other trainers as our records: TensorBoard, CSV and JSON of Stable-Baselines3, CleanRL and RLlib."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from escapevelocity.envs import DiscreteActions, describe_task
from escapevelocity.errors import UserError, cannot_read
from escapevelocity.health.context import Context
from escapevelocity.interop._foreign_advice import advice
from escapevelocity.interop._foreign_events import is_event_file, read_events
from escapevelocity.interop._foreign_log import Log
from escapevelocity.interop._foreign_rows import columns_of
from escapevelocity.interop._foreign_tables import read_csv, read_json_lines, read_monitors, read_settings
from escapevelocity.interop._foreign_tags import SETTING_TAGS, is_unread, return_episodes

__all__ = ["ForeignRecords", "advice", "read_foreign"]

_TABLES = ("result.json", "progress.csv", "progress.json")
"""What a run's folder may hold, the fullest first: RLlib's progress.csv lacks columns that appear after its first
row, and event files need a package."""
_MONITOR = "monitor.csv"
_OURS = ("spec.json", "status.json")
_CONTINUOUS_TAG, _SB3_ENTROPY = "train/std", "train/entropy_loss"
_TAGS_TOLD = 8


@dataclass(frozen=True)
class ForeignRecords:
    """Another trainer's log, in the form that `diagnose` takes.

    Attributes:
        records: column -> one value per row; NaN, or None for `fault`, where the log has none. `seed` numbers the
            runs of a folder that holds several.
        context: what is known of the run.
        source: what was read.
        notes: what the definitions differ in, what could not be read, and which run has which number.
    """

    records: dict[str, np.ndarray]
    context: Context
    source: str
    notes: list[str]


def read_foreign(path: str | os.PathLike[str], env: str | None = None) -> ForeignRecords | None:
    """Read a log of Stable-Baselines3, CleanRL or RLlib.

    Understood are TensorBoard event files (with the extra `track`), progress.csv, monitor.csv, result.json,
    progress.json and CSV exports of Weights & Biases: a file, a run's folder, or a folder of runs, one seed each.
    Numbers and names are read and nothing else: no pickle, no code.

    Args:
        path: the file or folder.
        env: id of the environment, where the log does not say it. It tells discrete actions from continuous ones.

    Returns:
        The records, or None for a run of our own.

    Raises:
        UserError: nothing there that is a log; a file or folder that must not be read; a log that is empty, damaged
            from the start, without any tag that is known here, or of runs of different settings; an unknown `env`.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> text = "time/total_timesteps,rollout/ep_rew_mean,train/entropy_loss\\n2048,21.5,-0.69\\n4096,34.0,-0.65\\n"
        >>> _ = (folder / "progress.csv").write_text(text)
        >>> read_foreign(folder).records["policy/entropy"]
        array([0.69, 0.65])
    """
    path = Path(path)
    try:
        if any((path / name).exists() for name in _OURS):
            return None
        logs = _logs(path)
    except OSError as error:
        raise cannot_read(error.filename or path, error) from error
    if not logs:
        raise UserError(
            _hint(path)
            or f"{path} is neither a run nor a log; looked for spec.json, {', '.join(_TABLES)}, *{_MONITOR}, "
            "TensorBoard's *.tfevents.*, or a .csv file"
        )
    runs = [(log, _told(log, env)) for log in logs]
    read = [(log, told, columns_of(log, told.get("continuous"))) for log, told in runs]
    known = [entry for entry in read if entry[2]]
    if not known:
        raise UserError(_nothing_known(path, logs))
    longest = max(known, key=lambda entry: len(entry[2]["env_steps"]))[0]
    told = _common(path, [(log, told) for log, told, _ in known])
    # A log that was cut short may lack the returns of batches that the others have.
    context = Context(**told, return_episodes=return_episodes(longest.series))
    notes = list(dict.fromkeys(note for log, _, _ in read for note in log.notes))
    notes += [f"{log.name} has no tag that is known, and is left out" for log, _, found in read if not found]
    unread = sorted({tag for log, _, _ in known for tag in log.series if is_unread(tag)})
    notes += [
        f"{tag} is not read: the sign of a failing critic goes by the spread of its values" for tag in unread
    ]
    if len(known) > 1:
        notes = [f"--seed {i} is {log.name}" for i, (log, _, _) in enumerate(known)] + notes
    files = ", ".join(dict.fromkeys(str(log.path) for log, _, _ in known))
    return ForeignRecords(_stacked([columns for *_, columns in known]), context, files, notes)


def _hint(path: Path) -> str:
    """What to do with something else that is often given; empty if it is nothing that is known."""
    if path.is_file() and path.suffix == ".zip":
        return f"{path} is no log; if it is a saved model, `ev checkup {path} --env TASK` looks into it"
    if path.is_dir() and any(path.glob("*/spec.json")):
        return f"{path} is a folder of runs; give one of them, or all: {path / '*'} (`ev list {path}` shows them)"
    return ""


def _common(path: Path, runs: Sequence[tuple[Log, Mapping[str, Any]]]) -> dict[str, Any]:
    """What the logs say of their runs together: one that was stopped early says less than the others.

    Raises:
        UserError: two say different things.
    """
    held: dict[str, tuple[Any, Log]] = {}
    for log, told in runs:
        for name, value in told.items():
            was, first = held.setdefault(name, (value, log))
            if value != was:
                raise UserError(
                    f"{path}: {first.name} and {log.name} have different settings ({name} {was} and {value}); give one "
                    "run at a time"
                )
    return {name: value for name, (value, _) in held.items()}


def _logs(path: Path) -> list[Log]:
    if path.is_file():
        return _read_file(path)
    if not path.is_dir():
        return []
    logs: list[Log] = []
    for folder, folders, files in os.walk(path, onerror=_raise):
        folders.sort()
        if any(name in files for name in _OURS):
            folders.clear()  # A run of ours may hold event files; its records tell more.
        else:
            logs += _read_folder(Path(folder), [Path(folder, name) for name in sorted(files)])
    return logs


def _raise(error: OSError) -> None:
    raise error


def _read_file(path: Path) -> list[Log]:
    if is_event_file(path):
        return [read_events([path])]
    if path.name.endswith(_MONITOR):
        return [read_monitors([path])]
    if path.suffix == ".csv":
        return read_csv(path)
    if path.suffix == ".json" and path.name in _TABLES:
        logs = read_json_lines(path)
        return _with_settings(logs, path.parent)
    return []


def _read_folder(folder: Path, files: Sequence[Path]) -> list[Log]:
    """Read one run: its fullest log, and the episodes of its monitors."""
    names = {file.name for file in files}
    table = next((name for name in _TABLES if name in names), None)
    events = [file for file in files if is_event_file(file)]
    monitors = [file for file in files if file.name.endswith(_MONITOR)]
    logs: list[Log] = []
    if table is not None:
        logs = _with_settings(_read_file(folder / table), folder)
    elif events:
        logs = [read_events(events)]
    if monitors:
        episodes = read_monitors(monitors)
        if len(logs) != 1:
            return [*logs, episodes]
        _add_episodes(logs[0], episodes)
    return logs


def _add_episodes(log: Log, episodes: Log) -> None:
    """Put the episodes of monitors among what a log says, if both count the same steps."""
    log.settings.update(episodes.settings)
    log.notes += episodes.notes
    logged, ended = (
        np.unique(np.concatenate([np.zeros(0), *(steps for steps, _ in one.series.values())]))
        for one in (log, episodes)
    )
    if len(logged) and len(ended):
        between = np.diff(logged).max(initial=0.0) or logged[0]
        before = logged[0] - between  # Steps that had been made when the log began.
        # Frames are skipped above the monitor; or the training went on, and its monitors began anew.
        if ended[-1] > logged[-1] + between or between <= before <= logged[-1] + between - ended[-1]:
            log.notes.append(
                f"the monitor files are left out: their episodes take {ended[-1]:,.0f} steps, the log goes from step "
                f"{logged[0]:,.0f} to {logged[-1]:,.0f}"
            )
            return
    log.series.update(episodes.series)


def _with_settings(logs: list[Log], folder: Path) -> list[Log]:
    for log in logs:
        log.settings.update(read_settings(folder / "params.json"))
    return logs


def _told(log: Log, env: str | None) -> dict[str, Any]:
    """Gather what the log says of the run, by the fields of `Context`; from names of CleanRL, RLlib and the monitor."""
    told: dict[str, object] = {}
    for tag, name in SETTING_TAGS.items():
        if tag in log.series:
            told[name] = log.series[tag][1][0]
    names = {
        "clip_epsilon": ("clip_coef", "clip_param"),
        "epochs": ("update_epochs", "num_epochs", "num_sgd_iter"),
        "learning_rate": ("learning_rate", "lr"),
        "total_steps": ("total_timesteps",),
    }
    for name, theirs in names.items():
        held = [log.settings[key] for key in theirs if key in log.settings]
        if held:
            told[name] = held[0]
    known: dict[str, Any] = {
        name: value for name, text in told.items() if (value := _positive(text)) is not None
    }
    for name in ("epochs", "total_steps", "width"):
        if name in known:
            known[name] = max(1, round(known[name]))
    if not known.get("clip_epsilon", 0.5) < 1:
        del known["clip_epsilon"]
    return {**known, **_actions(log, env)}


def _actions(log: Log, env: str | None) -> dict[str, Any]:
    told = env or log.settings.get("env_id") or log.settings.get("env")
    # Gymnasium imports MODULE for a task named MODULE:id, and a log must not decide what is imported.
    if env is not None or (isinstance(told, str) and ":" not in told):
        try:
            actions = describe_task(str(told)).actions
            return {"continuous": not isinstance(actions, DiscreteActions), "action_size": actions.size}
        except UserError:
            if env is not None:
                raise
    if _CONTINUOUS_TAG in log.series:
        return {"continuous": True}
    # Stable-Baselines3 logs the std of every normal: where there is none, actions are discrete.
    return {"continuous": False} if _SB3_ENTROPY in log.series else {}


def _positive(value: object) -> float | None:
    try:
        number = float(value) if isinstance(value, int | float | str) else np.nan
    except ValueError:
        return None
    return number if 0 < number < np.inf else None


def _nothing_known(path: Path, logs: Sequence[Log]) -> str:
    tags = sorted({tag for log in logs for tag in log.series})
    why = "; ".join(dict.fromkeys(note for log in logs for note in log.notes))
    because = f" ({why})" if why else ""
    if not tags:
        return f"{path} is empty{because}: nothing had been logged, there is nothing to diagnose"
    more = f" and {len(tags) - _TAGS_TOLD} more" if len(tags) > _TAGS_TOLD else ""
    return (
        f"{path}: none of its tags is known from Stable-Baselines3, CleanRL or RLlib{because}; "
        f"it holds {', '.join(tags[:_TAGS_TOLD])}{more}"
    )


def _stacked(runs: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Put the runs behind each other, with a column `seed` where there are several."""
    if len(runs) == 1:
        return dict(runs[0])
    names = dict.fromkeys(name for run in runs for name in run)
    records = {name: np.concatenate([_or_missing(run, name) for run in runs]) for name in names}
    return {"seed": np.repeat(np.arange(len(runs)), [len(run["env_steps"]) for run in runs]), **records}


def _or_missing(run: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    if name in run:
        return run[name]
    rows = len(run["env_steps"])
    return np.full(rows, None, dtype=object) if name == "fault" else np.full(rows, np.nan)
