"""Figure 3, single runs: the rank goes, the policy stops seeing the state, and ratios fall far below the clip range."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from escapevelocity.health.rank import SINGLE_DIGITS
from escapevelocity.study.papers.figure import Scale
from escapevelocity.study.papers.nrnt.arms import NONE
from escapevelocity.study.papers.nrnt.base import Found, RunFigure
from escapevelocity.study.papers.nrnt.epochs import epoch_groups
from escapevelocity.study.papers.nrnt.judge import Check
from escapevelocity.study.papers.nrnt.members import Group, Member, Readings
from escapevelocity.study.papers.nrnt.panels import BELOW, PANELS
from escapevelocity.study.papers.nrnt.read import Span, within
from escapevelocity.study.papers.nrnt.settings import TASKS, Setting

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLOSE = 1.0
"""A mean low ratio is close to 1 − ε (a tolerance of ours) if it lies no further below than ε once more, as far as
clipping lets a policy go in the first place."""
_SHOWN = ("actor rank", "variance after", "low ratios", "objective")


@dataclass(frozen=True)
class SingleRuns(RunFigure):
    """The run that lost most of its rank, for each number of epochs."""

    def axes(self, setting: Setting, scale: Scale) -> Mapping[str, Iterable[Any]]:
        """Those of Figure 1, whose runs it takes."""
        del scale
        return {"epochs": setting.epochs, "arm": (NONE.axis_value(setting),)}

    def picture(self, found: Found) -> "Figure":
        """A line for each number of epochs."""
        from escapevelocity.study.papers.nrnt.pictures import LINE, draw_lines

        lines = {}
        for one in epoch_groups(found):
            member = lowest_rank(one)
            label = f"{one.label}, seed {member.seed}" if member else one.label
            lines[label] = one.only(member.seed) if member else one
        caption = (
            f"{found.setting.shown}, no remedy: for each number of epochs the seed whose actor's rank ends lowest. "
            f"Rank and variance after the update. {found.note()} {LINE}"
        )
        return draw_lines([PANELS[key] for key in _SHOWN], lines, caption)

    def checks(self, found: Found) -> Sequence[Check]:
        """Within runs: low ratios while the rank is below ten against the others, and how far those are from 1 − ε."""
        groups, span = within(epoch_groups(found))
        falls, before = (
            {m: x for one in groups for m, x in read(one).items()} for read in (ratio_by_rank, overshoot)
        )
        never = "" if falls or not before else "no run has batches with an actor's rank below 10"
        return [
            Check(
                "Mean ratio below 1 − ε within a run, batches with an actor's rank below 10 less the others",
                falls,
                "below",
                each="run",
                untold=span.untold or never,
            ),
            Check(
                "How far it lies below 1 − ε in batches with a rank of 10 and more, in units of ε",
                before,
                "below",
                CLOSE,
                quantity="mean",
                each="run",
                untold=span.untold,
            ),
        ]

    def remarks(self, found: Found) -> list[str]:
        """How many runs come to single digits at all."""
        groups = epoch_groups(found)
        reach = sum(bool(np.any(_values(track) < SINGLE_DIGITS)) for one in groups for track in _ranks(one))
        there = sum(len(one.members) for one in groups)
        return [f"{reach} of {there} runs have batches with a rank below 10."]


def lowest_rank(one: Group) -> Member | None:
    """The member whose rank is the lowest in the last 5 %."""
    ends = one.readings(PANELS["actor rank"].columns[0], Span.of([one]).last)
    return min(ends, key=lambda member: (ends[member], member.seed)) if ends else None


def ratio_by_rank(one: Group) -> Readings:
    """For each member that has batches of both kinds, the mean low ratio while its rank is below ten, less that of its
    other batches.
    """
    kinds = _low_ratios(one)
    return {
        m: float(lost.mean() - others.mean())
        for m, (lost, others) in kinds.items()
        if lost.size and others.size
    }


def overshoot(one: Group) -> Readings:
    """For each member how far below 1 − ε the mean low ratio lies, in units of ε, while its rank is ten or more."""
    epsilon = float(one.runs[0].settings["clip_epsilon"]) if one.runs else 1.0
    kinds = _low_ratios(one)
    return {
        m: (1 - epsilon - float(others.mean())) / epsilon for m, (_, others) in kinds.items() if others.size
    }


def _low_ratios(one: Group) -> dict[Member, tuple[np.ndarray, np.ndarray]]:
    """The low ratios of each member, while its rank is below ten and otherwise."""
    found = {}
    ranks = one.tracks(PANELS["actor rank"].columns[0])
    for member, low in one.tracks(BELOW).items():
        _, at, own = np.intersect1d(low.steps, ranks[member].steps, return_indices=True)
        ratio, rank = low.values[at], ranks[member].values[own]
        there = np.isfinite(ratio) & np.isfinite(rank)
        found[member] = (ratio[there & (rank < SINGLE_DIGITS)], ratio[there & (rank >= SINGLE_DIGITS)])
    return found


def _ranks(one: Group) -> Iterable[Any]:
    return one.tracks(PANELS["actor rank"].columns[0]).values()


def _values(track: Any) -> np.ndarray:
    return track.values[np.isfinite(track.values)]


FIGURES = (
    SingleRuns(
        "nrnt/figure-3",
        "Single runs: rank, variance, ratios below 1 − ε, objective",
        "As the rank falls into single digits, the mean of the ratios below 1 − ε falls far below it: clipping no "
        "longer bounds the policy's change. While the rank is higher it stays close to 1 − ε.",
        TASKS,
    ),
)
