"""What a figure shows, as data: its panels, the columns in them, and a run's curves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from escapevelocity.errors import UserError
from escapevelocity.health import metric
from escapevelocity.report._curves import Curve


@dataclass(frozen=True)
class Panel:
    """One set of axes."""

    title: str
    unit: str
    """Label of the y axis."""
    columns: tuple[str, ...]
    names: tuple[str, ...] = ()
    """What tells several columns of one panel apart."""
    scale: Literal["linear", "log"] = "linear"
    of_width: bool = False
    """Whether it counts units or directions of a layer, so that the axis begins at 0."""
    ratios: bool = False
    """Whether 1 and 1 ± ε are marked."""


@dataclass(frozen=True)
class Series:
    """One run in the figure."""

    label: str
    curves: dict[str, Curve]
    """By column."""
    steps: float
    """How far it has come."""
    clip_epsilon: float | None
    width: int | None
    """Units of the penultimate layer."""
    leaves: float | None = None
    """Of a branch beside its parent: the step at which they part."""


PANELS = (
    Panel("Return", "episode return", ("perf/return_mean",)),
    Panel("Actor feature rank (PCA)", "rank", ("health/actor/feature_rank_pca",), of_width=True),
    Panel("Critic feature rank (PCA)", "rank", ("health/critic/feature_rank_pca",), of_width=True),
    Panel("Actor pre-activation norm", "mean L2 norm", ("health/actor/preactivation_norm",), scale="log"),
    Panel("Actor dead neurons", "units", ("health/actor/dead_neurons",), of_width=True),
    Panel(
        "Ratios outside 1 ± ε",
        "mean ratio",
        ("trust/ratio_above_mean", "trust/ratio_below_mean"),
        ("above 1 + ε", "below 1 − ε"),
        scale="log",
        ratios=True,
    ),
    Panel("Policy entropy", "nats", ("policy/entropy",)),
    Panel("Policy variance", "across states", ("policy/variance",), scale="log"),
)
"""Return, ranks, norm, dead neurons, ratios, entropy and variance (Moalla et al. 2024, Figs. 1–3)."""


ASR_PANELS = (
    *(
        Panel(f"Recall@{k}, unseen classes", "share of queries", (f"test/recall_at_{k}",))
        for k in (1, 2, 4, 8)
    ),
    Panel("NMI, unseen classes", "normalised", ("test/nmi",)),
    Panel("F1, unseen classes", "of pairs", ("test/f1",)),
    Panel("Recall@1, validation", "share of queries", ("validation/recall_at_1",)),
    Panel("Mean distance drawn", "distance", ("asr/distance_mean",)),
)
"""The six curves of the gravity well (Dou et al. 2022), and what the agent sees and does."""

_OF_JOB = {"asr": ASR_PANELS}


_ON_PAGES = {"ppo": Panel("KL of an update", "nats", ("trust/kl",), scale="log")}
"""A page has room for one more: what the trust region is judged by."""


def page_panels(job: str) -> tuple[Panel, ...]:
    """The panels of a job on a web page: its figure's, and before the ratios what they come to."""
    panels = panels_of(job)
    if job not in _ON_PAGES:
        return panels
    place = next((i for i, panel in enumerate(panels) if panel.ratios), len(panels))
    return (*panels[:place], _ON_PAGES[job], *panels[place:])


def panels_of(job: str) -> tuple[Panel, ...]:
    """The panels of a job's usual figure."""
    return _OF_JOB.get(job, PANELS)


def column_panel(column: str) -> Panel:
    """Make a panel for any column, with its unit where docs/metrics.md has one."""
    try:
        unit = metric(column).unit
    except UserError:  # a column of another job
        unit = ""
    return Panel(column, "" if unit == "–" else unit, (column,))
