"""Where the signs of a diagnosis begin, as marks on a figure's panels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from escapevelocity.health.diagnosis import RunDiagnosis
from escapevelocity.health.signs import SIGNS, Instrument, Sign
from escapevelocity.report._panels import Panel
from escapevelocity.report.diagnosis import is_ill

if TYPE_CHECKING:  # The web pages use the marks and draw nothing with matplotlib.
    from matplotlib.axes import Axes

_COLOR = "#A3123A"
_ROW = 0.085
"""Height of a label, as a share of the panel's."""


@dataclass(frozen=True)
class Mark:
    """The onset of one sign."""

    sign: Sign
    step: float
    """Median over the seeds that show it, in environment steps."""


def onset_marks(diagnosis: RunDiagnosis) -> list[Mark]:
    """Give the onsets of the signs that last in at least half of the seeds with the run's verdict, if it is ill."""
    if not is_ill(diagnosis.verdict):
        return []
    members = [member for member in diagnosis.members if member.verdict is diagnosis.verdict]
    marks = []
    for sign in Sign:
        steps = [o.step for member in members for o in member.onsets if o.sign is sign and o.ended is None]
        if 2 * len(steps) >= len(members):
            marks.append(Mark(sign, float(np.median(steps))))
    return sorted(marks, key=lambda mark: mark.step)


def panel_marks(marks: Sequence[Mark], panels: Sequence[Panel]) -> list[list[Mark]]:
    """Give every panel its marks: a sign goes where the first of its columns that is drawn is, KL to the ratios, and
    what has no panel to the first; without a panel there is nothing to mark.
    """
    if not panels:
        return []
    found: list[list[Mark]] = [[] for _ in panels]
    for mark in marks:
        columns, instrument = SIGNS[mark.sign].columns, SIGNS[mark.sign].instrument
        own = [i for column in columns for i, panel in enumerate(panels) if column in panel.columns]
        if not own and instrument is Instrument.KL:
            own = [i for i, panel in enumerate(panels) if panel.ratios]
        found[own[0] if own else 0].append(mark)
    return found


def draw_marks(axes: Axes, marks: Sequence[Mark], first_row: int = 0) -> None:
    """Draw a thin line at every onset, with its label beside it, each a row below the one before.

    Args:
        axes: the panel.
        marks: its marks.
        first_row: rows to leave free at the top, for what is written there.
    """
    left, right = axes.get_xlim()
    for row, mark in enumerate(marks, first_row):
        axes.axvline(mark.step, color=_COLOR, linewidth=0.8, zorder=1.5)
        beyond_middle = mark.step > (left + right) / 2
        axes.annotate(
            SIGNS[mark.sign].label,
            (mark.step, 0.98 - _ROW * row),
            xycoords=axes.get_xaxis_transform(),
            xytext=(-2 if beyond_middle else 2, 0),
            textcoords="offset points",
            ha="right" if beyond_middle else "left",
            va="top",
            fontsize=6.5,
            color=_COLOR,
            bbox={"facecolor": "white", "alpha": 0.75, "pad": 0.4, "edgecolor": "none"},
        )
