"""Figure 3: escape time against the start's probability of the best action."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from escapevelocity.lab.experiments.escape import Escape
from escapevelocity.lab.experiments.experiment import Columns, Findings
from escapevelocity.report.lab.canvas import color, distinct, legend_beside, new_figure, panels, select

_MARKERS = "os^Dv<>PXph"  # not as many as colours, so that no two methods share both


def draw(experiment: Escape, findings: Findings) -> dict[str, Figure]:
    """Draw one panel for softmax and escort, one for all other methods with SPG for comparison."""
    data = findings.tables[""]
    figure = new_figure(11.0, 3.7, _caption(experiment))
    left, right = panels(figure, 1, 2)
    methods = distinct(data, "method")
    powers = [m for m in methods if m == "SPG" or m.startswith("EPG")]
    others = ["SPG", *(m for m in methods if m not in powers)]
    _draw_panel(left, data, powers, "softmax and escort")
    _draw_panel(right, data, others, "other ways to follow the gradient")
    return {"": figure}


def _draw_panel(axes: Axes, data: Columns, methods: list[str], title: str) -> None:
    for index, (method, rows) in enumerate(_without_twins(data, methods).items()):
        shade, marker = color(index), _MARKERS[index % len(_MARKERS)]
        order = np.argsort(rows["best_prob"])
        x, law = rows["best_prob"][order], rows["predicted_steps"][order]
        axes.plot(x, law, color=shade, linewidth=1.0, linestyle="--")
        escaped = ~rows["censored"]
        slope = rows["fitted_slope"][0]
        label = method if np.isnan(slope) else f"{method}: {slope:.3f}"
        style = {"color": shade, "marker": marker, "markersize": 4.5, "linestyle": "none"}
        axes.plot(rows["best_prob"][escaped], rows["steps"][escaped], label=label, **style)
        style |= {"marker": "^", "markerfacecolor": "none", "markersize": 7}
        axes.plot(rows["best_prob"][~escaped], rows["steps"][~escaped], **style)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.invert_xaxis()
    axes.set_title(title)
    axes.set_xlabel("π₁, probability of the best action at the start (deeper →)")
    axes.set_ylabel("updates until the escape")
    legend_beside(axes, "method: fitted slope")


def _without_twins(data: Columns, methods: list[str]) -> dict[str, dict[str, np.ndarray]]:
    """The rows of each method; methods that move in step, such as NPG and NeuRD, share one name."""
    found: dict[str, dict[str, np.ndarray]] = {}
    for method in methods:
        rows = select(data, method=method)
        twin = next(
            (name for name, other in found.items() if np.array_equal(other["steps"], rows["steps"])), None
        )
        if twin is not None and not rows["censored"].all():
            found = {f"{name}, {method}" if name == twin else name: other for name, other in found.items()}
        else:
            found[method] = rows
    return found


def _caption(experiment: Escape) -> str:
    return (
        f"Bandit with K = {experiment.num_actions}, b = {experiment.base_reward:g}, Δ = {experiment.gap:g}, "
        f"η = {experiment.learning_rate:g} (GNPG {experiment.gnpg_rate:.3g}), exact gradients, from a wrong corner. "
        f"Marks: measured; dashed: the law of the gradient flow; open triangles: still trapped after "
        f"{experiment.max_steps:,} updates. "
        "Slopes: of log T against log π₁ over the four deepest starts that escaped."
    )
