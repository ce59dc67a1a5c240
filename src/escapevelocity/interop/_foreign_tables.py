"""Tables: CSV files of Stable-Baselines3, RLlib and Weights & Biases, monitor files, and lines of JSON."""

import csv
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from escapevelocity.errors import UserError
from escapevelocity.interop._foreign_log import Log, Points, flat
from escapevelocity.interop._foreign_tags import STEP_TAGS, normalised

_OTHER_STEPS = ("_step", "Step", "step", "training_iteration")
"""Columns that count something else than environment steps: good enough for the order of events."""
_WANDB_COLUMN = re.compile(r"(?P<run>.+) - (?P<tag>.+)")
_MONITOR_KEYS = ("r", "l", "t")


def read_json_lines(path: Path) -> list[Log]:
    """Read a file with one JSON object per line: RLlib's result.json, SB3's progress.json."""
    log, rows = Log(path, _run_name(path)), []
    for line in _whole_lines(path, log.notes):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if isinstance(row, dict):
            rows.append(flat({key: value for key, value in row.items() if key != "config"}))
            log.settings.update(_scalars(row.get("config")))
        else:
            log.notes.append(f"{path.name} holds a line that is no JSON object; the others are read")
    return _split_runs(log, rows)


def read_csv(path: Path) -> list[Log]:
    """Read a table with one row per update; of a Weights & Biases export, one log per run."""
    log = Log(path, _run_name(path))
    rows = csv.reader(_whole_lines(path, log.notes))
    try:
        header = next(rows, [])
        table = [row for row in rows if row and row != header]
    except csv.Error as error:
        raise UserError(f"{path} is no table that can be read: {error}") from None
    uneven = sum(len(row) > len(header) for row in table)
    if uneven:
        log.notes.append(f"{path.name} has {uneven} rows longer than its header; they are left out")
    return _split_runs(
        log, [dict(zip(header, row, strict=False)) for row in table if len(row) <= len(header)]
    )


def read_monitors(files: Sequence[Path]) -> Log:
    """Read the monitor.csv files of one run's environments into one stream of episodes.

    The environments run side by side: episodes are ordered by the time at which they ended, and their lengths add
    up to the environment steps, as in stable_baselines3's `load_results` and `ts2xy`.
    """
    log, episodes = Log(files[0].parent, files[0].parent.name), []
    for file in sorted(files):
        lines = list(_whole_lines(file, log.notes))
        began = 0.0
        if lines and lines[0].startswith("#"):
            header = _json_object(lines.pop(0)[1:])
            log.settings.update({"env_id": header.get("env_id")})
            began = _number(header.get("t_start")) or 0.0
        rows = csv.DictReader(lines)
        if rows.fieldnames is not None and not {*_MONITOR_KEYS} <= {*rows.fieldnames}:
            raise UserError(f"{file}: the columns {', '.join(_MONITOR_KEYS)} of a monitor file are missing")
        for row in rows:
            total, length, ended = (_number(row[key]) for key in _MONITOR_KEYS)
            if length is not None and ended is not None and total is not None:
                episodes.append((began + ended, length, total))
    episodes.sort(key=lambda episode: episode[0])
    steps = np.cumsum([length for _, length, _ in episodes], dtype=np.float64)
    if episodes:
        log.series["monitor/l"] = steps, np.array([length for _, length, _ in episodes])
        log.series["monitor/r"] = steps, np.array([total for *_, total in episodes])
    return log


def read_settings(path: Path) -> dict[str, object]:
    """Read the plain values of RLlib's params.json; {} where it is missing or damaged."""
    try:
        return _scalars(_json_object(path.read_text(encoding="utf-8", errors="replace")))
    except OSError:
        return {}


def _split_runs(log: Log, rows: Sequence[Mapping[str, object]]) -> list[Log]:
    """Make a log of the rows; columns "run - tag", as Weights & Biases exports them, make one per run."""
    columns = {column for row in rows for column in row}
    named = {column: found for column in columns if (found := _WANDB_COLUMN.fullmatch(column))}
    if not named:
        return [_fill(log, rows, {column: column for column in columns})]
    plain = {column: column for column in columns - named.keys()}
    logs = []
    for run in sorted({found["run"] for found in named.values()}):
        own = {column: found["tag"] for column, found in named.items() if found["run"] == run}
        logs.append(_fill(Log(log.path, run, notes=list(log.notes)), rows, {**plain, **own}))
    return logs


def _fill(log: Log, rows: Sequence[Mapping[str, object]], tags: Mapping[str, str]) -> Log:
    of_tag = {normalised(tag): column for column, tag in tags.items()}
    found = [tag for tag in (*STEP_TAGS, *_OTHER_STEPS) if tag in of_tag]
    if not found:
        if rows:
            known = ", ".join(STEP_TAGS)
            raise UserError(f"{log.path}: no column counts environment steps; it must be one of {known}")
        return log
    points, without, last = Points(), 0, None
    for row in rows:
        step = _number(row.get(of_tag[found[0]]))
        if step is None or not np.isfinite(step):
            # As SB3's CSV has it where something is logged outside of its own `dump_logs`.
            step, without = last, without + 1
        if step is None:
            continue
        last = step
        for tag, column in of_tag.items():
            value = _number(row.get(column))
            if value is not None:
                points.add(tag, step, value)
    if without:
        log.notes.append(f"{without} rows have no {found[0]}: they count as of the row before")
    if found[0] in _OTHER_STEPS:
        log.notes.append(f"steps are those of {found[0]}: environment steps are not in the log")
    log.series = points.series()
    return log


def _whole_lines(path: Path, notes: list[str]) -> Iterator[str]:
    """Give the lines that were written to their end: half a number is another number."""
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        for line in file:
            if not line.endswith("\n"):
                notes.append(
                    f"{path.name} ends without the end of a line: its last one may be cut, and is left out"
                )
            elif line.strip():
                yield line


def _number(value: object) -> float | None:
    """Give a cell as a number: NaN where it says nan, None where it is empty, text or true."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None


def _json_object(text: str) -> dict[str, object]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _scalars(document: object) -> dict[str, object]:
    if not isinstance(document, dict):
        return {}
    return {key: value for key, value in document.items() if isinstance(value, int | float | str)}


def _run_name(path: Path) -> str:
    """A file that every run names alike is told by its folder."""
    return path.resolve().parent.name if path.stem in ("progress", "result") else path.stem
