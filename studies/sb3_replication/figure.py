"""replication-relu.png and replication-tanh.png: curves of both trainers, a column for each setting."""

from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from escapevelocity.report._figure import COLORS, paper_style
from escapevelocity.study.history import History
from studies.curves import draw_lives, scale
from studies.measures import side_by_side
from studies.running import finished
from studies.sb3_replication.outcomes import DEAD, NORM, RANK, RETURN, select, setting_of
from studies.sb3_replication.page import TITLES

_ROWS = (
    (RETURN, "return", "linear"),
    (RANK, "actor's rank (PCA)", "linear"),
    (DEAD, "dead units of 64", "linear"),
    (NORM, "pre-activation norm", "log"),
)


def draw(history: History, folder: Path) -> None:
    """Draw a figure for each activation: mean and range over seeds."""
    done = finished(history)
    settings = sorted({setting_of(run.settings) for run in done.runs})
    for activation in dict.fromkeys(setting.activation for setting in settings):
        columns = [setting for setting in settings if setting.activation == activation]
        with paper_style():
            figure = Figure(figsize=(1 + 2.1 * len(columns), 7), layout="constrained")
            FigureCanvasAgg(figure)
            grid = figure.subplots(len(_ROWS), len(columns), sharex="col", sharey="row", squeeze=False)
            for place, setting in enumerate(columns):
                for (column, title, scaled), panels in zip(_ROWS, grid, strict=True):
                    for (job, label), color in zip(TITLES.items(), COLORS, strict=False):
                        lives = side_by_side(select(done, setting, job), column)
                        draw_lives(panels[place], lives, color, label)
                    scale(panels[place], scaled)
                    if place == 0:
                        panels[place].set_ylabel(title)
                grid[0, place].set_title(f"rate {setting.learning_rate:g}\n{setting.epochs} epochs")
                grid[-1, place].set_xlabel("steps (thousands)")
            handles = {h.get_label(): h for axes in grid[0] for h in axes.get_legend_handles_labels()[0]}
            figure.suptitle(f"Hopper-v4, {activation}", fontsize="medium")
            figure.legend(handles=list(handles.values()), loc="outside lower center", ncols=2, frameon=False)
            figure.savefig(folder / f"replication-{activation}.png", metadata={"Software": None})
