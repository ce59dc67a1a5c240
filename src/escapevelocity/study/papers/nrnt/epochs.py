"""Curves by epochs: Figures 1 and 2, and the same for every setting of the paper (7–20)."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from escapevelocity.report._panels import Panel
from escapevelocity.study.papers.figure import Scale
from escapevelocity.study.papers.nrnt.arms import NONE
from escapevelocity.study.papers.nrnt.base import Found, RunFigure
from escapevelocity.study.papers.nrnt.judge import Check, interval_text, paired
from escapevelocity.study.papers.nrnt.members import Group, Readings, group
from escapevelocity.study.papers.nrnt.panels import PANELS
from escapevelocity.study.papers.nrnt.read import Span, by_seed
from escapevelocity.study.papers.nrnt.settings import SETTINGS, TASKS, Setting

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAIN = ("return", "actor rank", "norm", "actor capacity", "critic capacity", "critic rank")
POLICY = ("entropy", "variance", "dead")
RATIOS = ("low ratios", "excess", "objective")

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
        parts: keys of the checks that its claim consists of: "norm", "rank", "return", "dead", "variance", "entropy".
    """

    shown: tuple[str, ...] = MAIN
    parts: tuple[str, ...] = ("norm", "rank", "return")

    @property
    def shows_capacity(self) -> bool:
        """Whether the runs' capacity losses are to be measured for it."""
        return "actor capacity" in self.shown

    def axes(self, setting: Setting, scale: Scale) -> Mapping[str, Iterable[Any]]:
        """Three numbers of epochs."""
        del scale
        return {"epochs": setting.epochs, "arm": (NONE.axis_value(setting),)}

    def picture(self, found: Found) -> "Figure":
        """A colour for each number of epochs."""
        from escapevelocity.study.papers.nrnt.pictures import SMOOTHED, Row, draw_curves

        panels: list[Panel] = [PANELS[key] for key in self.shown]
        caption = f"{found.setting.shown}, no remedy. {found.note()} {SMOOTHED}"
        return draw_curves(panels, [Row(epoch_groups(found))], caption)

    def checks(self, found: Found) -> Sequence[Check]:
        """The norm's growth within each run, and most epochs against fewest at the end of training."""
        groups = epoch_groups(found)
        span = Span.of(groups)
        made = {
            "norm": lambda: norm_growth(groups, span),
            "rank": lambda: most_against_fewest(found, groups, span, "actor rank", "below"),
            "return": lambda: most_against_fewest(found, groups, span, "return", "below"),
            "dead": lambda: most_against_fewest(found, groups, span, "dead", "above"),
            "variance": lambda: most_against_fewest(found, groups, span, "variance", "below", log=True),
            "entropy": lambda: most_against_fewest(found, groups, span, "entropy", "above"),
        }
        return [made[part]() for part in self.parts]

    def remarks(self, found: Found) -> list[str]:
        """The last 5 % by epochs: interquartile means."""
        groups = epoch_groups(found)
        span = Span.of(groups)
        keys = ("return", "actor rank", "critic rank", "norm") if "rank" in self.parts else POLICY
        said = [f"{one.label}, last 5 % (IQM): {_read(one, span, keys)}." for one in groups if one.runs]
        if "actor capacity" in self.shown and "capacity/actor" not in found.history.columns:
            said.append("Capacity losses are not measured; `ev capacity RUN` adds them to a run.")
        return said


def _read(one: Group, span: Span, keys: Sequence[str]) -> str:
    shown = []
    for key in keys:
        readings = one.readings(PANELS[key].columns[0], span.last)
        shown.append(
            f"{PANELS[key].title[:1].lower()}{PANELS[key].title[1:]} {interval_text(list(readings.values()))}"
        )
    return ", ".join(shown)


def epoch_groups(found: Found) -> list[Group]:
    """The runs without remedies, by epochs."""
    epochs = found.setting.epochs
    return [group(found.history, f"{count} epochs", NONE.holds, epochs=count) for count in epochs]


def norm_growth(groups: Sequence[Group], span: Span) -> Check:
    """Whether the norm grows from the first to the last 5 % of each run."""
    column = PANELS["norm"].columns[0]
    first: Readings = {}
    last: Readings = {}
    for one in groups:
        first |= one.readings(column, span.first)
        last |= one.readings(column, span.last)
    what = "Actor pre-activation norm, last 5 % of a run over its first 5 %"
    return Check(what, paired(last, first, log=True), "above", as_factor=True)


def most_against_fewest(
    found: Found, groups: Sequence[Group], span: Span, key: str, claimed: Any, log: bool = False
) -> Check:
    """Compare most epochs with fewest in the last 5 %, seed by seed."""
    most, fewest = (
        by_seed(one.readings(PANELS[key].columns[0], span.last)) for one in (groups[-1], groups[0])
    )
    few, _, many = found.setting.epochs
    what = f"{PANELS[key].title}, {many} epochs {'over' if log else 'less'} {few}, last 5 %"
    return Check(what, paired(most, fewest, log), claimed, as_factor=log)


def _copies() -> Iterable[EpochsFigure]:
    """Figures 7–20: the fourteen settings, in an order of ours."""
    for number, setting in enumerate(SETTINGS, 7):
        yield EpochsFigure(
            f"nrnt/figure-{number}",
            f"Figures 1 and 2 on {setting.shown}, with ratios (our numbering of 7–20: games, then MuJoCo)",
            _MORE_EPOCHS,
            (setting.name,),
            MAIN + POLICY + RATIOS,
            ("norm", "rank", "return"),
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
