"""Figure 4: where ratios fall lowest, against dead neurons, rank and norm."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from scipy.stats import spearmanr

from escapevelocity.health.rank import SINGLE_DIGITS
from escapevelocity.study.papers.figure import Scale
from escapevelocity.study.papers.nrnt.arms import NONE
from escapevelocity.study.papers.nrnt.base import Found, RunFigure
from escapevelocity.study.papers.nrnt.epochs import epoch_groups
from escapevelocity.study.papers.nrnt.judge import FLOOR, Check, interval_text
from escapevelocity.study.papers.nrnt.members import Group, Member, Readings
from escapevelocity.study.papers.nrnt.panels import BELOW, DEAD, NORM, RANK_BEFORE
from escapevelocity.study.papers.nrnt.read import Span, within
from escapevelocity.study.papers.nrnt.settings import TASKS, Setting
from escapevelocity.study.windows import LOW_WINDOWS, low_ratios

if TYPE_CHECKING:
    from matplotlib.figure import Figure

AGAINST = {DEAD: "dead neurons", RANK_BEFORE: "feature rank (PCA)", NORM: "pre-activation norm"}
"""What low ratios are drawn against, by column."""
_RATIO = "ratio"


@dataclass(frozen=True)
class LowRatioScatter(RunFigure):
    """A point for each of the 20 windows of 1 % with the lowest ratios, per run."""

    def axes(self, setting: Setting, scale: Scale) -> Mapping[str, Iterable[Any]]:
        """Those of Figure 1, whose runs it takes."""
        del scale
        return {"epochs": setting.epochs, "arm": (NONE.axis_value(setting),)}

    def picture(self, found: Found) -> "Figure":
        """A panel for each measure, a colour for each number of epochs."""
        from escapevelocity.study.papers.nrnt.pictures import Cloud, draw_clouds

        caption = (
            f"{found.setting.shown}, no remedy: the {LOW_WINDOWS} windows of 1 % of training with the lowest mean "
            "of the "
            f"ratios below 1 − ε, per run; measured before the update. Dotted: 1 − ε. {found.note()}"
        )
        groups = epoch_groups(found)
        taken = {one.label: list(low_windows(one, LOW_WINDOWS).values()) for one in groups}
        clouds = [
            Cloud(
                name,
                "mean ratio below 1 − ε",
                {label: (_joined(rows, column), _joined(rows, _RATIO)) for label, rows in taken.items()},
                log=column == NORM,
            )
            for column, name in AGAINST.items()
        ]
        epsilons = {float(run.settings["clip_epsilon"]) for one in groups for run in one.runs}
        return draw_clouds(clouds, caption, [1 - epsilon for epsilon in sorted(epsilons)])

    def checks(self, found: Found) -> Sequence[Check]:
        """Within each run, windows of 1 % in which the representation is poor against the others."""
        groups, span = within(epoch_groups(found))
        runs = {m: (rows, one.width) for one in groups for m, rows in low_windows(one, 100).items()}
        rank = {m: rows[RANK_BEFORE] < SINGLE_DIGITS for m, (rows, _) in runs.items()}
        dead = {m: rows[DEAD] > width / 2 for m, (rows, width) in runs.items()}
        made = []
        for name, poor in (("an actor's rank below 10", rank), ("more than half of the neurons dead", dead)):
            ratios = {m: _less(rows[_RATIO], poor[m]) for m, (rows, _) in runs.items()}
            what = f"Low ratio within a run, windows of 1 % with {name} less the others"
            made.append(
                _check(what, ratios, "below", f"no run has both windows with {name} and others", span)
            )
        norms = {m: _less(np.log(np.maximum(rows[NORM], FLOOR)), rank[m]) for m, (rows, _) in runs.items()}
        what = (
            "Pre-activation norm within a run, windows of 1 % with an actor's rank below 10 over the others"
        )
        no_rank = "no run has both windows with an actor's rank below 10 and others"
        return [*made, _check(what, norms, "above", no_rank, span, as_factor=True)]

    def remarks(self, found: Found) -> list[str]:
        """How low ratios go along with each measure over a run, and how many are far below the clip range, by rank."""
        return [self._correlations(found), self._far(found)]

    def _correlations(self, found: Found) -> str:
        runs = {m: rows for one in epoch_groups(found) for m, rows in low_windows(one, 100).items()}
        shown = []
        for column, name in AGAINST.items():
            rhos = {m: _correlation(rows[_RATIO], rows[column]) for m, rows in runs.items()}
            defined = {m: rho for m, rho in rhos.items() if np.isfinite(rho)}
            is_constant = not defined and all(_is_constant(rows[column]) for rows in runs.values())
            shown.append(f"{name} {'undefined: it is constant' if is_constant else interval_text(defined)}")
        return (
            "Not judged, as any two series that drift correlate: Spearman's correlation of the low ratio over a run's "
            f"windows of 1 % (IQM over seeds) with {', '.join(shown)}."
        )

    def _far(self, found: Found) -> str:
        far = {"below 10": 0, "of 10 and more": 0}
        every = 0
        for one in epoch_groups(found):
            for run in one.runs[:1]:
                limit = 0.5 * (1 - float(run.settings["clip_epsilon"]))
                for rows in low_windows(one, 100).values():
                    there = np.isfinite(rows[_RATIO]) & np.isfinite(rows[RANK_BEFORE])
                    low = there & (rows[_RATIO] < limit)
                    lost = rows[RANK_BEFORE] < SINGLE_DIGITS
                    every += int(there.sum())
                    far["below 10"] += int((low & lost).sum())
                    far["of 10 and more"] += int((low & ~lost).sum())
        counts = ", ".join(f"{count} with a rank {name}" for name, count in far.items())
        return f"Windows of 1 % with a mean low ratio of less than half of 1 − ε, of {every}: {counts}."


def _is_constant(values: np.ndarray) -> bool:
    """Whether something was measured, and was the same in every window."""
    defined = values[np.isfinite(values)]
    return bool(defined.size) and bool((defined == defined[0]).all())


def _less(values: np.ndarray, poor: np.ndarray) -> float:
    """Mean over the poor windows less that over the others; NaN where one kind is missing."""
    there = np.isfinite(values)
    kinds = values[there & poor], values[there & ~poor]
    return float(kinds[0].mean() - kinds[1].mean()) if all(kind.size for kind in kinds) else float("nan")


def _check(
    what: str,
    differences: Readings,
    claimed: Literal["above", "below"],
    never: str,
    span: Span,
    as_factor: bool = False,
) -> Check:
    """A check over the runs that have both kinds of windows; `never`: what is said if none has."""
    defined = {m: x for m, x in differences.items() if np.isfinite(x)}
    untold = span.untold or ("" if defined or not differences else never)
    return Check(what, defined, claimed, as_factor=as_factor, each="run", untold=untold)


def low_windows(one: Group, lowest: int) -> dict[Member, dict[str, np.ndarray]]:
    """For each member its windows of 1 % with the lowest ratios: `ratio`, and the measures of `AGAINST` by column."""
    others = {column: one.tracks(column) for column in AGAINST}
    found = {}
    for member, low in one.tracks(BELOW).items():
        if not low.steps.size:
            continue
        beside = {name: _at(tracks[member], low.steps)[None] for name, tracks in others.items()}
        taken = low_ratios(low.steps, low.values[None], beside, one.total, lowest=lowest)
        found[member] = {_RATIO: taken.ratio[0], **{name: rows[0] for name, rows in taken.others.items()}}
    return found


def _at(track: Any, steps: np.ndarray) -> np.ndarray:
    """A column at given steps; NaN where it was not recorded."""
    values = np.full(steps.shape, np.nan)
    _, here, there = np.intersect1d(steps, track.steps, return_indices=True)
    values[here] = track.values[there]
    return values


def _joined(rows: Sequence[Mapping[str, np.ndarray]], column: str) -> np.ndarray:
    return np.concatenate([row[column] for row in rows]) if rows else np.zeros(0)


def _correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Spearman's; NaN where one of them is constant or there are fewer than five pairs."""
    there = np.isfinite(first) & np.isfinite(second)
    first, second = first[there], second[there]
    if first.size < 5 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return float("nan")
    return float(np.asarray(spearmanr(first, second))[0])


FIGURES = (
    LowRatioScatter(
        "nrnt/figure-4",
        "The lowest ratios against dead neurons, rank and norm",
        "The ratios below 1 − ε fall furthest where the representation is poorest: where neurons are dead, the rank is "
        "in single digits and the norm is large.",
        TASKS,
    ),
)
