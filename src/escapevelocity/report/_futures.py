"""A branch beside its parent: what became of each after the point where they part."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from escapevelocity.errors import UserError
from escapevelocity.health.diagnosis import Diagnosis, RunDiagnosis
from escapevelocity.health.verdict import Verdict
from escapevelocity.report._shown import number, write_number
from escapevelocity.runs import Parent, Run, open_parent

COMPARED = (
    "perf/return_mean",
    "health/actor/feature_rank_pca",
    "health/actor/dead_neurons",
    "health/actor/preactivation_norm",
)
"""Columns that are held against each other."""
_LAST = 0.1
"""Share of the future that both have, at whose end they are compared."""


def find_parent(run: Run) -> tuple[Run | None, str]:
    """Open the run that `run` branched from.

    Returns:
        The parent, None for a run that is no branch or whose parent is gone; and in the last case why, one line.
    """
    if run.parent is None:
        return None, ""
    try:
        return open_parent(run.path, run.parent), ""
    except UserError as error:
        return None, str(error)


def branched_at(parent: Parent, found: Run | None) -> str:
    """Say where a run began, such as "branched from runs/sick at step 38,912 (40% of it)"."""
    total = found.status.steps_total if found is not None else 0
    share = f" ({parent.step / total:.0%} of it)" if total else ""
    return f"branched from {parent.path if found is None else found.path} at step {parent.step:,}{share}"


def verdict_line(diagnosis: RunDiagnosis) -> str:
    """Say a verdict, in how many seeds, and how sure that is."""
    members = diagnosis.members
    count = f" in {len(diagnosis.seeds)} of {len(members)} seeds" if len(members) > 1 else ""
    return f"{diagnosis.verdict.upper()}{count}{sure(diagnosis)}"


def sure(found: Diagnosis | RunDiagnosis) -> str:
    """Say how sure a verdict is; nothing was inferred where nothing was measured."""
    if found.verdict is Verdict.NOT_MEASURED:
        return ""
    return f", confidence {found.confidence_word} ({found.confidence:.2f})"


def futures_lines(run: Run, own: RunDiagnosis, parent: Run, parents: RunDiagnosis) -> list[str]:
    """Tell both futures side by side: verdicts, and medians over the last tenth of the future that both have.

    Args:
        run: the branch.
        own: its diagnosis.
        parent: its parent.
        parents: the parent's diagnosis.
    """
    point = run.parent
    if point is None:
        return []
    unfinished = "" if parent.status.state == "finished" else f" ({parent.status.state})"
    records = parent.records(), run.records()
    lines = [
        branched_at(point, parent),
        f"  parent went on to: {verdict_line(parents)}{unfinished}",
        f"  this branch:       {verdict_line(own)}",
    ]
    reached = [max(table["env_steps"].to_pylist(), default=0) for table in records if table.num_rows]
    if len(reached) < 2 or min(reached) <= point.step:
        return [*lines, "  one of the two has no records behind this point"]
    end = float(min(reached))
    start = end - _LAST * (end - point.step)
    measured = [column for column in COMPARED if any(column in table.column_names for table in records)]
    rows = [[c, *(write_number(_median(table, c, start, end)) for table in records)] for c in measured]
    title = f"steps {int(start) + 1:,} to {int(end):,}, median"
    return [*lines, "", *_aligned([[title, "parent", "branch"], *rows])]


def _median(table: pa.Table, column: str, start: float, end: float) -> float:
    """The median over the rows with start < env_steps ≤ end; NaN where nothing was measured."""
    if column not in table.column_names:
        return float("nan")
    steps = table["env_steps"].to_numpy()
    values = np.array([number(value) for value in table[column].to_pylist()])
    chosen = values[(steps > start) & (steps <= end) & ~np.isnan(values)]
    return float(np.median(chosen)) if chosen.size else float("nan")


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  "
        + row[0].ljust(widths[0])
        + "".join(f"  {cell:>{width}}" for cell, width in zip(row[1:], widths[1:], strict=True))
        for row in rows
    ]
