"""map.png: rank, dead units and norm at the end of training over the learning rate, a column for each task."""

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from escapevelocity.report._figure import COLORS, paper_style
from escapevelocity.study.history import History
from studies.collapse_map.outcomes import Place, places
from studies.curves import scale
from studies.measures import iqm_interval
from studies.running import finished
from studies.sb3_replication.outcomes import ILL_DEAD, ILL_RANK

_ROWS = (
    ("rank", "actor's rank (PCA)", "linear", ILL_RANK),
    ("dead", "dead units of 64", "linear", 64 * ILL_DEAD),
    ("growth", "norm, end / start", "log", None),
)


def draw(history: History, path: Path) -> None:
    """Draw a point for each seed, and a line through the interquartile means of each number of epochs."""
    found = places(finished(history))
    if not found:
        return
    tasks = list(dict.fromkeys(one.task for one in found))
    epochs = sorted({one.epochs for one in found})
    rates = sorted({one.rate for one in found})
    with paper_style():
        figure = Figure(figsize=(1 + 2.4 * len(tasks), 6.4), layout="constrained")
        FigureCanvasAgg(figure)
        grid = figure.subplots(len(_ROWS), len(tasks), sharex=True, sharey="row", squeeze=False)
        for row, (measure, title, scaled, level) in enumerate(_ROWS):
            for column, task in enumerate(tasks):
                axes = grid[row, column]
                for place, (count, color) in enumerate(zip(epochs, COLORS, strict=False)):
                    own = [one for one in found if (one.task, one.epochs) == (task, count)]
                    _draw_line(axes, own, measure, color, f"{count} epochs", 1 + 0.08 * (place - 0.5))
                scale(axes, scaled)
                axes.set_xscale("log")
                axes.xaxis.set_major_locator(FixedLocator(rates))
                axes.xaxis.set_minor_locator(NullLocator())
                axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
                if level is not None:
                    axes.axhline(level, color="#999999", lw=0.8, ls=(0, (4, 2)))
            grid[row, 0].set_ylabel(title)
        for column, task in enumerate(tasks):
            grid[0, column].set_title(task)
            grid[-1, column].set_xlabel("learning rate")
        handles, labels = grid[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(epochs), frameon=False)
        figure.savefig(path, metadata={"Software": None})


def _draw_line(axes: Axes, own: list[Place], measure: str, color: str, label: str, aside: float) -> None:
    """One number of epochs; points of the two lie a little aside of each other."""
    means = [(one.rate, iqm_interval(getattr(one, measure), repetitions=1)) for one in own]
    known = [(rate, found.estimate) for rate, found in means if found is not None]
    axes.plot([rate * aside for rate, _ in known], [value for _, value in known], color=color, label=label)
    for one in own:
        values = list(getattr(one, measure).values())
        axes.plot([one.rate * aside] * len(values), values, "o", color=color, ms=3, alpha=0.5, mew=0)
