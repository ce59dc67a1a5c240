"""leads.png: when each run was warned of, and when it collapsed."""

from pathlib import Path

import numpy as np
import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from escapevelocity.report._figure import COLORS, paper_style
from studies.early_warning.table import UNSEEN, floats, had_no_say

_IN_TIME, _LATE, _DAMAGED, _QUIET = COLORS[0], COLORS[1], COLORS[4], "#999999"
_GAP = 1.5
"""Rows between tasks."""


def draw_leads(table: pa.Table, path: Path) -> None:
    """Draw the runs that had no say in the choice, one line each: the collapsed ones, and the others."""
    own = table.filter(pa.array(had_no_say(table)))
    with paper_style():
        figure = Figure(figsize=(7.2, 6.4), layout="constrained")
        FigureCanvasAgg(figure)
        left, right = figure.subplots(1, 2, sharex=True)
        _draw(left, own, ("collapsed",))
        _draw(right, own, ("damaged", "sound"))
        left.set_title("runs that collapsed")
        right.set_title("runs that did not")
        handles = [
            left.plot([], [], style, color=color, label=label, ms=size, mew=1.5 if style == "|" else None)[0]
            for style, color, label, size in (
                ("o", _IN_TIME, "warned in time, and the lead", 4),
                ("o", _LATE, "warned too late, or a sound run: false alarm", 4),
                ("o", _DAMAGED, "warned, and damaged", 4),
                ("|", "black", "collapse", 7),
                ("x", _QUIET, "no warning", 4),
            )
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False)
        figure.savefig(path, metadata={"Software": None})


def _draw(axes: Axes, table: pa.Table, outcomes: tuple[str, ...]) -> None:
    own = table.filter(pa.array([outcome in outcomes for outcome in table["outcome"].to_pylist()]))
    tasks, parts = np.array(own["task"].to_pylist()), np.array(own["part"].to_pylist())
    damaged = np.array(own["outcome"].to_pylist()) == "damaged"
    onset = 100 * floats(own, "onset") / floats(own, "steps")
    warning = 100 * floats(own, "warning") / floats(own, "steps")
    row, middles, names = 0.0, [], []
    for task in dict.fromkeys(table["task"].to_pylist()):
        runs = np.flatnonzero(tasks == task)
        key = onset if "collapsed" in outcomes else warning
        runs = runs[np.argsort(np.nan_to_num(key[runs], nan=200), kind="stable")]
        for run in runs:
            color = _DAMAGED if damaged[run] else _IN_TIME if warning[run] < onset[run] else _LATE
            _draw_run(axes, row, float(warning[run]), float(onset[run]), color)
            row += 1
        if len(runs):
            middles.append(row - (len(runs) + 1) / 2)
            note = "\n(never used)" if (parts[runs] == UNSEEN).any() else ""
            names.append(task.rsplit("-", 1)[0] + note)
            row += _GAP
    axes.set_yticks(middles, names)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.set_xlim(-3, 106)
    axes.set_ylim(row - _GAP + 0.5, -1)
    axes.set_xlabel("% of training")


def _draw_run(axes: Axes, row: float, warning: float, onset: float, color: str) -> None:
    if np.isfinite(onset):
        axes.plot([onset], [row], "|", color="black", ms=7, mew=1.5, zorder=3)
    if not np.isfinite(warning):
        axes.plot([103], [row], "x", color=_QUIET, ms=4, zorder=3, clip_on=False)
        return
    if warning < onset:
        axes.plot([warning, onset], [row, row], color=color, lw=1.2, zorder=2)
    axes.plot([warning], [row], "o", color=color, ms=3.5, zorder=4)
