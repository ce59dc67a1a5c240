"""escort.png: learning curves of the second stage, and below them what the first stage said of learning rates."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from escapevelocity.report._figure import COLORS, paper_style
from escapevelocity.study.bootstrap import bootstrap_interval
from escapevelocity.study.grid import Study
from escapevelocity.study.history import History
from escapevelocity.study.papers.nrnt.pictures import say
from escapevelocity.study.statistics import iqm
from studies.escort_minatar.choice import LAST_TEXT, RETURN, tasks_and_heads
from studies.escort_minatar.page import game
from studies.escort_minatar.plan import grid, select
from studies.measures import BOOTSTRAP_SEED, DEAD_RETURN, finite_mean, side_by_side
from studies.running import finished

STRETCHES = 20
"""Points of a curve: in each stretch every seed must have ended an episode, and one of Freeway takes 40 batches."""
_REPETITIONS = 2_000


def draw(document: Mapping[str, Any], study: Study, history: History, path: Path) -> None:
    """Draw a column for each game.

    Args:
        document: chosen.json.
        study: the second stage.
        history: its runs.
        path: the picture.
    """
    done = finished(history)
    tasks, _ = tasks_and_heads(document)
    with paper_style():
        figure = Figure(figsize=(1 + 2.4 * len(tasks), 5), layout="constrained")
        FigureCanvasAgg(figure)
        grid_of_axes = figure.subplots(2, len(tasks), squeeze=False)
        for (task, head, _), cell in grid(study).items():
            column, color = tasks.index(task), _color(document, head)
            _draw_curve(grid_of_axes[0, column], select(done, cell), head, color)
        for column, task in enumerate(tasks):
            _draw_rates(grid_of_axes[1, column], document, task)
            grid_of_axes[0, column].set(title=game(task), xlabel="steps (thousands)")
            if not grid_of_axes[0, column].lines:
                grid_of_axes[0, column].set(xticks=[], yticks=[])
                say(grid_of_axes[0, column], "no run has ended yet")
            grid_of_axes[1, column].set(xlabel="learning rate", xscale="log")
        grid_of_axes[0, 0].set_ylabel("return")
        grid_of_axes[1, 0].set_ylabel(f"return, last {LAST_TEXT}\n(choosing seeds)")
        handles, labels = grid_of_axes[1, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
        figure.savefig(path, metadata={"Software": None})


def _color(document: Mapping[str, Any], head: str) -> str:
    return COLORS[tasks_and_heads(document)[1].index(head)]


def _draw_curve(axes: Axes, history: History, head: str, color: str) -> None:
    """IQM over seeds of the mean return in each stretch, with its 95 % bootstrap interval; dead seeds stay in it."""
    lives = side_by_side(history, RETURN)
    edges = lives.total * np.arange(1, STRETCHES + 1) / STRETCHES
    stretch = np.minimum(np.searchsorted(edges, lives.steps), STRETCHES - 1)
    points = []
    for number, edge in enumerate(edges):
        means = finite_mean(lives.values[:, stretch == number])
        means = np.where(lives.died <= edge - lives.total / STRETCHES, DEAD_RETURN, means)
        means = means[np.isfinite(means)]
        if means.size:
            found = bootstrap_interval(means, iqm, seed=BOOTSTRAP_SEED, repetitions=_REPETITIONS)
            points.append((edge / 1e3, found.estimate, found.low, found.high))
    if not points:
        return
    at, middle, low, high = np.array(points).T
    axes.plot(at, middle, color=color, label=head)
    axes.fill_between(at, low, high, color=color, alpha=0.2, lw=0)


def _draw_rates(axes: Axes, document: Mapping[str, Any], task: str) -> None:
    for head in tasks_and_heads(document)[1]:
        best = document["chosen"][task][head]
        rows = [row for row in document["scores"] if row["task"] == task and row["head"] == head]
        rates = [row["learning_rate"] for row in rows]
        values = [np.nan if row["score"] is None else row["score"] for row in rows]
        color = _color(document, head)
        axes.plot(rates, values, "o-", color=color, ms=3, label=head)
        axes.plot([best], [values[rates.index(best)]], "o", color=color, ms=7, mfc="none")
