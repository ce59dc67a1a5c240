"""Figure 34: other clip ranges."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from escapevelocity.study.papers.figure import Scale
from escapevelocity.study.papers.nrnt.arms import NONE
from escapevelocity.study.papers.nrnt.base import Found, RunFigure
from escapevelocity.study.papers.nrnt.judge import Check, Outcome, interval_text, paired
from escapevelocity.study.papers.nrnt.members import Group, group
from escapevelocity.study.papers.nrnt.panels import PANELS
from escapevelocity.study.papers.nrnt.read import Span
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
        groups = epsilon_groups(found)
        span = Span.of(groups)
        ranks = [one.readings(PANELS["actor rank"].columns[0], span.last) for one in groups]
        return [
            Check(f"Actor feature rank, {more.label} less {less.label}, last 5 %", paired(b, a), "below")
            for (less, more), (a, b) in zip(pairwise(groups), pairwise(ranks), strict=True)
        ]

    def judge(self, checks: Sequence[Check], complete: bool) -> Outcome:
        """The claim is that ε is *not* a reliable dial: confirmed when a step to a larger ε raises the rank while
        another lowers it, or when all runs of the paper's scale leave the direction of a step open; not confirmed when
        all steps lower it, or all raise it.
        """
        signs = []
        for check in checks:
            _, low, high = check.interval()
            known = len(check.differences) >= 3
            signs.append(1 if known and low > 0 else -1 if known and high < 0 else 0)
        if 1 in signs and -1 in signs:
            return "confirmed"
        if 0 not in signs:
            return "not confirmed"
        return "confirmed" if complete else "cannot be told at this scale"

    def rule(self) -> str:
        """In words."""
        return (
            "Rule: confirmed when one step to a larger ε lowers the rank and another raises it, with 95 % bootstrap "
            "intervals that exclude 0, or when the paper's full grid leaves a step open; not confirmed when all agree."
        )

    def remarks(self, found: Found) -> list[str]:
        """Interquartile means by ε."""
        groups = epsilon_groups(found)
        span = Span.of(groups)
        said = []
        for one in groups:
            readings = {key: one.readings(PANELS[key].columns[0], span.last) for key in _SHOWN}
            shown = (
                f"{PANELS[key].title} {interval_text(list(row.values()))}" for key, row in readings.items()
            )
            said.append(f"{one.label}, last 5 % (IQM): {', '.join(shown)}.")
        return said


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
        "smaller ε "
        "does not bring it forward or put it off in one direction.",
        TASKS,
    ),
)
