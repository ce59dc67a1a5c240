"""Draws panels of curves with matplotlib, without pyplot and its global state."""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import EngFormatter, FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

from escapevelocity.report._curves import Curve
from escapevelocity.report._marks import Mark, draw_marks, panel_marks
from escapevelocity.report._panels import Panel, Series

# Okabe & Ito (2008), told apart by people with any kind of colour blindness; black and yellow come last.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#F0E442")
_DASHES = ("-", "--", "-.", ":")
_PANELS_PER_ROW = 4
_STYLE = {
    "font.size": 9.0,
    "axes.titlesize": 9.5,
    "axes.labelsize": 9.0,
    "xtick.labelsize": 8.0,
    "ytick.labelsize": 8.0,
    "legend.fontsize": 8.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.5,
    "axes.axisbelow": True,
    "lines.linewidth": 1.5,
    "pdf.fonttype": 42,  # TrueType: journals refuse Type 3
    "savefig.dpi": 200,
}
_GREY = "#666666"


@contextmanager
def paper_style() -> Iterator[None]:
    """Set the fonts and lines, whatever the user's matplotlibrc says; put everything back afterwards."""
    with style.context(["default", _STYLE]):
        yield


def draw(
    panels: Sequence[Panel],
    series: Sequence[Series],
    caption: str,
    marks: Sequence[Mark] = (),
    steps: str = "environment steps",
) -> Figure:
    """Draw the panels, four a row, with every run and its marks in each; call it inside `paper_style`."""
    across = min(_PANELS_PER_ROW, len(panels))
    down = math.ceil(len(panels) / across)
    width = 2.35 * across if across > 1 else 4.0
    text = textwrap.fill(caption, int(width * 17), break_on_hyphens=False)
    legend = len(series) > 1
    below = 0.13 * (text.count("\n") + 1) + 0.12
    above = 0.28 * math.ceil(len(series) / _PANELS_PER_ROW) if legend else 0.05
    height = (1.75 * down + 0.15 if down > 1 else 2.3) + below + above
    inside = (0, below / height, 1, 1 - (below + above) / height)
    figure = Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(rect=inside, wspace=0.04))
    FigureCanvasAgg(figure)
    all_axes = figure.subplots(down, across, squeeze=False).flatten()
    marked = panel_marks(marks, panels)
    for index, (axes, panel) in enumerate(zip(all_axes, panels, strict=False)):
        _draw_panel(axes, panel, series)
        draw_marks(axes, marked[index], first_row=1 if panel.ratios else 0)
        if index + across >= len(panels):  # nothing below it
            axes.set_xlabel(steps)
    for axes in all_axes[len(panels) :]:
        axes.set_axis_off()
    write_caption(figure, text)
    if legend:
        handles = [
            all_axes[0].plot([], [], color=_color(i), linestyle=_dash(i))[0] for i in range(len(series))
        ]
        labels = [one.label for one in series]
        made = figure.legend(handles, labels, loc="upper center", ncols=min(len(series), 4), frameon=False)
        for label in made.get_texts():
            label.set_parse_math(False)
    return figure


def write_caption(figure: Figure, text: str, left: float = 0.008) -> None:
    """Write below everything what is shown. Names of runs are no formulas, whatever dollars they have.

    Args:
        figure: with room at its foot.
        text: in lines that fit.
        left: where it begins, as a share of the width.
    """
    figure.text(
        left,
        0.04 / figure.get_figheight(),  # Inches.
        text,
        fontsize=7.5,
        color="#444444",
        va="bottom",
        linespacing=1.25,
        parse_math=False,
    )


def encode(figure: Figure, kind: str) -> bytes:
    """Give the figure's file, the same bytes for the same figure. Call it inside `paper_style`.

    The panels are laid out once, for the first file. Every further layout would move them a little.
    """
    buffer = io.BytesIO()
    # PDF would carry the time of day, SVG too; the program's version is left out for the same reason.
    metadata = {"pdf": {"CreationDate": None}, "svg": {"Date": None}, "png": {"Software": None}}
    figure.savefig(buffer, format=kind, metadata=metadata[kind])
    figure.set_layout_engine("none")
    return buffer.getvalue()


def _draw_panel(axes: Axes, panel: Panel, series: Sequence[Series]) -> None:
    axes.set_title(panel.title)
    axes.set_ylabel(_unit(panel, series))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=(1, 2, 5, 10)))
    axes.set_xlim(0, max(one.steps for one in series))
    drawn: list[Curve] = []
    for index, one in enumerate(series):
        for column in panel.columns:
            curve = one.curves[column]
            if curve.is_measured and not np.isnan(curve.mean).all():
                curve = _within(curve) if panel.scale == "log" else curve
                _draw_curve(axes, curve, index)
                drawn.append(curve)
    if not drawn:
        measured = any(one.curves[column].is_measured for one in series for column in panel.columns)
        axes.text(
            0.5, 0.5, "undefined throughout" if measured else "not measured",
            transform=axes.transAxes, ha="center", va="center", color=_GREY,
        )  # fmt: skip
        axes.set_yticks([])
        axes.grid(False)
        return
    for step in sorted({one.leaves for one in series if one.leaves is not None}):
        axes.axvline(step, color=_GREY, linewidth=1.0, linestyle=":", zorder=1.5)
    if panel.of_width:
        _count_from_zero(axes, drawn)
    if panel.scale == "log":
        _use_log_scale(axes, drawn)
    if panel.ratios:
        _mark_ratios(axes, panel, series)


def _draw_curve(axes: Axes, curve: Curve, index: int) -> None:
    color = _color(index)
    # A single point between gaps would be invisible as a line.
    lonely = _isolated(curve.mean)
    axes.fill_between(curve.steps, curve.low, curve.high, color=color, alpha=0.2, linewidth=0)
    axes.plot(curve.steps, curve.mean, color=color, linestyle=_dash(index))
    axes.plot(
        curve.steps[lonely], curve.mean[lonely], color=color, marker="o", markersize=3, linestyle="none"
    )
    for steps, value in curve.ends:
        axes.plot([steps], [value], color=color, marker="x", markersize=5, linestyle="none")


def _isolated(values: np.ndarray) -> np.ndarray:
    there = np.pad(~np.isnan(values), 1)
    return there[1:-1] & ~there[:-2] & ~there[2:]


def _count_from_zero(axes: Axes, drawn: Sequence[Curve]) -> None:
    top = max(np.nanmax(curve.high) for curve in drawn)
    # Not exactly 0, or a line along it would be cut in half.
    axes.set_ylim(-0.03 * max(top, 1.0), 1.08 * max(top, 1.0))
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=(1, 2, 5, 10), integer=True))


_DRAWN = (1e-100, 1e100)
"""What a logarithmic axis shows: ratios may be enormous, and the margins of the axis must be finite."""


def _within(curve: Curve) -> Curve:
    """The curve with what lies beyond `_DRAWN` at its edge; 0 stays, which a logarithm does not show."""

    def clipped(values: np.ndarray) -> np.ndarray:
        return np.where(values > 0, np.clip(values, *_DRAWN), values)

    mean, low, high = (clipped(values) for values in (curve.mean, curve.low, curve.high))
    ends = tuple((steps, float(clipped(np.asarray(value)))) for steps, value in curve.ends)
    return replace(curve, mean=mean, low=low, high=high, ends=ends)


def _use_log_scale(axes: Axes, drawn: Sequence[Curve]) -> None:
    values = np.concatenate([x for curve in drawn for x in (curve.mean, curve.low, curve.high)])
    values = values[np.isfinite(values) & (values > 0)]
    if values.size == 0:  # zero throughout: a collapsed policy's variance, which a logarithm cannot show
        return
    axes.set_yscale("log")
    low, high = float(values.min()), float(values.max())
    margin = max((high / low) ** 0.06, 1.05)
    axes.set_ylim(low / margin, high * margin)
    if high / low < 100:
        steps = (1.0, 2.0, 5.0) if high / low > 4 else (1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0)
        axes.yaxis.set_major_locator(LogLocator(subs=steps))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    else:
        axes.yaxis.set_minor_formatter(NullFormatter())


def _mark_ratios(axes: Axes, panel: Panel, series: Sequence[Series]) -> None:
    """Mark 1 and 1 ± ε, which then lie inside the panel, and write which curve is which."""
    epsilons = {one.clip_epsilon for one in series if one.clip_epsilon is not None}
    for epsilon in sorted(epsilons):
        for bound in (1 + epsilon, 1 - epsilon):
            axes.axhline(bound, color=_GREY, linewidth=0.8, linestyle=(0, (4, 2)))
        low, high = axes.get_ylim()
        axes.set_ylim(min(low, 1 - epsilon), max(high, 1 + epsilon))
    low, high = axes.get_ylim()
    # Room for the names at top and bottom.
    if axes.get_yscale() == "log":
        room = (high / low) ** 0.15
        axes.set_ylim(low / room, high * room)
    else:  # No ratio but 0, which a logarithm does not show.
        room = 0.15 * (high - low)
        axes.set_ylim(low - room, high + room)
    axes.axhline(1.0, color=_GREY, linewidth=0.5)
    for name, height, align in zip(panel.names, (0.98, 0.02), ("top", "bottom"), strict=True):
        axes.text(0.03, height, name, transform=axes.transAxes, va=align, color=_GREY, fontsize=7.5)


def _unit(panel: Panel, series: Sequence[Series]) -> str:
    """Say out of how many, where the runs agree."""
    widths = {one.width for one in series}
    return (
        f"{panel.unit} (of {widths.pop()})"
        if panel.of_width and len(widths) == 1 and None not in widths
        else panel.unit
    )


def _color(index: int) -> str:
    return COLORS[index % len(COLORS)]


def _dash(index: int) -> str:
    return _DASHES[index // len(COLORS) % len(_DASHES)]
