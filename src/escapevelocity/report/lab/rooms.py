"""Figure 5: four rooms, value against iterations, what each rate does, value maps and escapes by cell."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle
from matplotlib.ticker import NullFormatter

from escapevelocity.lab.experiments.experiment import Columns, Findings
from escapevelocity.lab.experiments.rooms import FourRooms
from escapevelocity.lab.rooms import FOUR_ROOMS
from escapevelocity.report.lab.canvas import color, distinct, legend_beside, new_figure, panels, select

_MARKERS = "osDPvX*"  # no upward triangle: it marks what did not happen
_GOAL, _SUBGOALS = (11, 11), ((1, 1), (1, 11), (11, 1))
_ARROWS = {"north": (0.0, -1.0), "east": (1.0, 0.0), "south": (0.0, 1.0), "west": (-1.0, 0.0)}


def draw(experiment: FourRooms, findings: Findings) -> dict[str, Figure]:
    """Draw the value against iterations, the value maps, and the map of the cells' escapes."""
    return {
        "": _curves(experiment, findings.tables[""]),
        "maps": _maps(experiment, findings.tables["maps"]),
        "cells": _cells(experiment, findings.tables["cells"]),
    }


def _curves(experiment: FourRooms, data: Columns) -> Figure:
    figure = new_figure(
        10.5,
        3.5,
        f"Four rooms, γ = {experiment.gamma:g}, exact gradients, from the policy in the well. Left: V(μ), each method "
        "at its own best rate; grey: the optimum. Right: iterations until nine tenths of the gap are closed, at every "
        f"rate of the grid; open triangles: not within {experiment.iterations:,}; filled: the best rate, the fewest "
        "iterations and still closed at the end.",
    )
    left, right = panels(figure, 1, 2)
    for index, method in enumerate(distinct(data, "method")):
        rows = select(data, method=method)
        best = select(rows, is_best=True)
        style: dict[str, Any] = {"color": color(index), "marker": _MARKERS[index % len(_MARKERS)]}
        shown = best["iteration"] > 0  # a log axis has no zero
        every = max(1, shown.sum() // 8)
        left.plot(
            best["iteration"][shown],
            best["value"][shown],
            markevery=(3 * index, every),
            markersize=4,
            **style,
        )
        _draw_rates(right, rows, experiment.iterations, f"{method}, best η = {best['rate'][0]:g}", style)
    optimum = float(np.max(np.asarray(data["value"])[np.asarray(data["share_left"]) < 1e-6], initial=0))
    if optimum > 0:
        left.axhline(optimum, color="#999999", linewidth=1, linestyle=":")
    left.set(xscale="log", xlabel="iterations", ylabel="V(μ)", title="value")
    right.set(xscale="log", yscale="log", xlabel="learning rate η", ylabel="iterations until 90 % closed")
    right.set_title("every rate of the grid")
    right.yaxis.set_minor_formatter(NullFormatter())
    legend_beside(right)
    return figure


def _draw_rates(
    axes: Axes, rows: dict[str, np.ndarray], limit: int, label: str, style: dict[str, Any]
) -> None:
    once = select(rows, iteration=0)
    solved = ~np.isnan(once["solved_at"])
    shade = style["color"]
    axes.plot(once["rate"][solved], once["solved_at"][solved], color=shade, linewidth=1.0)
    hollow: dict[str, Any] = {"linestyle": "none", "markerfacecolor": "white", "markersize": 5}
    axes.plot(once["rate"][solved], once["solved_at"][solved], **style, **hollow)
    hollow["markerfacecolor"] = "none"
    axes.plot(once["rate"][~solved], np.full((~solved).sum(), limit), color=shade, marker="^", **hollow)
    best = once["is_best"]
    axes.plot(
        once["rate"][best],
        np.where(solved, once["solved_at"], limit)[best],
        label=label,
        markersize=6,
        **style,
    )


def _maps(experiment: FourRooms, data: Columns) -> Figure:
    methods = [m for m in distinct(data, "method") if m != "optimum"]
    steps = sorted({*np.asarray(data["iteration"]).tolist()})
    figure = new_figure(
        1.55 * (len(steps) + 1) + 1.2,
        1.62 * len(methods) + 0.25,
        "State values at some iterations, each method at its own best rate; walls are dark. Arrows: each cell's "
        f"likeliest action, the longer the likelier. G: goal ({experiment.goal_reward:g}), s: sub-goals "
        f"({experiment.subgoal_reward:g}). First column: the start, the same for all; last: the optimum.",
    )
    axes = panels(figure, len(methods), len(steps) + 1)
    values = np.asarray(data["value"])
    is_end = np.abs(values) <= 1e-9 * np.abs(values).max()  # the ends are worth 0
    inside = values if is_end.all() else values[~is_end]
    low, high = float(inside.min()), float(inside.max())
    scale = Normalize(low - 0.4 * (high - low), high)  # no colour so dark that the arrows vanish in it
    optimum = select(data, method="optimum")
    image = None
    for i, method in enumerate(methods):
        for j in range(len(steps) + 1):
            cell = axes[i * (len(steps) + 1) + j]
            last = j == len(steps)
            rows = optimum if last else select(data, method=method, iteration=steps[j])
            image = _draw_map(cell, rows, "value", scale)
            _draw_arrows(cell, rows)
            if i == 0:
                cell.set_title(
                    "optimum" if last else "start" if steps[j] == 0 else f"{steps[j]:,} iterations"
                )
            if j == 0:
                cell.set_ylabel(method)
    if image is not None:
        figure.colorbar(image, ax=axes, label="V(s)", shrink=0.6, aspect=30)
    return figure


def _cells(experiment: FourRooms, data: Columns) -> Figure:
    methods = distinct(data, "method")
    figure = new_figure(
        1.9 * len(methods) + 1.0,
        2.0,
        "Iterations until a tenth of each cell's own gap V*(s) − V(s) is closed, each method at its own best rate. "
        f"Hatched: not within {experiment.iterations:,} iterations. Ends, where nothing can be gained, are blank.",
    )
    axes = panels(figure, 1, len(methods))
    scale, image = LogNorm(1, experiment.iterations), None
    for cell, method in zip(axes, methods, strict=True):
        rows = select(data, method=method)
        never = np.isnan(rows["escaped_at"])
        shown = {name: column[~never] for name, column in rows.items()}
        shown["escaped_at"] = np.maximum(shown["escaped_at"], 1)
        image = _draw_map(cell, shown, "escaped_at", scale)
        for row, column in zip(rows["row"][never], rows["column"][never], strict=True):
            cell.add_patch(_hatched(int(column), int(row)))
        cell.set_title(f"{method}, η = {rows['rate'][0]:g}")
    if image is not None:
        figure.colorbar(image, ax=axes, label="iterations", aspect=15)
    return figure


def _hatched(column: int, row: int) -> Rectangle:
    return Rectangle(
        (column - 0.5, row - 0.5), 1, 1, facecolor="#eeeeee", edgecolor="#999999", hatch="////", linewidth=0
    )


def _draw_map(axes: Axes, rows: dict[str, np.ndarray], name: str, scale: Normalize) -> AxesImage:
    lines = FOUR_ROOMS.splitlines()
    grid = np.full((len(lines), len(lines[0])), np.nan)
    grid[rows["row"].astype(int), rows["column"].astype(int)] = rows[name]
    for end in (_GOAL, *_SUBGOALS):
        grid[end] = np.nan
    walls = np.array([[1.0 if mark == "#" else np.nan for mark in line] for line in lines])
    image = axes.imshow(grid, cmap="viridis", norm=scale)
    axes.imshow(walls, cmap="gray", vmin=0.7, vmax=2)
    for (row, column), mark in ((_GOAL, "G"), *((cell, "s") for cell in _SUBGOALS)):
        axes.text(
            column, row, mark, ha="center", va="center", fontsize=6.5, fontweight="bold", color="#D55E00",
            bbox={"boxstyle": "square,pad=0.1", "facecolor": "white", "edgecolor": "none"},
        )  # fmt: skip
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return image


def _draw_arrows(axes: Axes, rows: dict[str, np.ndarray]) -> None:
    """An arrow for the likeliest action of every cell; as long as its probability is above chance."""
    names = list(_ARROWS)
    probs = np.stack([rows[name] for name in names])
    likeliest = probs.argmax(axis=0)
    length = 0.25 + 0.6 * (probs.max(axis=0) - 0.25)
    across, down = (np.array([_ARROWS[name][i] for name in names])[likeliest] * length for i in (0, 1))
    ends = {_GOAL, *_SUBGOALS}
    inside = np.array([cell not in ends for cell in zip(rows["row"], rows["column"], strict=True)])
    x, y = rows["column"].astype(float), rows["row"].astype(float)
    axes.quiver(
        x[inside], y[inside], across[inside], down[inside], angles="xy", scale_units="xy", scale=1,
        pivot="middle", color="black", width=0.012, headwidth=4, headlength=4, headaxislength=3.5,
    )  # fmt: skip
