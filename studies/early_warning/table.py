"""The kept table: one row per run, and everything that the page says is computed from it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from escapevelocity.health.signs import Sign
from studies.early_warning.cases import Case
from studies.early_warning.choice import Choice, choose, split, warning_steps
from studies.early_warning.grid import LEVELS, PACES, SIGNS_ASKED
from studies.early_warning.plan import UNSEEN_TASK
from studies.early_warning.statistics import bootstrap_median, wilson

SPLIT_SEED = 4
BOOTSTRAP_SEED = 4
CHOOSING, HELD_OUT, UNSEEN = "choosing", "held out", "unseen task"


@dataclass(frozen=True)
class Score:
    """How well warnings did on some runs.

    Attributes:
        collapsed: runs that collapsed.
        detected: of these, warned of before the onset.
        late: warned of at the onset or after it.
        sound: runs that did not collapse.
        alarmed: of these, warned of all the same.
        lead: median of (onset − warning) / steps over the detected, with the ends of its 95 % bootstrap interval.
    """

    collapsed: int
    detected: int
    late: int
    sound: int
    alarmed: int
    lead: tuple[float, float, float]

    @property
    def detection(self) -> tuple[float, float]:
        """Wilson's interval of the detected share."""
        return wilson(self.detected, self.collapsed)

    @property
    def false_alarms(self) -> tuple[float, float]:
        """Wilson's interval of the share of false alarms."""
        return wilson(self.alarmed, self.sound)


def score(warned: np.ndarray, onsets: np.ndarray, steps: np.ndarray) -> Score:
    """Hold warnings against what happened.

    Args:
        warned: (runs,) step of the warning, not finite if there was none.
        onsets: (runs,) step of the collapse, NaN if there was none.
        steps: (runs,) of the whole run.
    """
    collapsed, told = np.isfinite(onsets), np.isfinite(warned)
    in_time = collapsed & (warned < onsets)
    leads = (onsets - warned)[in_time] / steps[in_time]
    return Score(
        collapsed=int(collapsed.sum()),
        detected=int(in_time.sum()),
        late=int((collapsed & told & ~in_time).sum()),
        sound=int((~collapsed).sum()),
        alarmed=int((~collapsed & told).sum()),
        lead=bootstrap_median(leads, BOOTSTRAP_SEED),
    )


def halves_of(cases: Sequence[Case]) -> np.ndarray:
    """Say for every run what it is for: to choose on, to report on, or of the task never used."""
    unseen = np.array([case.setting.task == UNSEEN_TASK for case in cases])
    choosing = split(np.array([case.setting.name for case in cases]), SPLIT_SEED)
    return np.where(unseen, UNSEEN, np.where(choosing, CHOOSING, HELD_OUT))


def choose_on(cases: Sequence[Case], halves: np.ndarray) -> Choice:
    """Choose the rule on the runs that are there for it."""
    own = [case for case, half in zip(cases, halves, strict=True) if half == CHOOSING]
    onsets = np.array([np.nan if case.truth.onset is None else case.truth.onset for case in own])
    return choose(np.stack([case.firsts for case in own]), onsets, np.array([case.steps for case in own]))


def to_table(cases: Sequence[Case], halves: np.ndarray, choice: Choice) -> pa.Table:
    """Make the kept table; steps are environment steps, and null means never."""
    firsts = np.stack([case.firsts for case in cases])
    columns = {
        "setting": [case.setting.name for case in cases],
        "task": [case.setting.task for case in cases],
        "activation": [case.setting.activation for case in cases],
        "epochs": [case.setting.epochs for case in cases],
        "learning_rate": [case.setting.learning_rate for case in cases],
        "seed": [case.seed for case in cases],
        "steps": [case.steps for case in cases],
        "half": list(halves),
        "expected": [case.setting.expected for case in cases],
        "collapsed": [case.truth.onset is not None for case in cases],
        "kind": [case.truth.kind for case in cases],
        "onset": [case.truth.onset for case in cases],
        "return_onset": [case.truth.return_onset for case in cases],
        "representation_onset": [case.truth.representation_onset for case in cases],
        "strict_onset": [case.strict.onset for case in cases],
        "readable_last": [case.readable_last for case in cases],
        "return_last": [case.return_last for case in cases],
        "warning": _steps(warning_steps(firsts, choice)),
    }
    for s, sign in enumerate(SIGNS_ASKED):
        if choice.levels[s] >= 0:
            columns[f"sign/{sign}"] = _steps(firsts[:, choice.pace, s, choice.levels[s]])
    return pa.table(columns)


def _steps(values: np.ndarray) -> pa.Array:
    return pa.array([int(value) if np.isfinite(value) else None for value in values], pa.int64())


def floats(table: pa.Table, column: str) -> np.ndarray:
    """Give a column as float64 with NaN for null."""
    return np.array([np.nan if value is None else value for value in table[column].to_pylist()], np.float64)


def score_rows(table: pa.Table, rows: np.ndarray, warning: str = "warning", onset: str = "onset") -> Score:
    """Score some rows of the kept table, by the columns named."""
    return score(floats(table, warning)[rows], floats(table, onset)[rows], floats(table, "steps")[rows])


def sign_columns(table: pa.Table) -> list[str]:
    """List the columns that hold the steps of single signs."""
    return [name for name in table.column_names if name.startswith("sign/")]


def chosen_thresholds(choice: Choice) -> dict[str, float]:
    """Give the thresholds of a choice, by the names of `health.thresholds`."""
    values = dict(PACES[choice.pace])
    for sign, level in zip(SIGNS_ASKED, choice.levels, strict=True):
        values |= LEVELS[sign][level] if level >= 0 else {}
    return values


def unused_signs(choice: Choice) -> list[Sign]:
    """List the signs that no level of which told collapses from other runs."""
    return [sign for sign, level in zip(SIGNS_ASKED, choice.levels, strict=True) if level < 0]


def leads_of_signs(table: pa.Table) -> dict[str, float]:
    """Give, by sign, the median lead as a share of training, on the runs that had no say; signs without one are left
    out.
    """
    reported = np.array(table["half"].to_pylist()) != CHOOSING
    leads = {
        n.removeprefix("sign/"): score_rows(table, reported, warning=n).lead[0] for n in sign_columns(table)
    }
    return {sign: round(lead, 4) for sign, lead in leads.items() if np.isfinite(lead)}
