"""Figure 34: other clip ranges."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from escapevelocity.study.papers.figure import Scale
from escapevelocity.study.papers.nrnt.arms import NONE
from escapevelocity.study.papers.nrnt.base import Found, RunFigure
from escapevelocity.study.papers.nrnt.judge import Check, Outcome, paired
from escapevelocity.study.papers.nrnt.members import Group, group
from escapevelocity.study.papers.nrnt.panels import PANELS
from escapevelocity.study.papers.nrnt.read import Span, at_end
from escapevelocity.study.papers.nrnt.settings import TASKS, Setting

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SHOWN = ("return", "actor rank", "norm", "low ratios")


def clip_ranges(setting: Setting) -> tuple[float, ...]:
    """Half, once, twice and three times the setting's own ε; a choice of ours."""
    return (0.05, 0.1, 0.2, 0.3) if setting.family == "atari" else (0.1, 0.2, 0.4, 0.6)


@dataclass(frozen=True)
class EpsilonSweep(RunFigure):
    """Most epochs, no remedy, a colour for each ε."""

    def axes(self, setting: Setting, scale: Scale) -> Mapping[str, Iterable[Any]]:
        """Four clip ranges."""
        del scale
        arm = (NONE.axis_value(setting),)
        return {"epochs": setting.epochs[-1:], "clip_epsilon": clip_ranges(setting), "arm": arm}

    def picture(self, found: Found) -> "Figure":
        """A colour for each ε."""
        from escapevelocity.study.papers.nrnt.pictures import SMOOTHED, Row, draw_curves

        epochs = found.setting.epochs[-1]
        caption = f"{found.setting.shown}, {epochs} epochs, no remedy. {found.note()} {SMOOTHED}"
        return draw_curves([PANELS[key] for key in _SHOWN], [Row(epsilon_groups(found))], caption)

    def checks(self, found: Found) -> Sequence[Check]:
        """Each step to a larger ε: does it lower the actor's rank?"""
        return [_step(less, more) for less, more in pairwise(epsilon_groups(found))]

    def judge(self, checks: Sequence[Check], complete: bool) -> Outcome:
        """The claim is that ε is *not* a reliable dial: confirmed when a step to a larger ε raises the rank while
        another lowers it, not confirmed when all steps lower it, or all raise it. A step whose direction is open says
        neither, in a study of any size.
        """
        del complete
        signs = {check.side for check in checks}
        if not all(check.can_tell for check in checks):
            return "cannot be told at this scale"
        if {1, -1} <= signs:
            return "confirmed"
        return "cannot be told at this scale" if 0 in signs else "not confirmed"

    def rule(self) -> str:
        """In words."""
        return (
            "Rule: confirmed when one step to a larger ε lowers the rank and another raises it, with 95 % intervals "
            "over seeds that exclude 0; not confirmed when all steps have one direction; else it cannot be "
            "told."
        )

    def remarks(self, found: Found) -> list[str]:
        """Interquartile means by ε."""
        return at_end(epsilon_groups(found), _SHOWN)


def _step(less: Group, more: Group) -> Check:
    """What a step to a larger ε does to the actor's rank; nothing is claimed of a single one."""
    span = Span.of([less, more])
    low, high = (one.readings(PANELS["actor rank"].columns[0], span.last) for one in (less, more))
    what = f"Actor feature rank, {more.label} less {less.label}, {span.when}"
    return Check(what, paired(high, low), None, untold=span.untold)


def epsilon_groups(found: Found) -> list[Group]:
    """The runs by ε."""
    return [
        group(
            found.history, f"ε = {value:g}", NONE.holds, clip_epsilon=value, epochs=found.setting.epochs[-1]
        )
        for value in clip_ranges(found.setting)
    ]


FIGURES = (
    EpsilonSweep(
        "nrnt/figure-34",
        "Other clip ranges ε (values of our choice)",
        "Changing the clip range is no reliable dial for the collapse, as the number of epochs is: a larger or "
        "smaller ε does not bring it forward or put it off in one direction.",
        TASKS,
    ),
)
