"""The records of all runs of a study, thinned, in one Parquet file; and their curves, selected by settings.

from escapevelocity.study.history import collect, read_history

history = read_history(collect("runs/my-study"))
for run in history.where(task="Hopper-v4", activation="relu", remedy=("none", "pfo")).runs:
    steps, returns = history.values(run, "perf/return_mean")
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from jaxtyping import Float, Int

from escapevelocity.errors import UserError, require
from escapevelocity.study._flat import flat_settings, frozen
from escapevelocity.study._history_file import Entry, union, write_history_file
from escapevelocity.study._rows import FileRows, Rows, TableRows
from escapevelocity.study._thin import KEYS, thin
from escapevelocity.study.ended import has_ended
from escapevelocity.study.gather import collect, history_path

__all__ = ["Curves", "History", "HistoryRun", "RunArrays", "collect", "read_history", "write_history"]


class Curves(NamedTuple):
    """A column of a run's records, a row per seed."""

    steps: Float[np.ndarray, " points"]
    """Environment steps per seed, increasing; those at which any seed recorded the column."""
    values: Float[np.ndarray, "seeds points"]
    """In the order of the run's seeds; NaN where a seed has none, or where it is undefined."""


class RunArrays(NamedTuple):
    """A run given by arrays, for `History.from_arrays`: of another library, or made up for a test."""

    name: str
    """Its name."""
    settings: Mapping[str, Any]
    """Settings by name, such as {"task": "Hopper-v4", "epochs": 10, "remedy": "none"}."""
    seeds: tuple[int, ...]
    """Its seeds."""
    steps: Sequence[float] | np.ndarray
    """Environment steps of the points."""
    columns: Mapping[str, Any]
    """Column to an array of seeds × points."""


@dataclass(frozen=True)
class HistoryRun:
    """One run of a history."""

    name: str
    """Its folder in the store."""
    spec: Mapping[str, Any] = field(repr=False)
    """The resolved spec, as JSON values."""
    settings: Mapping[str, Any] = field(repr=False)
    """All settings by name: `epochs`, `task`, …; `remedy`: names sorted and joined by "+", or "none"; `pfo.coef`."""
    seeds: tuple[int, ...]
    """Its seeds, in the order of the spec."""
    state: str = "finished"
    """running, finished, interrupted or failed, when the history was gathered."""
    steps_total: int = 0
    """Environment steps of the whole run, per seed."""


@dataclass(frozen=True, eq=False)
class History:
    """Runs with their thinned records. Columns are read when they are asked for, and kept."""

    runs: tuple[HistoryRun, ...]
    """The runs, by name."""
    rows: Rows = field(repr=False)
    """Where their records are."""
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Runs that could not be gathered, with the reason."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the records of any run."""
        return tuple(name for name in self.rows.schema.names if name not in KEYS)

    def where(self, **settings: Any) -> History:
        """Select the runs that have these settings.

        Args:
            settings: a name of `HistoryRun.settings` and its value, or a tuple of values that will do. Names with a
                dot or a dash are given as `where(**{"pfo.coef": 10.0})`.

        Raises:
            UserError: no run has a setting of that name, which is then a typing error (but for a remedy's, which runs
                without that remedy do not have).
        """
        known = {name for run in self.runs for name in run.settings}
        for name in settings:
            if known and name not in known and "." not in name:
                near = ", ".join(difflib.get_close_matches(name, known, n=3) or sorted(known)[:5])
                require(False, "setting", name, f"a setting of the runs, such as {near}")
        chosen = (run for run in self.runs if all(_fits(run, *item) for item in settings.items()))
        return History(tuple(chosen), self.rows, self.left_out)

    def values(self, run: HistoryRun, column: str) -> Curves:
        """Give a numeric column of a run, its seeds side by side.

        Args:
            run: one of the runs.
            column: a column of the records, such as "perf/return_mean". One that the run never recorded gives curves
                without points.

        Raises:
            UserError: the column holds text.
        """
        found = self.rows.schema.field(column).type if column in self.rows.schema.names else pa.float32()
        require(not pa.types.is_dictionary(found), "column", column, "a column of numbers")
        values, recorded = self.rows.column(run.name, column)
        steps, seeds = (self.rows.column(run.name, key)[0] for key in ("env_steps", "seed"))
        recorded = recorded & np.isin(seeds, run.seeds)
        points, at = np.unique(steps[recorded], return_inverse=True)
        member = {seed: index for index, seed in enumerate(run.seeds)}
        whose = np.array([member[int(seed)] for seed in seeds[recorded]], int)
        curves = np.full((len(run.seeds), points.size), np.nan)
        curves[whose, at] = values[recorded]
        return Curves(points.astype(np.float64), curves)

    def updated(self, newer: History) -> History:
        """The runs of both histories; of a run that both have, the newer state, unless the older one is further.

        So a history that is kept with a study grows from sitting to sitting, though the runs themselves are gone with
        the machine that trained them.

        Args:
            newer: gathered later.

        Example:
            >>> old, new = (History.from_arrays([RunArrays(name, {}, (1,), [1.0], {"x": [[2.0]]})]) for name in "ab")
            >>> [run.name for run in old.updated(new).runs]
            ['a', 'b']
        """
        old, new = ({run.name: run for run in history.runs} for history in (self, newer))
        further = {n for n in old.keys() & new.keys() if _progress(self, old[n]) > _progress(newer, new[n])}
        kept = further | (old.keys() - new.keys())
        chosen = [(run, self.rows) for run in self.runs if run.name in kept]
        chosen += [(run, newer.rows) for run in newer.runs if run.name not in kept]
        schema = union([self.rows.schema, newer.rows.schema])
        tables = [rows.table(run.name, rows.schema.names) for run, rows in chosen]
        return _history(TableRows.of(tables, schema), [_entry_of(run) for run, _ in chosen], newer.left_out)

    @classmethod
    def from_table(cls, table: pa.Table) -> History:
        """Make a history of a table with the columns run, spec (a spec.json's text), seed, env_steps, and numbers."""
        return _history(TableRows(table), (), {})

    @classmethod
    def from_arrays(cls, runs: Sequence[RunArrays]) -> History:
        """Make a history of arrays: of runs of another library, or made up. They are thinned as runs of ours are.

        Raises:
            UserError: two runs of one name, a seed or a step that a run has twice, or arrays of another shape.

        Example:
            >>> steps, returns = [10.0, 20.0], np.array([[1.0, 2.0], [3.0, 4.0]])
            >>> run = RunArrays("a", {"task": "T", "remedy": "none"}, (1, 2), steps, {"perf/return_mean": returns})
            >>> history = History.from_arrays([run])
            >>> history.values(history.where(task="T").runs[0], "perf/return_mean").values.tolist()
            [[1.0, 2.0], [3.0, 4.0]]
        """
        tables, entries = [], []
        names = [run.name for run in runs]
        for run in runs:
            require(names.count(run.name) == 1, "runs", run.name, "of different names: it is given twice")
            tables.append(_table(run))
            total = int(max(run.steps, default=0))
            entries.append(Entry(run.name, dict(run.settings), tuple(run.seeds), "finished", total))
        schema = union(table.schema for table in tables)
        return _history(TableRows.of(tables, schema), entries, {})


def read_history(path: Any) -> History:
    """Read a history.

    Args:
        path: the Parquet file, or a store (its folder) that holds one in _study/history.parquet.

    Raises:
        UserError: it is missing, damaged, or not a history.
    """
    rows = FileRows(history_path(path))
    return _history(rows, rows.entries, rows.left_out)


def write_history(history: History, path: str | Path, columns: Sequence[str] | None = None) -> Path:
    """Write a history, or some columns of it, to a Parquet file (atomically).

    Args:
        history: for instance some runs of a larger one.
        path: the file.
        columns: columns of the records; by default all.

    Raises:
        UserError: an unknown column, or the file cannot be written.
    """
    for column in columns or ():
        near = ", ".join(difflib.get_close_matches(column, history.columns, n=3) or history.columns[:3])
        require(column in history.columns, "columns", column, f"a column of the records, such as {near}")
    kept = [*KEYS, *(history.columns if columns is None else sorted(set(columns)))]
    schema = pa.schema([history.rows.schema.field(name) for name in kept])
    entries = [_entry_of(run) for run in history.runs]
    tables = (history.rows.table(run.name, kept) for run in history.runs)
    write_history_file(Path(path), schema, entries, tables, history.left_out)
    return Path(path)


def _history(rows: Rows, entries: Sequence[Entry], left_out: Mapping[str, str]) -> History:
    known = {entry.name: entry for entry in entries}
    runs = []
    for name, text in rows.specs.items():
        document = _document(name, text)
        entry = known.get(name) or _entry(name, document, rows)
        settings = {key: frozen(value) for key, value in entry.settings.items()}
        runs.append(HistoryRun(name, document["spec"], settings, entry.seeds, entry.state, entry.steps_total))
    return History(tuple(sorted(runs, key=lambda run: run.name)), rows, left_out)


def _progress(history: History, run: HistoryRun) -> tuple[bool, float]:
    """Whether a run has ended, and how far its records go: what tells which of two states of it is the further one."""
    steps, _ = history.rows.column(run.name, "env_steps")
    return has_ended(history, run), float(np.max(steps, initial=0))


def _entry_of(run: HistoryRun) -> Entry:
    return Entry(run.name, dict(run.settings), run.seeds, run.state, run.steps_total)


def _entry(name: str, document: Mapping[str, Any], rows: Rows) -> Entry:
    """What the rows and the spec say of a run of a file that another program has written."""
    seeds = document["spec"].get("seeds") or sorted({int(seed) for seed in rows.column(name, "seed")[0]})
    total = max(rows.column(name, "env_steps")[0].tolist(), default=0)
    return Entry(name, flat_settings(document), tuple(seeds), "", total)


def _document(name: str, text: str) -> Mapping[str, Any]:
    try:
        document = json.loads(text)
        if isinstance(document["spec"], dict) and isinstance(document["job"], str):
            return document
    except (ValueError, KeyError, TypeError):
        pass
    raise UserError(f"spec of run {name!r} is not a spec.json's text; the file is not a history or damaged")


def _fits(run: HistoryRun, name: str, wanted: Any) -> bool:
    value, wanted = run.settings.get(name), frozen(wanted)
    return value == wanted or (isinstance(wanted, tuple) and value in wanted)


def _table(run: RunArrays) -> pa.Table:
    """The rows of a run given by arrays."""
    steps: Int[np.ndarray, " points"] = np.asarray(run.steps).astype(np.int64)
    for name, found in (("seeds", run.seeds), ("steps", steps)):
        values, counts = np.unique(found, return_counts=True)
        twice = values[counts > 1].tolist()
        require(not twice, f"{name} of run {run.name}", twice[:1], "whole numbers, each given once")
    columns = {
        "seed": np.repeat(np.asarray(run.seeds, np.int64), steps.size),
        "env_steps": np.tile(steps, len(run.seeds)),
        "batch": np.tile(np.arange(steps.size), len(run.seeds)),
    }
    for name, values in run.columns.items():
        values = np.asarray(values, np.float64)
        require(
            values.shape == (len(run.seeds), steps.size),
            f"column {name} of run {run.name}: shape",
            values.shape,
            f"seeds × points, ({len(run.seeds)}, {steps.size})",
        )
        columns[name] = values.ravel()
    text = json.dumps({"job": str(run.settings.get("job", "arrays")), "spec": {"seeds": list(run.seeds)}})
    return thin(pa.table(columns), run.name, text, int(max(run.steps, default=0)))
