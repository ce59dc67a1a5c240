"""Figure 35: a shared trunk, with all rewards and with nine in ten of them masked."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from escapevelocity.study.papers.figure import Scale
from escapevelocity.study.papers.nrnt.arms import NONE, SHARED, Arm
from escapevelocity.study.papers.nrnt.base import Found, RunFigure, arm_axis
from escapevelocity.study.papers.nrnt.judge import Check, interval_text, paired
from escapevelocity.study.papers.nrnt.members import Group, group
from escapevelocity.study.papers.nrnt.panels import PANELS
from escapevelocity.study.papers.nrnt.read import Span
from escapevelocity.study.papers.nrnt.settings import TASKS, Setting

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SHOWN = ("return", "actor rank", "norm", "dead")
PROBABILITY = 0.9
"""Each reward is zeroed with this probability [M, Fig. 35]."""
MASK = {"probability": PROBABILITY}


@dataclass(frozen=True, eq=False)
class MaskedArm(Arm):
    """An arm whose rewards are masked."""

    def axis_value(self, setting: Setting) -> dict[str, Any]:
        """The mask beside the arm's own remedy."""
        del setting
        own = {} if self.settings == {} else {"shared-trunk": {}}
        return {"label": self.label, "remedy": {**own, "reward-mask": dict(MASK)}}


ARMS = (
    NONE,
    SHARED,
    MaskedArm("separate, masked", "reward-mask", MASK),
    MaskedArm("shared trunk, masked", "reward-mask", MASK, {"trunk": "shared"}),
)


@dataclass(frozen=True)
class MaskedRewards(RunFigure):
    """Most epochs; separate and shared trunk, dense and masked rewards."""

    def axes(self, setting: Setting, scale: Scale) -> Mapping[str, Iterable[Any]]:
        """Four arms."""
        del scale
        return {"epochs": setting.epochs[-1:], "arm": arm_axis(ARMS, setting)}

    def picture(self, found: Found) -> "Figure":
        """A colour for each arm."""
        from escapevelocity.study.papers.nrnt.pictures import SMOOTHED, Row, draw_curves

        caption = (
            f"{found.setting.shown}, {found.setting.epochs[-1]} epochs; masked: each reward that training sees is "
            "zeroed "
            f"with probability {PROBABILITY:g}, returns are of all rewards. {found.note()} {SMOOTHED}"
        )
        return draw_curves(
            [PANELS[key] for key in _SHOWN], [Row(list(masked_groups(found).values()))], caption
        )

    def checks(self, found: Found) -> Sequence[Check]:
        """The shared trunk's rank: against separate networks, and masked against dense."""
        groups = masked_groups(found)
        span = Span.of(list(groups.values()))
        column = PANELS["actor rank"].columns[0]
        separate, shared, _, masked = (one.readings(column, span.last) for one in groups.values())
        return [
            Check(
                "Actor feature rank with all rewards, shared trunk less separate networks, last 5 %",
                paired(shared, separate),
                "above",
            ),
            Check(
                "Actor feature rank of a shared trunk, masked rewards less all rewards, last 5 %",
                paired(masked, shared),
                "below",
            ),
        ]

    def remarks(self, found: Found) -> list[str]:
        """Interquartile means at the end."""
        groups = masked_groups(found)
        span = Span.of(list(groups.values()))
        said = []
        for arm, one in groups.items():
            readings = {key: one.readings(PANELS[key].columns[0], span.last) for key in _SHOWN}
            shown = (
                f"{PANELS[key].title} {interval_text(list(row.values()))}" for key, row in readings.items()
            )
            said.append(f"{arm.label}, last 5 % (IQM): {', '.join(shown)}.")
        return said


def masked_groups(found: Found) -> dict[Arm, Group]:
    """The runs of each arm."""
    epochs = found.setting.epochs[-1]
    return {arm: group(found.history, arm.label, arm.holds, epochs=epochs) for arm in ARMS}


FIGURES = (
    MaskedRewards(
        "nrnt/figure-35",
        "A shared trunk with dense and with masked rewards",
        "Where rewards are dense, the critic's loss keeps a shared trunk's rank up; where they are sparse, a shared "
        "trunk "
        "loses its rank.",
        TASKS,
    ),
)
