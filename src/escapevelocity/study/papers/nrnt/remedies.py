"""Figure 6: box plots of the end of training under each remedy, all numbers of epochs together."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from escapevelocity.study.papers.figure import Scale
from escapevelocity.study.papers.nrnt.arms import ARMS, FEW_ARMS, NONE, PFO_LAST, Arm
from escapevelocity.study.papers.nrnt.base import Found, RunFigure, arm_axis
from escapevelocity.study.papers.nrnt.judge import Check, interval_text, paired
from escapevelocity.study.papers.nrnt.members import Group, Readings, group
from escapevelocity.study.papers.nrnt.panels import PANELS
from escapevelocity.study.papers.nrnt.read import Span
from escapevelocity.study.papers.nrnt.settings import TASKS, Setting

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SHOWN = ("return", "actor rank", "norm", "excess")
CLAIMED: dict[str, Literal["above", "below"]] = {"norm": "below", "actor rank": "above", "return": "above"}
"""What the paper says of PFO against no remedy."""


def remedy_axes(setting: Setting, scale: Scale) -> dict[str, Iterable[Any]]:
    """Epochs and remedies; on Atari at small scale the most epochs alone, with three of the remedies."""
    if (setting.family, scale) == ("atari", "small"):
        return {"epochs": setting.epochs[-1:], "arm": arm_axis(FEW_ARMS, setting)}
    return {"epochs": setting.epochs, "arm": arm_axis(ARMS, setting)}


def arm_groups(found: Found, **settings: Any) -> dict[Arm, Group]:
    """The runs of each remedy."""
    return {arm: group(found.history, arm.label, arm.holds, **settings) for arm in ARMS}


def remedy_checks(groups: Mapping[Arm, Group], read: Any, when: str) -> list[Check]:
    """PFO (last layer) against no remedy, paired by epochs and seed."""
    made = []
    for key, claimed in CLAIMED.items():
        with_it, without = (groups[arm].readings(PANELS[key].columns[0], read) for arm in (PFO_LAST, NONE))
        log = key == "norm"
        what = f"{PANELS[key].title}, PFO (last layer) {'over' if log else 'less'} no remedy, {when}"
        made.append(Check(what, paired(with_it, without, log), claimed, as_factor=log))
    return made


@dataclass(frozen=True)
class RemedyBoxes(RunFigure):
    """Return, rank, norm and excess ratio at the end, by remedy."""

    def axes(self, setting: Setting, scale: Scale) -> Mapping[str, Iterable[Any]]:
        """See `remedy_axes`."""
        return remedy_axes(setting, scale)

    def picture(self, found: Found) -> "Figure":
        """A panel for each measure, a box for each remedy."""
        from escapevelocity.study.papers.nrnt.pictures import Boxes, draw_boxes

        groups = arm_groups(found)
        values = self._values(found, groups)
        boxes = [
            Boxes(
                PANELS[key].title,
                PANELS[key].unit,
                {arm.label: row for arm, row in values[key].items()},
                PANELS[key].scale,
            )
            for key in _SHOWN
        ]
        axes = self.axes(found.setting, found.scale or "paper")
        planned = {value["label"] for value in axes["arm"]}
        caption = (
            f"{found.setting.shown}, {', '.join(map(str, axes['epochs']))} epochs together: means over the last 5 % of "
            "training; the excess ratio over the latest 5 % in which it can be measured. Boxes: quartiles and median; "
            f"lines to the ends; a point for each run. {found.note()}"
        )
        labels = [arm.label for arm, one in groups.items() if one.runs or arm.label in planned]
        return draw_boxes(boxes, labels, caption)

    def checks(self, found: Found) -> Sequence[Check]:
        """PFO against no remedy in the last 5 %."""
        groups = arm_groups(found)
        return remedy_checks(groups, Span.of(list(groups.values())).last, "last 5 %")

    def remarks(self, found: Found) -> list[str]:
        """Interquartile means by remedy, and each remedy's return against none."""
        groups = arm_groups(found)
        values = self._values(found, groups)
        said = []
        for arm, one in groups.items():
            if not one.runs:
                continue
            shown = (
                f"{PANELS[key].title} {interval_text(list(values[key][arm].values()))}" for key in _SHOWN
            )
            said.append(f"{one.label}, {len(one.members)} runs, last 5 % (IQM): {', '.join(shown)}.")
        missing = [one.label for one in groups.values() if not one.runs]
        return [*said, *([f"No run is there of {', '.join(missing)}."] if missing else [])]

    def _values(self, found: Found, groups: Mapping[Arm, Group]) -> dict[str, dict[Arm, Readings]]:
        span = Span.of(list(groups.values()))
        values = {
            key: {arm: one.readings(PANELS[key].columns[0], span.last) for arm, one in groups.items()}
            for key in _SHOWN
        }
        continuous = found.setting.family == "mujoco"
        return values | {"excess": {arm: span.excess(one, continuous) for arm, one in groups.items()}}


FIGURES = (
    RemedyBoxes(
        "nrnt/figure-6",
        "The end of training under each remedy",
        "Keeping the features from moving (PFO) keeps the norm low, the rank up and the excess ratio down, and with "
        "them "
        "the return; sharing the trunk, resetting Adam or a faster β₂ help in part, depending on the task.",
        TASKS,
    ),
)
