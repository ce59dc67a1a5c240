"""The well's measures over mean and standard deviation of the start, as heat maps with their numbers."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Float

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


class MeasureGrid(NamedTuple):
    """One measure over a grid of starts."""

    title: str
    unit: str
    values: Float[np.ndarray, "stds means"]
    """NaN where there is none."""
    diverging: bool = False
    """Whether 0 is the middle of the colours."""


def draw_wells(
    means: Sequence[float], stds: Sequence[float], grids: Sequence[MeasureGrid], caption: str
) -> Figure:
    """Draw a heat map for each measure; call it inside `paper_style`.

    Args:
        means: of the starts, the columns.
        stds: of the starts, the rows.
        grids: what is drawn.
        caption: below the maps.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    from escapevelocity.report._figure import write_caption

    across = min(3, len(grids))
    down = -(-len(grids) // across)
    width = across * max(2.6, 0.62 * len(means) + 1.3)
    text = textwrap.fill(caption, int(width * 16), break_on_hyphens=False)
    below = 0.13 * (text.count("\n") + 1) + 0.12
    height = down * max(1.9, 0.42 * len(stds) + 1.1) + below
    layout = ConstrainedLayoutEngine(rect=(0, below / height, 1, 1 - below / height))
    figure = Figure(figsize=(width, height), layout=layout)
    FigureCanvasAgg(figure)
    axes = figure.subplots(down, across, squeeze=False).flatten()
    for panel, grid in zip(axes, grids, strict=False):
        _draw_grid(panel, means, stds, grid)
    for panel in axes[len(grids) :]:
        panel.set_axis_off()
    write_caption(figure, text)
    return figure


def _draw_grid(axes: Axes, means: Sequence[float], stds: Sequence[float], grid: MeasureGrid) -> None:
    finite = grid.values[np.isfinite(grid.values)]
    largest = float(np.abs(finite).max(initial=0)) or 1.0
    low, high = (
        (-largest, largest) if grid.diverging else (float(finite.min(initial=np.inf, where=True)), largest)
    )
    low = min(low, high) if np.isfinite(low) else 0.0
    image = axes.imshow(
        grid.values, origin="lower", aspect="auto", vmin=low, vmax=high, cmap="RdBu" if grid.diverging else "viridis"
    )  # fmt: skip
    axes.set_xticks(range(len(means)), [f"{mean:g}" for mean in means])
    axes.set_yticks(range(len(stds)), [f"{std:g}" for std in stds])
    axes.set_xlabel("mean distance")
    axes.set_ylabel("standard deviation")
    axes.set_title(f"{grid.title} ({grid.unit})" if grid.unit else grid.title)
    axes.grid(False)
    for row, column in np.ndindex(grid.values.shape):
        value = grid.values[row, column]
        red, green, blue, _ = image.cmap(image.norm(value)) if np.isfinite(value) else (1.0, 1.0, 1.0, 1.0)
        dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.5  # ITU-R BT.601: brightness as it is seen.
        text = f"{value:.3g}" if np.isfinite(value) else "–"
        axes.text(
            column, row, text, ha="center", va="center", fontsize=7.5, color="white" if dark else "black"
        )


def grid_of(
    means: Sequence[float], stds: Sequence[float], values: Mapping[tuple[float, float], float]
) -> Float[np.ndarray, "stds means"]:
    """Lay values by (mean, std) out as the maps want them; NaN where there is none.

    Example:
        >>> grid_of([0.5, 1.0], [0.1], {(0.5, 0.1): 2.0})
        array([[ 2., nan]])
    """
    return np.array([[values.get((mean, std), np.nan) for mean in means] for std in stds], np.float64)
