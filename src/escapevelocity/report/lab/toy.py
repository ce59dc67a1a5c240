"""The two-state clipping example: ratios step by step, and the sweeps over α and the size of the features."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter

from escapevelocity.lab.experiments.experiment import Columns, Findings
from escapevelocity.lab.experiments.toy import Toy
from escapevelocity.report.lab.canvas import color, legend_beside, new_figure, panels, select

_GREY = "#666666"
_LOWEST, _HIGHEST = 1e-3, 1e2
_SHARES = {
    "both": "both above 1 + ε",
    "one": "one above 1 + ε",
    "none": "none above 1 + ε",
    "sunk": "one below 1 − ε",
}


def draw(experiment: Toy, findings: Findings) -> dict[str, Figure]:
    """Draw the runs ("") and the sweeps."""
    tables = findings.tables
    return {"": _draw_runs(experiment, tables[""]), "sweeps": _draw_sweeps(experiment, tables)}


def _draw_runs(experiment: Toy, steps: Columns) -> Figure:
    caption = (
        f"Two states share the weights of a softmax with φ(y) = α·φ(x), φ(x) = {experiment.feature:g}; samples of x "
        f"and y take turns, both with advantage 1 (SGD, learning rate {experiment.learning_rate:g}). Marks: after a "
        f"step on that state's own sample. Grey: the clip range 1 ± {experiment.clip_epsilon:g}; a state above it "
        "gives no gradient, but the other one still moves both."
    )
    count = len(experiment.alphas)
    figure = new_figure(2.9 * count + 0.6, 2.8, caption)
    axes = panels(figure, 1, count, sharey=True)
    for panel, alpha in zip(axes, experiment.alphas, strict=True):
        rows = select(steps, alpha=float(alpha))
        _mark_clip_range(panel, experiment)
        for index, state in enumerate(("x", "y")):
            step, ratio = rows["step"], rows[f"ratio_{state}"]
            own = (step > 0) & ((step - 1) % 2 == index)
            panel.plot(step, ratio, color=color(index), label=f"state {state}")
            panel.plot(step[own], ratio[own], "os"[index], color=color(index), markersize=3.5)
        panel.set_title(f"α = {_signed(alpha)}")
        panel.set_xlabel("minibatch steps")
        panel.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes[0].set_ylabel("ratio " + r"$\pi(a_1|s)\;/\;\pi_\mathrm{old}(a_1|s)$")
    legend_beside(axes[-1])
    return figure


def _draw_sweeps(experiment: Toy, tables: Mapping[str, Columns]) -> Figure:
    caption = (
        f"Left: shares of {experiment.num_draws:,} random starts, φ(x) ~ N(0, 1) and weights ~ U(−1, 1), with 95 % "
        "Wilson intervals (bands); the same starts for every α. Middle and right: where the higher and the lower of "
        "the two ratios end at a given |φ(x)|, median and 5–95 % of "
        f"{experiment.num_draws:,} random weights; grey: the clip range. All after {experiment.num_steps} minibatch "
        f"steps with learning rate {experiment.learning_rate:g}; axes end at {_LOWEST:g} and {_HIGHEST:g}."
    )
    figure = new_figure(13.0, 3.2, caption)
    shares, highest, lowest = panels(figure, 1, 3)
    _draw_shares(shares, tables["alphas"])
    for panel, name in ((highest, "highest"), (lowest, "lowest")):
        _mark_clip_range(panel, experiment)
        for index, alpha in enumerate(experiment.alphas):
            rows = select(tables["features"], alpha=float(alpha))
            order = np.argsort(rows["feature"])
            size, median = rows["feature"][order], rows[f"{name}_median"][order]
            panel.fill_between(
                size,
                rows[f"{name}_5"][order],
                rows[f"{name}_95"][order],
                color=color(index),
                alpha=0.18,
                linewidth=0,
            )
            panel.plot(size, median, color=color(index), label=f"α = {_signed(alpha)}")
        panel.set_xscale("log")
        panel.set_yscale("log")
        for axis in (panel.xaxis, panel.yaxis):
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        panel.set_xlabel("|φ(x)|")
        panel.set_title(f"the {'higher' if name == 'highest' else 'lower'} of the two ratios")
    highest.set_ylabel("ratio at the end")
    highest.set_ylim(0.9 - experiment.clip_epsilon, min(highest.get_ylim()[1], _HIGHEST))
    lowest.set_ylim(max(lowest.get_ylim()[0], _LOWEST), min(lowest.get_ylim()[1], _HIGHEST))
    legend_beside(lowest)
    return figure


def _draw_shares(panel: Axes, rows: Columns) -> None:
    alpha = np.asarray(rows["alpha"])
    for index, (name, label) in enumerate(_SHARES.items(), start=3):
        low, high = np.asarray(rows[f"{name}_low"]), np.asarray(rows[f"{name}_high"])
        panel.fill_between(alpha, low, high, color=color(index), alpha=0.25, linewidth=0)
        style = "--" if name == "sunk" else "-"
        panel.plot(alpha, np.asarray(rows[name]), style, color=color(index), label=label)
    panel.set_ylim(-0.02, 1.02)
    panel.yaxis.set_major_formatter(PercentFormatter(1.0))
    panel.set_xlabel("α = φ(y)/φ(x)")
    panel.set_ylabel("share of random starts")
    panel.set_title("how the two ratios end")
    legend_beside(panel)


def _mark_clip_range(panel: Axes, experiment: Toy) -> None:
    epsilon = experiment.clip_epsilon
    panel.axhspan(1 - epsilon, 1 + epsilon, color=_GREY, alpha=0.13, linewidth=0)
    panel.axhline(1.0, color=_GREY, linewidth=0.6)


def _signed(value: float) -> str:
    return f"{value:g}".replace("-", "−")
