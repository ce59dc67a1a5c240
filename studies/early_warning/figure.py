"""leads.png: when each run was warned of, and when it collapsed."""

from pathlib import Path

import numpy as np
import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from escapevelocity.report._figure import COLORS, paper_style
from studies.early_warning.table import CHOOSING, UNSEEN, floats

_BLUE, _ORANGE, _GREY = COLORS[0], COLORS[1], "#999999"
_GAP = 1.5
"""Rows between tasks."""


def draw_leads(table: pa.Table, path: Path) -> None:
    """Draw the runs that had no say in the choice, one line each: the collapsed ones, and the others."""
    told = table.filter(pa.array([half != CHOOSING for half in table["half"].to_pylist()]))
    with paper_style():
        figure = Figure(figsize=(7.2, 5.6), layout="constrained")
        FigureCanvasAgg(figure)
        left, right = figure.subplots(1, 2, sharex=True)
        _draw(left, told, collapsed=True)
        _draw(right, told, collapsed=False)
        left.set_title("runs that collapsed")
        right.set_title("runs that did not")
        handles = [
            left.plot([], [], "o", color=_BLUE, label="warning in time, and its lead", ms=4)[0],
            left.plot([], [], "o", color=_ORANGE, label="warning too late, or false alarm", ms=4)[0],
            left.plot([], [], "|", color="black", label="collapse", ms=7, mew=1.5)[0],
            left.plot([], [], "x", color=_GREY, label="no warning", ms=4)[0],
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False)
        figure.savefig(path, metadata={"Software": None})


def _draw(axes: Axes, table: pa.Table, collapsed: bool) -> None:
    own = table.filter(pa.array([value == collapsed for value in table["collapsed"].to_pylist()]))
    tasks, halves = np.array(own["task"].to_pylist()), np.array(own["half"].to_pylist())
    onset = 100 * floats(own, "onset") / floats(own, "steps")
    warning = 100 * floats(own, "warning") / floats(own, "steps")
    row, middles, names = 0.0, [], []
    for task in dict.fromkeys(table["task"].to_pylist()):
        runs = np.flatnonzero(tasks == task)
        key = onset if collapsed else warning
        runs = runs[np.argsort(np.nan_to_num(key[runs], nan=200), kind="stable")]
        for run in runs:
            _draw_run(axes, row, float(warning[run]), float(onset[run]))
            row += 1
        if len(runs):
            middles.append(row - (len(runs) + 1) / 2)
            note = "\n(never used)" if (halves[runs] == UNSEEN).any() else ""
            names.append(task.rsplit("-", 1)[0] + note)
            row += _GAP
    axes.set_yticks(middles, names)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.set_xlim(-3, 106)
    axes.set_ylim(row - _GAP + 0.5, -1)
    axes.set_xlabel("% of training")


def _draw_run(axes: Axes, row: float, warning: float, onset: float) -> None:
    in_time = warning < onset
    if np.isfinite(onset):
        axes.plot([onset], [row], "|", color="black", ms=7, mew=1.5, zorder=3)
    if not np.isfinite(warning):
        axes.plot([103], [row], "x", color=_GREY, ms=4, zorder=3, clip_on=False)
        return
    if in_time:
        axes.plot([warning, onset], [row, row], color=_BLUE, lw=1.2, zorder=2)
    axes.plot([warning], [row], "o", color=_BLUE if in_time else _ORANGE, ms=3.5, zorder=4)
