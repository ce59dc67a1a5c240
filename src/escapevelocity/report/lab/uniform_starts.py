"""Uniform starts: how many runs are solved by when, and how many are trapped."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, PercentFormatter, ScalarFormatter

from escapevelocity.lab.experiments.experiment import Columns, Findings
from escapevelocity.lab.experiments.uniform_starts import UniformStarts
from escapevelocity.report.lab.canvas import color, distinct, legend_beside, new_figure, panels, select


def draw(experiment: UniformStarts, findings: Findings) -> dict[str, Figure]:
    """Draw the share of solved runs against updates, and the share of trapped runs against K."""
    return {
        "": _solved(experiment, findings.tables["runs"]),
        "trapped": _trapped(experiment, findings.tables[""]),
    }


def _situations(data: Columns) -> list[tuple[str, float]]:
    return list(dict.fromkeys(zip(data["gradients"], data["learning_rate"], strict=True)))


def _solved(experiment: UniformStarts, runs: Columns) -> Figure:
    sizes, situations = distinct(runs, "num_actions"), _situations(runs)
    caption = (
        f"Share of runs whose sub-optimality has fallen below {experiment.tolerance:g}; every run has its own rewards, "
        f"uniform in [0, 1], and starts from the uniform policy. Curves that end below 100 %: the others were given up "
        f"after {experiment.horizon:g}/η updates."
    )
    figure = new_figure(2.6 * len(sizes) + 1.3, 2.2 * len(situations) + 0.3, caption)
    grid = panels(figure, len(situations), len(sizes), sharey=True, sharex="row")
    for i, (gradients, rate) in enumerate(situations):
        for j, size in enumerate(sizes):
            axes = grid[i * len(sizes) + j]
            own = select(runs, gradients=gradients, learning_rate=rate, num_actions=size)
            for index, method in enumerate(experiment.methods):
                _draw_solved(axes, select(own, method=method), method, index)
            axes.set_xscale("log")
            axes.set_title(f"K = {size}, {gradients}, η = {rate:g}")
            axes.yaxis.set_major_formatter(PercentFormatter(1.0))
            if i == len(situations) - 1:
                axes.set_xlabel("updates")
            if j == 0:
                axes.set_ylabel("runs solved")
    legend_beside(grid[len(sizes) - 1])
    return figure


def _draw_solved(axes: Axes, rows: dict[str, np.ndarray], method: str, index: int) -> None:
    steps = np.sort(rows["steps"][rows["solved"]])
    # Starts that are solved at once would be lost on a logarithmic axis.
    x = np.maximum(np.append(steps, rows["steps"].max()), 1)
    y = np.append(np.arange(1, len(steps) + 1), len(steps)) / len(rows["steps"])
    # NPG and EPG(2) coincide with exact gradients: dashes let both be seen.
    axes.step(
        x, y, where="post", color=color(index), label=method, linestyle="--" if method == "NPG" else "-"
    )


def _trapped(experiment: UniformStarts, data: Columns) -> Figure:
    situations = _situations(data)
    caption = (
        "Share of runs in which one wrong action held more than 0.9 of the policy for more than half of the updates "
        f"until the run was solved, or given up after {experiment.horizon:g}/η updates. Bars: 95 % Wilson intervals."
    )
    figure = new_figure(3.0 * len(situations) + 1.3, 2.7, caption)
    grid = panels(figure, 1, len(situations), sharey=True)
    for axes, (gradients, rate) in zip(grid, situations, strict=True):
        for index, method in enumerate(experiment.methods):
            rows = select(data, gradients=gradients, learning_rate=rate, method=method)
            x = rows["num_actions"] * 1.04 ** (index - 1.5)  # side by side
            below, above = rows["trapped"] - rows["trapped_low"], rows["trapped_high"] - rows["trapped"]
            bars = np.maximum([below, above], 0)
            style = {"color": color(index), "marker": "osD^"[index], "markersize": 4, "linewidth": 1.0}
            axes.errorbar(x, rows["trapped"], bars, label=method, capsize=2, **style)
        axes.set_xscale("log")
        axes.set_xticks(distinct(data, "num_actions"))
        axes.xaxis.set_major_formatter(ScalarFormatter())
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_ylim(-0.03, 1.03)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        axes.set_title(f"{gradients}, η = {rate:g}")
        axes.set_xlabel("number of actions K")
    grid[0].set_ylabel("runs trapped")
    legend_beside(grid[-1])
    return figure
