"""Settling time against the learning rate for every optimiser and start, and the escort's advantage."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from escapevelocity.lab.experiments.experiment import Columns, Findings
from escapevelocity.lab.experiments.optimisers import Optimisers
from escapevelocity.report.lab.canvas import color, distinct, legend_beside, new_figure, panels, select

_MARKERS = "osDPvX*"


def draw(experiment: Optimisers, findings: Findings) -> dict[str, Figure]:
    """Draw the whole grid of rates, and the advantage."""
    return {
        "": _rates(experiment, findings.tables["grid"]),
        "advantage": _advantage(experiment, select(findings.tables["advantage"], rates="own best")),
    }


def _rates(experiment: Optimisers, data: Columns) -> Figure:
    starts, optimisers, methods = (distinct(data, name) for name in ("start", "optimiser", "method"))
    figure = new_figure(
        2.1 * len(optimisers) + 1.4,
        1.55 * len(starts) + 0.5,
        f"Mean updates until a run is out of its well for good, over {experiment.selection_bandits} bandits with "
        f"random rewards, K = {experiment.num_actions}, exact gradients; runs that never settle count "
        f"{experiment.steps:,} (dotted). Filled: each method's best rate. A row for each start: uniform, or the mass "
        "on a wrong action and π₁ on every other.",
    )
    axes = panels(figure, len(starts), len(optimisers), sharex=True, sharey=True)
    for i, start in enumerate(starts):
        for j, optimiser in enumerate(optimisers):
            cell = axes[i * len(optimisers) + j]
            rows = select(data, start=start, optimiser=optimiser)
            _draw_panel(cell, rows, methods, experiment.steps)
            if i == 0:
                cell.set_title(optimiser)
            if i == len(starts) - 1:
                cell.set_xlabel("learning rate")
            if j == 0:
                cell.set_ylabel(start)
    handles = [axes[0].plot([], [], **_style(methods, method))[0] for method in methods]
    axes[len(optimisers) - 1].legend(
        handles, methods, loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False
    )
    figure.supylabel("updates until out for good, from", fontsize=9)
    return figure


def _draw_panel(axes: Axes, rows: dict[str, np.ndarray], methods: list[str], steps: int) -> None:
    axes.axhline(steps, color="#999999", linewidth=0.8, linestyle=":")
    for method in methods:
        mine = select(rows, method=method)
        style = _style(methods, method)
        axes.plot(mine["rate"], mine["mean_steps"], color=style["color"], linewidth=1.1)
        best = mine["is_best"]
        axes.plot(mine["rate"][best], mine["mean_steps"][best], linestyle="none", **style)
    axes.set(xscale="log", yscale="log")


def _advantage(experiment: Optimisers, data: Columns) -> Figure:
    powers, optimisers, starts = (distinct(data, name) for name in ("p", "optimiser", "start"))
    figure = new_figure(
        3.1 * len(powers) + 1.6,
        3.0,
        "Mean time of SPG over that of EPG(p) under the same optimiser, each at its own best rate, with 95 % "
        f"bootstrap intervals over {experiment.bandits} other random bandits. Above 1 escort is quicker. Hollow: some "
        f"runs of SPG never settled and count {experiment.steps:,} updates, so that the truth is larger (or, where "
        "some of EPG's did not settle either, open).",
    )
    axes = panels(figure, 1, len(powers), sharey=True)
    for cell, p in zip(axes, powers, strict=True):
        cell.axhline(1, color="#666666", linewidth=0.8)
        for index, optimiser in enumerate(optimisers):
            rows = select(data, p=p, optimiser=optimiser)
            x = np.arange(len(starts)) + (index - (len(optimisers) - 1) / 2) * 0.13
            errors = np.stack([rows["ratio"] - rows["low"], rows["high"] - rows["ratio"]])
            shade, marker = color(index), _MARKERS[index % len(_MARKERS)]
            cell.errorbar(
                x, rows["ratio"], np.maximum(errors, 0), color=shade, linestyle="none", linewidth=1.2
            )
            for cut in (False, True):
                here = rows["softmax_cut"] == cut
                face = "white" if cut else shade
                cell.plot(
                    x[here], rows["ratio"][here], marker, color=shade, markerfacecolor=face, markersize=5
                )
            cell.plot([], [], marker, color=shade, markersize=5, label=optimiser)
        cell.set_yscale("log")
        cell.set_xticks(range(len(starts)), [start.replace(" = ", "\n") for start in starts])
        cell.set(title=f"EPG({p:g})", xlabel="start")
    axes[0].set_ylabel("time of SPG / time of EPG(p)")
    legend_beside(axes[-1])
    return figure


def _style(methods: list[str], method: str) -> dict[str, Any]:
    index = methods.index(method)
    return {"color": color(index), "marker": _MARKERS[index % len(_MARKERS)], "markersize": 5}
