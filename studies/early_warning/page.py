"""The numbers of README.md, as Markdown, from the kept table and the chosen thresholds."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from benchmarks._common import table as markdown

from escapevelocity.health.verdict import Verdict
from studies.early_warning.grid import LIBRARY_PACE
from studies.early_warning.plan import LAST_TASK
from studies.early_warning.statistics import wilson
from studies.early_warning.table import (
    CHOOSING,
    HELD_OUT,
    PACE_NAMES,
    UNSEEN,
    Score,
    columns_of,
    floats,
    had_no_say,
    score,
    score_rows,
)

_HEADER = [
    "collapsed", "warned in time", "late", "sound", "false alarms", "damaged", "told", "median lead, % of training",
]  # fmt: skip


def page(table: pa.Table, chosen: Mapping[str, Any]) -> str:
    """All numbers: what became of the runs, what was chosen, how it does on runs that had no say."""
    rest = "On all runs that had no say in the choice."
    parts = [
        "### What became of the runs\n\n" + _outcomes(table),
        "### What was chosen\n\n" + _chosen(chosen),
        "### How it does\n\n" + _scores(table),
        f"### Single signs\n\n{rest} Those not used are at the library's own level.\n\n" + _signs(table),
        f"### Faster and slower\n\n{rest} Every pace has its own choice of levels.\n\n" + _paces(table),
        f"### Other ways to count\n\n{rest} Same warnings, other truths.\n\n" + _truths(table),
        "### What `ev diagnose` says of the whole run\n\nOn all runs.\n\n" + verdict_table(table),
    ]
    return "\n\n".join(parts)


def _outcomes(table: pa.Table) -> str:
    rows = []
    for name in dict.fromkeys(table["setting"].to_pylist()):
        own = table.filter(pa.array([setting == name for setting in table["setting"].to_pylist()]))
        outcomes, onsets = own["outcome"].to_pylist(), 100 * floats(own, "onset") / floats(own, "steps")
        readable, returns = floats(own, "readable_last"), floats(own, "return_last")
        rows.append(
            [
                name,
                "collapse" if own["expected"][0].as_py() else "none",
                *(str(outcomes.count(outcome)) for outcome in ("collapsed", "damaged", "sound")),
                f"{np.nanmedian(onsets):.0f}" if "collapsed" in outcomes else "–",
                f"{readable.min():.2f}–{readable.max():.2f}",
                f"{returns.min():,.0f} to {returns.max():,.0f}",
            ]
        )
    outcomes, expected = np.array(table["outcome"].to_pylist()), np.array(table["expected"].to_pylist())
    collapsed, kinds = outcomes == "collapsed", table["kind"].to_pylist()
    lost = {name: sum(name in kind for kind in kinds) for name in ("representation", "return", "fault")}
    text = (
        f"{outcome_counts(table)}. Of {expected.sum()} that we expected to collapse "
        f"{(expected & collapsed).sum()} did, and of {(~expected).sum()} others {(~expected & collapsed).sum()}. "
        f"The representation was lost in {lost['representation']}, the return in {lost['return']}; numbers stopped "
        f"being finite in {lost['fault']}. The median onset, and the range at the end:"
    )
    header = [
        "setting",
        "expected",
        "collapsed",
        "damaged",
        "sound",
        "onset, %",
        "readable, share of start",
        "return",
    ]
    return f"{text}\n\n{markdown(header, rows)}"


def outcome_counts(table: pa.Table) -> str:
    """How many runs there are, and what became of them."""
    outcomes = table["outcome"].to_pylist()
    counts = ", ".join(f"{outcomes.count(name)} {name}" for name in ("collapsed", "damaged", "sound"))
    return f"{len(outcomes)} runs: {counts}"


def _chosen(chosen: Mapping[str, Any]) -> str:
    count = chosen["agreeing"]
    rule = "one instrument has" if count == 1 else f"{count} instruments have"
    thresholds = [[f"`{name}`", f"{value:g}"] for name, value in chosen["thresholds"].items()]
    return (
        f"Warn when {rule} shown one of these signs: {', '.join(chosen['signs'])}. Not used, because no level tells "
        f"collapses from sound runs within the false alarms allowed: {', '.join(chosen['unused_signs'])}.\n\n"
        f"{markdown(['threshold', 'value'], thresholds)}"
    )


def _scores(table: pa.Table) -> str:
    parts, tasks = np.array(table["part"].to_pylist()), np.array(table["task"].to_pylist())
    groups = {"choosing half": parts == CHOOSING, "**held-out half**": parts == HELD_OUT}
    for task in dict.fromkeys(tasks[parts == HELD_OUT]):
        groups[f"– {task}"] = (parts == HELD_OUT) & (tasks == task)
    for task in dict.fromkeys(tasks[parts == UNSEEN]):
        when = ", trained last" if task == LAST_TASK else ""
        groups[f"**never used{when}: {task}**"] = tasks == task
    return score_table("runs", {name: score_rows(table, rows) for name, rows in groups.items()})


def _signs(table: pa.Table) -> str:
    rows = had_no_say(table)
    found = {sign: score_rows(table, rows, column) for sign, column in columns_of(table, "sign").items()}
    for sign, column in columns_of(table, "unused").items():
        found[f"{sign} (not used)"] = score_rows(table, rows, column)
    return score_table("sign", found)


def _paces(table: pa.Table) -> str:
    rows, found = had_no_say(table), {}
    for pace, column in columns_of(table, "pace").items():
        smoothing, persistence = pace.split("/")
        own = " (the library's)" if pace == PACE_NAMES[LIBRARY_PACE] else ""
        found[f"median of {smoothing}, held {persistence} times{own}"] = score_rows(table, rows, column)
    return score_table("pace", found)


def _truths(table: pa.Table) -> str:
    rows = had_no_say(table)
    outcomes = np.array(table["outcome"].to_pylist())
    warned, steps, lost = (floats(table, name)[rows] for name in ("warning", "steps", "onset"))
    returns, loose = floats(table, "return_onset")[rows], floats(table, "loose_onset")[rows]
    found = {
        "as above": score_rows(table, rows),
        "every run that did not collapse counts as sound": score(warned, lost, np.isnan(lost), steps),
        "a third lost counts as collapse": score(
            warned, np.fmin(loose, returns), (outcomes == "sound")[rows], steps
        ),
        "only the return counts, and all others as sound": score(warned, returns, np.isnan(returns), steps),
    }
    return score_table("truth", found)


def verdict_table(table: pa.Table) -> str:
    """The diagnosis of the whole run against what became of it."""
    pairs = list(zip(table["outcome"].to_pylist(), table["verdict"].to_pylist(), strict=True))
    outcomes = ("collapsed", "damaged", "sound")
    rows = [
        [verdict, *(str(pairs.count((outcome, verdict))) for outcome in outcomes)]
        for verdict in Verdict
        if any(verdict == found for _, found in pairs)
    ]
    return markdown(["verdict", *outcomes], rows)


def score_table(first: str, scores: Mapping[str, Score]) -> str:
    """A row per entry, named in the first column."""
    return markdown([first, *_HEADER], [[name, *_cells(found)] for name, found in scores.items()])


def _cells(found: Score) -> list[str]:
    return [
        str(found.collapsed),
        _share(found.detected, found.collapsed),
        str(found.late),
        str(found.sound),
        _share(found.alarmed, found.sound),
        str(found.damaged),
        str(found.told),
        _lead(found.lead),
    ]


def _share(count: int, of: int) -> str:
    if of == 0:
        return "–"
    low, high = (round(100 * end) for end in wilson(count, of))
    return f"{count} = {100 * count / of:.0f} % [{low}, {high}]"


def _lead(lead: tuple[float, float, float]) -> str:
    if np.isnan(lead[0]):
        return "–"
    median, low, high = (100 * value for value in lead)
    return f"{median:.1f} [{low:.1f}, {high:.1f}]"
