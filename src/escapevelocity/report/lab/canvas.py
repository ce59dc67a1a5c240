"""What all figures of the lab share: a figure without pyplot, a caption below, colours by method, columns as arrays."""

import textwrap
from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from escapevelocity.lab.experiments.experiment import Columns, Findings
from escapevelocity.report._figure import COLORS, write_caption

Draw = Callable[[Any, Findings], dict[str, Figure]]
"""(experiment, findings) -> figures by name; the main one's name is ""."""

_CAPTION_COLUMNS_PER_INCH = 17


def new_figure(width: float | int, height: float | int, caption: str = "") -> Figure:
    """Make an empty figure, in inches, with the caption below and a layout that keeps everything apart."""
    text = textwrap.fill(caption, int(width * _CAPTION_COLUMNS_PER_INCH), break_on_hyphens=False)
    below = 0.13 * (text.count("\n") + 1) + 0.12 if caption else 0.0
    whole = height + below
    layout = ConstrainedLayoutEngine(rect=(0, below / whole, 1, 1 - below / whole), wspace=0.05, hspace=0.06)
    figure = Figure(figsize=(width, whole), layout=layout)
    FigureCanvasAgg(figure)
    write_caption(figure, text)
    return figure


def panels(figure: Figure, rows: int, columns: int, **keywords: Any) -> list[Axes]:
    """Make a grid of axes and return them row by row."""
    return list(figure.subplots(rows, columns, squeeze=False, **keywords).flatten())


def color(index: int) -> str:
    """The colour of the index-th series; told apart by people with any kind of colour blindness."""
    return COLORS[index % len(COLORS)]


def select(columns: Columns, **values: Any) -> dict[str, np.ndarray]:
    """Return the rows in which every named column has the given value.

    Example:
        >>> select({"p": [2, 3], "steps": [13, 38]}, p=3)["steps"]
        array([38])
    """
    arrays = {name: np.asarray(column) for name, column in columns.items()}
    rows = np.ones(len(next(iter(arrays.values()))), bool)
    for name, value in values.items():
        rows &= arrays[name] == value
    return {name: column[rows] for name, column in arrays.items()}


def distinct(columns: Columns, name: str) -> list[Any]:
    """The values of a column, each once, in order of appearance."""
    return list(dict.fromkeys(np.asarray(columns[name]).tolist()))


def legend_beside(axes: Axes, title: str | None = None) -> None:
    """Put the legend to the right of the axes, where it hides nothing."""
    axes.legend(title=title, loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False, borderaxespad=0)
