"""Adaptive rates: the share of failed runs against the horizon."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator, PercentFormatter

from escapevelocity.lab.experiments._commitment import COMMITTED
from escapevelocity.lab.experiments.adaptive_rates import BASELINES, STARTS, AdaptiveRates
from escapevelocity.lab.experiments.experiment import Columns, Findings
from escapevelocity.report.lab.canvas import color, distinct, legend_beside, new_figure, panels, select

_MARKERS = "os^Dv<>P"


def draw(experiment: AdaptiveRates, findings: Findings) -> dict[str, Figure]:
    """Draw a row per start and learning rate, a column per baseline."""
    data = findings.tables[""]
    rates = distinct(data, "learning_rate")
    caption = (
        f"Bandit with rewards {', '.join(f'{reward:g}' for reward in experiment.rewards)}; {experiment.runs} runs "
        f"each, from the uniform policy or from the last action's corner, π₁ = {experiment.best_prob:g}. Failed: one "
        f"wrong action holds more than {COMMITTED:g} of the policy. A flat curve: for ever; a falling one: slow. Bars: "
        f"95 % Wilson intervals."
    )
    height = 1.9 * len(rates) * len(STARTS) + 0.4
    figure = new_figure(9.0, height, caption)
    grid = panels(figure, len(rates) * len(STARTS), len(BASELINES), sharex=True, sharey=True)
    rows = [(start, rate) for start in STARTS for rate in rates]
    for i, (start, rate) in enumerate(rows):
        for j, baseline in enumerate(BASELINES):
            axes = grid[i * len(BASELINES) + j]
            _draw_panel(axes, select(data, start=start, learning_rate=rate, baseline=baseline))
            axes.set_title(f"{start} start, η = {rate:g}, baseline {baseline}")
            if j == 0:
                axes.set_ylabel("failed runs")
            if i == len(rows) - 1:
                axes.set_xlabel("updates")
    legend_beside(grid[len(BASELINES) - 1])
    return {"": figure}


def _draw_panel(axes: Axes, data: Columns) -> None:
    for index, method in enumerate(distinct(data, "method")):
        rows = select(data, method=method)
        x = rows["horizon"] * 1.035 ** (index - 3.5)  # side by side
        below, above = rows["failed"] - rows["failed_low"], rows["failed_high"] - rows["failed"]
        style = {"color": color(index), "marker": _MARKERS[index], "markersize": 4, "linewidth": 1.0}
        axes.errorbar(x, rows["failed"], np.maximum([below, above], 0), label=method, capsize=1.5, **style)
    axes.set_xscale("log")
    axes.set_xticks(distinct(data, "horizon"))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda updates, _: f"{updates:,.0f}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_ylim(-0.03, 1.03)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
