"""The numbers of README.md, as Markdown, from the kept history."""

from collections.abc import Mapping, Sequence

import numpy as np
from benchmarks._common import table as markdown

from escapevelocity.study.bootstrap import Interval
from escapevelocity.study.history import History
from studies.collapse_map.outcomes import Place, places
from studies.early_warning.statistics import wilson
from studies.measures import REPETITIONS, iqm_interval, written
from studies.running import finished


def page(history: History, planned: int, repetitions: int = REPETITIONS) -> str:
    """All numbers, of the runs that have come to their end.

    Args:
        history: of the study's runs.
        planned: how many runs the study has.
        repetitions: of the bootstrap.
    """
    done = finished(history)
    found = places(done)
    if not found:
        return "No run has come to its end yet."
    seeds = sum(len(one.ill_since) for one in found)
    ill = sum(_count(one.ill_since) for one in found)
    lost = sum(_count(one.lost_since) for one in found)
    both = sum(_both(one) for one in found)
    beside = f", of which {both} are ill too" if lost else ""
    return "\n\n".join(
        [
            f"{len(done.runs)} of {planned} runs have ended, {seeds} seeds. Ill: {ill}; return lost: {lost}{beside}.",
            "### Where agents fall ill\n\n" + _map(found),
            "### At the end\n\n" + _ends(found, repetitions),
        ]
    )


def _map(found: Sequence[Place]) -> str:
    """Ill seeds of a task by epochs and learning rate."""
    rates = sorted({one.rate for one in found})
    rows = []
    for task, epochs in sorted({(one.task, one.epochs) for one in found}):
        cells = {one.rate: one for one in found if (one.task, one.epochs) == (task, epochs)}
        rows.append([f"{task}, {epochs} epochs", *(_told(cells.get(rate)) for rate in rates)])
    text = (
        "Seeds that are ill at the end with Wilson's 95 % interval of their share; since when, as the median share of "
        "training; and how many have lost their return."
    )
    return f"{text}\n\n{markdown(['', *(f'rate {rate:g}' for rate in rates)], rows)}"


def _told(place: Place | None) -> str:
    if place is None:
        return "–"
    ill, of = _count(place.ill_since), len(place.ill_since)
    low, high = (round(100 * end) for end in wilson(ill, of))
    text = f"{ill} of {of} [{low} %, {high} %]"
    if ill:
        text += f", since {np.nanmedian(list(place.ill_since.values())) / place.steps:.0%}"
    lost = _count(place.lost_since)
    return text + (f"; return lost in {lost}" if lost else "")


def _ends(found: Sequence[Place], repetitions: int) -> str:
    rows = [
        [
            f"{one.task}, {one.epochs} epochs, rate {one.rate:g}",
            written(iqm_interval(one.rank, repetitions), 1),
            written(iqm_interval(one.dead, repetitions), 1),
            written(iqm_interval(one.growth, repetitions), 1),
            _short(iqm_interval(one.kl, repetitions)),
            written(iqm_interval(one.final, repetitions)),
        ]
        for one in found
    ]
    header = ["cell", "actor's rank", "dead units of 64", "norm, end / start", "KL of a batch", "return"]
    return f"Interquartile means over seeds, of the last 5 % of training.\n\n{markdown(header, rows)}"


def _short(interval: Interval | None) -> str:
    """Three digits: the KL divergence of a collapsed policy knows no bounds."""
    if interval is None:
        return "–"
    return f"{interval.estimate:.3g} [{interval.low:.3g}, {interval.high:.3g}]"


def _count(since: Mapping[int, float]) -> int:
    return int(np.isfinite(list(since.values())).sum())


def _both(place: Place) -> int:
    return sum(np.isfinite(place.ill_since[s]) and np.isfinite(step) for s, step in place.lost_since.items())
