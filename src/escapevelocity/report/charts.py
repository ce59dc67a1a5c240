"""Charts of the web pages as values, and as JSON for `web/charts-figure.js`; thinned without losing an extreme."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from escapevelocity.errors import UserError, require
from escapevelocity.health import metric
from escapevelocity.report._metric_words import METRIC_WORDS
from escapevelocity.report._shown import write_number

POINTS = 400
"""About so many points of a line are kept: a chart is some 400 pixels wide, and each may show a high and a low."""
_DIGITS = 5
"""Significant digits that are kept: a pixel is worth three."""
# JSON in a <script> must not end it, nor begin a comment; the last two end a line in older JavaScript.
_ESCAPES = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}


class Line(NamedTuple):
    """One curve, with its band where it has one; NaN where it is undefined."""

    name: str
    group: int
    """Index of its run (or cell): lines of one group share a colour, and are hidden together."""
    x: Float[np.ndarray, " points"] | Sequence[float]
    y: Float[np.ndarray, " points"] | Sequence[float]
    low: Float[np.ndarray, " points"] | Sequence[float] | None = None
    high: Float[np.ndarray, " points"] | Sequence[float] | None = None
    thin: bool = False
    """Whether it is a single seed's faint line."""
    raw: bool | None = None
    """Whether a thin line is as recorded or smoothed, where the chart has both and a person can choose."""


class Mark(NamedTuple):
    """A vertical line with a word, such as the onset of a sign."""

    x: float
    label: str
    group: int = 0


class HeatMap(NamedTuple):
    """Shares of a distribution over training, drawn on a logarithmic scale from 1e-4 to 1."""

    x: Sequence[float]
    """Steps, one for each column."""
    y: Sequence[float]
    """Middles of the bins, one for each row."""
    z: Float[np.ndarray, "bins columns"]


class Chart(NamedTuple):
    """What one set of axes shows."""

    id: str
    """Identifies it within its page."""
    title: str
    unit: str
    """Label of the y axis."""
    help: str
    """What is shown: meaning, formula, healthy range; plain text."""
    lines: tuple[Line, ...]
    healthy: tuple[float | None, float | None] | None = None
    """Lowest and highest healthy value; None for an open end, or where no range is known."""
    log: bool = False
    """Whether the y axis is logarithmic."""
    marks: tuple[Mark, ...] = ()
    x_title: str = "environment steps"
    legend: bool = True
    """Whether the chart names its lines itself; off where the page does."""
    heat: HeatMap | None = None

    @property
    def has_raw(self) -> bool:
        """Whether there are seeds as recorded beside smoothed ones."""
        return any(line.raw for line in self.lines)


def thin(*curves: Float[np.ndarray, " points"], points: int = POINTS) -> Int[np.ndarray, " kept"]:
    """Choose points so that every peak and every dip is still drawn.

    The points are divided into stretches of equal length; of each, the least and the greatest value of every curve
    are kept, and one undefined point where all are undefined, so that a gap stays a gap. First and last are kept.

    Args:
        curves: one or more, values at the same steps, such as a mean and the ends of its band; NaN: undefined.
        points: about so many are kept of one curve; of several, more.

    Returns:
        Indices of the points, increasing.

    Raises:
        UserError: fewer than two points are wanted.

    Example:
        >>> values = np.zeros(1000)
        >>> values[637] = 5.0
        >>> 637 in thin(values, points=20)
        True
    """
    require(points >= 2, "points", points, "at least 2")
    size = curves[0].size
    if size <= points:
        return np.arange(size)
    stretches = max(1, points // 2)
    starts = np.linspace(0, size, stretches + 1).astype(int)
    kept = [np.array([0, size - 1])]
    for curve in curves:
        finite = np.isfinite(curve)
        for sign in (1.0, -1.0):
            # Undefined points never win, unless there is no other.
            ranked = np.where(finite, sign * np.where(finite, curve, 0.0), np.inf)
            kept.append(_argmins(ranked, starts))
    return np.unique(np.concatenate(kept))


def _argmins(values: Float[np.ndarray, " points"], starts: Int[np.ndarray, " edges"]) -> np.ndarray:
    """Index of the least value of each stretch."""
    long = int(np.diff(starts).max())
    at = starts[:-1, None] + np.arange(long)
    inside: Bool[np.ndarray, "stretches long"] = at < starts[1:, None]
    padded = np.where(inside, values[np.minimum(at, values.size - 1)], np.inf)
    return starts[:-1] + np.argmin(padded, axis=1)


def thinned_line(line: Line, points: int = POINTS) -> Line:
    """Thin a line together with its band; see `thin`."""
    x, y = np.asarray(line.x, np.float64), np.asarray(line.y, np.float64)
    low, high = (None if end is None else np.asarray(end, np.float64) for end in (line.low, line.high))
    kept = thin(y, *(end for end in (low, high) if end is not None), points=points)
    cut = [None if end is None else end[kept] for end in (low, high)]
    return line._replace(x=x[kept], y=y[kept], low=cut[0], high=cut[1])


def chart_json(chart: Chart, points: int = POINTS) -> dict[str, Any]:
    """Give a chart as the JSON values that `evCharts.draw` takes: lines thinned, numbers rounded, NaN as null."""
    lines = [thinned_line(line, points) for line in chart.lines]
    heat = chart.heat
    return {
        "id": chart.id,
        "title": chart.title,
        "unit": chart.unit,
        "x_title": chart.x_title,
        "help": chart.help,
        "summary": chart_summary(chart),
        "healthy": None if chart.healthy is None else _numbers(chart.healthy),
        "log": chart.log,
        "legend": chart.legend,
        "series": [
            {
                "name": line.name,
                "group": line.group,
                "x": _numbers(line.x, digits=12),
                "y": _numbers(line.y),
                "low": None if line.low is None else _numbers(line.low),
                "high": None if line.high is None else _numbers(line.high),
                "thin": line.thin,
                "raw": line.raw,
            }
            for line in lines
        ],
        "marks": [{"x": mark.x, "label": mark.label, "group": mark.group} for mark in chart.marks],
        "heat": None
        if heat is None
        else {"x": _numbers(heat.x), "y": _numbers(heat.y), "z": [_numbers(row) for row in heat.z]},
    }


def chart_summary(chart: Chart) -> str:
    """Say in words what a chart shows, for whoever cannot see it: from where to where every line goes.

    Example:
        >>> line = Line("a", 0, [1.0, 2.0, 3.0], [5.0, 9.0, 2.0])
        >>> chart_summary(Chart("r", "Return", "reward", "", (line,)))
        'a from 5 to 2, lowest 2, highest 9.'
    """
    said = []
    for line in chart.lines:
        values = np.asarray(line.y, np.float64)
        values = values[np.isfinite(values)]
        if line.thin or not values.size:
            continue
        first, last, low, high = (
            write_number(float(v)) for v in (values[0], values[-1], values.min(), values.max())
        )
        said.append(f"{line.name} from {first} to {last}, lowest {low}, highest {high}")
    marks = [f"{mark.label} at {mark.x:,.0f}" for mark in chart.marks]
    if chart.heat is not None:
        return "A map of shares by bin and step."
    if not said:
        return "Not measured."
    return "; ".join(said) + "." + (f" Marked: {', '.join(marks)}." if marks else "")


def embedded(value: Any) -> str:
    """Write JSON for a `<script type="application/json">`: whatever the text, it cannot end the script.

    Raises:
        ValueError: a number that is not finite.

    Example:
        >>> print(embedded("</script>"))
        "\\u003c/script\\u003e"
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character, escape in _ESCAPES.items():
        text = text.replace(character, escape)
    return text


def metric_help(column: str) -> str:
    """Explain a column of the records to somebody who has not met it: meaning, formula, healthy range, source.

    A column that the table of metrics does not have is explained by its name alone.

    Example:
        >>> metric_help("trust/kl").splitlines()[0]
        'How far one update moved the policy. Small steps are safe; a rise says that updates get out of hand.'
    """
    try:
        found = metric(column)
    except UserError:
        return f"The column {column} of the records."
    words = METRIC_WORDS.get(column, "")
    healthy = "no range is known" if found.healthy is None else str(found.healthy)
    lines = [
        *([words] if words else []),
        f"Formula: {found.formula}.",
        f"Measured over: {found.window}.",
        f"Healthy: {healthy}; {found.why}.",
        f"Source: {found.source}; column {column}.",
    ]
    return "\n".join(lines).replace("`", "")


def healthy_range(
    column: str, width: int | None = None, start: float | None = None
) -> tuple[float | None, float | None] | None:
    """Give the lowest and highest healthy value of a column; None where no range is known.

    Args:
        column: column of the records.
        width: units of the layer, None when unknown: bounds that are shares of it are then unknown too.
        start: the run's first value, where it is known.

    Example:
        >>> healthy_range("health/actor/dead_neurons", width=64)[0] is None
        True
    """
    try:
        healthy = metric(column).healthy
        if healthy is None:
            return None
        low, high = healthy.bounds(width, start)
    except UserError:
        return None
    return (None if math.isinf(low) else low, None if math.isinf(high) else high)


def _numbers(values: Any, digits: int = _DIGITS) -> list[float | int | None]:
    return [_number(value, digits) for value in np.asarray(values, np.float64).tolist()]


def _number(value: float, digits: int) -> float | int | None:
    if not math.isfinite(value):
        return None
    rounded = float(f"{value:.{digits}g}")
    return int(rounded) if rounded.is_integer() and abs(rounded) < 1e15 else rounded
