"""Runs on disk as text: a table of all, and all about one. Reads only."""

from __future__ import annotations

import math
import os
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from escapevelocity.errors import UserError
from escapevelocity.health import METRICS
from escapevelocity.report._farewell import fault_lines
from escapevelocity.report._shown import (
    RANGED,
    UNDEFINED,
    find_setting,
    first_rows,
    first_values,
    is_marked,
    layer_width,
    number,
    shown,
    task_name,
    write_number,
    write_time,
)
from escapevelocity.report.settings import lineage_lines, settings_changed
from escapevelocity.runs import Run, list_runs, open_run, whole_records
from escapevelocity.runs.provenance import PROVENANCE_FILE, sessions_of

MARK_STYLE = "bold red"
_STATE_STYLES = {
    "finished": "green",
    "running": "cyan",
    "interrupted": "yellow",
    "failed": MARK_STYLE,
    "damaged": MARK_STYLE,
}
_SEEDS_SHOWN = 5
_SEED_WIDTH, _BESIDE_SEEDS = 10, 58
"""Columns of a seed's values, and of names (42) and healthy ranges together."""
RUNS_WIDTH = 60
"""Columns that `runs_table` needs for its numbers, 32, and for its four columns of text to be read."""


def runs_table(out_dir: str | os.PathLike[str]) -> RenderableType:
    """Make a table of the runs below a folder: state, progress, speed, last return, and what is out of range.

    Args:
        out_dir: the folder that holds runs.

    Raises:
        UserError: when it is not a folder.
    """
    listed = list_runs(out_dir)
    if not listed:
        return Text(f"no runs below {out_dir}; `ev train Hopper-v4 --out {out_dir}` makes one")
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="dim", pad_edge=False)
    table.add_column("run", no_wrap=True, overflow="fold")  # In one piece: other commands take the name.
    for header in ("task", "state"):
        table.add_column(header, overflow="fold")
    for header in ("seeds", "done", "steps/s", "last return"):
        table.add_column(header, justify="right", no_wrap=True)
    table.add_column("outside its healthy range", overflow="fold")
    for one in listed:
        name = shown(one.path.relative_to(out_dir))
        if one.run is None:
            table.add_row(*_damaged_row(name, one.damage))
            continue
        try:
            table.add_row(*_list_row(name, one.run))
        except UserError as error:  # Such as checkpoints that must not be read.
            table.add_row(*_damaged_row(name, str(error)))
        except Exception as error:  # A spec of any shape: seeds that are a number, layers that are words, …
            table.add_row(*_damaged_row(name, f"it cannot be read: {type(error).__name__}: {error}"))
    return table


def _damaged_row(name: str, damage: str) -> list[RenderableType]:
    state = Text("damaged", _STATE_STYLES["damaged"])
    return [Text(name), UNDEFINED, state, *[UNDEFINED] * 4, Text(shown(damage), MARK_STYLE)]


def _list_row(label: str, run: Run) -> list[RenderableType]:
    name, status = Text(label), run.status
    if (parent := run.parent) is not None:
        name.append(f"\n  from {shown(Path(parent.path).name)} at {parent.step:,}", "dim")
    state = Text(status.state, _STATE_STYLES[status.state])
    members = len(find_setting(run.spec, "seeds") or (0,))
    own_steps = status.steps_done - (parent.step if parent is not None else 0)
    speed = own_steps * members / status.wall_time if status.wall_time > 0 else math.nan
    done = status.steps_done / status.steps_total if status.steps_total else 0.0
    try:
        records, _ = whole_records(run.path, parent)
        latest, starts = _latest(records), first_values(first_rows(records))
        outside = (_outside(column, latest, run, starts.get(column)) for column in RANGED)
        marks = Text("; ".join(text for text in outside if text), MARK_STYLE)
    except UserError as error:
        latest, marks = {}, Text(shown(error), MARK_STYLE)
    returns = [
        x for x in (number(row.get("perf/return_mean")) for row in latest.values()) if not math.isnan(x)
    ]
    last = write_number(statistics.median(returns)) if returns else UNDEFINED
    task = Text(shown(task_name(run.spec, run.job)))
    return [name, task, state, str(members), f"{done:.0%}", write_number(speed), last, marks]


def run_page(run: Run | str | os.PathLike[str], width: int | None = None) -> RenderableType:
    """Tell all about a run: how it ended, settings, provenance, last values with marks, faults, checkpoints.

    Settings are shown where they differ from the run's preset. Last values are those of each member's newest
    row that has them.

    Args:
        run: the run or its folder.
        width: columns of the terminal; only as many seeds are shown as it has room for.

    Raises:
        UserError: when it is not a run, its records are damaged, or its settings have a shape that cannot be read.
    """
    run = run if isinstance(run, Run) else open_run(run)
    try:
        return _whole_page(run, _seeds_in(width))
    except UserError:
        raise
    except Exception as error:  # A spec of any shape: seeds that are a number, layers that are words, …
        raise UserError(f"{run.path} cannot be read: {type(error).__name__}: {error}") from error


def _seeds_in(width: int | None) -> int:
    """How many seeds a page shows: beside a column of names and one of healthy ranges."""
    room = _SEEDS_SHOWN if width is None else (width - _BESIDE_SEEDS) // _SEED_WIDTH
    return min(_SEEDS_SHOWN, max(1, room))


def _whole_page(run: Run, seeds: int) -> RenderableType:
    records, _ = whole_records(run.path, run.parent)
    return Group(
        _status_part(run),
        *(Text(shown(line)) for line in lineage_lines(run)),
        _heading("settings"),
        _settings_part(run),
        _heading("provenance"),
        _provenance_part(run),
        _heading("last values"),
        _values_part(run, _latest(records), first_values(first_rows(records)), seeds),
        *_faults_part(records),
        _heading("checkpoints"),
        _checkpoints_part(run),
    )


def _status_part(run: Run) -> RenderableType:
    status = run.status
    text = Text()
    text.append(f"{shown(run.path)}  ", "bold")
    text.append(status.state, _STATE_STYLES[status.state])
    text.append(f": {shown(status.why)}\n" if status.why else "\n")
    text.append(
        f"{status.steps_done:,} of {status.steps_total:,} steps per seed · {write_time(status.wall_time)} of running"
        f" · segment {status.segments_done}/{status.segments_total} · on {shown(status.host) or UNDEFINED}"
    )
    return text


def _settings_part(run: Run) -> RenderableType:
    task, seeds = task_name(run.spec, ""), find_setting(run.spec, "seeds")
    preset = find_setting(run.spec, "preset")
    lines = [f"job {run.job}" + (f", task {task}" if task else "") + (f", preset {preset}" if preset else "")]
    if seeds:
        lines.append("seeds " + " ".join(map(str, seeds)))
    for name, (value, usual) in sorted(settings_changed(run).items()):
        lines.append(f"{name} = {value}" + ("" if usual is None else f"  (preset: {usual})"))
    return Text("\n".join(map(shown, lines)))


def _provenance_part(run: Run) -> RenderableType:
    sessions = sessions_of(run.path)
    if not sessions:
        return Text(shown(f"{run.path / PROVENANCE_FILE} is missing or damaged"), MARK_STYLE)
    given = {name: x for name, x in sessions[-1].items() if x is not None and name != "segments_done"}
    versions = {name.removeprefix("version/"): v for name, v in given.items() if name.startswith("version/")}
    rest = {name: v for name, v in given.items() if not name.startswith("version/")}
    lines = ["  ".join(shown(f"{name} {value}") for name, value in part.items()) for part in (versions, rest)]
    return Text("\n".join(lines) + (f"\nresumed {len(sessions) - 1} times" if len(sessions) > 1 else ""))


def _values_part(
    run: Run, latest: Mapping[int, Mapping[str, Any]], starts: Mapping[str, float], most: int
) -> RenderableType:
    if not latest:
        return Text("no records yet")
    seeds = list(latest)[:most]
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="dim", pad_edge=False)
    table.add_column("metric", no_wrap=True)
    for seed in seeds:  # Values are what the page is for: on a narrow terminal the other columns give way.
        table.add_column(Text(shown(f"seed {seed}")), justify="right", no_wrap=True, min_width=9)
    table.add_column("healthy", overflow="fold")
    width = layer_width(run.spec)
    healthy = {column: str(m.healthy) for m in METRICS if m.healthy is not None for column in m.columns()}
    measured = {name for row in latest.values() for name, value in row.items() if _is_number(value)}
    for column in sorted(measured - {"seed", "segment"}, key=_order):
        cells = []
        for seed in seeds:
            value = number(latest[seed].get(column))
            marked = is_marked(column, value, width, starts.get(column))
            cells.append(Text(write_number(value) + ("!" if marked else " "), MARK_STYLE if marked else ""))
        table.add_row(Text(shown(column)), *cells, healthy.get(column, UNDEFINED))
    if len(latest) > len(seeds):
        return Group(table, Text(f"… and {len(latest) - len(seeds)} more seeds, in the records", "dim"))
    return table


def _faults_part(records: pa.Table) -> list[RenderableType]:
    if "fault" not in records.column_names:
        return []
    faults = [text for text in records["fault"].to_pylist() if text]
    if not faults:
        return []
    return [
        _heading("faults"),
        *(Text(shown(text), MARK_STYLE) for text in fault_lines(dict(enumerate(faults)))),
    ]


def _checkpoints_part(run: Run) -> RenderableType:
    checkpoints = ", ".join(f"{saved.number} ({saved.step:,} steps)" for saved in run.checkpoints())
    return Text(f"{checkpoints or 'none'}\nsnapshots: {len(run.snapshots())}")


def _latest(records: pa.Table) -> dict[int, dict[str, Any]]:
    """Give every member's newest value of each column; a column not measured in the last batch keeps an older one."""
    latest: dict[int, dict[str, Any]] = {}
    tail = max(0, records.num_rows - 1000 * max(1, len(set(_column(records, "seed")))))
    for row in records.slice(tail).to_pylist():  # sorted by batch
        member = latest.setdefault(row.get("seed", 0), {})
        for name, value in row.items():
            undefined_return = name.startswith("perf/") and isinstance(value, float) and math.isnan(value)
            if name not in member or not (value is None or undefined_return):
                member[name] = value
    return dict(sorted(latest.items()))


def _outside(column: str, latest: Mapping[int, Mapping[str, Any]], run: Run, start: float | None) -> str:
    width = layer_width(run.spec)
    values = [number(row.get(column)) for row in latest.values()]
    marked = sorted({value for value in values if is_marked(column, value, width, start)})
    if not marked:
        return ""
    return f"{column} {write_number(marked[0])}" + (
        f" to {write_number(marked[-1])}" if len(marked) > 1 else ""
    )


def _heading(text: str) -> Text:
    return Text(f"\n{text}", "bold")


def _column(records: pa.Table, name: str) -> list[Any]:
    return records[name].to_pylist() if name in records.column_names else [0]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


_POSITIONS = {column: index for index, column in enumerate(c for m in METRICS for c in m.columns())}


def _order(column: str) -> tuple[int, str]:
    return _POSITIONS.get(column, len(_POSITIONS)), column
