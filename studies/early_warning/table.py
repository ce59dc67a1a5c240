"""The kept table: one row per run, and everything that the page says is computed from it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from escapevelocity.health.signs import Sign
from studies.early_warning.cases import Case
from studies.early_warning.choice import Choice, choose, split, warning_steps
from studies.early_warning.grid import LEVELS, LIBRARY_PACE, PACES, PRIOR, SIGNS_ASKED
from studies.early_warning.plan import LAST_TASK, UNSEEN_TASK
from studies.early_warning.statistics import bootstrap_median

SPLIT_SEED = 4
BOOTSTRAP_SEED = 4
CHOOSING, HELD_OUT, UNSEEN = "choosing", "held out", "task never used"
PACE_NAMES = tuple(f"{pace['smoothing']:g}/{pace['persistence']:g}" for pace in PACES)
"""Such as 5/3: medians of 5, held 3 times in a row."""


@dataclass(frozen=True)
class Score:
    """How well warnings did on some runs.

    Attributes:
        collapsed: runs that collapsed.
        detected: of these, warned of before the onset.
        late: warned of at the onset or after it.
        damaged: runs that are neither collapsed nor sound.
        told: of these, warned of.
        sound: runs that stayed sound.
        alarmed: of these, warned of all the same.
        lead: median of (onset − warning) / steps over the detected, with the ends of its 95 % bootstrap interval.
    """

    collapsed: int
    detected: int
    late: int
    damaged: int
    told: int
    sound: int
    alarmed: int
    lead: tuple[float, float, float]


def score(warned: np.ndarray, onsets: np.ndarray, sound: np.ndarray, steps: np.ndarray) -> Score:
    """Hold warnings against what happened.

    Args:
        warned: (runs,) step of the warning, not finite if there was none.
        onsets: (runs,) step of the collapse, NaN if there was none.
        sound: (runs,) whether the run stayed sound.
        steps: (runs,) of the whole run.
    """
    collapsed, told = np.isfinite(onsets), np.isfinite(warned)
    damaged = ~collapsed & ~sound
    in_time = collapsed & (warned < onsets)
    leads = (onsets - warned)[in_time] / steps[in_time]
    return Score(
        collapsed=int(collapsed.sum()),
        detected=int(in_time.sum()),
        late=int((collapsed & told & ~in_time).sum()),
        damaged=int(damaged.sum()),
        told=int((damaged & told).sum()),
        sound=int(sound.sum()),
        alarmed=int((sound & told).sum()),
        lead=bootstrap_median(leads, BOOTSTRAP_SEED),
    )


def parts_of(cases: Sequence[Case]) -> np.ndarray:
    """Say for every run what it is for: to choose on, held out, or of a task never used."""
    choosing = split(np.array([case.setting.name for case in cases]), SPLIT_SEED)
    unseen = np.array([case.setting.task in (UNSEEN_TASK, LAST_TASK) for case in cases])
    return np.where(unseen, UNSEEN, np.where(choosing, CHOOSING, HELD_OUT))


def choose_on(cases: Sequence[Case], parts: np.ndarray, pace: int = LIBRARY_PACE) -> Choice:
    """Choose the rule on the runs that are there for it."""
    own = [case for case, part in zip(cases, parts, strict=True) if part == CHOOSING]
    onsets = np.array([np.nan if case.truth.onset is None else case.truth.onset for case in own])
    sound = np.array([case.truth.outcome == "sound" for case in own])
    steps = np.array([case.steps for case in own])
    return choose(np.stack([case.firsts for case in own]), onsets, sound, steps, pace)


def to_table(cases: Sequence[Case], parts: np.ndarray, choice: Choice) -> pa.Table:
    """Make the table, a row per run; steps are environment steps, and null means never."""
    firsts = np.stack([case.firsts for case in cases])
    columns = {
        "setting": [case.setting.name for case in cases],
        "task": [case.setting.task for case in cases],
        "activation": [case.setting.activation for case in cases],
        "epochs": [case.setting.epochs for case in cases],
        "learning_rate": [case.setting.learning_rate for case in cases],
        "seed": [case.seed for case in cases],
        "steps": [case.steps for case in cases],
        "part": list(parts),
        "expected": [case.setting.expected for case in cases],
        "outcome": [case.truth.outcome for case in cases],
        "kind": [case.truth.kind for case in cases],
        "onset": [case.truth.onset for case in cases],
        "return_onset": [case.truth.return_onset for case in cases],
        "representation_onset": [case.truth.representation_onset for case in cases],
        "loose_onset": [case.loose_onset for case in cases],
        "readable_last": [case.truth.readable_last for case in cases],
        "return_last": [case.return_last for case in cases],
        "verdict": [case.verdict for case in cases],
        "warning": to_steps(warning_steps(firsts, choice)),
    }
    for s, sign in enumerate(SIGNS_ASKED):
        level, group = (choice.levels[s], "sign") if choice.levels[s] >= 0 else (PRIOR[sign], "unused")
        columns[f"{group}/{sign}"] = to_steps(firsts[:, choice.pace, s, level])
    return pa.table(columns)


def add_paces(table: pa.Table, cases: Sequence[Case], parts: np.ndarray) -> pa.Table:
    """The kept table with the warnings of every pace, each with a choice of its own."""
    firsts = np.stack([case.firsts for case in cases])
    for pace, name in enumerate(PACE_NAMES):
        steps = to_steps(warning_steps(firsts, choose_on(cases, parts, pace)))
        table = table.append_column(f"pace/{name}", steps)
    return table


def to_steps(values: np.ndarray) -> pa.Array:
    """Give steps (runs,) as a column, with null for never."""
    return pa.array([int(value) if np.isfinite(value) else None for value in values], pa.int64())


def floats(table: pa.Table, column: str) -> np.ndarray:
    """Give a column as float64 with NaN for null."""
    return np.array([np.nan if value is None else value for value in table[column].to_pylist()], np.float64)


def score_rows(table: pa.Table, rows: np.ndarray, warning: str = "warning") -> Score:
    """Score some rows of the kept table, by the column of warnings named."""
    sound = np.array(table["outcome"].to_pylist()) == "sound"
    arrays = (floats(table, warning), floats(table, "onset"), sound, floats(table, "steps"))
    return score(*(array[rows] for array in arrays))


def had_no_say(table: pa.Table) -> np.ndarray:
    """Find the rows (runs,) that had no part in the choice."""
    return np.array(table["part"].to_pylist()) != CHOOSING


def columns_of(table: pa.Table, group: str) -> dict[str, str]:
    """Give the columns of a group ("sign", "unused" or "pace") by the name that follows it."""
    return {
        name.removeprefix(f"{group}/"): name for name in table.column_names if name.startswith(f"{group}/")
    }


def chosen_thresholds(choice: Choice) -> dict[str, float]:
    """Give the thresholds of the signs that are used, by the names of `health.thresholds`."""
    values: dict[str, float] = {}
    for sign, level in zip(SIGNS_ASKED, choice.levels, strict=True):
        values |= LEVELS[sign][level] if level >= 0 else {}
    return values


def unused_signs(choice: Choice) -> list[Sign]:
    """List the signs that are not used."""
    return [sign for sign, level in zip(SIGNS_ASKED, choice.levels, strict=True) if level < 0]


def leads_of_signs(table: pa.Table) -> dict[str, float]:
    """Give, by sign, the median lead as a share of training on the runs that had no say; signs without one are left
    out.
    """
    rows = had_no_say(table)
    leads = {
        sign: score_rows(table, rows, column).lead[0] for sign, column in columns_of(table, "sign").items()
    }
    return {sign: round(lead, 4) for sign, lead in leads.items() if np.isfinite(lead)}
