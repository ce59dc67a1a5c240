"""What every figure says at small scale, as a table and a section for each."""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from escapevelocity.study.history import History
from escapevelocity.study.papers.figure import AnyFigure, LabFigure
from escapevelocity.study.plan import plan
from escapevelocity.study.store import Store

_JUDGED = re.compile(r"^Judgement[^:]*: (?P<outcome>.+?)\. |Judgement: (?P<toy>.+)\.$")
_ADVERB = re.compile(r"^(?P<outcome>Confirmed|Not confirmed|Partly confirmed|Cannot be told)\b")


class Told(NamedTuple):
    """A figure and what its runs, or the lab, said of its claim."""

    figure: AnyFigure
    task: str
    """One of the figure's tasks; "" where it has none."""
    runs: tuple[int, int] | None
    """How many runs there are, and how many it needs; None for the lab's."""
    said: Sequence[str]


def runs_of(figure: AnyFigure, store: Store) -> set[str]:
    """The names of the runs that a figure needs on its first task; any store will do."""
    if isinstance(figure, LabFigure):
        return set()
    study = figure.study(figure.tasks[0], "small")
    return {planned.order.name for planned in plan(study, store, record=False)}


def tell(
    figure: AnyFigure, history: History, store: Store, lab: Callable[[LabFigure], Sequence[str]]
) -> Told:
    """What a figure says on its first task.

    Args:
        figure: which.
        history: finished runs, of this figure and others.
        store: any; runs are named as they would be there.
        lab: says it for a figure that needs no runs.
    """
    if isinstance(figure, LabFigure):
        return Told(figure, "", None, lab(figure))
    task = figure.tasks[0]
    wanted = runs_of(figure, store)
    own = History(tuple(run for run in history.runs if run.name in wanted), history.rows)
    return Told(figure, task, (len(own.runs), len(wanted)), figure.measured(own, task) if own.runs else [])


def outcome(said: Sequence[str]) -> str:
    """The judgement among the sentences, in lower case; "–" where there is none."""
    for sentence in said:
        if found := _JUDGED.search(sentence):
            return found["outcome"] or found["toy"]
        if found := _ADVERB.match(sentence):
            return found["outcome"].lower()
    return "–"


def page(told: Iterable[Told]) -> str:
    """The table of all figures, then what each says."""
    rows, sections = [], []
    for one in told:
        runs = "the lab" if one.runs is None else f"{one.runs[0]} of {one.runs[1]}"
        short = one.figure.title.partition(" (our ")[0]
        rows.append(
            f"| {one.figure.id} | {short[0].upper()}{short[1:]} | {one.task or '–'} | {runs} | {outcome(one.said)} |"
        )
        if one.said:
            sections.append(_section(one))
    heading = ["| figure | shows | on | runs | judgement |", "| --- | --- | --- | --- | --- |"]
    return "\n".join([*heading, *rows]) + "\n\n" + "\n\n".join(sections)


def _section(told: Told) -> str:
    # The rule behind the judgements stands once on the page.
    said = [f"- {sentence.partition(' Rule:')[0]}" for sentence in told.said]
    where = f", {told.task}" if told.task else ""
    return "\n".join([f"### {told.figure.id}{where}", "", f"*Claimed:* {told.figure.claim}", "", *said])
