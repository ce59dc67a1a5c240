"""Stable rates: the share of runs that climb, and that arrive, against the learning rate."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator, PercentFormatter

from escapevelocity.lab.experiments.experiment import Columns, Findings
from escapevelocity.lab.experiments.stable_rate import SMOOTHNESS, STABLE_SHARE, StableRate
from escapevelocity.report.lab.canvas import color, distinct, legend_beside, new_figure, panels, select

_TITLES = {"monotone": "never fell", "converged": "converged"}
_MARKERS = "os^Dv<>PXph"


def draw(experiment: StableRate, findings: Findings) -> dict[str, Figure]:
    """Draw a column per number of actions: above, runs that never fell; below, runs that converged."""
    data = findings.tables[""]
    sizes = distinct(data, "num_actions")
    caption = (
        f"Exact gradients, {experiment.runs} bandits with rewards stretched to [0, 1] and random starts, "
        f"{experiment.steps} updates; escort with rate η‖θ‖²/p². Above: πᵀr fell in no update. Below: the last "
        f"sub-optimality is below {experiment.tolerance:g}. Bands: 95 % Wilson intervals; dotted: {STABLE_SHARE:.0%}; "
        f"dashed: 2/β = {2 / SMOOTHNESS:g}, below which smoothness makes softmax monotone."
    )
    figure = new_figure(2.5 * len(sizes) + 1.2, 4.4, caption)
    grid = panels(figure, 2, len(sizes), sharex=True, sharey=True)
    for i, (name, title) in enumerate(_TITLES.items()):
        for j, size in enumerate(sizes):
            axes = grid[i * len(sizes) + j]
            _draw_panel(axes, select(data, num_actions=size), name)
            axes.set_title(f"K = {size}: {title}")
            if i == 1:
                axes.set_xlabel("learning rate η")
            if j == 0:
                axes.set_ylabel("runs")
    legend_beside(grid[len(sizes) - 1])
    return {"": figure}


def _draw_panel(axes: Axes, data: Columns, name: str) -> None:
    for index, method in enumerate(distinct(data, "method")):
        rows = select(data, method=method)
        x, shade = rows["learning_rate"], color(index)
        axes.fill_between(x, rows[f"{name}_low"], rows[f"{name}_high"], color=shade, alpha=0.2, linewidth=0)
        style = {"color": shade, "marker": _MARKERS[index % len(_MARKERS)], "markersize": 3.5, "markevery": 4}
        axes.plot(x, rows[name], label=method, linewidth=1.2, **style)
    axes.axhline(STABLE_SHARE, color="#666666", linestyle=":", linewidth=0.8)
    axes.axvline(2 / SMOOTHNESS, color="#666666", linestyle="--", linewidth=0.8)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(LogLocator(base=16))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(
        FuncFormatter(lambda rate, _: f"{rate:g}" if rate >= 1 else f"1/{1 / rate:g}")
    )
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_ylim(-0.03, 1.03)
