"""Figure 8: what the exponent p changes, from the deep well to sampled actions."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from escapevelocity.lab.experiments.experiment import Columns, Findings
from escapevelocity.lab.experiments.p_study import PStudy
from escapevelocity.report.lab.canvas import color, distinct, legend_beside, new_figure, panels, select

_MARKERS = "osDPvX*"
_CURVES = (1.0, 1.5, 2.0, 4.0, 8.0, float("inf"))
"""Exponents drawn as curves over η."""


def draw(experiment: PStudy, findings: Findings) -> dict[str, Figure]:
    """Draw speed in wells and on random bandits, the stable rates, the jitter, and the wrong ends."""
    tables = findings.tables
    horizon = max(experiment.horizons)
    figure = new_figure(
        12.0,
        5.8,
        f"EPG(p) with the rate η‖θ‖²/p², and softmax (∞). a: bandit with K = {experiment.num_actions}, "
        f"b = {experiment.base_reward:g}, Δ = {experiment.gap:g} from wrong corners, η = {experiment.learning_rate:g}; "
        f"dashed: the law. b–e: {experiment.bandits} bandits with rewards U[0, 1], from the uniform policy and from "
        "anywhere on the simplex; settled: within 1 % of the best reward until the end "
        f"({experiment.steps:,} updates); bands and bars: 95 % intervals. c: nothing drawn where no rate of the grid "
        f"lets 95 % settle. e: in the last tenth of the run. f: one sampled action per update, {experiment.runs:,} "
        f"runs from the uniform policy; wrong: π(a*) < 0.01 after {horizon:,} updates.",
    )
    axes = panels(figure, 2, 3)
    powers = distinct(tables["rates"], "p")
    _draw_corners(axes[0], tables[""], powers)
    _draw_speed(axes[1], tables, powers, experiment.learning_rate)
    _draw_stable(axes[2], tables["stable"], powers)
    curves = [p for p in _CURVES if p in powers]
    _draw_settled(axes[3], tables["rates"], curves)
    _draw_late(axes[4], tables["rates"], curves)
    _draw_wrong(axes[5], select(tables["sampled"], steps=horizon), powers)
    for cell in (*axes[:3], axes[5]):
        cell.set_xticks(range(len(powers)), [_short(p) for p in powers], fontsize=6.5, rotation=45)
        cell.set_xlabel("p")
    for letter, cell in zip("abcdef", axes, strict=True):
        title = cell.get_title()
        cell.set_title("")
        cell.set_title(f"{letter}  {title}", loc="left")
    return {"": figure}


def _draw_corners(axes: Axes, data: Columns, powers: Sequence[float]) -> None:
    for index, best_prob in enumerate(distinct(data, "best_prob")):
        rows = select(data, best_prob=best_prob)
        at = [int(np.flatnonzero(rows["p"] == p)[0]) for p in powers]
        steps, law = rows["steps"][at], rows["predicted_steps"][at]
        x, free = np.arange(len(powers)), ~rows["censored"][at]
        axes.plot(x, law, color=color(index), linestyle="--", linewidth=1)
        axes.plot(
            x[free], steps[free], _marker(index), color=color(index), markersize=4, label=f"{best_prob:g}"
        )
        axes.plot(x[~free], steps[~free], "^", color=color(index), markerfacecolor="none", markersize=6)
    axes.set(yscale="log", ylabel="updates until the escape")
    axes.set_title("deep well")
    legend_beside(axes, "π₁")


def _draw_speed(axes: Axes, tables: Any, powers: Sequence[float], rate: float) -> None:
    rates = distinct(tables["rates"], "rate")
    near = min(rates, key=lambda one: abs(np.log(one / rate)))
    index = 0
    for name, rows in (
        (f"η = {near:.3g}", select(tables["rates"], rate=near)),
        ("best η", tables["best"]),
    ):
        for start in distinct(rows, "start"):
            mine = select(rows, start=start)
            _with_bars(axes, mine, powers, "mean", index, f"{start}, {name}")
            index += 1
    axes.set(yscale="log", ylabel="mean updates until settled")
    axes.set_title("random rewards")
    legend_beside(axes, "start")


def _draw_stable(axes: Axes, data: Columns, powers: Sequence[float]) -> None:
    for index, start in enumerate(distinct(data, "start")):
        rows = select(data, start=start)
        order = [int(np.flatnonzero(rows["p"] == p)[0]) for p in powers]
        rate = np.where(rows["rate"] > 0, rows["rate"], np.nan)[order]
        x = np.arange(len(powers)) + 0.12 * (index - 0.5)
        axes.plot(x, rate, _marker(index) + "-", color=color(index), markersize=4, linewidth=1, label=start)
    axes.set(yscale="log", ylabel="largest stable η")
    axes.set_title("95 % of the runs settle")
    legend_beside(axes, "start")


def _draw_settled(axes: Axes, data: Columns, curves: Sequence[float]) -> None:
    for index, p in enumerate(curves):
        rows = select(data, p=p, start="anywhere")
        axes.fill_between(
            rows["rate"], rows["settled_low"], rows["settled_high"], color=color(index), alpha=0.2
        )
        axes.plot(rows["rate"], rows["settled"], _marker(index) + "-", color=color(index), markersize=3.5)
    axes.set(xscale="log", xlabel="η", ylabel="share of runs that settled", ylim=(-0.03, 1.03))
    axes.set_title("from anywhere")
    _legend_powers(axes, curves)


def _draw_late(axes: Axes, data: Columns, curves: Sequence[float]) -> None:
    for index, p in enumerate(curves):
        rows = select(data, p=p, start="uniform")
        shade = color(index)
        axes.plot(rows["rate"], np.maximum(rows["late_regret"], 1e-16), color=shade, linewidth=1)
        jitters = rows["late_flips"] > 0
        for mask, face in ((jitters, shade), (~jitters, "white")):
            shown = np.maximum(rows["late_regret"][mask], 1e-16)
            style = {"color": shade, "markerfacecolor": face, "markersize": 4, "linestyle": "none"}
            axes.plot(rows["rate"][mask], shown, marker=_marker(index), **style)
    axes.set(xscale="log", yscale="log", xlabel="η", ylabel="late sub-optimality, 95 % quantile")
    axes.set_title("filled: θ crosses zero")
    _legend_powers(axes, curves)


def _draw_wrong(axes: Axes, data: Columns, powers: Sequence[float]) -> None:
    for index, rate in enumerate(distinct(data, "rate")):
        _with_bars(axes, select(data, rate=rate), powers, "wrong", index, f"{rate:g}")
    axes.set_ylabel("share of runs that ended wrong")
    axes.set_title("sampled actions")
    legend_beside(axes, "η")


def _with_bars(
    axes: Axes, rows: dict[str, np.ndarray], powers: Sequence[float], name: str, index: int, label: str
) -> None:
    """Values over p with their intervals; columns NAME (or NAME_steps), NAME_low and NAME_high."""
    order = [int(np.flatnonzero(rows["p"] == p)[0]) for p in powers]
    value = (rows[name] if name in rows else rows[f"{name}_steps"])[order]
    low, high = rows[f"{name}_low"][order], rows[f"{name}_high"][order]
    x = np.arange(len(powers)) + 0.12 * (index - 1)
    errors = np.maximum(np.stack([value - low, high - value]), 0)
    axes.errorbar(
        x, value, errors, fmt=_marker(index), color=color(index), markersize=3.5, linewidth=0.9, label=label
    )


def _legend_powers(axes: Axes, curves: Sequence[float]) -> None:
    handles = [
        axes.plot([], [], _marker(i) + "-", color=color(i), markersize=4)[0] for i in range(len(curves))
    ]
    axes.legend(
        handles,
        [_short(p) for p in curves],
        title="p",
        loc="upper left",
        bbox_to_anchor=(1.01, 1.0),
        frameon=False,
    )


def _marker(index: int) -> str:
    return _MARKERS[index % len(_MARKERS)]


def _short(p: float) -> str:
    return "∞" if np.isinf(p) else f"{p:g}"
