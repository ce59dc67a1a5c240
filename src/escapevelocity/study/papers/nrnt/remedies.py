"""Figure 6: box plots of the end of training under each remedy, all numbers of epochs together."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from escapevelocity.study.papers.figure import Scale
from escapevelocity.study.papers.nrnt.arms import ARMS, FEW_ARMS, NONE, PFO_LAST, TRUNK_NOTE, Arm
from escapevelocity.study.papers.nrnt.base import Found, RunFigure, arm_axis
from escapevelocity.study.papers.nrnt.judge import Check, paired
from escapevelocity.study.papers.nrnt.members import Group, Readings, group
from escapevelocity.study.papers.nrnt.panels import PANELS
from escapevelocity.study.papers.nrnt.read import Span, comparable, end_sentence
from escapevelocity.study.papers.nrnt.settings import TASKS, Setting

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Over: TypeAlias = Literal["last", "whole"]
"""What is read: the last 5 % of training, or the mean over all of it."""
_SHOWN = ("return", "actor rank", "norm", "excess")
CLAIMED: dict[str, Literal["above", "below"]] = {"norm": "below", "actor rank": "above", "return": "above"}
"""What the paper says of PFO against no remedy."""


def remedy_axes(setting: Setting, scale: Scale) -> dict[str, Iterable[Any]]:
    """Epochs and remedies; at small scale the most epochs alone, and on Atari three of the remedies."""
    small = scale == "small"
    arms = FEW_ARMS if small and setting.family == "atari" else ARMS
    return {"epochs": setting.epochs[-1:] if small else setting.epochs, "arm": arm_axis(arms, setting)}


def arm_groups(found: Found, **settings: Any) -> dict[Arm, Group]:
    """The runs of each remedy."""
    return {arm: group(found.history, arm.label, arm.holds, **settings) for arm in ARMS}


def remedy_checks(groups: Mapping[Arm, Group], over: Over) -> list[Check]:
    """PFO (last layer) against no remedy, paired by epochs and seed: at the end, or over the whole of training."""
    return [
        _less(groups, PFO_LAST, key, over, claimed, log=key == "norm") for key, claimed in CLAIMED.items()
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
    """Return, rank, norm and excess ratio at the end, by remedy."""

    def axes(self, setting: Setting, scale: Scale) -> Mapping[str, Iterable[Any]]:
        """See `remedy_axes`."""
        return remedy_axes(setting, scale)

    def picture(self, found: Found) -> "Figure":
        """A panel for each measure, a box for each remedy."""
        from escapevelocity.study.papers.nrnt.pictures import Boxes, draw_boxes

        groups, epochs = self._pooled(found)
        planned = {value["label"] for value in self.axes(found.setting, found.scale or "paper")["arm"]}
        labels = {arm: _label(one) for arm, one in groups.items() if one.runs or arm.label in planned}
        values = {label: self._readings(found, groups[arm]) for arm, label in labels.items()}
        boxes = [
            Boxes(
                PANELS[key].title,
                PANELS[key].unit,
                {label: row[key] for label, row in values.items()},
                PANELS[key].scale,
            )
            for key in _SHOWN
        ]
        caption = (
            f"{found.setting.shown}. {epochs} Means over the last 5 % of "
            "training; the excess ratio over the latest 5 % in which it can be measured. Boxes: quartiles and median; "
            f"lines to the ends; a point for each run. {TRUNK_NOTE} {found.note()}"
        )
        return draw_boxes(boxes, list(labels.values()), caption)

    def checks(self, found: Found) -> Sequence[Check]:
        """PFO against no remedy in the last 5 %."""
        groups = arm_groups(found)
        return [*remedy_checks(groups, "last"), excess_check(groups, found.setting.family == "mujoco")]

    def remarks(self, found: Found) -> list[str]:
        """Interquartile means by remedy, and each remedy's return and rank against none."""
        groups, epochs = self._pooled(found)
        said = [
            end_sentence(one, Span.of([one]), self._readings(found, one))
            for one in groups.values()
            if one.runs
        ]
        missing = [one.label for one in groups.values() if not one.runs]
        said += [f"No run is there of {', '.join(missing)}."] if missing else []
        return [epochs, *said, *against_none(arm_groups(found), "last")]

    def _pooled(self, found: Found) -> tuple[dict[Arm, Group], str]:
        """The remedies at epochs that all have, and a sentence that names them."""
        groups = arm_groups(found)
        shown = shown_epochs(groups)
        there = set().union(*(one.epochs for one in groups.values()))
        if not shown:
            each = "; ".join(f"{one.label} {_listed(one.epochs)}" for one in groups.values() if one.runs)
            return (
                groups,
                f"The remedies share no number of epochs and cannot be compared ({each})." if each else "",
            )
        groups = {arm: one.at(shown) for arm, one in groups.items()}
        left = f" alone: not every remedy has ended at {_listed(there - shown)}" if there > shown else ""
        return groups, f"Shown at {_listed(shown)} epochs{' together' if len(shown) > 1 else ''}{left}."

    def _readings(self, found: Found, one: Group) -> dict[str, Readings]:
        """An arm's numbers at its end, by the panel's key."""
        span = Span.of([one])
        readings = {key: one.readings(PANELS[key].columns[0], span.last) for key in _SHOWN}
        return readings | {"excess": span.excess(one, found.setting.family == "mujoco")}


def _label(one: Group) -> str:
    span = Span.of([one])
    return one.label if span.is_whole else f"{one.label} (at {span.end / span.total:.0%})"


def _listed(epochs: set[int]) -> str:
    return ", ".join(map(str, sorted(epochs)))


FIGURES = (
    RemedyBoxes(
        "nrnt/figure-6",
        "The end of training under each remedy",
        "Keeping the features from moving (PFO) keeps the norm low, the rank up and the excess ratio down, and with "
        "them the return; sharing the trunk, resetting Adam or a faster β₂ help in part, depending on the task.",
        TASKS,
    ),
)
