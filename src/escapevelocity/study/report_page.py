"""The report page of runs: what is gathered from disk, in the order in which the page tells it."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from pathlib import Path
from typing import NamedTuple

from escapevelocity.errors import UserError
from escapevelocity.health.diagnosis import RunDiagnosis
from escapevelocity.health.metrics import METRICS
from escapevelocity.report._futures import find_parent
from escapevelocity.report._panels import page_panels
from escapevelocity.report._shown import find_setting, task_name
from escapevelocity.report.diagnosis import diagnose_run
from escapevelocity.report.page import Page, Part
from escapevelocity.report.page_curves import Traced, charts_of, heat_charts, traced_run
from escapevelocity.report.page_middle import middle_name
from escapevelocity.report.page_parts import (
    differences_table,
    environment_part,
    evidence_part,
    lineage_part,
    reproduce_part,
    settings_parts,
)
from escapevelocity.report.page_verdict import VerdictCard, verdict_card
from escapevelocity.report.page_words import WORDS
from escapevelocity.report.plots import run_labels, with_parents
from escapevelocity.runs import Run, open_run
from escapevelocity.study.report_tables import Compared, last_table, paired_table, values_table

MOST_RUNS = 12
"""More are a study: a card for each would be read by nobody."""
FOOT = "Made by escapevelocity {version} (ev report). Everything is in this file; it asks nothing of any network."
_DIFFERENCES = 3
"""More would be no sentence."""
_READING = (
    "Thick: the {middle} over seeds, smoothed, with its 95 % bootstrap interval. Thin: each seed. Green: the healthy"
    " range. Dash-dotted: where a sign of the diagnosis begins, in the median seed, or where a seed was frozen by a"
    " fault: from there the thick line is over the others. A seed without a value, as where no episode ended, keeps its"
    " last in the thick line."
)
Advice = Callable[[Run, RunDiagnosis], Sequence[tuple[str, str]]]
"""What to try: names of remedies with commands."""


class Told(NamedTuple):
    """A run with all that is said of it."""

    run: Run
    label: str
    diagnosis: RunDiagnosis
    traced: Traced
    card: VerdictCard


def runs_page(paths: Sequence[Path], advice: Advice, version: str) -> Page:
    """Gather the page of one run, or of several side by side; a branch brings its parent along.

    Args:
        paths: the runs' folders.
        advice: what to try for a diagnosis.
        version: of this package, for the foot of the page.

    Raises:
        UserError: a folder that is no run or has no records, runs of different jobs, or too many.
    """
    given = [open_run(path) for path in dict.fromkeys(paths)]
    runs, lost = with_parents(given)
    jobs = list(dict.fromkeys(run.job for run in runs))
    if len(jobs) > 1:
        raise UserError(f"runs of different kinds ({', '.join(jobs)}) do not fit one page; report them apart")
    if len(runs) > MOST_RUNS:
        raise UserError(
            f"runs = {len(runs)}: must be at most {MOST_RUNS} with the parents of branches; give the folder that holds"
            " them, as a study"
        )
    labels = run_labels(runs)
    shown = {run.path.resolve() for run in runs}
    told = [
        _told(run, label, group, advice, shown)
        for group, (run, label) in enumerate(zip(runs, labels, strict=True))
    ]
    tasks = list(dict.fromkeys(task_name(run.spec, run.job) for run in runs))
    alone = len(told) == 1
    return Page(
        title=joined(_some(labels)),
        kicker=f"Report of a run · {', '.join(tasks)}"
        if alone
        else f"{len(runs)} runs side by side · {', '.join(tasks)}",
        lead=" ".join(
            [*([] if alone else [_lead(told)]), *(f"{line[:1].upper()}{line[1:]}." for line in lost)]
        ),
        facts=tuple(_facts(runs)),
        cards=tuple(one.card for one in told),
        parts=tuple(_parts(told, jobs[0])),
        foot=FOOT.format(version=version),
    )


def _told(run: Run, label: str, group: int, advice: Advice, shown: Set[Path]) -> Told:
    diagnosis = diagnose_run(run)
    parent, _ = find_parent(run)
    beside = run.parent is not None and parent is not None and parent.path.resolve() in shown
    leaves = float(run.parent.step) if beside and run.parent is not None else None
    card = verdict_card(run, diagnosis, label, group, advice(run, diagnosis))
    return Told(run, label, diagnosis, traced_run(run, label, group, diagnosis, leaves), card)


def _parts(told: Sequence[Told], job: str) -> list[Part]:
    runs, labels = [one.run for one in told], [one.label for one in told]
    traced = [one.traced for one in told]
    legend = tuple((one.group, one.label) for one in traced)
    charts = charts_of(traced, page_panels(job), job)
    charts += heat_charts(list(zip(runs, labels, strict=True)))
    counts = [len(find_setting(run.spec, "seeds") or (0,)) for run in runs]
    parts = [Part("curves", "Curves", reading(counts), legend, tuple(charts))]
    if len(told) > 1:
        parts.append(_comparison(told, job))
    parts.append(evidence_part([one.card for one in told]))
    parts += settings_parts(runs, labels)
    lineage = lineage_part(runs, labels)
    parts += [] if lineage is None else [lineage]
    columns = [column for known in METRICS for column in known.columns() if "/" in column]
    tables = tuple(values_table(one, columns) for one in traced)
    parts.append(
        Part(
            "values",
            "Every metric: last value, healthy range, formula",
            tables=tables,
            folded=True,
            short="Every metric",
        )
    )
    return [*parts, reproduce_part(runs), environment_part(runs, labels)]


def _comparison(told: Sequence[Told], job: str) -> Part:
    compared = [_compared(one, job) for one in told]
    tables = [last_table(compared, job)]
    differing = differences_table([one.run for one in told], [one.label for one in told])
    paired = paired_table(compared, _parents(told), job)
    tables += [table for table in (paired, differing) if table is not None]
    return Part("compared", "Compared", tables=tuple(tables))


def _compared(one: Told, job: str) -> Compared:
    counted = f" {one.card.seeds_told}" if one.card.seeds_told else ""
    return Compared(one.traced, task_name(one.run.spec, job), f"{one.card.verdict}{counted}", one.card.tone)


def _parents(told: Sequence[Told]) -> dict[str, str]:
    """By label of a branch, the label of its parent."""
    labels = {one.run.path.resolve(): one.label for one in told}
    found = {one.label: find_parent(one.run)[0] for one in told}
    return {
        label: labels[parent.path.resolve()]
        for label, parent in found.items()
        if parent is not None and parent.path.resolve() in labels
    }


def _lead(told: Sequence[Told]) -> str:
    """Which runs are well and which are not, in a sentence each."""
    parts = []
    for tone, verb in (("good", "healthy"), ("bad", "not healthy"), ("unsure", "stalled or unclear")):
        names = [one.label for one in told if one.card.tone == tone]
        if not names:
            continue
        why = list(
            dict.fromkeys(WORDS[one.diagnosis.verdict].headline for one in told if one.card.tone == tone)
        )
        be = "is" if len(names) == 1 else "are"
        parts.append(f"{joined(names)} {be} {verb}: {'; '.join(why)}.")
    differing = differences_table([one.run for one in told], [one.label for one in told])
    if differing is not None and len(differing.rows) <= _DIFFERENCES:
        named = [
            f"{row[0].text.split('.')[-1]} ({', '.join(cell.text for cell in row[1:])})"
            for row in differing.rows
        ]
        parts.append(f"They differ in {' and '.join(named)}.")
    return " ".join(parts)


def _facts(runs: Sequence[Run]) -> list[str]:
    seeds = list(dict.fromkeys(len(find_setting(run.spec, "seeds") or (0,)) for run in runs))
    steps = list(dict.fromkeys(f"{run.status.steps_done:,}" for run in runs))
    states = list(dict.fromkeys(run.status.state for run in runs))
    return [
        f"{' or '.join(map(str, seeds))} {'seed' if seeds == [1] else 'seeds'}",
        f"{' or '.join(steps)} steps per seed",
        " and ".join(states),
    ]


def _some(labels: Sequence[str]) -> list[str]:
    return list(labels) if len(labels) <= 3 else [*labels[:2], f"{len(labels) - 2} more"]


def reading(counts: Sequence[int]) -> str:
    """Say how the curves are read.

    Args:
        counts: seeds of each run or cell.
    """
    return _READING.format(middle=middle_name(counts))


def joined(words: Sequence[str]) -> str:
    """Put words in a row as a sentence has them.

    Example:
        >>> joined(["a", "b", "c"])
        'a, b and c'
    """
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
