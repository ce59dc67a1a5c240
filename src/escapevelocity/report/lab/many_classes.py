"""Escape times and best learning rates against the number of actions; curves of the characters' classifiers."""

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from escapevelocity.lab.experiments.experiment import Columns, Findings
from escapevelocity.lab.experiments.many_classes import ManyClasses
from escapevelocity.report.lab.canvas import color, distinct, legend_beside, new_figure, panels, select
from escapevelocity.report.lab.classify import draw_curves

_MARKERS = "os^Dv<>P"


def draw(experiment: ManyClasses, findings: Findings) -> dict[str, Figure]:
    """Draw two panels with the laws and two of the rate study, and the characters' curves when there are any."""
    times, best = findings.tables[""], findings.tables["best-rates"]
    figure = new_figure(9.6, 6.0, _caption(experiment))
    uniform, corner, rates, own = panels(figure, 2, 2)
    _draw_times(uniform, select(times, start="uniform"), "from the uniform policy, one η")
    _draw_times(
        corner, select(times, start="corner"), f"from a corner with π₁ = {experiment.corner_prob:g}, one η"
    )
    legend_beside(corner, "dashed: law")
    _draw_study(rates, best, "learning_rate", "best η", "random rewards: best η")
    _draw_study(own, best, "steps", "updates", "random rewards: time at the best η")
    legend_beside(own)
    figures = {"": figure}
    if "characters" in findings.tables:
        curves, finals = findings.tables["characters"], findings.tables["characters-best"]
        figures["characters"] = draw_curves(curves, finals, _characters_caption(experiment))
    return figures


def _draw_times(axes: Axes, data: Columns, title: str) -> None:
    for index, method in enumerate(distinct(data, "method")):
        rows = select(data, method=method)
        escaped = ~rows["censored"]
        axes.plot(rows["num_actions"], rows["law"], color=color(index), linestyle="--", linewidth=1.0)
        axes.plot(rows["num_actions"][escaped], rows["steps"][escaped], label=method, **_marks(index))
    _finish(axes, title, "updates until the escape", distinct(data, "num_actions"))


def _draw_study(axes: Axes, best: Columns, column: str, label: str, title: str) -> None:
    for index, method in enumerate(distinct(best, "method")):
        rows = select(best, method=method)
        # Side by side: several methods have the same best rate.
        sizes = rows["num_actions"] * 1.05 ** (index - 2)
        axes.plot(sizes, rows[column], color=color(index), linewidth=0.8)
        inside = ~rows["at_edge"]
        axes.plot(sizes[inside], rows[column][inside], label=method, **_marks(index))
        axes.plot(sizes[~inside], rows[column][~inside], markerfacecolor="white", **_marks(index))
        if column == "steps":
            axes.vlines(sizes, rows["steps_low"], rows["steps_high"], color=color(index), linewidth=1.0)
    _finish(axes, title, label, distinct(best, "num_actions"))


def _marks(index: int) -> dict[str, Any]:
    return {
        "color": color(index),
        "marker": _MARKERS[index % len(_MARKERS)],
        "markersize": 4.5,
        "linestyle": "none",
    }


def _finish(axes: Axes, title: str, label: str, sizes: list[int]) -> None:
    axes.set_xscale("log")
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axes.minorticks_off()
    axes.set_yscale("log")
    axes.set_title(title)
    axes.set_xlabel("K, number of actions")
    axes.set_ylabel(label)


def _caption(experiment: ManyClasses) -> str:
    return (
        f"Above: rewards (b + Δ, b, …, b), b = {experiment.base_reward:g}, Δ = {experiment.gap:g}, η = "
        f"{experiment.learning_rate:g}, exact gradients; marks: measured, dashed: the gradient flow's law. From "
        f"uniform, until π(a*) > 1/2. Below: rewards uniform in [0, 1], starts uniform on the simplex; the η that is "
        f"best for half of {experiment.bandits} bandits per K, and with it the other half's updates until 90\u00a0% of "
        "the sub-optimality is gone for good (geometric mean, 95\u00a0% t-interval). Open marks: best η at the edge."
    )


def _characters_caption(experiment: ManyClasses) -> str:
    units = (
        f"one hidden layer of {experiment.hidden} ReLU units" if experiment.hidden else "linear classifiers"
    )
    return (
        f"Omniglot's characters as classes, {units}; mean (of losses geometric) and 95\u00a0% t-interval over "
        f"{experiment.report_seeds} seeds, each method at the best learning rate for {experiment.selection_seeds} "
        "others."
    )
