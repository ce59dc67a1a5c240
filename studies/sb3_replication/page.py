"""The numbers of README.md, as Markdown, from the kept history."""

from collections.abc import Mapping

import numpy as np
from benchmarks._common import table as markdown
from scipy.stats import fisher_exact

from escapevelocity.study.bootstrap import Interval
from escapevelocity.study.history import History
from studies.early_warning.statistics import wilson
from studies.measures import DEAD_RETURN, REPETITIONS, difference_interval, iqm_interval, written
from studies.running import core_hours, finished
from studies.sb3_replication.outcomes import Outcome, outcomes
from studies.sb3_replication.plan import OURS, SB3

TITLES = {SB3: "Stable-Baselines3", OURS: "escapevelocity"}


def page(history: History, repetitions: int = REPETITIONS) -> str:
    """All numbers, of the runs that have come to their end.

    Args:
        history: of both trainers.
        repetitions: of the bootstrap.
    """
    done = finished(history)
    found = outcomes(done)
    if not found:
        return "No run has come to its end yet."
    parts = [
        _runs(found, done),
        "### What became of the representation\n\n" + _representation(found, repetitions),
        "### What became of the return\n\n" + _performance(found, repetitions),
        "### Stable-Baselines3 against ours\n\n" + _differences(found, repetitions),
    ]
    return "\n\n".join(parts)


def _runs(found: list[Outcome], history: History) -> str:
    lines = []
    for job, title in TITLES.items():
        own = [one for one in found if one.job == job]
        if not own:
            lines.append(f"{title}: no run has come to its end yet.")
            continue
        runs, ill = sum(len(one.seeds) for one in own), sum(len(one.ill) for one in own)
        lost, broken = sum(len(one.collapsed) for one in own), sum(len(one.broken) for one in own)
        settings, hours = "setting" if len(own) == 1 else "settings", core_hours(history.where(job=job))
        lines.append(
            f"{title}: {runs} runs of {len(own)} {settings}, {hours:.1f} core-hours; {ill} end with an ill "
            f"representation, {lost} have lost their return, {broken} were ended by numbers that are not finite."
        )
    return "\n".join(f"- {line}" for line in lines)


def _representation(found: list[Outcome], repetitions: int) -> str:
    rows = [
        [
            f"{one.setting.title}: {TITLES[one.job]}",
            str(len(one.seeds)),
            _share(len(one.ill), len(one.seeds)),
            written(iqm_interval(one.rank, repetitions), 1),
            written(iqm_interval(one.dead, repetitions), 1),
            written(iqm_interval(one.growth, repetitions), 1),
            written(iqm_interval(one.low_ratio, repetitions), 2),
        ]
        for one in found
    ]
    header = [
        "setting", "seeds", "ill", "actor's rank", "dead units", "norm, end / start", "mean ratio below 1 − ε",
    ]  # fmt: skip
    text = "Interquartile means over seeds, of the last 5 % of training; of a dead seed's own life, where one has died."
    return f"{text}\n\n{markdown(header, rows)}"


def _performance(found: list[Outcome], repetitions: int) -> str:
    rows = []
    for one in found:
        kept = {seed: one.final[seed] / one.best[seed] for seed in one.seeds}
        onsets = [one.lost[seed] for seed in one.collapsed]
        rows.append(
            [
                f"{one.setting.title}: {TITLES[one.job]}",
                str(len(one.seeds)),
                written(iqm_interval(one.final, repetitions)),
                written(iqm_interval(one.best, repetitions)),
                written(iqm_interval(kept, repetitions), 2),
                _share(len(onsets), len(one.seeds)),
                f"{np.median(onsets):,.0f}" if onsets else "–",
            ]
        )
    header = [
        "setting", "seeds", "return, last 5 %", "best twentieth", "last 5 % / best", "return lost",
        "lost since (median)",
    ]  # fmt: skip
    text = f"From its death on, the return of a dead seed counts as {DEAD_RETURN:g}, and is lost."
    return f"{text}\n\n{markdown(header, rows)}"


def _differences(found: list[Outcome], repetitions: int) -> str:
    rows = []
    for theirs in found:
        ours = next((o for o in found if o.setting == theirs.setting and o.job == OURS), None)
        if theirs.job != SB3 or ours is None:
            continue
        growth = difference_interval(_logs(theirs.growth), _logs(ours.growth), repetitions)
        rows.append(
            [
                theirs.setting.title,
                _verdict(theirs, ours),
                written(difference_interval(theirs.final, ours.final, repetitions), 0, "+"),
                written(difference_interval(theirs.rank, ours.rank, repetitions), 1, "+"),
                written(difference_interval(theirs.dead, ours.dead, repetitions), 1, "+"),
                written(_factor(growth), 2),
                written(difference_interval(theirs.low_ratio, ours.low_ratio, repetitions), 2, "+"),
            ]
        )
    if not rows:
        return "No setting has runs of both that have come to their end yet."
    header = [
        "setting",
        "illness",
        "return",
        "actor's rank",
        "dead units",
        "growth of the norm, factor",
        "low ratios",
    ]
    text = (
        "Interquartile mean of Stable-Baselines3 − that of ours. Seeds are resampled unpaired: the same one "
        "gives another start in the other library. P-values are of Fisher's exact test on the number of ill runs."
    )
    return f"{text}\n\n{markdown(header, rows)}"


def _verdict(theirs: Outcome, ours: Outcome) -> str:
    """Whether the illness of the one is found in the other, too."""
    counts = [(len(one.ill), len(one.seeds) - len(one.ill)) for one in (theirs, ours)]
    p_value = float(fisher_exact(counts)[1])  # pyright: ignore[reportArgumentType]
    ill = [title for (count, _), title in zip(counts, (TITLES[SB3], TITLES[OURS]), strict=True) if count]
    if not ill:
        return "neither"
    if len(ill) == 2:
        return "replicated" if p_value >= 0.05 else f"both, in different shares (p = {p_value:.2g})"
    return f"only {ill[0]} (p = {p_value:.2g})"


def _logs(values: Mapping[int, float]) -> dict[int, float]:
    with np.errstate(divide="ignore"):
        return {seed: float(np.log(value)) for seed, value in values.items()}


def _factor(interval: Interval | None) -> Interval | None:
    if interval is None:
        return None
    return Interval(*(float(np.exp(end)) for end in (interval.estimate, interval.low, interval.high)))


def _share(count: int, of: int) -> str:
    low, high = (round(100 * end) for end in wilson(count, of))
    return f"{count} of {of} [{low} %, {high} %]"
