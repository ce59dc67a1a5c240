"""From a figure's id to its picture: plan its runs, train what is missing, gather, draw, write the page."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from escapevelocity.errors import UserError
from escapevelocity.study.papers.figure import AnyFigure, LabFigure, Scale
from escapevelocity.study.papers.registry import PAPERS, figures_of, find_figure

if TYPE_CHECKING:
    from escapevelocity.lab.experiments.experiment import Track
    from escapevelocity.study.plan import Order, Planned
    from escapevelocity.study.store import Store


@dataclasses.dataclass(frozen=True)
class Wanted:
    """A figure to regenerate: which, on which task, at what scale."""

    figure: AnyFigure
    task: str
    """One of the figure's tasks; "" where it has none."""
    scale: Scale
    store: str = ""
    """Where its runs are, as --store says; "" for the default."""
    history: Path | None = None
    """The kept history that it is drawn from too, as --history says."""

    @property
    def stem(self) -> str:
        """The path of its files below --out, without their ending, such as nrnt/figure-6-Hopper-v4."""
        task = self.task.replace("/", "-")
        return f"{self.figure.id}-{task}" if task else self.figure.id

    @property
    def command(self) -> list[str]:
        """The command line that regenerates it, into the default folder."""
        task = ["--task", self.task] if self.task else []
        store = ["--store", _from_here(self.store)] if self.store else []
        has_runs = not isinstance(self.figure, LabFigure)
        history = ["--history", _from_here(self.history)] if self.history is not None and has_runs else []
        return ["ev", "reproduce", self.figure.id, *task, "--scale", self.scale, *store, *history]


class Drawn(NamedTuple):
    """What came of one figure."""

    wanted: Wanted
    paths: Sequence[Path]
    """The files that were written."""
    said: Sequence[str]
    """What we measured."""
    problem: str
    """Why it could not be drawn, in one line; "" when it could."""


class Listed(NamedTuple):
    """A figure that can be regenerated."""

    id: str
    title: str
    tasks: tuple[str, ...]
    """What --task accepts."""
    cost: str
    """What scale small takes on the first of them."""


def select(ids: Sequence[str], papers: Sequence[str], task: str, scale: Scale) -> list[Wanted]:
    """What to regenerate.

    Args:
        ids: figures by id.
        papers: papers of which every figure is wanted; those without the task are passed over.
        task: on which task; "" for each figure's own default.
        scale: at what size.

    Raises:
        UserError: for an unknown figure or paper, or a task that a figure named by its id does not have, or that
            none of a paper's figures has.
    """
    found = []
    for figure in map(find_figure, ids):
        if task and task not in figure.tasks:
            accepted = f"one of {', '.join(figure.tasks)}" if figure.tasks else "left out: it has none"
            raise UserError(f"task = {task!r}: must be, for {figure.id}, {accepted}")
        found.append(Wanted(figure, task or _default(figure), scale))
    whole = [figure for paper in papers for figure in figures_of(paper)]
    some = [one for one in whole if not task or task in one.tasks]
    if whole and not some:
        known = sorted({name for one in whole for name in one.tasks})
        raise UserError(
            f"task = {task!r}: no figure of {', '.join(papers)} has it; known are {', '.join(known) or 'none'}"
        )
    found += [Wanted(one, task or _default(one), scale) for one in some]
    return list({one.stem: one for one in found}.values())


def every_paper() -> list[str]:
    """The papers by short name."""
    return list(PAPERS)


def plan_figures(
    wanted: Iterable[Wanted], store: Store, history: Path | None = None
) -> dict[str, list[Planned]]:
    """The runs that each figure needs, by the figure's stem, in the state they are in; the lab's need none.

    Args:
        wanted: the figures.
        store: where the runs are.
        history: a kept file; what it holds as finished is not trained.
    """
    from escapevelocity.study.ended import ended_runs
    from escapevelocity.study.plan import plan

    kept = ended_runs(history)

    plans = {}
    for one in wanted:
        study = one.figure.study(one.task, one.scale)
        plans[one.stem] = [] if study is None else plan(study, store, kept=kept)
    return plans


def distinct(plans: Mapping[str, Sequence[Planned]]) -> list[Planned]:
    """Every run once, in the order in which figures ask for them: they share what they can."""
    return list({planned.order.name: planned for runs in plans.values() for planned in runs}.values())


def unfinished(plans: Mapping[str, Sequence[Planned]]) -> list[Order]:
    """What is to be trained: all that is not finished; what failed before is tried again from its last checkpoint."""
    return [one.order for one in distinct(plans) if not one.is_done]


def measure(
    wanted: Iterable[Wanted], plans: Mapping[str, Sequence[Planned]], store: Store, track: Track
) -> list[str]:
    """Measure what figures show beside the records, such as capacity losses; a line for what could not be read."""
    from escapevelocity.study.capacity import measure_capacity

    asked = {one.stem: plans[one.stem] for one in wanted if getattr(one.figure, "shows_capacity", False)}
    return measure_capacity(distinct(asked), store, track) if asked else []


def draw_figure(
    wanted: Wanted,
    plans: Mapping[str, Sequence[Planned]],
    store: Store,
    out: Path,
    track: Track | None,
    history: Path | None = None,
) -> Drawn:
    """Draw one figure from what is in the store and in a kept history, and write its files.

    Args:
        wanted: the figure.
        plans: the figures' runs, from `plan_figures`.
        store: where they are.
        out: the folder of the figures; a folder per paper is made in it.
        track: shows how far the lab's experiment is; None: nothing is computed, only drawn.
        history: the file of the kept history, where there is one.

    Returns:
        The files and sentences, or why there are none.
    """
    from escapevelocity.study.reproduced_page import write_lab, write_study

    figure = wanted.figure
    try:
        if isinstance(figure, LabFigure):
            written = write_lab(wanted, figure, store, out, track)
        else:
            written = write_study(wanted, figure, plans[wanted.stem], store, out, history)
        return Drawn(wanted, *written, "")
    except UserError as error:
        return Drawn(wanted, (), (), " ".join(str(error).split()))


def cost(figure: AnyFigure) -> str:
    """What scale small of a figure takes on its first task: runs and environment steps, or the lab's own words."""
    if isinstance(figure, LabFigure):
        return figure.cost
    from escapevelocity.study.grid import cells
    from escapevelocity.study.kinds import kind

    study = figure.study(_default(figure), "small")
    made = kind(study.job)
    found = cells(study)
    steps = sum(made.steps(made.spec(cell.settings, study.seeds)) for cell in found) * len(study.seeds)
    return f"{len(found)} runs of {len(study.seeds)} seeds, {steps / 1e6:.3g}M steps"


def listing(figures: Iterable[AnyFigure]) -> list[Listed]:
    """What `ev reproduce --list` says of figures."""
    return [Listed(one.id, one.title, one.tasks, cost(one)) for one in figures]


def _from_here(path: str | Path) -> str:
    """A path below the current folder as seen from there, so that a page serves other machines too."""
    below = Path(path).is_absolute() and Path(path).is_relative_to(Path.cwd())
    return str(Path(path).relative_to(Path.cwd())) if below else str(path)


def _default(figure: AnyFigure) -> str:
    return figure.tasks[0] if figure.tasks else ""
