"""The numbers of README.md, as Markdown, from the kept history."""

import numpy as np
from benchmarks._common import table as markdown

from escapevelocity.study.history import History
from studies.measures import REPETITIONS, written
from studies.running import core_hours, dead_seeds, finished
from studies.segment_rule.compare import (
    QUANTITIES,
    Comparison,
    comparisons,
    episodes_cut,
    epochs_of,
    first_difference,
    holm,
)
from studies.segment_rule.plan import EPOCHS, JOBS

ALL = len(QUANTITIES) * len(EPOCHS)
"""Comparisons that were planned, and are corrected for."""


def page(history: History, repetitions: int = REPETITIONS) -> str:
    """All numbers, of the finished runs.

    Args:
        history: of both rules.
        repetitions: of the bootstrap.
    """
    done = finished(history)
    found = list(comparisons(done, repetitions))
    if not found:
        return "No setting has finished runs under both rules yet."
    parts = [
        _runs(done),
        "### Does it matter?\n\n" + _verdict(found),
        "### Seed by seed, and as a whole\n\n" + _table(found),
        "### What the boundaries cut\n\n" + _cut(done),
    ]
    return "\n\n".join(parts)


def _runs(history: History) -> str:
    counts = []
    for title, job in JOBS.items():
        own = [run for run in history.runs if run.settings["job"] == job]
        for epochs in sorted({run.settings["epochs"] for run in own}):
            group = [run for run in own if run.settings["epochs"] == epochs]
            seeds, steps = sum(len(run.seeds) for run in group), group[0].steps_total
            counts.append(f"{seeds} seeds under {title} at {epochs} epochs ({steps:,} steps)")
    return (
        f"Runs that have ended: {'; '.join(counts)}. {core_hours(history):.1f} core-hours. Seeds that have died of "
        f"numbers that are not finite: {dead_seeds(history)}."
    )


def _verdict(found: list[Comparison]) -> str:
    adjusted = _adjusted(found)
    low = int(np.argmin(adjusted))
    widths = [
        max(abs(one.paired.mean.low), abs(one.paired.mean.high)) / one.seed_std
        for one in found
        if one.seed_std > 0 and np.isfinite(one.paired.mean.low)
    ]
    said = sum(p < 0.05 for p in adjusted)
    least = f"{adjusted[low]:.2g}: {found[low].quantity.title}, {found[low].epochs} epochs"
    head = (
        f"Of {len(found)} comparisons {said} differ at 5 % once their number is allowed for (sign-flip test on paired "
        f"differences, Holm for all {ALL}). The smallest adjusted p-value is {least}."
    )
    if not widths:
        return head
    return (
        f"{head} The 95 % intervals of the mean differences exclude effects larger than {max(widths):.2f} standard "
        f"deviations between seeds in every comparison, and larger than {np.median(widths):.2f} in half of them; "
        "smaller ones cannot be told from none with these seeds."
    )


def _adjusted(found: list[Comparison]) -> list[float]:
    """Holm's p-values for all comparisons that were planned; those that are missing count as if they showed nothing."""
    p_values = [one.paired.p_value for one in found]
    return list(holm([*p_values, *[1.0] * (ALL - len(found))])[: len(found)])


def _table(found: list[Comparison]) -> str:
    rows = []
    for one, adjusted in zip(found, _adjusted(found), strict=True):
        digits = one.quantity.digits
        rows.append(
            [
                f"{one.epochs} epochs: {one.quantity.title}",
                str(len(one.paired.seeds)),
                written(one.forty, digits),
                written(one.one, digits),
                written(one.unpaired, digits, "+"),
                written(one.paired.mean, digits, "+"),
                f"{one.paired.p_value:.2g} ({adjusted:.2g})",
                written(one.improvement, 2),
            ]
        )
    header = [
        "quantity", "seeds", "40 segments, IQM", "1 segment, IQM", "difference of IQMs, unpaired",
        "mean difference, paired", "p (Holm)", "P(40 > 1)",
    ]  # fmt: skip
    return markdown(header, rows)


def _cut(history: History) -> str:
    rows = []
    for epochs in epochs_of(history):
        first = first_difference(history, epochs)
        for title, job in JOBS.items():
            cut, ended = episodes_cut(history, job, epochs)
            rows.append(
                [f"{epochs} epochs, {title}", f"{cut:.1f}", f"{ended:,.0f}", f"{100 * cut / ended:.2f}"]
            )
        rows[-1][0] += f" (first batch with another return: step {min(first.values()):,.0f} or later)"
    header = ["per seed", "episodes cut", "episodes that ended", "cut, %"]
    return markdown(header, rows)
