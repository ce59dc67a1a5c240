"""Figure 35: a shared trunk, with all rewards and with nine in ten of them masked."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from escapevelocity.study.papers.figure import Scale
from escapevelocity.study.papers.nrnt.arms import NONE, SHARED, TRUNK_NOTE, Arm
from escapevelocity.study.papers.nrnt.base import Found, RunFigure, arm_axis
from escapevelocity.study.papers.nrnt.judge import Check, paired
from escapevelocity.study.papers.nrnt.members import Group, group
from escapevelocity.study.papers.nrnt.panels import PANELS
from escapevelocity.study.papers.nrnt.read import Span, at_end
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
            f"with probability {PROBABILITY:g}, returns are of all rewards. {TRUNK_NOTE} {found.note()} {SMOOTHED}"
        )
        return draw_curves(
            [PANELS[key] for key in _SHOWN], [Row(list(masked_groups(found).values()))], caption
        )

    def checks(self, found: Found) -> Sequence[Check]:
        """The shared trunk's rank: against separate networks, and masked against dense."""
        separate, shared, _, masked = masked_groups(found).values()
        return [
            _rank_check(shared, separate, "with all rewards, shared trunk less separate networks", "above"),
            _rank_check(masked, shared, "of a shared trunk, masked rewards less all rewards", "below"),
        ]

    def remarks(self, found: Found) -> list[str]:
        """Interquartile means at the end."""
        return at_end(list(masked_groups(found).values()), _SHOWN)


def _rank_check(first: Group, second: Group, what: str, claimed: Literal["above", "below"]) -> Check:
    span = Span.of([first, second])
    a, b = (one.readings(PANELS["actor rank"].columns[0], span.last) for one in (first, second))
    return Check(f"Actor feature rank {what}, {span.when}", paired(a, b), claimed, untold=span.untold)


def masked_groups(found: Found) -> dict[Arm, Group]:
    """The runs of each arm."""
    epochs = found.setting.epochs[-1]
    return {arm: group(found.history, arm.label, arm.holds, epochs=epochs) for arm in ARMS}


FIGURES = (
    MaskedRewards(
        "nrnt/figure-35",
        "A shared trunk with dense and with masked rewards",
        "Where rewards are dense, the critic's loss keeps a shared trunk's rank up; where they are sparse, a shared "
        "trunk loses its rank.",
        TASKS,
    ),
)
