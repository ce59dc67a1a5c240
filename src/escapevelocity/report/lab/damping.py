"""Figure 6: KL and gradient norm against the steps, softmax and escort, beside the laws."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from escapevelocity.lab.experiments.damping import FLOORED, Damping, unmeasured
from escapevelocity.lab.experiments.experiment import Columns, Findings
from escapevelocity.report.lab.canvas import color, distinct, legend_beside, new_figure, panels, select

_LOWEST = 1e-17
_LOWEST_SEMILOG = 1e-25


def draw(experiment: Damping, findings: Findings) -> dict[str, Figure]:
    """Draw KL and the gradient's norm in log–log, and KL's first steps with a linear time axis."""
    curves, fits = findings.tables[""], findings.tables["fits"]
    figure = new_figure(12.0, 3.3, _caption(experiment))
    kl, norm, early = panels(figure, 1, 3)
    for index, loss in enumerate(distinct(curves, "loss")):
        rows, fit = select(curves, loss=loss), select(fits, loss=loss)
        one = {name: column[0] for name, column in fit.items()}
        _draw_curve(kl, rows, "kl", index, loss)
        _draw_curve(norm, rows, "gradient_norm", index, loss)
        _draw_curve(early, rows, "kl", index, f"{loss}: {_found(one, experiment.num_classes)}")
        for panel in (kl, norm, early):
            if not np.isnan(one["arrival_law"]):
                panel.axvline(one["arrival_law"], color=color(index), linewidth=0.9, linestyle="--")
    for panel in (kl, norm):
        panel.set_xscale("log")
        panel.set_ylim(_LOWEST, 10)
    kl.set_title("KL(y‖π)")
    kl.set_ylabel("nats")
    norm.set_title("gradient norm")
    norm.set_ylabel("‖∇KL‖₂")
    early.set_title("KL(y‖π), the beginning on a linear axis")
    early.set_ylabel("nats")
    early.set_xlim(0, _end_of_beginning(curves))
    early.set_ylim(_LOWEST_SEMILOG, 30)
    for panel in (kl, norm, early):
        panel.set_yscale("log")
        panel.set_xlabel("step of gradient descent")
    legend_beside(early, "loss: measured (law)")
    return {"": figure}


def _draw_curve(panel: Axes, rows: Columns, column: str, index: int, label: str) -> None:
    steps, values, law = (np.asarray(rows[name]) for name in ("steps", column, f"{column}_law"))
    later = steps > 0
    panel.plot(steps[later], values[later], color=color(index), label=label)
    # The law is for small values; drawn on where it is large it would only hide the start.
    small = later & (law < 0.5)
    panel.plot(steps[small], law[small], color=color(index), linewidth=0.9, linestyle="--")


def _found(fit: dict[str, Any], num_classes: int) -> str:
    if unmeasured(fit, num_classes) == FLOORED:
        return FLOORED
    if not np.isnan(fit["exponent"]):
        return f"t^{fit['fitted_exponent']:.2f} ({fit['exponent']:.2f})".replace("-", "−")
    if not np.isnan(fit["decay"]):
        return f"e^(−ct), c = {fit['fitted_decay']:.3g} ({fit['decay']:.3g})"
    if np.isnan(fit["arrival"]):
        return f"not yet there ({fit['arrival_law']:.0f} steps)"
    return f"0 at t = {fit['arrival']:.0f} ({fit['arrival_law']:.0f})"


def _end_of_beginning(curves: Columns) -> float:
    """When p = 2, the loss that the linear axis is for, is down to the floor; else a hundredth of all steps."""
    steps, kl = np.asarray(curves["steps"]), np.asarray(curves["kl"])
    square = np.asarray(curves["p"]) == 2
    fallen = steps[square & (steps > 0) & (kl < 2 * kl[square].min())] if square.any() else steps[:0]
    return 1.15 * float(fallen.min()) if fallen.size else float(steps.max()) / 100


def _caption(experiment: Damping) -> str:
    return (
        f"Gradient descent on one one-hot sample from the uniform policy, K = {experiment.num_classes}, "
        f"η = {experiment.learning_rate:g}. Solid: measured; dashed: the law of the gradient flow, with its constant; "
        "dashed upright: when the flow of an escort with p < 2 has arrived; after it the parameters jump across 0 at "
        f"every step (jitter). Slopes are fitted over {experiment.num_steps // 10:,} … {experiment.num_steps:,} steps. "
        "Below 10⁻¹² of the largest |θ| there is no gradient: p = 2 stops."
    )
