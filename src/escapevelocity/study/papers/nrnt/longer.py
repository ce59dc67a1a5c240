"""Longer runs with the fewest epochs, with and without PFO: Figures 32 (games) and 33 (MuJoCo)."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from escapevelocity.study.papers.figure import Scale
from escapevelocity.study.papers.nrnt.arms import NONE, PFO_LAST
from escapevelocity.study.papers.nrnt.base import Found, RunFigure, arm_axis
from escapevelocity.study.papers.nrnt.judge import Check, paired
from escapevelocity.study.papers.nrnt.panels import PANELS
from escapevelocity.study.papers.nrnt.read import Span, at_end
from escapevelocity.study.papers.nrnt.remedies import arm_groups, remedy_checks
from escapevelocity.study.papers.nrnt.settings import GAMES, MUJOCO, Setting

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SHOWN = ("return", "actor rank", "norm", "dead")
_ARMS = (NONE, PFO_LAST)


@dataclass(frozen=True)
class LongRuns(RunFigure):
    """Twice the steps, fewest epochs."""

    factor = 2

    def axes(self, setting: Setting, scale: Scale) -> Mapping[str, Iterable[Any]]:
        """With and without PFO."""
        del scale
        return {"epochs": setting.epochs[:1], "arm": arm_axis(_ARMS, setting)}

    def picture(self, found: Found) -> "Figure":
        """Two colours."""
        from escapevelocity.study.papers.nrnt.pictures import SMOOTHED, Row, draw_curves

        groups = arm_groups(found)
        caption = f"{found.setting.shown}, {found.setting.epochs[0]} epochs. {found.note()} {SMOOTHED}"
        return draw_curves([PANELS[key] for key in _SHOWN], [Row([groups[arm] for arm in _ARMS])], caption)

    def checks(self, found: Found) -> Sequence[Check]:
        """Does the run without remedy lose return in its second half, and does PFO end better?"""
        groups = arm_groups(found)
        span = Span.of([groups[NONE]])
        column = PANELS["return"].columns[0]
        late, early = (groups[NONE].readings(column, read) for read in (span.last, span.middle))
        what = f"Return without remedy, {span.when} of a run less the 5 % around its middle"
        fall = Check(what, paired(late, early), "below", untold=span.untold)
        return [fall, *remedy_checks(groups, "last")]

    def remarks(self, found: Found) -> list[str]:
        """Interquartile means at the end."""
        groups = arm_groups(found)
        return at_end([groups[arm] for arm in _ARMS], _SHOWN)


_CLAIM = (
    "Fewer epochs only postpone the collapse: trained for longer, agents with the fewest epochs lose their "
    "representation and their return too, and PFO prevents it."
)
FIGURES = (
    LongRuns(
        "nrnt/figure-32",
        "Twice the frames with 4 epochs, with and without PFO",
        _CLAIM,
        tuple(setting.name for setting in GAMES),
    ),
    LongRuns(
        "nrnt/figure-33",
        "Long runs on MuJoCo: twice the steps with 10 epochs (tasks and length of our choice)",
        _CLAIM,
        # Hopper first: the cheapest.
        tuple(setting.name for setting in reversed(MUJOCO)),
    ),
)
