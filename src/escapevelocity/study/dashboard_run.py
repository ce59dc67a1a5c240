"""One run, or several side by side, as the dashboard shows them: curves, verdict, settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from shlex import quote
from typing import Any

import pyarrow as pa

from escapevelocity.errors import UserError, require
from escapevelocity.health.signs import Sign
from escapevelocity.report._curves import by_seed, frozen_at
from escapevelocity.report._marks import Mark as Onset
from escapevelocity.report._panels import column_panel, page_panels
from escapevelocity.report._shown import first_rows, first_values, layer_width, shown
from escapevelocity.report.charts import chart_json
from escapevelocity.report.page_curves import SeedCurves, Traced, charts_of
from escapevelocity.report.settings import settings_changed
from escapevelocity.runs import Run, open_run
from escapevelocity.study._folders import parent_of
from escapevelocity.study.dashboard_records import Records
from escapevelocity.study.dashboard_scan import Entry

MOST_RUNS = 8
"""Runs side by side: more lines in one chart cannot be told apart."""
MOST_COLUMNS = 12
"""Columns that may be asked for besides the usual ones."""
_LINES = 10  # Seeds that are drawn as lines of their own; of more, the middle and its interval.


def charts_json(
    entries: Sequence[Entry],
    records: Records,
    columns: Sequence[str] = (),
    verdicts: Sequence[Mapping[str, Any] | None] = (),
) -> dict[str, Any]:
    """Draw runs: the usual panels of their job, and further columns.

    Args:
        entries: the runs.
        records: reads them.
        columns: columns to draw besides.
        verdicts: what is known of each run, for the marks.

    Raises:
        UserError: too many columns, or a run that cannot be read.
    """
    require(len(columns) <= MOST_COLUMNS, "column", len(columns), f"given at most {MOST_COLUMNS} times")
    runs = [open_run(entry.path) for entry in entries]
    jobs = list(dict.fromkeys(run.job for run in runs))
    usual = page_panels(jobs[0]) if len(jobs) == 1 else ()
    panels = [*usual, *(column_panel(name) for name in dict.fromkeys(columns))]
    wanted = [name for panel in panels for name in panel.columns]
    found = [records.read(run.path, ("fault", *wanted)) for run in runs]
    tables = [_numeric(one.table, wanted) for one in found]
    names = labels_of(entries)
    marks = [_marks(verdict) for verdict in verdicts] or [()] * len(runs)
    traced = [
        _traced(run, table, name, group, own)
        for group, (run, table, name, own) in enumerate(zip(runs, tables, names, marks, strict=True))
    ]
    seeds = sum(len(entry.indexed.seeds) or 1 for entry in entries)
    charts = charts_of(traced, panels, jobs[0], seeds=seeds <= _LINES)
    return {
        "runs": [entry.name for entry in entries],
        "charts": [chart_json(chart) for chart in charts],
        "faults": [shown(fault) for one in found for fault in one.faults],
    }


def run_json(entry: Entry, records: Records, known: Mapping[str, Entry]) -> dict[str, Any]:
    """Tell of one run what its page shows besides curves and verdict: settings, columns, where it began.

    Args:
        entry: the run.
        records: reads it.
        known: all runs by name, to link the one that it branched from.
    """
    whole = entry.indexed.state != "damaged"  # Of the others no file is opened: a link may lead anywhere.
    columns = records.names(entry.path) if whole else ()
    try:
        changed = settings_changed(open_run(entry.path)) if whole else {}
        settings = [
            [shown(name), _text(value), "" if usual is None else _text(usual)]
            for name, (value, usual) in sorted(changed.items())
        ]
    except Exception:  # A spec of unknown form, or of another version: the state tells what is wrong.
        settings = [[shown(name), _text(value), ""] for name, value in sorted(entry.indexed.settings.items())]
    return {
        "settings": settings,
        "columns": sorted(shown(name) for name in columns if name not in ("segment", "seed")),
        "parent": _parent(entry, known) if whole else None,
        "seeds": list(entry.indexed.seeds),
        "wall_time": entry.indexed.wall_time,
        "command": f"ev diagnose {quote(shown(entry.path))}",
    }


def labels_of(entries: Sequence[Entry]) -> list[str]:
    """Call runs by their folders' names, or by their whole names where two are called alike."""
    short = [entry.name.rpartition("/")[2] for entry in entries]
    return [
        name if short.count(name) == 1 else entry.name for name, entry in zip(short, entries, strict=True)
    ]


def _traced(run: Run, table: pa.Table, label: str, group: int, marks: Sequence[Onset]) -> Traced:
    """Make a run ready to be drawn from records that are in memory."""

    def read(column: str) -> SeedCurves:
        found = by_seed(table, column)
        return SeedCurves(found.steps, tuple(found.seeds.tolist()), found.values)

    steps = table["env_steps"].to_pylist() if "env_steps" in table.column_names else []
    total = float(run.status.steps_total or max(steps, default=1) or 1)
    starts = first_values(first_rows(table)) if table.num_rows else {}
    return Traced(label, group, read, total, _width(run), starts, tuple(marks), frozen=frozen_at(table))


def _width(run: Run) -> int | None:
    try:
        return layer_width(run.spec)
    except (TypeError, ValueError):  # Layers that are no numbers.
        return None


def _marks(verdict: Mapping[str, Any] | None) -> list[Onset]:
    return [Onset(Sign(sign), step) for sign, step in (verdict or {}).get("marks", ())]


def _numeric(table: pa.Table, wanted: Sequence[str]) -> pa.Table:
    """Leave out what was asked for and holds no numbers."""
    kept = [
        field.name
        for field in table.schema
        if field.name not in wanted or pa.types.is_floating(field.type) or pa.types.is_integer(field.type)
    ]
    return table.select(kept)


def _parent(entry: Entry, known: Mapping[str, Entry]) -> dict[str, Any] | None:
    try:
        parent = parent_of(entry.path)
    except Exception:  # The JSON of a stranger's checkpoint may be of any shape.
        return None
    if parent is None:
        return None
    path = (entry.path / parent.path).resolve()
    name = next((one.name for one in known.values() if one.path.resolve() == path), None)
    return {"name": name, "folder": shown(Path(parent.path).name), "step": parent.step}


def _text(value: Any) -> str:
    return shown(" ".join(map(str, value)) if isinstance(value, list | tuple) else value)


def require_known(names: Sequence[str], known: Mapping[str, Entry]) -> list[Entry]:
    """Look up runs by name.

    Raises:
        UserError: none, too many, or one that is not below the dashboard's folder.
    """
    require(1 <= len(names) <= MOST_RUNS, "run", len(names), f"given 1 to {MOST_RUNS} times")
    for name in names:
        if name not in known:
            raise UserError(f"run = {shown(name)!r}: must be a run below the dashboard's folder")
    return [known[name] for name in dict.fromkeys(names)]


def require_whole(entries: Sequence[Entry]) -> None:
    """Refuse to draw a run whose folder is damaged.

    Raises:
        UserError: naming it, and what is wrong.
    """
    for entry in entries:
        if entry.indexed.state == "damaged":
            raise UserError(f"{entry.name} is damaged: {entry.indexed.why}")
