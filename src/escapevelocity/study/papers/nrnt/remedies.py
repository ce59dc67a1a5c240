"""Figure 6: box plots of the end of training under each remedy, all numbers of epochs together."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from escapevelocity.report._panels import Panel
from escapevelocity.study.papers.figure import Scale
from escapevelocity.study.papers.nrnt.arms import ARMS, FEW_ARMS, NONE, PFO_LAST, TRUNK_NOTE, Arm
from escapevelocity.study.papers.nrnt.base import Found, RunFigure, arm_axis
from escapevelocity.study.papers.nrnt.judge import Check, paired
from escapevelocity.study.papers.nrnt.lacking import CAPACITY, listed, measured_epochs, not_measured
from escapevelocity.study.papers.nrnt.members import Group, Readings, group
from escapevelocity.study.papers.nrnt.panels import PANELS
from escapevelocity.study.papers.nrnt.read import Span, comparable, end_sentence
from escapevelocity.study.papers.nrnt.settings import TASKS, Setting

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Over: TypeAlias = Literal["last", "whole"]
"""What is read: the last 5 % of training, or the mean over all of it."""
_SHOWN = ("return", "excess", "dead after", "norm after", "actor rank", CAPACITY)
"""In the order of the paper's Figure 6."""
_SIDES = "Dead neurons, norm and rank are those after the update, as in the paper's Figure 6."
CLAIMED: dict[str, Literal["above", "below"]] = {"norm": "below", "actor rank": "above", "return": "above"}
"""What the paper says of PFO against no remedy, of curves."""
CLAIMED_OF_BOXES: dict[str, Literal["above", "below"]] = {
    "norm after": "below",
    "actor rank": "above",
    "return": "above",
}
"""The same, by what Figure 6 reads."""


def remedy_axes(setting: Setting, scale: Scale) -> dict[str, Iterable[Any]]:
    """Epochs and remedies; at small scale the most epochs alone, and on Atari three of the remedies."""
    small = scale == "small"
    arms = FEW_ARMS if small and setting.family == "atari" else ARMS
    return {"epochs": setting.epochs[-1:] if small else setting.epochs, "arm": arm_axis(arms, setting)}


def arm_groups(found: Found, **settings: Any) -> dict[Arm, Group]:
    """The runs of each remedy."""
    return {arm: group(found.history, arm.label, arm.holds, **settings) for arm in ARMS}


def remedy_checks(
    groups: Mapping[Arm, Group],
    over: Over,
    claims: Mapping[str, Literal["above", "below"]] = CLAIMED,
) -> list[Check]:
    """PFO (last layer) against no remedy, paired by epochs and seed: at the end, or over the whole of training."""
    return [
        _less(groups, PFO_LAST, key, over, claimed, log=key.startswith("norm"))
        for key, claimed in claims.items()
    ]


def against_none(groups: Mapping[Arm, Group], over: Over) -> list[str]:
    """The other remedies' return and rank less those without remedy, paired by epochs and seed."""
    said = []
    for arm in ARMS:
        if arm not in (NONE, PFO_LAST) and groups[arm].runs:
            rank, returns = (_less(groups, arm, key, over) for key in ("actor rank", "return"))
            head, _, rest = returns.what.partition(", ")
            said.append(f"{rest}: {head} {returns.numbers()}; Actor feature rank {rank.numbers()}.")
    return said


def _less(
    groups: Mapping[Arm, Group],
    arm: Arm,
    key: str,
    over: Over,
    claimed: Literal["above", "below"] | None = None,
    log: bool = False,
) -> Check:
    first, second, span = comparable(groups[arm], groups[NONE])
    read, when = (span.last, span.when) if over == "last" else (span.whole, "mean over training")
    with_it, without = (one.readings(PANELS[key].columns[0], read) for one in (first, second))
    what = f"{PANELS[key].title}, {arm.label} {'over' if log else 'less'} no remedy, {when}"
    return Check(what, paired(with_it, without, log), claimed, as_factor=log, untold=span.untold)


def excess_check(groups: Mapping[Arm, Group], continuous: bool) -> Check:
    """PFO's excess ratio over that of no remedy, in the latest 5 % in which each can be measured."""
    first, second, span = comparable(groups[PFO_LAST], groups[NONE])
    with_it, without = (span.excess(one, continuous) for one in (first, second))
    what = f"Excess ratio, PFO (last layer) over no remedy, {span.when} in which it can be measured"
    return Check(what, paired(with_it, without, log=True), "below", as_factor=True, untold=span.untold)


def shown_epochs(groups: Mapping[Arm, Group]) -> set[int]:
    """Epochs that a box plot may pool: those at which every remedy that has runs has ended, or at least begun."""
    there = [one for one in groups.values() if one.runs]
    ended = [{count for count in one.epochs if Span.of([one.at({count})]).is_whole} for one in there]
    begun = [one.epochs for one in there]
    return set.intersection(*ended) or set.intersection(*begun) if there else set()


@dataclass(frozen=True)
class RemedyBoxes(RunFigure):
    """Return, excess ratio, dead neurons, norm, rank and capacity loss at the end, by remedy.

    Of dead neurons and capacity loss nothing is judged: its claim does not speak of them.
    """

    @property
    def shows_capacity(self) -> bool:
        """The last of its panels."""
        return CAPACITY in _SHOWN

    def axes(self, setting: Setting, scale: Scale) -> Mapping[str, Iterable[Any]]:
        """See `remedy_axes`."""
        return remedy_axes(setting, scale)

    def picture(self, found: Found) -> "Figure":
        """A panel for each measure, a box for each remedy."""
        from escapevelocity.study.papers.nrnt.pictures import Boxes, draw_boxes

        groups, epochs = self._pooled(found)
        planned = {value["label"] for value in self.axes(found.setting, found.scale or "paper")["arm"]}
        labels = {arm: _label(one) for arm, one in groups.items() if one.runs or arm.label in planned}
        readings = self._readings(found, groups)
        values = {label: readings[arm] for arm, label in labels.items()}
        boxes = [
            Boxes(
                PANELS[key].title,
                _unit(PANELS[key], groups),
                {label: row[key] for label, row in values.items()},
                PANELS[key].scale,
            )
            for key in _SHOWN
        ]
        caption = (
            f"{found.setting.shown}. {epochs} Means over the last 5 % of training; the excess ratio over the latest "
            "5 % in which it can be measured, the capacity loss over the snapshots of the last 5 % and the one before "
            f"them. {_SIDES} Boxes: quartiles and median; lines to the ends; a point for each run. "
        )
        caption += " ".join([*self._lacking(groups), TRUNK_NOTE, found.note()])
        return draw_boxes(boxes, list(labels.values()), caption, across=3)

    def checks(self, found: Found) -> Sequence[Check]:
        """PFO against no remedy in the last 5 %."""
        groups = arm_groups(found)
        claims = remedy_checks(groups, "last", CLAIMED_OF_BOXES)
        return [*claims, excess_check(groups, found.setting.family == "mujoco")]

    def remarks(self, found: Found) -> list[str]:
        """Interquartile means by remedy, and each remedy's return and rank against none."""
        groups, epochs = self._pooled(found)
        readings = self._readings(found, groups)
        said = [end_sentence(one, Span.of([one]), readings[arm]) for arm, one in groups.items() if one.runs]
        missing = [one.label for one in groups.values() if not one.runs]
        said += [f"No run is there of {', '.join(missing)}."] if missing else []
        lacking = self._lacking(groups)
        return [epochs, _SIDES, *said, *lacking, *against_none(arm_groups(found), "last")]

    def _pooled(self, found: Found) -> tuple[dict[Arm, Group], str]:
        """The remedies at epochs that all have, and a sentence that names them."""
        groups = arm_groups(found)
        shown = shown_epochs(groups)
        there = set().union(*(one.epochs for one in groups.values()))
        if not shown:
            each = "; ".join(f"{one.label} {listed(one.epochs)}" for one in groups.values() if one.runs)
            return (
                groups,
                f"The remedies share no number of epochs and cannot be compared ({each})." if each else "",
            )
        groups = {arm: one.at(shown) for arm, one in groups.items()}
        left = f" alone: not every remedy has ended at {listed(there - shown)}" if there > shown else ""
        return groups, f"Shown at {listed(shown)} epochs{' together' if len(shown) > 1 else ''}{left}."

    def _readings(self, found: Found, groups: Mapping[Arm, Group]) -> dict[Arm, dict[str, Readings]]:
        """Each arm's numbers at its end, by the panel's key; capacity losses at epochs at which all arms have them."""
        read = {}
        shared = _measured_by_all(groups)
        for arm, one in groups.items():
            span, capacity = Span.of([one]), one.at(shared)
            read[arm] = {key: one.readings(PANELS[key].columns[0], span.last) for key in _SHOWN} | {
                "excess": span.excess(one, found.setting.family == "mujoco"),
                CAPACITY: capacity.readings(PANELS[CAPACITY].columns[0], span.last_and_one_before),
            }
        return read

    def _lacking(self, groups: Mapping[Arm, Group]) -> list[str]:
        """Which panels lack which runs, and at which epochs the losses of capacity can be compared."""
        said = not_measured(groups.values(), _SHOWN)
        shared = _measured_by_all(groups)
        anywhere = set().union(*(measured_epochs(one, CAPACITY) for one in groups.values()))
        if anywhere - shared:
            at = f"at {listed(shared)} epochs alone" if shared else "at no number of epochs"
            said.append(f"Capacity losses are shown {at}: there all remedies that have any have them.")
        return said


def _measured_by_all(groups: Mapping[Arm, Group]) -> set[int]:
    """The epochs at which every arm with capacity losses has them: boxes of different epochs say nothing together."""
    measured = [measured_epochs(one, CAPACITY) for one in groups.values()]
    some = [epochs for epochs in measured if epochs]
    return set.intersection(*some) if some else set()


def _unit(panel: Panel, groups: Mapping[Arm, Group]) -> str:
    """The unit, with out of how many where that is known."""
    widths = {one.width for one in groups.values() if one.runs}
    return f"{panel.unit} (of {widths.pop()})" if panel.of_width and len(widths) == 1 else panel.unit


def _label(one: Group) -> str:
    span = Span.of([one])
    return one.label if span.is_whole else f"{one.label} (at {span.end / span.total:.0%})"


FIGURES = (
    RemedyBoxes(
        "nrnt/figure-6",
        "The end of training under each remedy",
        "Keeping the features from moving (PFO) keeps the norm low, the rank up and the excess ratio down, and with "
        "them the return; sharing the trunk, resetting Adam or a faster β₂ help in part, depending on the task.",
        TASKS,
    ),
)
