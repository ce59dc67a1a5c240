"""The paper's figures drawn from this study's runs, and what they say of the paper's claims."""

from __future__ import annotations

from pathlib import Path

from escapevelocity.report import _figure
from escapevelocity.runs.atomic import write_bytes
from escapevelocity.study.history import History
from escapevelocity.study.papers.figure import PaperFigure
from escapevelocity.study.papers.registry import find_figure
from escapevelocity.study.plan import plan
from escapevelocity.study.store import Store

FIGURES = ("nrnt/figure-1", "nrnt/figure-2", "nrnt/figure-3", "nrnt/figure-4", "nrnt/figure-6")
TASKS = ("Hopper-v4", "Hopper-v4-relu")


def draw_all(history: History, store: Store, folder: Path) -> str:
    """Draw every figure for both activations into `folder`; give the part of the page that shows them."""
    parts = []
    for identity in FIGURES:
        figure = find_figure(identity)
        assert isinstance(figure, PaperFigure)
        number = identity.rpartition("-")[2]
        parts.append(f"### Figure {number}: {figure.title}\n\n*Claimed:* {figure.claim}")
        for task in TASKS:
            own = _own_runs(history, figure, task, store)
            if own.runs:
                parts += _draw(figure, own, task, folder / f"figure-{number}-{task}.png")
    return "\n\n".join(parts)


def _own_runs(history: History, figure: PaperFigure, task: str, store: Store) -> History:
    """The runs of the figure's grid at the paper's scale."""
    names = {planned.order.name for planned in plan(figure.study(task, "paper"), store, record=False)}
    return History(tuple(run for run in history.runs if run.name in names), history.rows)


def _draw(figure: PaperFigure, history: History, task: str, path: Path) -> list[str]:
    with _figure.paper_style():
        write_bytes(path, _figure.encode(figure.draw(history, task), "png"))
    # The rule behind every judgement stands once on the page.
    said = [f"- {sentence.partition(' Rule:')[0]}" for sentence in figure.measured(history, task)]
    return [f"![{figure.title}, {task}]({path.name})", "\n".join(said)]
