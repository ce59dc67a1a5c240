"""The kept choice on runs trained anew: nothing is chosen, so that all of them are a test of it."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from studies.early_warning.cases import Case
from studies.early_warning.choice import Choice, warning_steps
from studies.early_warning.grid import LEVELS, LIBRARY_PACE, SIGNS_ASKED
from studies.early_warning.page import outcome_counts, score_table, verdict_table
from studies.early_warning.table import columns_of, had_no_say, parts_of, score_rows, to_steps, to_table


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


def repeated_table(cases: Sequence[Case], chosen: Mapping[str, Any], anew: Choice) -> pa.Table:
    """One row per run, as in the kept table, with the warnings of the kept choice; beside it, as "anew", those of a
    choice that was made on these runs. The part is what a run was for in that one.
    """
    table = to_table(cases, parts_of(cases), kept_choice(chosen))
    return table.append_column(
        "anew", to_steps(warning_steps(np.stack([case.firsts for case in cases]), anew))
    )


def repeated_page(table: pa.Table, kept: Mapping[str, float], anew: Mapping[str, float]) -> str:
    """What became of these runs, how the kept choice does on them, its signs one by one, and what another choice does.

    Args:
        table: of `repeated_table`.
        kept: thresholds of the kept choice.
        anew: those of a choice made on these runs.
    """
    everything, tasks = np.ones(table.num_rows, bool), np.array(table["task"].to_pylist())
    by_task = {f"– {task}": score_rows(table, tasks == task) for task in dict.fromkeys(tasks)}
    signs = {
        f"{name}{note}": score_rows(table, everything, column)
        for group, note in (("sign", ""), ("unused", " (not used)"))
        for name, column in columns_of(table, group).items()
    }
    rest = had_no_say(table)
    choices = {"kept": score_rows(table, rest), "anew": score_rows(table, rest, "anew")}
    return "\n\n".join(
        [
            f"{outcome_counts(table)}.",
            score_table("runs", {"**all**": score_rows(table, everything), **by_task}),
            score_table("sign", signs),
            "What `ev diagnose` says of the whole run, by today's rules:",
            verdict_table(table),
            f"Chosen anew on half of these runs, as above: {_differences(kept, anew)}. On those that have no say in "
            "that:",
            score_table("choice", choices),
        ]
    )


def _differences(kept: Mapping[str, float], anew: Mapping[str, float]) -> str:
    """Which thresholds another choice has, and what they are in the kept one."""
    names = [name for name in {**kept, **anew} if kept.get(name) != anew.get(name)]
    if not names:
        return "every threshold stays"
    return ", ".join(f"`{name}` {_shown(anew.get(name))} (kept: {_shown(kept.get(name))})" for name in names)


def _shown(value: float | None) -> str:
    return "unused" if value is None else f"{value:g}"
