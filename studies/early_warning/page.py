"""The numbers of README.md, as Markdown, from the kept table and the chosen thresholds."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from benchmarks._common import table as markdown

from studies.early_warning.table import CHOOSING, HELD_OUT, UNSEEN, Score, floats, score_rows, sign_columns

_HEADER = [
    "runs",
    "collapsed",
    "warned in time",
    "late",
    "not collapsed",
    "false alarms",
    "median lead, % of training",
]


def page(table: pa.Table, chosen: Mapping[str, Any]) -> str:
    """All numbers: what became of the runs, what was chosen, how it does on runs that had no say."""
    half = np.array(table["half"].to_pylist())
    reported = half != CHOOSING
    parts = [
        "### What became of the runs\n\n" + _outcomes(table),
        "### What was chosen\n\n" + _chosen(chosen),
        "### How it does\n\n" + _scores(table, half),
        "### Single signs\n\nOn all runs that had no say: held out, and of the task never used.\n\n"
        + _signs(table, reported),
    ]
    return "\n\n".join(parts)


def _outcomes(table: pa.Table) -> str:
    names = list(dict.fromkeys(table["setting"].to_pylist()))
    rows = []
    for name in names:
        own = table.filter(pa.array([setting == name for setting in table["setting"].to_pylist()]))
        collapsed = np.array(own["collapsed"].to_pylist())
        onsets = 100 * floats(own, "onset") / floats(own, "steps")
        readable, returns = floats(own, "readable_last"), floats(own, "return_last")
        rows.append(
            [
                name,
                "collapse" if own["expected"][0].as_py() else "none",
                f"{collapsed.sum()} of {len(collapsed)}",
                f"{np.nanmedian(onsets):.0f}" if collapsed.any() else "–",
                f"{readable.min():.2f}–{readable.max():.2f}",
                f"{returns.min():,.0f} to {returns.max():,.0f}",
            ]
        )
    expected = np.array(table["expected"].to_pylist())
    collapsed = np.array(table["collapsed"].to_pylist())
    counts = (
        f"{len(expected)} runs: {collapsed.sum()} collapsed and {(~collapsed).sum()} did not. "
        f"Of {expected.sum()} that we expected to collapse {(expected & ~collapsed).sum()} did not, and of "
        f"{(~expected).sum()} others {(collapsed & ~expected).sum()} did."
    )
    kinds = table["kind"].to_pylist()
    lost = (
        f"The representation was lost in {sum('representation' in kind for kind in kinds)}, the return in "
        f"{sum('return' in kind for kind in kinds)}, and numbers stopped being finite in "
        f"{sum('fault' in kind for kind in kinds)}."
    )
    header = [
        "setting",
        "expected",
        "collapsed",
        "median onset, %",
        "readable at the end, share of the start",
        "return at the end",
    ]
    return f"{counts} {lost}\n\n{markdown(header, rows)}"


def _chosen(chosen: Mapping[str, Any]) -> str:
    count = chosen["agreeing"]
    rule = "one instrument has" if count == 1 else f"{count} instruments have"
    thresholds = [[f"`{name}`", f"{value:g}"] for name, value in chosen["thresholds"].items()]
    unused = ", ".join(chosen["unused_signs"]) or "none"
    return (
        f"Warn when {rule} shown a sign. Signs that tell nothing on the choosing half at any level, and are not used: "
        f"{unused}.\n\n{markdown(['threshold', 'value'], thresholds)}"
    )


def _scores(table: pa.Table, half: np.ndarray) -> str:
    tasks = np.array(table["task"].to_pylist())
    groups = {"choosing half": half == CHOOSING, "**held-out half**": half == HELD_OUT}
    for task in dict.fromkeys(tasks[half == HELD_OUT]):
        groups[f"– {task}"] = (half == HELD_OUT) & (tasks == task)
    (unseen_task,) = set(tasks[half == UNSEEN])
    groups[f"**task never used: {unseen_task}**"] = half == UNSEEN
    rows = [[name, *_cells(score_rows(table, rows))] for name, rows in groups.items()]
    reported = half != CHOOSING
    rows.append(
        [
            "held out and never used, if the bound on what can be read is a half",
            *_cells(score_rows(table, reported, onset="strict_onset")),
        ]
    )
    rows.append(
        [
            "held out and never used, if only the return counts",
            *_cells(score_rows(table, reported, onset="return_onset")),
        ]
    )
    return markdown(_HEADER, rows)


def _signs(table: pa.Table, rows: np.ndarray) -> str:
    lines = [
        [name.removeprefix("sign/"), *_cells(score_rows(table, rows, warning=name))]
        for name in sign_columns(table)
    ]
    return markdown(["sign", *_HEADER[1:]], lines)


def _cells(score: Score) -> list[str]:
    return [
        str(score.collapsed),
        _share(score.detected, score.collapsed, score.detection),
        str(score.late),
        str(score.sound),
        _share(score.alarmed, score.sound, score.false_alarms),
        _lead(score.lead),
    ]


def _share(count: int, of: int, interval: tuple[float, float]) -> str:
    if of == 0:
        return "–"
    low, high = (round(100 * end) for end in interval)
    return f"{count} = {100 * count / of:.0f} % [{low}, {high}]"


def _lead(lead: tuple[float, float, float]) -> str:
    if np.isnan(lead[0]):
        return "–"
    median, low, high = (100 * value for value in lead)
    return f"{median:.1f} [{low:.1f}, {high:.1f}]"
