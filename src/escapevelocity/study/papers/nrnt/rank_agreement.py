"""How far five definitions of rank agree along a run: Figures 36–41."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from escapevelocity.study.correlation import RANKS, AgreementOverRuns, agreement, agreement_over_runs
from escapevelocity.study.papers.figure import Scale
from escapevelocity.study.papers.nrnt.arms import NONE
from escapevelocity.study.papers.nrnt.base import Found, RunFigure
from escapevelocity.study.papers.nrnt.epochs import epoch_groups
from escapevelocity.study.papers.nrnt.judge import Check
from escapevelocity.study.papers.nrnt.members import Group, Member
from escapevelocity.study.papers.nrnt.read import within
from escapevelocity.study.papers.nrnt.settings import GAMES, MUJOCO, Setting

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAMES = ("effective", "PCA", "srank", "Lyle", "numerical")
"""Short names of `correlation.RANKS`, in their order."""
MEASURES = {
    "kendall": "Kendall's τ",
    "spearman": "Spearman's ρ",
    "pearson": "Pearson's r",
    "distance": "1 − L2 / (√T·D)",
}
SAME_STORY = 0.5
"""Kendall's τ above which two ranks tell the same story along a run (a level of ours): three in four pairs of points
are then in the same order."""
assert len(NAMES) == len(RANKS)


@dataclass(frozen=True)
class RankAgreement(RunFigure):
    """Four measures of agreement between each two ranks, mean and worst over runs.

    Attributes:
        network: whose ranks.
    """

    network: Literal["actor", "critic"] = "actor"

    def axes(self, setting: Setting, scale: Scale) -> Mapping[str, Iterable[Any]]:
        """Those of Figure 1, whose runs it takes."""
        del scale
        return {"epochs": setting.epochs, "arm": (NONE.axis_value(setting),)}

    def picture(self, found: Found) -> "Figure":
        """A row for the mean over runs and one for the worst run."""
        from escapevelocity.study.papers.nrnt.pictures import Table, draw_tables

        pairs = self._agreement(found)
        tables = [
            Table(f"{title}, {'mean' if which == 'mean' else 'worst run'}", _shown(pairs, which, measure))
            for which in ("mean", "worst")
            for measure, title in MEASURES.items()
        ]
        caption = (
            f"{found.setting.shown}, no remedy, {self.network}: agreement of the five ranks after the update along "
            "each run. A run with a constant rank, such as a numerical rank that stays at full width, says nothing "
            "about that rank's pairs, and keeps its others (the paper's code leaves it out altogether). Undefined "
            f"(–): constant in every run. {found.note()}"
        )
        return draw_tables(tables, NAMES, len(MEASURES), caption)

    def checks(self, found: Found) -> Sequence[Check]:
        """Does every two ranks' correlation reach `SAME_STORY`?"""
        groups, span = within(epoch_groups(found))
        runs = {m: run for one in groups for m, run in _curves(one, self.network).items()}
        kendalls = {m: agreement(*run).kendall for m, run in runs.items()}
        made = []
        for (i, first), (j, second) in combinations(enumerate(NAMES), 2):
            taus = {m: float(tau[i, j]) for m, tau in kendalls.items() if np.isfinite(tau[i, j])}
            still = "" if taus or not runs else "one of them is constant in every run"
            what = f"{self.network.capitalize()} rank {first} against {second} along a run"
            made.append(
                Check(
                    what,
                    taus,
                    "above",
                    SAME_STORY,
                    quantity="mean Kendall's τ",
                    each="run",
                    untold=span.untold or still,
                )
            )
        return made

    def remarks(self, found: Found) -> list[str]:
        """Which ranks say nothing because they are constant."""
        runs = [curves for curves, _ in self._runs(found)]
        if not runs:
            return []
        still = np.sum(
            [[np.unique(curve[np.isfinite(curve)]).size < 2 for curve in curves] for curves in runs], axis=0
        )
        shown = ", ".join(f"{name} in {count}" for name, count in zip(NAMES, still, strict=True) if count)
        return [f"Ranks that are constant throughout a run, of {len(runs)} runs: {shown or 'none'}."]

    def _runs(self, found: Found) -> list[tuple[np.ndarray, int]]:
        """(ranks × points, width) of every member that has all five."""
        return [run for one in epoch_groups(found) for run in _curves(one, self.network).values()]

    def _agreement(self, found: Found) -> AgreementOverRuns | None:
        runs = self._runs(found)
        if not runs:
            return None
        curves, widths = zip(*runs, strict=True)
        return agreement_over_runs(curves, widths, leave_out_constant=False)


def _curves(one: Group, network: str) -> dict[Member, tuple[np.ndarray, int]]:
    """(ranks × points, width) of each member that has all five."""
    tracks = [one.tracks(f"health/{network}/{rank}_after") for rank in RANKS]
    widths = {run.name: int(run.settings.get("hidden", (1,))[-1]) for run in one.runs}
    width = max(widths.values(), default=1)
    found = {}
    for member in one.members:
        own = [track[member] for track in tracks]
        if all(track.steps.size and track.steps.size == own[0].steps.size for track in own):
            found[member] = (np.stack([track.values for track in own]), width)
    return found


def _shown(pairs: AgreementOverRuns | None, which: str, measure: str) -> np.ndarray:
    if pairs is None:
        return np.full((len(NAMES), len(NAMES)), np.nan)
    matrix = getattr(getattr(pairs, which), measure)
    return 1 - matrix if measure == "distance" else matrix


def _figures() -> Iterable[RankAgreement]:
    """Games, MuJoCo with tanh and with ReLU; actor and critic of each: six, in an order of ours."""
    tanh, relu = (tuple(s for s in reversed(MUJOCO) if s.activation == kind) for kind in ("tanh", "relu"))
    families = (("games", GAMES), ("MuJoCo, tanh", tanh), ("MuJoCo, ReLU", relu))
    number = 36
    for name, settings in families:
        for network in ("actor", "critic"):
            yield RankAgreement(
                f"nrnt/figure-{number}",
                f"Agreement of five ranks, {network}, {name} (our split of 36–41)",
                "Five definitions of rank tell the same story along a run, so that the findings do not hang on the "
                "choice of one of them.",
                tuple(setting.name for setting in settings),
                network,
            )
            number += 1


FIGURES = tuple(_figures())
