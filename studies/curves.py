"""Learning curves of several seeds, as the studies' figures draw them."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from escapevelocity.study.windows import smoothed
from studies.measures import Lives


def draw_lives(axes: Axes, lives: Lives, color: str, label: str) -> None:
    """Draw mean and range over seeds, smoothed, against thousands of steps, and a cross where a seed has died."""
    if not np.isfinite(lives.values).any():
        return
    ends = np.where(np.isnan(lives.died), lives.total, lives.died)
    curve = smoothed(lives.steps, lives.values, lives.total, ends)
    axes.plot(curve.steps / 1e3, curve.mean, color=color, label=label)
    axes.fill_between(curve.steps / 1e3, curve.low, curve.high, color=color, alpha=0.15, lw=0)
    for step, value in curve.ends:
        axes.plot([step / 1e3], [value], "x", color=color, ms=5)


def scale(axes: Axes, name: str) -> None:
    """Set the scale of the vertical axis; a logarithmic one is labelled 1, 2, 5, 10, … in plain numbers."""
    axes.set_yscale(name)
    if name == "log":
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_locator(NullLocator())
