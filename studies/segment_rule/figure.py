"""segments.png: curves under both rules, and the differences seed by seed."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from escapevelocity.report._figure import COLORS, paper_style
from escapevelocity.study.history import History
from studies.curves import draw_lives, scale
from studies.measures import DEAD_RETURN, at_end, by_seed, side_by_side
from studies.running import finished
from studies.segment_rule.compare import RETURN, epochs_of
from studies.segment_rule.plan import JOBS

_PANELS = (
    (RETURN, "return", "linear"),
    ("health/actor/feature_rank_pca_after", "actor's feature rank (PCA)", "linear"),
    ("health/actor/preactivation_norm", "actor's pre-activation norm", "log"),
)


def draw(history: History, path: Path) -> None:
    """Draw a row for each number of epochs: three curves, mean and range over seeds, and final returns in pairs."""
    done = finished(history)
    rows = epochs_of(done)
    if not rows:
        return
    with paper_style():
        figure = Figure(figsize=(11.5, 2.6 * len(rows)), layout="constrained")
        FigureCanvasAgg(figure)
        grid = figure.subplots(len(rows), len(_PANELS) + 1, squeeze=False)
        for epochs, panels in zip(rows, grid, strict=True):
            for (column, title, scaled), axes in zip(_PANELS, panels[:-1], strict=True):
                _draw_curves(axes, done.where(epochs=epochs), column)
                axes.set(title=f"{title}, {epochs} epochs", xlabel="steps (thousands)")
                scale(axes, scaled)
            _draw_pairs(panels[-1], done.where(epochs=epochs))
        handles, labels = grid[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)
        figure.savefig(path, metadata={"Software": None})


def _draw_curves(axes: Axes, history: History, column: str) -> None:
    for (title, job), color in zip(JOBS.items(), COLORS, strict=False):
        draw_lives(axes, side_by_side(history.where(job=job), column), color, title)


def _draw_pairs(axes: Axes, history: History) -> None:
    """Each seed's final return under one rule against that under the other."""
    forty, one = (by_seed(history.where(job=job), RETURN, at_end(dead=DEAD_RETURN)) for job in JOBS.values())
    shared = sorted(forty.keys() & one.keys())
    x, y = (np.array([scores[seed] for seed in shared]) for scores in (one, forty))
    axes.plot(x, y, "o", color=COLORS[2], ms=3.5)
    axes.axline((float(np.nanmean(x)), float(np.nanmean(x))), slope=1, color="#999999", lw=0.8)
    axes.set(title="return, last 5 %: a dot per seed", xlabel="1 segment", ylabel="40 segments")
