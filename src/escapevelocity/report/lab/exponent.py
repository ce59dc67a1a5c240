"""Exponent: predicted against measured slopes, and the coefficients they come from."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from escapevelocity.lab.experiments.experiment import Columns, Findings
from escapevelocity.lab.experiments.exponent import Exponent
from escapevelocity.report.lab.canvas import color, legend_beside, new_figure, panels

_MARKERS = "os^Dv<>PXphd*"


def draw(experiment: Exponent, findings: Findings) -> dict[str, Figure]:
    """Draw the predictions by κ and by the speed, with the identity."""
    slopes = findings.tables["slopes"]
    caption = (
        f"Slope of log T against log π₁ over the deepest starts that escaped, corner starts, "
        f"K = {experiment.num_actions}, Δ = {experiment.gap:g}. Filled: plain gradients; open: other rules. Left: "
        f"−max(2κ − 1, 0) with κ measured as the slope of ‖∇V‖/gap. Right: −max(σ − 1, 0) with σ the slope of the "
        f"speed ⟨∇V, direction⟩. Marks: all wrong arms equal; bars: 95 % interval of the mean over "
        f"{experiment.bandits} bandits with random arms. Line: prediction = measurement."
    )
    figure = new_figure(9.6, 3.9, caption)
    left, right = panels(figure, 1, 2, sharey=True)
    _draw_panel(left, slopes, "slope_by_exponent")
    _draw_panel(right, slopes, "slope_by_speed")
    left.set_title("predicted by the NŁ exponent κ")
    right.set_title("predicted by the method's own speed")
    left.set_ylabel("measured slope")
    legend_beside(right)
    return {"": figure}


def _draw_panel(axes: Axes, slopes: Columns, prediction: str) -> None:
    values = np.concatenate([np.asarray(slopes[name]) for name in ("slope_by_exponent", "slope")])
    known = values[np.isfinite(values)]
    if not known.size:
        axes.text(0.5, 0.5, "too few starts escaped", ha="center", va="center", transform=axes.transAxes)
    low = float(known.min(initial=0)) - 0.12
    axes.plot([low, 0.12], [low, 0.12], color="#888888", linewidth=0.8, zorder=0)
    plain = others = 0
    for i, method in enumerate(slopes["method"]):
        # Plain gradients and others count their colours apart: the filling tells them from each other.
        if slopes["plain"][i]:
            shade, face, marker, plain = (
                color(plain),
                color(plain),
                _MARKERS[plain % len(_MARKERS)],
                plain + 1,
            )
        else:
            shade, face, marker, others = color(others), "none", _MARKERS[others % len(_MARKERS)], others + 1
        x = slopes[prediction][i]
        ends = [slopes["slope_random_low"][i], slopes["slope_random_high"][i]]
        axes.plot([x, x], ends, color=shade, linewidth=1.0)
        style = {
            "color": shade,
            "marker": marker,
            "markerfacecolor": face,
            "linestyle": "none",
            "markersize": 6,
        }
        axes.plot([x], [slopes["slope"][i]], label=method, **style)
    axes.set_xlim(low, 0.12)
    axes.set_ylim(low, 0.12)
    axes.set_xlabel("predicted slope of log T against log π₁")
