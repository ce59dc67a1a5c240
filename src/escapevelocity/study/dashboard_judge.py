"""What a run's records say so far, as JSON values: its verdict, its alarms and its newest values."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from escapevelocity.errors import UserError
from escapevelocity.health.diagnosis import USED, Diagnosis, RunDiagnosis
from escapevelocity.health.signs import CIRCUMSTANCES, MEDIAN_LEADS, NO_WARNING, SIGNS
from escapevelocity.health.verdict import Verdict
from escapevelocity.health.watch import Onset
from escapevelocity.report._marks import onset_marks
from escapevelocity.report._shown import number, shown
from escapevelocity.report.diagnosis import diagnose_run
from escapevelocity.report.page_words import WORDS
from escapevelocity.runs import open_run
from escapevelocity.study.dashboard_records import Found, Records

RETURN = {"ppo": "perf/return_mean", "asr": "test/recall_at_1"}
"""What a run is judged by first, by its job."""


def judge_run(path: Path, records: Records) -> dict[str, Any]:
    """Diagnose a run as `ev diagnose` does, finished or not, without verifying its checksums.

    Its signs are those of all seeds in the order of their onset; of them its alarms are those that the early warning
    tells of.

    Args:
        path: its folder.
        records: reads it.

    Raises:
        UserError: no records yet, or a folder that cannot be read.
    """
    run = open_run(path)
    column = RETURN.get(run.job, "perf/return_mean")
    found = records.read(path, (*USED, column), keep=run.status.state == "running")
    require_rows(found)
    columns = found.table.to_pydict()
    diagnosis = diagnose_run(run, columns=columns)
    onsets = sorted(
        (o for member in diagnosis.members for o in member.onsets), key=lambda o: (o.step, o.seed)
    )
    return {
        "verdict": str(diagnosis.verdict),
        "tone": WORDS[diagnosis.verdict].tone,
        "seeds": list(diagnosis.seeds),
        "members": len(diagnosis.members),
        "confidence": diagnosis.confidence_word,
        "last": last_value(columns, column),
        "last_name": column,
        "steps": max((member.steps for member in diagnosis.members), default=0),
        "alarms": [_sign(onset) for onset in warned(onsets)],
        "signs": [_sign(onset) for onset in onsets],
        "marks": [[str(mark.sign), mark.step] for mark in onset_marks(diagnosis)],
        "told": _told(diagnosis),
    }


def require_rows(found: Found) -> None:
    """Tell a run that has recorded nothing yet from one whose records cannot be read.

    Raises:
        UserError: there is no row.
    """
    if not found.table.num_rows:
        raise UserError(found.faults[0] if found.faults else "nothing is recorded yet")


def warned(onsets: Sequence[Onset]) -> list[Onset]:
    """Keep the signs that the early warning tells of (`report.warning.EarlyWarning`)."""
    return [onset for onset in onsets if onset.sign not in NO_WARNING | CIRCUMSTANCES]


def last_value(columns: Mapping[str, Sequence[Any]], column: str) -> float | None:
    """Give the median over seeds of each one's newest defined value; None where there is none.

    Example:
        >>> last_value({"seed": [1, 2, 1], "env_steps": [5, 5, 9], "x": [1.0, 4.0, None]}, "x")
        2.5
    """
    values = columns.get(column, ())
    seeds = columns.get("seed", [0] * len(values))
    newest: dict[Any, float] = {}
    for at in np.argsort([number(step) for step in columns.get("env_steps", ())], kind="stable"):
        if at < len(values) and math.isfinite(value := number(values[at])):
            newest[seeds[at]] = value
    return statistics.median(newest.values()) if newest else None


def _sign(onset: Onset) -> dict[str, Any]:
    lead = MEDIAN_LEADS.get(onset.sign)
    return {
        "sign": str(onset.sign),
        "seed": onset.seed,
        "since": onset.step,
        "confirmed": onset.confirmed,
        "ended": onset.ended,
        "text": shown(onset.text),
        "meaning": SIGNS[onset.sign].meaning,
        "lead": lead,
    }


def _told(diagnosis: RunDiagnosis) -> dict[str, Any]:
    """What a run's page says of its verdict: the seed with it in full, the others in a line each."""
    member = next(member for member in diagnosis.members if member.verdict is diagnosis.verdict)
    words = WORDS[diagnosis.verdict]
    return {
        "answer": words.answer,
        "headline": words.headline,
        "plain": words.plain,
        "seed": member.seed,
        "reason": shown(member.reason),
        "evidence": [shown(text) for text in member.evidence],
        "refuted_by": list(member.refuted_by),
        "remedies": list(member.remedies),
        "not_measured": [shown(text) for text in member.not_measured],
        "others": [_other(one) for one in diagnosis.members if one is not member],
    }


def _other(member: Diagnosis) -> dict[str, Any]:
    word = "" if member.verdict is Verdict.NOT_MEASURED else member.confidence_word
    return {
        "seed": member.seed,
        "verdict": str(member.verdict),
        "tone": WORDS[member.verdict].tone,
        "confidence": word,
        "reason": shown(member.reason),
    }
