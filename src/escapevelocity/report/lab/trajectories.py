"""Figures 1, 2 and 4: paths on the simplex with the reward-gap surface, sub-optimality, and the NŁ coefficient."""

import math
from collections.abc import Mapping
from typing import Any

import mpltern  # noqa: F401  (registers the projection "ternary")
import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import ListedColormap, LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from escapevelocity.lab.experiments.experiment import Columns, Findings
from escapevelocity.lab.experiments.trajectories import GRID, Trajectories
from escapevelocity.report.lab.canvas import color, distinct, new_figure, panels, select

_PANELS_PER_ROW = 4
_GREY = "#555555"
_LOWEST_GAP = 1e-8
_FINEST = 0.005
_RATIOS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
_TIME = ListedColormap(colormaps["plasma"](np.linspace(0, 0.9, 256)))  # its yellow end is lost on white


def draw(experiment: Trajectories, findings: Findings) -> dict[str, Figure]:
    """Draw the paths ("") with the gap's surface, the surfaces of ‖∇‖/gap, and two figures against time."""
    points, surface = findings.tables[""], findings.tables["surface"]
    return {
        "": _draw_paths(experiment, points, surface, findings.tables["starts"]),
        "surface": _draw_surfaces(experiment, surface),
        "suboptimality": _draw_suboptimality(experiment, points),
        "lojasiewicz": _draw_lojasiewicz(experiment, points),
    }


def _draw_paths(experiment: Trajectories, points: Columns, surface: Columns, ends: Columns) -> Figure:
    methods = distinct(points, "method")
    caption = (
        f"Paths of exact gradient ascent (η = {experiment.learning_rate:g}; EPG at the rate η‖θ‖²/p²) from the marked "
        f"starts, coloured by the update at which they pass, over {experiment.max_steps:,} updates; each corner is one "
        "action with its reward r. Left: what a policy lacks to the best reward; it falls evenly towards the best "
        "corner, so that the standstill in the wrong corners is no feature of the rewards."
    )
    figure, axes = _ternary_panels(experiment, 1 + len(methods), caption)
    first = select(surface, method=methods[0])
    filled = axes[0].tricontourf(
        *_policy(experiment, first), first["suboptimality"], levels=12, cmap="cividis_r"
    )
    bar = figure.colorbar(
        filled, ax=axes[0], location="bottom", shrink=0.9, pad=0.05, label="sub-optimality (π* − π)ᵀr"
    )
    bar.set_ticks(list(filled.levels[::3]))
    norm = LogNorm(1, _slowest_arrival(experiment, ends))
    for panel, method in zip(axes[1:], methods, strict=True):
        _name(panel, method)
        draw_colored_paths(panel, experiment, select(points, method=method), norm)
    time = ScalarMappable(norm, _TIME)
    figure.colorbar(time, ax=axes[1:], location="bottom", shrink=0.5, pad=0.05, label="update", extend="max")
    return figure


def _slowest_arrival(experiment: Trajectories, ends: Columns) -> float:
    """The last update at which a path still has something to go, so that no colour is spent on standing still."""
    return float(np.clip(np.max(ends["arrival_steps"]), 2, experiment.max_steps))


def draw_colored_paths(panel: Any, experiment: Trajectories, rows: Columns, norm: LogNorm) -> None:
    """Draw each start's path in the colours of time, and mark the start; `rows` are of one method."""
    corners = np.stack(_policy(experiment, rows), axis=-1)
    places, step = panel.transProjection.transform(corners), np.asarray(rows["step"])
    first = step == 0
    # Most points are recorded where nothing moves: keep one per _FINEST of the way, or the PDF is megabytes.
    way = np.cumsum(np.linalg.norm(np.diff(places, axis=0, prepend=places[:1]), axis=1)) // _FINEST
    kept = first | np.append(first[1:], True) | (np.diff(way, prepend=0) > 0)
    places, step = places[kept], step[kept]
    joined = np.flatnonzero(step[1:] > 0)
    segments = np.stack([places[joined], places[joined + 1]], axis=1)
    lines = LineCollection(list(segments), cmap=_TIME, norm=norm, linewidths=1.3, capstyle="round", zorder=3)
    lines.set_array(step[joined + 1])
    panel.add_collection(lines)
    panel.plot(*corners[first].T, "o", color="white", markeredgecolor="black", markersize=3, zorder=4)


def _draw_surfaces(experiment: Trajectories, surface: Columns) -> Figure:
    methods = distinct(surface, "method")
    caption = (
        "How much gradient there is per unit of what is lacking, ‖∇πᵀr‖₂/(π* − π)ᵀr, over the simplex (escort at "
        "‖θ‖_p = 1). It falls to 0 only in the wrong corners: those are the wells. Near them softmax's falls in "
        "proportion to the other actions' probability, an escort's with its power 1 − 1/p, so its wells are narrower."
    )
    figure, axes = _ternary_panels(experiment, len(methods), caption)
    style = {"levels": _RATIOS, "norm": LogNorm(_RATIOS[0], _RATIOS[-1]), "cmap": "viridis", "extend": "both"}
    surfaces = []
    for panel, method in zip(axes, methods, strict=True):
        _name(panel, method)
        rows = select(surface, method=method)
        surfaces.append(panel.tricontourf(*_policy(experiment, rows), _ratio(rows), **style))
    bar = figure.colorbar(surfaces[0], ax=axes, location="bottom", shrink=0.6, pad=0.05, label="‖∇‖ / gap")
    bar.set_ticks(list(_RATIOS), labels=[f"{ratio:g}" for ratio in _RATIOS])
    bar.ax.minorticks_off()
    return figure


def _ternary_panels(experiment: Trajectories, count: int, caption: str) -> tuple[Figure, list[Any]]:
    """Ternary axes with the best action on top and every corner named by its reward."""
    across = min(count, _PANELS_PER_ROW)
    down = math.ceil(count / across)
    figure = new_figure(2.75 * across, 3.3 * down, caption)
    layout: Any = figure.get_layout_engine()
    layout.set(w_pad=0.1, h_pad=0.15)  # it takes no account of text at ternary axes
    all_axes: list[Any] = []
    for i in range(count):
        axes: Any = figure.add_subplot(down, across, i + 1, projection="ternary")
        top, left, right = (f"r = {experiment.rewards[action]:g}" for action in _order(experiment))
        axes.text(0.57, 0.97, f"best, {top}", transform=axes.transAxes, va="top")
        axes.text(0.0, -0.03, left, transform=axes.transAxes, ha="left", va="top")
        axes.text(1.0, -0.03, right, transform=axes.transAxes, ha="right", va="top")
        for axis in (axes.taxis, axes.laxis, axes.raxis):
            axis.set_ticks([])
        axes.grid(False)
        all_axes.append(axes)
    return figure, all_axes


def _name(panel: Any, method: str) -> None:
    """In the free place beside the top corner."""
    panel.text(0.0, 0.97, method, transform=panel.transAxes, fontsize=11, va="top")


def _draw_suboptimality(experiment: Trajectories, points: Columns) -> Figure:
    methods = distinct(points, "method")
    caption = (
        f"Sub-optimality from the uniform policy and from the wrong corners (η = {experiment.learning_rate:g}, exact "
        "gradients). Dashed grey: the gradient flow's law near the best corner, without free constants: "
        "(K − 1)/(Kηt) for SPG, Σ Δ(a)·((p − 2)ηΔ(a)t/p)^(−p/(p−2)) for EPG with p > 2. EPG(2) falls "
        f"exponentially, p < 2 arrives and jitters. Cut off at {_LOWEST_GAP:g}."
    )
    figure, axes = _panels_with_legend(methods, caption)
    for panel, method in zip(axes, methods, strict=True):
        rows = select(points, method=method)
        _draw_starts(panel, rows, "suboptimality")
        once = select(rows, start=0)
        later = once["step"] > 0
        panel.plot(once["step"][later], once["late_law"][later], "--", color=_GREY, linewidth=1.2, zorder=1)
        panel.set_title(method)
        panel.set_ylim(_LOWEST_GAP, 2)
        panel.set_ylabel("(π* − π)ᵀr" if panel is axes[0] else "")
    _put_legend_below(figure, axes[0])
    return figure


def _draw_lojasiewicz(experiment: Trajectories, points: Columns) -> Figure:
    methods = distinct(points, "method")
    caption = (
        "Solid: gradient per unit of sub-optimality, ‖∇‖₂/(π* − π)ᵀr, along the paths; dashed: the NŁ coefficient "
        "C(θ), π(a*) for SPG and p·π(a*)^(1−1/p) for EPG at ‖θ‖_p = 1, which bounds it from below. Both are small "
        f"while a path is in the well. η = {experiment.learning_rate:g}; left out where the gap is below 1e-12."
    )
    figure, axes = _panels_with_legend(methods, caption, sharey=True)
    for panel, method in zip(axes, methods, strict=True):
        rows = select(points, method=method)
        rows = select(rows | {"seen": rows["suboptimality"] > 1e-12}, seen=True)
        rows["ratio"] = _ratio(rows)
        _draw_starts(panel, rows, "ratio")
        _draw_starts(panel, rows, "coefficient", linestyle="--", linewidth=1.0, label=None)
        panel.set_title(method)
        panel.set_ylabel("‖∇‖ / gap, and C(θ)" if panel is axes[0] else "")
    # Beyond a few times the largest coefficient the ratio says nothing about wells.
    coefficients = np.asarray(points["coefficient"])
    axes[0].set_ylim(coefficients.min() / 3, 5 * coefficients.max())
    _put_legend_below(figure, axes[0])
    return figure


def _panels_with_legend(methods: list[str], caption: str, **keywords: Any) -> tuple[Figure, list[Axes]]:
    across = min(len(methods), _PANELS_PER_ROW)
    down = math.ceil(len(methods) / across)
    figure = new_figure(3.2 * across, 2.7 * down + 0.3, caption)
    axes = panels(figure, down, across, sharex=True, **keywords)
    for left_over in axes[len(methods) :]:
        left_over.set_axis_off()
    return figure, axes[: len(methods)]


def _draw_starts(panel: Axes, rows: Columns, column: str, **style: Any) -> None:
    """One line per start that is not of the grid, in log–log; step 0 has no place there."""
    kinds = [kind for kind in distinct(rows, "kind") if kind != GRID]
    for index, kind in enumerate(kinds):
        of_kind = select(rows, kind=kind)
        one = select(of_kind, start=of_kind["start"][0])
        later = one["step"] > 0
        keywords = {"color": color(index), "label": kind} | style
        panel.plot(one["step"][later], one[column][later], **keywords)
    panel.set_xscale("log")
    panel.set_yscale("log")
    panel.xaxis.set_minor_formatter(NullFormatter())
    panel.set_xlabel("update")
    panel.tick_params(labelbottom=True)  # also where the row below is not full


def _put_legend_below(figure: Figure, panel: Axes) -> None:
    handles, labels = panel.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=5, frameon=False)


def _ratio(rows: Mapping[str, Any]) -> np.ndarray:
    return rows["gradient_norm"] / np.asarray(rows["suboptimality"])


def _order(experiment: Trajectories) -> list[int]:
    """Actions from best to worst: top, left and right corner."""
    return sorted(range(3), key=lambda action: -experiment.rewards[action])


def _policy(experiment: Trajectories, rows: Columns) -> tuple[np.ndarray, ...]:
    return tuple(np.asarray(rows[f"prob_{action}"]) for action in _order(experiment))
