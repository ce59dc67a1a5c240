"""Curves under each remedy (21–31): a row for each number of epochs."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from escapevelocity.study.papers.figure import Scale
from escapevelocity.study.papers.nrnt.arms import TRUNK_NOTE
from escapevelocity.study.papers.nrnt.base import Found, RunFigure
from escapevelocity.study.papers.nrnt.judge import Check
from escapevelocity.study.papers.nrnt.panels import PANELS
from escapevelocity.study.papers.nrnt.remedies import against_none, arm_groups, remedy_axes, remedy_checks
from escapevelocity.study.papers.nrnt.settings import GAMES, MUJOCO, Setting

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SHOWN = ("return", "actor rank", "norm", "dead")


@dataclass(frozen=True)
class RemedyCurves(RunFigure):
    """Return, rank, norm and dead neurons along training, a colour for each remedy."""

    def axes(self, setting: Setting, scale: Scale) -> Mapping[str, Iterable[Any]]:
        """Those of Figure 6, whose runs it takes."""
        return remedy_axes(setting, scale)

    def picture(self, found: Found) -> "Figure":
        """A row for each number of epochs that the scale has."""
        from escapevelocity.study.papers.nrnt.pictures import SMOOTHED, Row, draw_curves

        epochs = tuple(self.axes(found.setting, found.scale or "paper")["epochs"])
        rows = [
            Row(list(arm_groups(found, epochs=count).values()), f"{count} epochs" if len(epochs) > 1 else "")
            for count in epochs
        ]
        alone = f", {found.setting.epochs[-1]} epochs" if len(epochs) == 1 else ""
        caption = f"{found.setting.shown}{alone}. {TRUNK_NOTE} {found.note()} {SMOOTHED}"
        return draw_curves([PANELS[key] for key in _SHOWN], rows, caption)

    def checks(self, found: Found) -> Sequence[Check]:
        """PFO against no remedy, over the whole of training."""
        return remedy_checks(arm_groups(found), "whole")

    def remarks(self, found: Found) -> list[str]:
        """The other remedies' return and rank against none, paired by epochs and seed."""
        return against_none(arm_groups(found), "whole")


def _figures() -> Iterable[RemedyCurves]:
    """Three games and the eight MuJoCo settings: eleven, in an order of ours."""
    for number, setting in enumerate((*GAMES[:3], *MUJOCO), 21):
        yield RemedyCurves(
            f"nrnt/figure-{number}",
            f"Curves under each remedy on {setting.shown} (our numbering of 21–31: three games, then MuJoCo)",
            "Under PFO the norm stays low and the rank high along the whole of training, and the return does not "
            "collapse; the other remedies act on the representation too, each in part.",
            (setting.name,),
        )


FIGURES = tuple(_figures())
