"""Curves by epochs: Figures 1 and 2, and the same for every setting of the paper (7–20)."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from escapevelocity.report._panels import Panel
from escapevelocity.study.papers.figure import Scale
from escapevelocity.study.papers.nrnt.arms import NONE
from escapevelocity.study.papers.nrnt.base import Found, RunFigure
from escapevelocity.study.papers.nrnt.judge import FEWEST_SEEDS, FLOOR, Check, number, paired
from escapevelocity.study.papers.nrnt.lacking import CAPACITY, not_measured
from escapevelocity.study.papers.nrnt.members import Group, Readings, Track, group
from escapevelocity.study.papers.nrnt.panels import DEAD, PANELS
from escapevelocity.study.papers.nrnt.read import Span, at_end, by_seed, within
from escapevelocity.study.papers.nrnt.settings import SETTINGS, TASKS, Setting

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAIN = ("return", "actor rank", "norm", "actor capacity", "critic capacity", "critic rank")
POLICY = ("entropy", "variance", "dead")
RATIOS = ("low ratios", "excess", "objective")
DECLINE = ("norm", "rank falls", "rank", "return falls", "return")
RANK_KEPT = 0.9
"""A rank that ends below this share of its best window has fallen; above it, it may only fluctuate: the best of twenty
windows of a curve without trend lies above the last one too."""
COLLAPSED_RETURN = 0.5
"""A return that ends in the lower half of what the run has seen has collapsed."""

_MORE_EPOCHS = (
    "The norm of the actor's pre-activations rises throughout, and its feature rank falls; more epochs per batch make "
    "both worse, until the return collapses. The critic's rank does not explain it."
)
_COLLAPSED = (
    "A collapsed policy has dead neurons almost everywhere and a high entropy, but hardly any variance of its action "
    "probabilities across states: it no longer sees the state. More epochs bring it there sooner."
)


@dataclass(frozen=True)
class EpochsFigure(RunFigure):
    """Curves without remedies, one for each number of epochs.

    Attributes:
        shown: keys of `panels.PANELS`.
        parts: keys of the checks that its claim consists of; see `checks`.
    """

    shown: tuple[str, ...] = MAIN
    parts: tuple[str, ...] = DECLINE

    @property
    def shows_capacity(self) -> bool:
        """Where its panels are among those shown."""
        return CAPACITY in self.shown

    def axes(self, setting: Setting, scale: Scale) -> Mapping[str, Iterable[Any]]:
        """Three numbers of epochs."""
        del scale
        return {"epochs": setting.epochs, "arm": (NONE.axis_value(setting),)}

    def picture(self, found: Found) -> "Figure":
        """A colour for each number of epochs."""
        from escapevelocity.study.papers.nrnt.pictures import SMOOTHED, Row, draw_curves

        panels: list[Panel] = [PANELS[key] for key in self.shown]
        caption = " ".join(
            [f"{found.setting.shown}, no remedy. {found.note()}", *self._without_capacity(found), SMOOTHED]
        )
        return draw_curves(panels, [Row(epoch_groups(found))], caption)

    def checks(self, found: Found) -> Sequence[Check]:
        """What happens within each run, and most epochs against fewest at the end of training."""
        groups = epoch_groups(found)
        alive = nothing_collapsed(groups[-1]) if "dead" in self.parts else ""
        made = {
            "norm": lambda: norm_growth(groups),
            "rank falls": lambda: rank_fall(groups),
            "rank": lambda: most_against_fewest(groups, "actor rank", "below"),
            "return falls": lambda: return_fall(groups[-1]),
            "return": lambda: most_against_fewest(groups, "return", "below"),
            "dead": lambda: most_against_fewest(groups, "dead", "above", alive),
            "variance": lambda: most_against_fewest(groups, "variance", "below", alive, log=True),
            "entropy": lambda: most_against_fewest(groups, "entropy", "above", alive),
        }
        return [made[part]() for part in self.parts]

    def remarks(self, found: Found) -> list[str]:
        """The last 5 % by epochs: interquartile means."""
        keys = ("return", "actor rank", "critic rank", "norm") if "rank" in self.parts else POLICY
        said = at_end(epoch_groups(found), keys)
        return [*said, *self._without_capacity(found)]

    def _without_capacity(self, found: Found) -> list[str]:
        """Whose curves the capacity panels lack, in a sentence; none where they have all."""
        return not_measured(epoch_groups(found), [CAPACITY]) if self.shows_capacity else []


def epoch_groups(found: Found) -> list[Group]:
    """The runs without remedies, by epochs."""
    epochs = found.setting.epochs
    return [group(found.history, f"{count} epochs", NONE.holds, epochs=count) for count in epochs]


def norm_growth(groups: Sequence[Group]) -> Check:
    """Whether the norm grows from the first to the last 5 % of each run."""
    groups, span = within(groups)
    column = PANELS["norm"].columns[0]
    first, last = (_all(groups, column, read) for read in (span.first, span.last))
    what = f"Actor pre-activation norm within a run, {span.when} over its first 5 %"
    return Check(what, paired(last, first, log=True), "above", as_factor=True, each="run", untold=span.untold)


def rank_fall(groups: Sequence[Group]) -> Check:
    """Whether the rank falls within each run, from its best window to its end."""
    groups, span = within(groups)
    falls = _all(groups, PANELS["actor rank"].columns[0], span.of_best)
    what = f"Actor feature rank within a run, {span.when} over its best 5 %"
    level = math.log(RANK_KEPT)
    return Check(what, falls, "below", level, as_factor=True, each="run", untold=span.untold)


def return_fall(most: Group) -> Check:
    """Whether the return collapses within the runs with most epochs."""
    groups, span = within([most])
    heights = _all(groups, PANELS["return"].columns[0], span.height)
    what = f"Return within a run of {most.label}, {span.when} between its worst 5 % (0) and its best (1)"
    return Check(what, heights, "below", COLLAPSED_RETURN, quantity="mean", each="run", untold=span.untold)


def nothing_collapsed(most: Group) -> str:
    """Why nothing can be said of collapsed policies: too few have more than half of their neurons dead at the end."""
    if not most.runs:
        return ""
    dead = most.readings(DEAD, Span.of([most]).last)
    many = sum(count > most.width / 2 for count in dead.values())
    if many >= FEWEST_SEEDS:
        return ""
    counted = f"more than half of the units end dead in {many} of {len(most.members)} runs of {most.label}"
    return f"nothing collapsed ({counted})" if dead else "dead neurons are not measured"


def most_against_fewest(
    groups: Sequence[Group],
    key: str,
    claimed: Literal["above", "below"],
    untold: str = "",
    log: bool = False,
) -> Check:
    """Compare most epochs with fewest in the last 5 %, seed by seed; `untold`: a condition that did not occur."""
    fewest, most = groups[0], groups[-1]
    span = Span.of([most, fewest])
    many, few = (by_seed(one.readings(PANELS[key].columns[0], span.last)) for one in (most, fewest))
    what = f"{PANELS[key].title}, {most.label} {'over' if log else 'less'} {fewest.label}, {span.when}"
    what += f" (what is less than {number(FLOOR)} counts as that)" if log else ""
    return Check(what, paired(many, few, log), claimed, as_factor=log, untold=span.untold or untold)


def _all(groups: Sequence[Group], column: str, read: Callable[[Track], float]) -> Readings:
    """The readings of all arms, which differ in their epochs."""
    return {member: value for one in groups for member, value in one.readings(column, read).items()}


def _copies() -> Iterable[EpochsFigure]:
    """Figures 7–20: the fourteen settings, in an order of ours."""
    for place, setting in enumerate(SETTINGS, 7):
        yield EpochsFigure(
            f"nrnt/figure-{place}",
            f"Figures 1 and 2 on {setting.shown}, with ratios (our numbering of 7–20: games, then MuJoCo)",
            _MORE_EPOCHS,
            (setting.name,),
            MAIN + POLICY + RATIOS,
        )


FIGURES = (
    EpochsFigure("nrnt/figure-1", "Return, ranks, norm and capacity losses by epochs", _MORE_EPOCHS, TASKS),
    EpochsFigure(
        "nrnt/figure-2",
        "Entropy, policy variance and dead neurons by epochs",
        _COLLAPSED,
        TASKS,
        POLICY,
        ("dead", "variance", "entropy"),
    ),
    *_copies(),
)
