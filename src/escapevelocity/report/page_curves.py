"""Curves of runs and of a study's cells as charts: a thin line per seed, the interquartile mean with its interval."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from escapevelocity.health.diagnosis import RunDiagnosis
from escapevelocity.report._curves import (
    by_seed,
    frozen_at,
    moving_average,
    newest_weight,
    require_records,
    thinned,
)
from escapevelocity.report._marks import Mark as Onset
from escapevelocity.report._marks import onset_marks, panel_marks
from escapevelocity.report._panels import Panel
from escapevelocity.report._shown import first_rows, first_values, layer_width
from escapevelocity.report.asr import heat_of
from escapevelocity.report.charts import Chart, HeatMap, Line, Mark, healthy_range, metric_help, thin
from escapevelocity.report.page_middle import (
    frozen_marks,
    held,
    interquartile_band,
    interquartile_mean,
    middle_name,
)
from escapevelocity.runs import Run

FEW = 200
"""Up to so many points a seed is drawn as recorded alone: noise hides nothing yet."""
_SMOOTH = 200
"""Points of a smoothed seed: it has no peaks of a single point."""
_HEAT = (
    "Share of the negatives that the controller asks for at each distance from the anchor, over training; the mean over"
    " seeds, on a logarithmic scale. A narrow start is a thin stripe, a broad one a wide one."
)
_TITLES = {"asr": "training steps"}


class SeedCurves(NamedTuple):
    """A column, its seeds side by side."""

    steps: Float[np.ndarray, " points"]
    """Increasing."""
    seeds: tuple[int, ...]
    values: Float[np.ndarray, "seeds points"]
    """NaN where it is undefined."""


class Traced(NamedTuple):
    """A run, or a cell of a study: what is drawn in one colour."""

    label: str
    group: int
    read: Callable[[str], SeedCurves]
    """Gives a column."""
    total: float
    """Environment steps of the whole run."""
    width: int | None = None
    """Units of the penultimate layer."""
    starts: Mapping[str, float] = {}
    """Where the columns with a healthy range began."""
    onsets: tuple[Onset, ...] = ()
    """Onsets of the signs of its diagnosis."""
    leaves: float | None = None
    """Of a branch beside its parent: the step at which they part; what lies before is drawn once, as the parent's."""
    frozen: Mapping[int, float] = {}
    """By seed, the step at which a fault froze it while others went on."""
    behind: Mapping[int, float] = {}
    """Of a cell, by seed, how far its run is, where others are further."""


def traced_run(
    run: Run,
    label: str,
    group: int,
    diagnosis: RunDiagnosis | None = None,
    leaves: float | None = None,
) -> Traced:
    """Make a run ready to be drawn; a branch begins with the past that it shares with its parent.

    Args:
        run: the run.
        label: what it is called.
        group: its place on the page.
        diagnosis: whose onsets are marked.
        leaves: of a branch that is drawn beside its parent, the step at which they part.

    Raises:
        UserError: a run without records, or damaged ones.
    """
    records = require_records(run)

    def read(column: str) -> SeedCurves:
        found = by_seed(records, column)
        return SeedCurves(found.steps, tuple(found.seeds.tolist()), found.values)

    total = float(run.status.steps_total or max(records["env_steps"].to_pylist()))
    onsets = () if diagnosis is None else tuple(onset_marks(diagnosis))
    starts = first_values(first_rows(records))
    return Traced(
        label, group, read, total, layer_width(run.spec), starts, onsets, leaves, frozen_at(records)
    )


def charts_of(
    traced: Sequence[Traced],
    panels: Sequence[Panel],
    job: str,
    prefix: str = "",
    seeds: bool = True,
) -> list[Chart]:
    """Draw the panels of some runs or cells.

    Args:
        traced: the runs, in order of their groups.
        panels: what to draw.
        job: the runs' job, which says what a step is.
        prefix: begins the charts' names, where a page has several sets.
        seeds: whether each seed is a thin line of its own.
    """
    panels = [one for panel in panels for one in _single(panel)]
    marks = [panel_marks(one.onsets, panels) for one in traced]
    charts = []
    for index, panel in enumerate(panels):
        lines = [line for one in traced for line in _lines(one, panel, seeds, len(traced) > 1)]
        found = tuple(
            Mark(mark.step, str(mark.sign), one.group)
            for one, own in zip(traced, marks, strict=True)
            for mark in own[index]
            if one.leaves is None or mark.step > one.leaves
        )
        found += tuple(
            mark
            for one in traced
            for mark in frozen_marks(one.frozen, one.group)
            if one.leaves is None or mark.x > one.leaves
        )
        found += tuple(Mark(one.leaves, "branch", one.group) for one in traced if one.leaves is not None)
        charts.append(
            Chart(
                id=f"{prefix}{panel.columns[0].replace('/', '-')}",
                title=panel.title,
                unit=panel.unit,
                help=metric_help(panel.columns[0]),
                lines=tuple(lines),
                healthy=_healthy(panel.columns[0], traced),
                log=panel.scale == "log",
                marks=found,
                x_title=_TITLES.get(job, "environment steps"),
                legend=False,
            )
        )
    return charts


def heat_charts(runs: Sequence[tuple[Run, str]], prefix: str = "distribution-") -> list[Chart]:
    """Map the sampling distribution of every run of adaptive sampling that has one, over training."""
    charts = []
    for index, (run, label) in enumerate(runs):
        heat = heat_of(run) if run.job == "asr" else None
        if heat is None:
            continue
        middles = (heat.distances[1:] + heat.distances[:-1]) / 2
        columns = np.unique(np.linspace(0, heat.shares.shape[1] - 1, 150).astype(int))
        charts.append(
            Chart(
                id=f"{prefix}{index}",
                title=f"Distances drawn: {label}",
                unit="distance",
                help=_HEAT + "\n" + metric_help("asr/distribution"),
                lines=(),
                heat=HeatMap(
                    heat.steps[1:][columns].tolist(), middles.tolist(), np.asarray(heat.shares)[:, columns]
                ),
                x_title="training steps",
            )
        )
    return charts


def _single(panel: Panel) -> list[Panel]:
    """A panel for each column: on a page there is room, and no line needs a second name."""
    if len(panel.columns) == 1:
        return [panel]
    named = zip(panel.columns, panel.names, strict=True)
    return [
        replace(
            panel,
            title=f"Ratios {name}" if panel.ratios else f"{panel.title}: {name}",
            columns=(column,),
            names=(),
        )
        for column, name in named
    ]


def _lines(one: Traced, panel: Panel, seeds: bool, named: bool) -> list[Line]:
    """A run's lines in one panel: the middle with its band, and the seeds behind it as recorded."""
    found = one.read(panel.columns[0])
    if not found.steps.size:
        return []
    smooth = _smoothed(one, found)
    if one.leaves is not None:
        found, smooth = _after(found, one.leaves), _after(smooth, one.leaves)
    lines = _seed_lines(one, found, smooth, named) if seeds else []
    whole = held(smooth.steps, smooth.seeds, smooth.values, {**one.behind, **one.frozen})
    name = one.label if named else _middle_name(found)
    return [*lines, _middle(name, one.group, smooth._replace(values=whole))]


def _after(found: SeedCurves, step: float) -> SeedCurves:
    """What follows a step, with the last point up to it, so that it joins what it branches from."""
    first = max(int(np.searchsorted(found.steps, step, side="right")) - 1, 0)
    return SeedCurves(found.steps[first:], found.seeds, found.values[:, first:])


def _seed_lines(one: Traced, found: SeedCurves, smooth: SeedCurves, named: bool) -> list[Line]:
    """Each seed, as recorded where that is few points; else smoothed too, which is what is seen at first."""
    lines = []
    for seed, own, smoothed in zip(found.seeds, found.values, smooth.values, strict=True):
        name = f"{one.label}, seed {seed}" if named else f"seed {seed}"
        noisy = found.steps.size > FEW
        lines.append(Line(name, one.group, found.steps, own, thin=True, raw=True if noisy else None))
        if noisy and len(found.seeds) > 1:  # A single seed's smoothed line is the thick one.
            kept = thin(smoothed, points=_SMOOTH)
            lines.append(Line(name, one.group, smooth.steps[kept], smoothed[kept], thin=True, raw=False))
    return lines


def _middle_name(found: SeedCurves) -> str:
    return "smoothed" if len(found.seeds) == 1 else middle_name([len(found.seeds)])


def _smoothed(one: Traced, found: SeedCurves) -> SeedCurves:
    """The seeds smoothed as in `ev plot`, each for itself."""
    chosen = thinned(found.steps, one.total)
    steps, values = found.steps[chosen], found.values[:, chosen]
    alpha = newest_weight(steps, one.total)
    return SeedCurves(steps, found.seeds, np.stack([moving_average(own, alpha) for own in values]))


def _middle(name: str, group: int, found: SeedCurves) -> Line:
    """The interquartile mean of smoothed seeds, with its interval."""
    steps, smooth = found.steps, found.values
    # Fewer points before the bootstrap than after: it takes as long as they are.
    kept = thin(interquartile_mean(smooth))
    middle, low, high = interquartile_band(smooth[:, kept])
    if len(found.seeds) < 2:
        return Line(name, group, steps[kept], middle)
    return Line(name, group, steps[kept], middle, low, high)


def _healthy(column: str, traced: Sequence[Traced]) -> tuple[float | None, float | None] | None:
    """The healthy range that holds for all of them; None where there is none, or they differ."""
    ranges = {healthy_range(column, one.width, one.starts.get(column)) for one in traced}
    return ranges.pop() if len(ranges) == 1 else None
