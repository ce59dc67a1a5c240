"""Figure 7: reward and loss of classifiers against epochs, each method at its own best learning rate."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from escapevelocity.lab.experiments._contest import MEANS
from escapevelocity.lab.experiments.classify import Classify
from escapevelocity.lab.experiments.experiment import Columns, Findings
from escapevelocity.report.lab.canvas import color, distinct, legend_beside, new_figure, panels, select

_DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))


def draw(experiment: Classify, findings: Findings) -> dict[str, Figure]:
    """Draw a row of panels per start and objective, a column per optimiser."""
    caption = _caption(experiment, findings.answers[0])
    return {"": draw_curves(findings.tables[""], findings.tables["best"], caption)}


def draw_curves(curves: Columns, best: Columns, caption: str) -> Figure:
    """Draw rewards above, losses below, for every start, with a column per optimiser."""
    optimisers = distinct(best, "optimiser")
    rows = [(start, what) for what in ("reward", "likelihood") for start in distinct(best, "start")]
    width = max(2.6 * len(optimisers) + 1.7, 6.0)
    figure = new_figure(width, 2.1 * len(rows) + 0.2, caption)
    axes = panels(figure, len(rows), len(optimisers), sharex=True, sharey="row")
    for index, one in enumerate(axes):
        (start, what), optimiser = rows[index // len(optimisers)], optimisers[index % len(optimisers)]
        chosen = select(best, start=start, optimiser=optimiser, objective=what)
        _draw_panel(one, select(curves, start=start, optimiser=optimiser), chosen, what)
        if index < len(optimisers):
            one.set_title(optimiser)
        if index % len(optimisers) == 0:
            shown = "training reward" if what == "reward" else "training loss, nats"
            one.set_ylabel(f"{shown}\n{start} start")
        if index % len(optimisers) == len(optimisers) - 1:
            legend_beside(one)
        if index >= len(axes) - len(optimisers):
            one.set_xlabel("epochs")
    return figure


def _draw_panel(axes: Axes, curves: Columns, best: Columns, what: str) -> None:
    column = "reward" if what == "reward" else "loss"
    for index, method in enumerate(distinct(best, "method")):
        rows = select(curves, method=method)
        epochs = np.unique(rows["epoch"])
        means = [MEANS[what](select(rows, epoch=epoch)[column]) for epoch in epochs]
        mean, low, high = np.array(means).T
        style: dict[str, Any] = {"color": color(index), "linestyle": _DASHES[index % len(_DASHES)]}
        axes.plot(epochs, mean, label=method, **style)
        axes.fill_between(epochs, low, high, color=color(index), alpha=0.2, linewidth=0)
    axes.set_xlim(0, None)
    if what == "reward":
        axes.set_ylim(-0.02, 1.02)
    else:
        axes.set_yscale("log")


def _caption(experiment: Classify, data: str) -> str:
    units = (
        f"one hidden layer of {experiment.hidden} ReLU units" if experiment.hidden else "linear classifiers"
    )
    wrong = (
        f" Wrong start: π = {experiment.corner_prob:g} on class 0 for every image."
        if "wrong" in experiment.starts
        else ""
    )
    scaled = " Scaled: each gradient times ‖θ‖_p²/p²." if experiment.scaled_powers else ""
    return (
        f"{data} {units[0].upper()}{units[1:]}, minibatches of {experiment.batch_size}; mean (of losses geometric) "
        f"and 95\u00a0% t-interval over {experiment.report_seeds} seeds, each method at the learning rate of the grid "
        f"that is best for {experiment.selection_seeds} other seeds.{wrong}{scaled}"
    )
