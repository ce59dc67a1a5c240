"""The drawings that figures share: curves by arm in the house style, boxes, clouds of points, tables of numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from escapevelocity.report import _figure
from escapevelocity.report._curves import ALPHA, FROZEN, Curve
from escapevelocity.report._panels import Panel, Series
from escapevelocity.report.lab.canvas import color, legend_beside, new_figure, panels
from escapevelocity.study.papers.nrnt.members import Group, Readings

_GREY = "#666666"
SMOOTHED = (
    "Mean (line) and min–max (band) over the runs. Thinned to 0.1\u00a0% of the run, then an exponential moving "
    f"average (α = {ALPHA} per 0.1\u00a0%, not bias-adjusted) on each of mean, min and max."
)
LINE = (
    "One line per run. Thinned to 0.1 % of the run, then an exponential moving average "
    f"(α = {ALPHA} per 0.1 %, not bias-adjusted)."
)


@dataclass(frozen=True)
class Row:
    """Panels in which a set of arms is drawn; a figure may have several rows, such as one for each number of epochs.

    Attributes:
        groups: the arms; the same labels in every row.
        name: what tells it from the other rows; it is written at the row's left.
    """

    groups: Sequence[Group]
    name: str = ""


def draw_curves(shown: Sequence[Panel], rows: Sequence[Row], caption: str) -> Figure:
    """Draw every panel for each row, with all its arms; arms without runs keep their place in the legend."""
    drawn: list[Panel] = []
    curves: dict[str, dict[str, Curve]] = {one.label: {} for one in rows[0].groups}
    for row in rows:
        for place, panel in enumerate(shown):
            keys = tuple(f"{row.name}{column}" for column in panel.columns)
            unit = f"{row.name}\n{panel.unit}" if row.name and place == 0 else panel.unit
            drawn.append(replace(panel, unit=unit, columns=keys))
            for one in row.groups:
                pairs = zip(keys, panel.columns, strict=True)
                curves[one.label] |= {key: one.curve(column) for key, column in pairs}
    there = {one.label for row in rows for one in row.groups if one.runs}
    series = [_series(label, curves[label], rows, label in there) for label in curves]
    if any(curve.ends for own in curves.values() for curve in own.values()):
        caption = f"{caption} {FROZEN}"
    with _figure.paper_style():
        return _figure.draw(drawn, series, caption)


def draw_lines(shown: Sequence[Panel], lines: Mapping[str, Group], caption: str) -> Figure:
    """Draw single runs: a line each, by label."""
    rows = [Row([replace(one, label=label) for label, one in lines.items()])]
    return draw_curves(shown, rows, caption)


@dataclass(frozen=True)
class Boxes:
    """A panel of boxes: title, label of the axis, the numbers by label, and its scale."""

    title: str
    unit: str
    values: Mapping[str, Readings]
    scale: str = "linear"


def draw_boxes(shown: Sequence[Boxes], labels: Sequence[str], caption: str, across: int) -> Figure:
    """Draw a panel of boxes for each measure: quartiles and median, lines to the ends, a point for each run.

    Args:
        shown: the panels.
        labels: of the boxes, top to bottom.
        caption: below the figure.
        across: panels in a row.
    """
    down = -(-len(shown) // across)
    there = {label for boxes in shown for label, numbers in boxes.values.items() if numbers}
    with _figure.paper_style():
        figure = new_figure(2.6 * across + 1.2, (0.36 * len(labels) + 1.0) * down, caption)
        axes = panels(figure, down, across, sharey=True)
        for panel, boxes in zip(axes, shown, strict=True):
            panel.set_title(boxes.title)
            panel.set_xlabel(boxes.unit)
            found = [list(boxes.values.get(label, {}).values()) for label in labels]
            everything = [number for numbers in found for number in numbers]
            panel.use_sticky_edges = False  # A box that begins at 0 would cut its own points in half.
            if boxes.scale == "log" and everything and min(everything) > 0:
                log_axis(panel, "x", everything)
            if not everything:
                say(panel, "not measured")
                panel.set_xticks([])
                continue
            for place, (label, numbers) in enumerate(zip(labels, found, strict=True)):
                _draw_box(panel, place, numbers, "not measured" if label in there else "no run")
            if boxes.scale == "linear" and np.ptp(everything) == 0:
                _show_alone(panel, everything[0])
        axes[0].set_yticks(range(len(labels)), labels)
        axes[0].set_ylim(len(labels) - 0.4, -0.6)
    return figure


@dataclass(frozen=True)
class Cloud:
    """A panel of points: labels of its axes, and (x, y) by arm."""

    x: str
    y: str
    points: Mapping[str, tuple[np.ndarray, np.ndarray]]
    log: bool = False
    """Whether x is drawn on a logarithmic scale."""


def draw_clouds(clouds: Sequence[Cloud], caption: str, lines: Sequence[float] = ()) -> Figure:
    """Draw a panel of points for each cloud, a colour and a marker for each arm; dotted: the heights of `lines`."""
    with _figure.paper_style():
        figure = new_figure(2.7 * len(clouds) + 1.0, 2.5, caption)
        axes = panels(figure, 1, len(clouds), sharey=True)
        for panel, cloud in zip(axes, clouds, strict=True):
            panel.set_xlabel(cloud.x)
            values = np.concatenate([x[np.isfinite(x)] for x, _ in cloud.points.values()] or [np.zeros(0)])
            if not values.size:
                say(panel, "not measured")
            elif cloud.log and values.min() > 0:
                log_axis(panel, "x", values)
            for index, (label, (x, y)) in enumerate(cloud.points.items()):
                marker = "osD^v"[index % 5]
                label = label if x.size else f"{label} (no run)"
                panel.plot(
                    x, y, marker, color=color(index), label=label, markersize=3, alpha=0.55, markeredgewidth=0
                )
            if values.size and not cloud.log and np.ptp(values) == 0:
                _show_alone(panel, float(values[0]))
            for height in lines if values.size else ():
                panel.axhline(height, color=_GREY, linewidth=0.9, linestyle=":")
        axes[0].set_ylabel(clouds[0].y)
        legend_beside(axes[-1])
    return figure


@dataclass(frozen=True)
class Table:
    """A square of numbers between −1 and 1, NaN where undefined."""

    title: str
    values: np.ndarray


def draw_tables(tables: Sequence[Table], names: Sequence[str], across: int, caption: str) -> Figure:
    """Draw squares of numbers, `across` a row, coloured from −1 to 1; a dash where a number is undefined."""
    down = -(-len(tables) // across)
    with _figure.paper_style():
        figure = new_figure(2.45 * across, 2.6 * down, caption)
        for index, (axes, table) in enumerate(zip(panels(figure, down, across), tables, strict=False)):
            axes.imshow(np.ma.masked_invalid(table.values), cmap="RdBu", vmin=-1, vmax=1)
            for (row, column), value in np.ndenumerate(table.values):
                text = f"{value:.2f}".replace("-", "−") if np.isfinite(value) else "–"
                shade = "white" if np.isfinite(value) and abs(value) > 0.7 else "black"
                axes.text(column, row, text, ha="center", va="center", fontsize=7, color=shade)
            axes.set_title(table.title)
            axes.set_xticks(range(len(names)), names, rotation=40, ha="right", rotation_mode="anchor")
            axes.set_yticks(range(len(names)), names if index % across == 0 else [])
            axes.grid(False)
    return figure


def say(axes: Axes, text: str) -> None:
    """Write a short text in the middle of a panel that has nothing to show."""
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=_GREY)
    axes.grid(False)


def _show_alone(axes: Axes, value: float) -> None:
    """All at one place, such as no unit dead: matplotlib would show thousandths around it, also below 0."""
    axes.set_xlim(value - 1, value + 1)
    axes.set_xticks([value])


def log_axis(axes: Axes, which: str, values: Sequence[float] | np.ndarray) -> None:
    """Draw an axis on a logarithmic scale with plain numbers, and enough of them where the values span little."""
    low, high = float(np.min(values)), float(np.max(values))
    getattr(axes, f"set_{which}scale")("log")
    axis = getattr(axes, f"{which}axis")
    margin = max((high / low) ** 0.06, 1.05)
    getattr(axes, f"set_{which}lim")(low / margin, high * margin)
    span = high / low
    fine = (1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0)
    steps = (1.0,) if span > 100 else (1.0, 2.0, 5.0) if span > 12 else (1.0, 2.0, 3.0, 5.0, 7.0)
    steps = steps if span > 4 else fine
    axis.set_major_locator(LogLocator(subs=steps))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))


def _short(value: float) -> str:
    if abs(value) >= 1e6:
        return f"{value / 1e6:g}M"
    return f"{value / 1e3:g}k" if abs(value) >= 1e4 else f"{value:g}"


def _draw_box(axes: Axes, place: int, numbers: Sequence[float], nothing: str) -> None:
    """Draw the numbers of an arm; `nothing` is written where there is none."""
    if not numbers:
        axes.annotate(nothing, (0.02, place), xycoords=("axes fraction", "data"), va="center", color=_GREY)
        return
    shade = color(place)
    first, low, middle, high, last = np.quantile(numbers, (0, 0.25, 0.5, 0.75, 1))
    axes.plot([first, last], [place, place], color=shade, linewidth=1.0)
    # Boxes of constant values keep a width: their edge line.
    axes.barh(place, high - low, 0.55, left=low, facecolor="white", edgecolor="none", zorder=2.2)
    axes.barh(place, high - low, 0.55, left=low, facecolor=shade, edgecolor=shade, alpha=0.3, zorder=2.3)
    axes.plot([middle, middle], [place - 0.27, place + 0.27], color=shade, linewidth=2.0, zorder=2.4)
    spread = np.linspace(-0.15, 0.15, len(numbers)) if len(numbers) > 1 else np.zeros(1)
    axes.plot(numbers, place + spread, "o", color=shade, markersize=2.5, alpha=0.8, zorder=2.5)


def _series(label: str, curves: dict[str, Curve], rows: Sequence[Row], is_there: bool) -> Series:
    own = [run for row in rows for one in row.groups if one.label == label for run in one.runs]
    everything = [run for row in rows for one in row.groups for run in one.runs]
    ends = [curve.steps[-1] for curve in curves.values() if curve.steps.size]
    settings = (own or everything)[0].settings if everything else {}
    width = settings.get("hidden", (None,))[-1]
    shown = label if is_there else f"{label} (no run)"
    return Series(shown, curves, max(map(float, ends), default=1.0), settings.get("clip_epsilon"), width)
