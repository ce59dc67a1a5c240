"""Where a study's runs were computed: versions and machines, with the number of runs that had each; and hashes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from escapevelocity.report._shown import UNDEFINED
from escapevelocity.report.page import Cell, Heading, Part, Table
from escapevelocity.runs import open_run
from escapevelocity.runs.provenance import sessions_of
from escapevelocity.study.history import HistoryRun
from escapevelocity.study.report_cells import told


def environments_part(folders: Mapping[str, Path], runs: Sequence[HistoryRun]) -> Part:
    """Versions and machines, with the number of runs that had each."""
    counts: dict[str, Counter] = {}
    for run in runs:
        sessions = sessions_of(folders[run.name]) if run.name in folders else []
        last = sessions[-1] if sessions else {"provenance": "missing or damaged"}
        given = {name: told(value) for name, value in last.items() if value is not None}
        for name, value in given.items():
            counts.setdefault(name, Counter())[value] += 1
    rows = tuple(
        (
            Cell(name.replace("version/", "version of ").replace("/", ": ")),
            Cell(
                "; ".join(
                    f"{value} ({count})" if len(found_values) > 1 else value
                    for value, count in found_values.items()
                )
            ),
        )
        for name, found_values in counts.items()
        if name != "segments_done"
    )
    head = (Heading("what"), Heading("of all runs; where they differ, with the number of runs"))
    hashes = tuple(
        (
            Cell(run.name, code=True),
            Cell(open_run(folders[run.name]).spec_hash or UNDEFINED, code=True),
            Cell(" ".join(map(str, run.seeds))),
            Cell(run.state),
        )
        for run in runs
    )
    of_runs = Table("Runs", tuple(map(Heading, ("run", "spec hash", "seeds", "state"))), hashes)
    table = Table("Where the runs were computed", head, rows)
    return Part(
        "environment",
        "Environment, versions and hashes",
        tables=(table, of_runs),
        folded=True,
        short="Environment",
    )
