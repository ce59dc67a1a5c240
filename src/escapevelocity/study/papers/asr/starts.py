"""The figure of the well's measures over mean and standard deviation of the start."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from escapevelocity.errors import UserError
from escapevelocity.metric_learning.starts import parse_start
from escapevelocity.study.asr_wells import NARROW, StartWells, seeds_interval, wells_by_start
from escapevelocity.study.asr_wells_page import answer, wells_figure, wells_table
from escapevelocity.study.bootstrap import Interval
from escapevelocity.study.papers.asr.arms import finished, written
from escapevelocity.study.papers.asr.size import TASKS, asr_study
from escapevelocity.study.papers.figure import Scale

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from escapevelocity.study.grid import Study
    from escapevelocity.study.history import History

MEANS, STDS = (0.3, 0.5, 0.75, 1.0, 1.2), (0.05, 0.15, 0.4)
"""Those of `ev asr study`."""


@dataclass(frozen=True)
class StartsFigure:
    """A run for each normal start of a grid, and `narrow`, which the final gain is measured from."""

    id: str
    title: str
    claim: str
    tasks: tuple[str, ...] = TASKS

    def study(self, task: str, scale: Scale) -> "Study":
        """The grid; at scale small its middle row and column."""
        pairs = [(m, s) for m in MEANS for s in STDS if scale == "paper" or _is_small(m, s)]
        grid = tuple(f"normal({m:g},{s:g})" for m, s in pairs)
        return asr_study("starts", task, scale, {"init": (NARROW, *grid)})

    def wells(self, history: "History") -> list[StartWells]:
        """Wells of the finished runs that differ from each other in their start alone."""
        plain = finished(history).where(
            sampler="adaptive",
            self_regularisation=True,
            head="softmax",
            controller_learning_rate=0.01,
            weight_std=None,
        )
        starts = [name for name in {str(run.settings["init"]) for run in plain.runs} if _is_of_grid(name)]
        return wells_by_start(plain.where(init=tuple(starts)))

    def draw(self, history: "History", task: str) -> "Figure":
        """Depth, duration and final gain as maps.

        Raises:
            UserError: no run of a normal start is there.
        """
        from escapevelocity.report import _figure

        wells = self.wells(history)
        if not any(_is_normal(one) for one in wells):
            raise UserError(f"{self.id}: no run of {task} has a normal start")
        with _figure.paper_style():
            return wells_figure(wells, task)

    def measured(self, history: "History", task: str) -> list[str]:
        """How often there was a well, and how its depth and the final gain go with spread and mean."""
        wells = [one for one in self.wells(history) if _is_normal(one)]
        if not wells:
            return []
        said = [answer(wells)]
        for part in (1, 0):
            own, other = _PARTS[part], _PARTS[1 - part]
            among, where = _comparable(wells, part)
            if not any(among.values()):
                said.append(f"by {own} of the start: nothing to compare, no {other} is there at every {own}.")
                continue
            for measure, shown in (("depth", "depth"), ("final_gain", "final gain over narrow")):
                values = [f"{level:g}: {written(_pooled(ones, measure))}" for level, ones in among.items()]
                said.append(
                    f"{shown} by {own} of the start{where}, mean over starts and seeds: {'; '.join(values)}."
                )
        wanted = {f"normal({m:g},{s:g})" for m in MEANS for s in STDS if _is_small(m, s)}
        missing = sorted(wanted - {one.init for one in wells})
        said += [f"not measured, for want of finished runs: {', '.join(missing)}."] if missing else []
        return [text[0].upper() + text[1:] for text in said]

    def answers(self, history: "History", task: str) -> list[str]:
        """What stands beside `table`: the same as `measured`."""
        return self.measured(history, task)

    def table(self, history: "History") -> list[str]:
        """A row in Markdown for each start."""
        return wells_table(self.wells(history)).splitlines()


_PARTS = ("mean", "standard deviation")


def _comparable(wells: list[StartWells], part: int) -> tuple[dict[float, list[StartWells]], str]:
    """The starts by mean (part 0) or standard deviation (part 1), alike in the other number.

    Only those values of the other count that every level has; where these are not all, the text names them.
    """
    levels = sorted({_place(one)[part] for one in wells})
    others = [{_place(one)[1 - part] for one in wells if _place(one)[part] == level} for level in levels]
    shared = set.intersection(*others)
    among = {
        level: [one for one in wells if _place(one)[part] == level and _place(one)[1 - part] in shared]
        for level in levels
    }
    if shared == set.union(*others):
        return among, ""
    return among, f" at {_PARTS[1 - part]} {', '.join(f'{value:g}' for value in sorted(shared))}"


def _is_small(mean_of_start: float, std: float) -> bool:
    """Whether a start of the grid is in its middle row or column."""
    return mean_of_start == MEANS[2] or std == STDS[2]


def _pooled(wells: list[StartWells], measure: str) -> Interval | None:
    """Mean over starts, per seed; then the interval over seeds, which are what was drawn at random."""
    values = np.array([one.values[measure] for one in wells if len(one.seeds) == len(wells[0].seeds)])
    by_seed = values.mean(axis=0)
    return seeds_interval(by_seed[np.isfinite(by_seed)], measure)


def _place(one: StartWells) -> tuple[float, float]:
    start = parse_start(one.init)
    return float(start.mean or 0.0), float(start.std or 0.0)


def _is_normal(one: StartWells) -> bool:
    return one.init.startswith("normal(")


def _is_of_grid(init: str) -> bool:
    return init == NARROW or init in {f"normal({m:g},{s:g})" for m in MEANS for s in STDS}


FIGURES = (
    StartsFigure(
        "asr/starts",
        "depth, duration and final gain of the well over mean and standard deviation of the start",
        "A question that the papers leave open: the well comes with the start of high variance, but how do its depth "
        "and duration depend on the start's mean and standard deviation?",
    ),
)
