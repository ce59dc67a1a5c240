"""Cells of a study for its report page: runs of the same settings put together, cells in groups that fit one chart."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from escapevelocity.report._panels import Panel, panels_of
from escapevelocity.report.page_curves import SeedCurves, Traced
from escapevelocity.study.ended import deaths
from escapevelocity.study.history import History, HistoryRun

REMEDY = "remedy"
_NO_REMEDY = "none"
_COLUMNS = {
    "ppo": (
        "perf/return_mean",
        "health/actor/feature_rank_pca",
        "health/actor/dead_neurons",
        "health/actor/preactivation_norm",
    ),
    "asr": ("test/recall_at_1", "test/nmi", "validation/recall_at_1", "asr/distance_mean"),
}
"""Fewer than of a single run: a study has these for each of its groups."""


class StudyCell(NamedTuple):
    """Runs with the same settings, which differ in their seeds."""

    settings: Mapping[str, Any]
    runs: tuple[HistoryRun, ...]

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds of all runs, each once."""
        return tuple(dict.fromkeys(seed for run in self.runs for seed in run.seeds))


class CellGroup(NamedTuple):
    """Cells that are held against each other: they differ in one thing."""

    title: str
    """What they have in common and other groups have not."""
    cells: tuple[StudyCell, ...]
    labels: tuple[str, ...]
    """What each is called within the group."""


def cells_of(runs: Sequence[HistoryRun]) -> list[StudyCell]:
    """Put runs of the same settings together, in the order of their first runs.

    Runs that share a seed as well are the same experiment twice: each has a cell of its own, so that neither hides the
    other.
    """
    cells: list[StudyCell] = []
    for run in runs:
        for index, cell in enumerate(cells):
            if cell.settings == run.settings and not set(cell.seeds) & set(run.seeds):
                cells[index] = cell._replace(runs=(*cell.runs, run))
                break
        else:
            cells.append(StudyCell(run.settings, (run,)))
    return cells


def varying(cells: Sequence[StudyCell]) -> dict[str, list[Any]]:
    """The settings in which the cells differ, each with its values in order of appearance."""
    names = dict.fromkeys(name for cell in cells for name in cell.settings)
    values = {name: list(dict.fromkeys(cell.settings.get(name) for cell in cells)) for name in names}
    return {name: found for name, found in values.items() if len(found) > 1}


def grouped(cells: Sequence[StudyCell]) -> list[CellGroup]:
    """Divide cells into groups that differ in one thing: the remedy where there are several, else the widest axis.

    What follows from that one thing, such as the fields of a remedy or the layers that it adds, makes no group.
    """
    free = varying(cells)
    axes = [name for name in free if "." not in name]
    if not axes:
        labels = [_field_label(cell, free) or "all runs" for cell in cells]
        return [CellGroup("", tuple(cells), _apart(labels, cells))] if cells else []
    line = REMEDY if REMEDY in axes else max(axes, key=lambda name: len(free[name]))
    others = [name for name in axes if name != line and not _follows(cells, name, line)]
    found: dict[tuple, list[StudyCell]] = {}
    for cell in cells:
        found.setdefault(tuple(cell.settings.get(name) for name in others), []).append(cell)
    groups = []
    for values, own in sorted(found.items(), key=lambda item: [_in_order(value) for value in item[0]]):
        title = ", ".join(f"{name} {told(value)}" for name, value in zip(others, values, strict=True))
        own.sort(key=lambda cell: _in_order(cell.settings.get(line)))
        if line == REMEDY:
            own.sort(key=lambda cell: cell.settings.get(REMEDY) != _NO_REMEDY)
        inner = varying(own)
        labels = [" ".join([_line_label(cell, line), _field_label(cell, inner)]).strip() for cell in own]
        groups.append(CellGroup(title, tuple(own), _apart(labels, own)))
    return groups


def traced_cell(history: History, cell: StudyCell, label: str, group: int) -> Traced:
    """Make a cell ready to be drawn, the seeds of its runs side by side.

    Args:
        history: holds its records.
        cell: the cell.
        label: what it is called.
        group: its colour.
    """

    def read(column: str) -> SeedCurves:
        parts = [(run.seeds, history.values(run, column)) for run in cell.runs]
        steps = np.unique(np.concatenate([curves.steps for _, curves in parts]))
        rows: dict[int, np.ndarray] = {}
        for seeds, curves in parts:
            for seed, own in zip(seeds, curves.values, strict=True):
                rows.setdefault(seed, np.full(steps.size, np.nan))[np.searchsorted(steps, curves.steps)] = own
        return SeedCurves(steps, tuple(rows), np.stack(list(rows.values())))

    hidden = cell.settings.get("hidden")
    width = int(hidden[-1]) if isinstance(hidden, tuple) and hidden else None
    total = float(max(run.steps_total for run in cell.runs) or 1)
    frozen, behind = _ends(history, cell)
    return Traced(label, group, read, total, width, frozen=frozen, behind=behind)


def _ends(history: History, cell: StudyCell) -> tuple[dict[int, float], dict[int, float]]:
    """By seed, where those end that do so before others of the cell: the frozen ones, and those of runs that are less
    far.
    """
    last = {
        run.name: float(history.rows.column(run.name, "env_steps")[0].max(initial=0)) for run in cell.runs
    }
    furthest = max(last.values())
    died = [
        (seed, float(step))
        for run in cell.runs
        for seed, step in zip(run.seeds, deaths(history, run), strict=True)
    ]
    frozen = {seed: step for seed, step in died if step < furthest}
    behind = {seed: last[run.name] for run in cell.runs for seed in run.seeds if last[run.name] < furthest}
    return frozen, behind


def study_panels(job: str) -> list[Panel]:
    """The panels that a group of cells gets."""
    wanted = _COLUMNS.get(job, _COLUMNS["ppo"])
    panels = [panel for panel in panels_of(job) if len(panel.columns) == 1]
    return [panel for column in wanted for panel in panels if panel.columns[0] == column]


def told(value: Any) -> str:
    """Write a setting's value."""
    if isinstance(value, tuple):
        return " ".join(map(told, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _in_order(value: Any) -> list[tuple[bool, float, str]]:
    """Sorts numbers by size, also within text: normal(0.5,0.4) before normal(1.2,0.4)."""
    pieces = re.split(r"(\d+(?:\.\d+)?(?:e[+-]?\d+)?)", told(value))
    return [
        (index % 2 == 0, float(piece) if index % 2 else 0.0, piece)
        for index, piece in enumerate(pieces)
        if piece
    ]


def _apart(labels: Sequence[str], cells: Sequence[StudyCell]) -> tuple[str, ...]:
    """Tell cells of the same settings apart by their first runs."""
    return tuple(
        label if list(labels).count(label) == 1 else f"{label}: {cell.runs[0].name}"
        for label, cell in zip(labels, cells, strict=True)
    )


def _follows(cells: Sequence[StudyCell], name: str, line: str) -> bool:
    """Whether a setting's value is known once that of the line is."""
    pairs = {(cell.settings.get(line), cell.settings.get(name)) for cell in cells}
    return len(pairs) == len({first for first, _ in pairs})


def _line_label(cell: StudyCell, line: str) -> str:
    value = told(cell.settings.get(line))
    return ("no remedy" if value == _NO_REMEDY else value) if line == REMEDY else f"{line} {value}"


def _field_label(cell: StudyCell, free: Mapping[str, Sequence[Any]]) -> str:
    """Fields of its remedies in which it differs from another cell that has the same remedies."""
    given = [
        f"{name.split('.', 1)[1]} {told(cell.settings[name])}"
        for name, values in free.items()
        if "." in name and name in cell.settings and sum(value is not None for value in values) > 1
    ]
    return f"({', '.join(given)})" if given else ""
