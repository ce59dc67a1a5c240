"""Tables of the report page that need statistics: last values with intervals, and paired differences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from escapevelocity.errors import UserError
from escapevelocity.health import metric
from escapevelocity.report._shown import UNDEFINED, is_marked, write_number
from escapevelocity.report.charts import metric_help
from escapevelocity.report.page import Cell, Heading, Table
from escapevelocity.report.page_curves import Traced
from escapevelocity.report.page_middle import middle_name
from escapevelocity.study.bootstrap import bootstrap_interval
from escapevelocity.study.paired import paired_comparison
from escapevelocity.study.statistics import iqm

LAST = 0.1
"""Share of the run, at its end, over which a last value is the mean."""
REPETITIONS = 5_000
_SHOWN = {
    "ppo": (
        ("perf/return_mean", "return"),
        ("health/actor/feature_rank_pca", "actor rank"),
        ("health/actor/dead_neurons", "dead neurons"),
        ("health/actor/preactivation_norm", "pre-activation norm"),
        ("trust/kl", "KL"),
        ("policy/entropy", "entropy"),
    ),
    "asr": (
        ("test/recall_at_1", "Recall@1, unseen"),
        ("test/nmi", "NMI, unseen"),
        ("validation/recall_at_1", "Recall@1, validation"),
        ("asr/distance_mean", "mean distance"),
        ("asr/policy_entropy", "policy entropy"),
    ),
}


class Compared(NamedTuple):
    """A run or a cell in the tables."""

    traced: Traced
    task: str
    """Returns of different tasks are not held against each other."""
    told: str = ""
    """A verdict, or how many seeds have which."""
    tone: str = ""


def main_column(job: str) -> tuple[str, str]:
    """What runs of a job are judged by: the column, and what a table calls it."""
    return _SHOWN.get(job, _SHOWN["ppo"])[0]


def last_values(traced: Traced, column: str, end: float = np.inf) -> dict[int, float]:
    """Give each seed's mean over the last tenth of the run; seeds without a defined value there are left out.

    The last tenth of a seed that was frozen ends where it was frozen: one that died is not left out for that.

    Args:
        traced: a run or cell.
        column: a column of its records.
        end: environment steps; what lies beyond is not looked at.
    """
    found = traced.read(column)
    if not found.steps.size:
        return {}
    values = {}
    for seed, own in zip(found.seeds, found.values, strict=True):
        last = min(traced.frozen.get(seed, found.steps[-1]), end)
        late = (found.steps > last - LAST * traced.total) & (found.steps <= last)
        defined = own[late & np.isfinite(own)]
        if defined.size:
            values[seed] = float(defined.mean())
    return values


def _on_the_way(traced: Traced, column: str) -> float | None:
    """Environment steps of the newest record of a run that has not reached its last tenth; None of other runs."""
    steps = traced.read(column).steps
    return float(steps[-1]) if steps.size and steps[-1] < (1 - LAST) * traced.total else None


def last_table(compared: Sequence[Compared], job: str, first: str = "run") -> Table:
    """Hold the last values of runs or cells side by side: interquartile means over seeds with 95 % intervals.

    Args:
        compared: the runs or cells.
        job: their job.
        first: what the first column is called.
    """
    shown = [
        (column, name)
        for column, name in _SHOWN.get(job, _SHOWN["ppo"])
        if any(last_values(one.traced, column) for one in compared)
    ]
    head = (
        Heading(first),
        Heading("verdict"),
        Heading("seeds", number=True),
        *(Heading(name, metric_help(column), number=True) for column, name in shown),
    )
    rows, counts = [], []
    for one in compared:
        seeds = len(last_values(one.traced, shown[0][0])) if shown else 0
        counts.append(seeds)
        cells = [_last_cell(one.traced, column) for column, _ in shown]
        so_far = _on_the_way(one.traced, shown[0][0]) if shown else None
        below = "" if so_far is None else f"at step {so_far:,.0f} of {one.traced.total:,.0f}"
        name = Cell(one.traced.label, group=one.traced.group, below=below)
        rows.append((name, Cell(one.told, one.tone), Cell(str(seeds), number=True), *cells))
    caption = (
        f"Last values: mean over the last tenth of each seed; {middle_name(counts)} over seeds [95 % bootstrap"
        f" interval]. ! marks what is outside its healthy range.{_frozen_told(compared)}"
    )
    return Table(caption, head, tuple(rows))


def _frozen_told(compared: Sequence[Compared]) -> str:
    frozen = sum(len(one.traced.frozen) for one in compared)
    if not frozen:
        return ""
    if frozen == 1:
        return " 1 seed was frozen by a fault and counts as it then was."
    return f" {frozen} seeds were frozen by a fault and count as they then were."


def _last_cell(traced: Traced, column: str) -> Cell:
    values = list(last_values(traced, column).values())
    if not values:
        return Cell(UNDEFINED, number=True)
    found = bootstrap_interval(np.array(values), iqm, seed=0, repetitions=REPETITIONS)
    marked = is_marked(column, found.estimate, traced.width, traced.starts.get(column))
    text = write_number(found.estimate) + ("!" if marked else "")
    interval = f"[{write_number(found.low)}, {write_number(found.high)}]" if np.isfinite(found.low) else ""
    return Cell(text, "bad" if marked else "", number=True, below=interval)


def paired_table(compared: Sequence[Compared], parents: Mapping[str, str], job: str) -> Table | None:
    """Take the differences of each run from the one it is held against, seed by seed, where seeds are shared.

    Args:
        compared: the runs or cells; the first is what the others are held against.
        parents: by label, another label: a branch is held against its parent.
        job: their job.

    Returns:
        None where no two share a seed of one task.
    """
    column, name = main_column(job)
    by_label = {one.traced.label: one for one in compared}
    rows = []
    for one in compared[1:] if compared else ():
        other = by_label[parents.get(one.traced.label, compared[0].traced.label)]
        row = _paired_row(one, other, column)
        if row is not None:
            rows.append(row)
    if not rows:
        return None
    head = (
        Heading("run"),
        Heading("held against"),
        Heading("shared seeds", number=True),
        Heading(f"difference in {name}", metric_help(column), number=True),
        Heading("better in", number=True),
        Heading(
            "p", "Two-sided sign-flip test over shared seeds; with n seeds never below 2/2ⁿ.", number=True
        ),
    )
    caption = (
        f"Paired differences in {name}, seed by seed: a shared seed has the same start. Over seeds: the"
        f" {middle_name(int(row[2].text) for row in rows)} [95 % bootstrap interval], too narrow for few seeds."
    )
    return Table(caption, head, tuple(rows))


def _paired_row(one: Compared, other: Compared, column: str) -> tuple[Cell, ...] | None:
    if one is other or one.task != other.task:
        return None
    # One that is still on its way is held against what the other was at the same step.
    on_the_way = [s for s in (_on_the_way(x.traced, column) for x in (one, other)) if s is not None]
    end = min(on_the_way, default=np.inf)
    own, theirs = last_values(one.traced, column, end), last_values(other.traced, column, end)
    try:
        found = paired_comparison(own, theirs, seed=0, repetitions=REPETITIONS)
    except UserError:  # No seed is shared.
        return None
    interval = ""
    if np.isfinite(found.iqm.low):
        interval = f"[{write_signed(found.iqm.low)}, {write_signed(found.iqm.high)}]"
    better = int((found.differences > 0).sum())
    return (
        Cell(one.traced.label, group=one.traced.group),
        Cell(
            other.traced.label,
            group=other.traced.group,
            below=f"both at step {end:,.0f}" if on_the_way else "",
        ),
        Cell(str(len(found.seeds)), number=True),
        Cell(write_signed(found.iqm.estimate), number=True, below=interval),
        Cell(f"{better} of {len(found.seeds)}", number=True),
        Cell(f"{found.p_value:.3g}", number=True),
    )


def values_table(traced: Traced, columns: Sequence[str]) -> Table:
    """List the last value of every column of a run, with its healthy range and formula.

    Args:
        traced: the run.
        columns: what it recorded.
    """
    rows = []
    for column in columns:
        values = last_values(traced, column)
        if not values:
            continue
        low, high = min(values.values()), max(values.values())
        marked = any(is_marked(column, v, traced.width, traced.starts.get(column)) for v in values.values())
        try:
            known = metric(column)
        except UserError:
            healthy, formula, unit = UNDEFINED, "", ""
        else:
            healthy = str(known.healthy or UNDEFINED)
            formula, unit = known.formula, known.unit
        rows.append(
            (
                Cell(column, code=True),
                Cell(
                    write_number(float(np.median(list(values.values())))),
                    "bad" if marked else "",
                    number=True,
                ),
                Cell(f"{write_number(low)} to {write_number(high)}", number=True),
                Cell(healthy, "bad" if marked else ""),
                Cell(unit),
                Cell(formula),
            )
        )
    head = (
        Heading("metric"),
        Heading("median over seeds", number=True),
        Heading("range over seeds", number=True),
        Heading("healthy"),
        Heading("unit"),
        Heading("formula"),
    )
    return Table(f"Last values of {traced.label}: mean over the last tenth of the run", head, tuple(rows))


def write_signed(value: float) -> str:
    """Write a difference with its sign.

    Example:
        >>> write_signed(12.34), write_signed(-0.5)
        ('+12.3', '−0.500')
    """
    return ("+" if value >= 0 else "−") + write_number(abs(value))
