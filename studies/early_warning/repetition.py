"""The kept choice on runs trained anew: nothing is chosen, so that all of them are a test of it."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from studies.early_warning.cases import Case
from studies.early_warning.choice import Choice
from studies.early_warning.grid import LEVELS, LIBRARY_PACE, SIGNS_ASKED
from studies.early_warning.page import outcome_counts, score_table, verdict_table
from studies.early_warning.table import columns_of, score_rows, to_table

AGAIN = "trained anew"
"""What such runs are for."""


def kept_choice(chosen: Mapping[str, Any]) -> Choice:
    """The rule that `chosen.json` holds.

    Raises:
        ValueError: a kept threshold is none of the levels in `grid.py`.
    """
    levels = []
    for sign in SIGNS_ASKED:
        if str(sign) not in chosen["signs"]:
            levels.append(-1)
            continue
        kept = {name: chosen["thresholds"][name] for name in LEVELS[sign][0]}
        levels.append(LEVELS[sign].index(kept))
    return Choice(LIBRARY_PACE, tuple(levels), chosen["agreeing"])


def repeated_table(cases: Sequence[Case], chosen: Mapping[str, Any]) -> pa.Table:
    """One row per run, as in the kept table, with the warnings of the kept choice."""
    return to_table(cases, np.full(len(cases), AGAIN), kept_choice(chosen))


def repeated_page(table: pa.Table) -> str:
    """What became of these runs, how the kept choice does on them, and its signs one by one."""
    everything, tasks = np.ones(table.num_rows, bool), np.array(table["task"].to_pylist())
    by_task = {f"– {task}": score_rows(table, tasks == task) for task in dict.fromkeys(tasks)}
    signs = {
        f"{name}{note}": score_rows(table, everything, column)
        for group, note in (("sign", ""), ("unused", " (not used)"))
        for name, column in columns_of(table, group).items()
    }
    return "\n\n".join(
        [
            f"{outcome_counts(table)}.",
            score_table("runs", {"**all**": score_rows(table, everything), **by_task}),
            score_table("sign", signs),
            "What `ev diagnose` says of the whole run, by today's rules:",
            verdict_table(table),
        ]
    )
